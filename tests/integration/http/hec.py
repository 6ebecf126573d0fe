"""Splunk's HTTP Event Collector with indexer acknowledgement: indexers behind one address, each of which counts the posts of each channel from 0.

What is posted is in the memory of its indexer first, and stored a moment later; only then it is acknowledged. Orders: a fault and how many posts
have it, or `indexers`, `sticky`, `delay_ms`, `acknowledgements`, `ack_path` (whether a proxy lets questions
through) with a number, or `crash` with the number of an indexer. An event of the metric
`bad` is refused; as with Splunk, those before it in the same post are taken all the same. GET / answers with the events that are stored, in the order in which
they were, GET /seen with the posts, GET /problems with what was not as the protocol has it.
"""

import json
import re
import time

from fake import Handler, lock, serve

TOKEN = "hidden-token"
GUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
decoder = json.JSONDecoder()
seen, problems, faults, posts = [], [], [], []
settings = {"indexers": 1, "sticky": 0, "delay_ms": 100, "acknowledgements": 1, "ack_path": 1, "turn": 0}
# Of each indexer: the posts of each channel.
indexers = [{}, {}, {}]


def due(post):
    return post["due"] is not None and time.monotonic() >= post["due"]


def stored():
    done = sorted((post for post in posts if due(post)), key=lambda post: post["due"])
    return [event for post in done for event in post["events"]]


class Collector(Handler):
    def do_GET(self):
        with lock:
            if self.path == "/services/collector/health":
                busy = faults and faults[0] == "busy"
                self.answer(503 if busy else 200, {"text": "HEC is unhealthy" if busy else "HEC is healthy", "code": 18 if busy else 17})
                return
            self.answer(200, {"/": stored, "/seen": lambda: seen, "/problems": lambda: problems}[self.path]())

    def do_POST(self):
        raw = self.body()
        with lock:
            try:
                assert self.headers["Content-Type"] == "application/json", "type"
                if self.headers["Authorization"] != f"Splunk {TOKEN}":
                    self.answer(403, {"text": "Invalid token", "code": 4})
                elif self.path.startswith("/services/collector/ack"):
                    self.acknowledge(json.loads(raw))
                else:
                    assert self.path == "/services/collector/event", self.path
                    self.take(raw.decode())
            except (AssertionError, KeyError, ValueError) as problem:
                problems.append(repr(problem))
                self.answer(400, {"text": "Invalid data format", "code": 6, "invalid-event-number": 0})

    def indexer(self):
        """The one that the load balancer chooses."""
        cookie = re.search(r"LB=(\d)", self.headers.get("Cookie", ""))
        if settings["sticky"] and cookie:
            return int(cookie[1])
        settings["turn"] += 1
        return settings["turn"] % settings["indexers"]

    def take(self, text):
        channel = self.headers.get("X-Splunk-Request-Channel")
        events, at = [], 0
        while at < len(text):
            event, at = decoder.raw_decode(text, at)
            assert set(event) <= {"time", "host", "source", "sourcetype", "index", "event", "fields"}, set(event)
            assert event["source"] == "gateway" and event["sourcetype"] == "outrider" and event["index"] == "fleet", event
            assert event["host"] == event["event"]["gateway"], "host"
            assert isinstance(event["time"], (int, float)) and abs(event["time"] - time.time()) < 600, "time"
            assert all(isinstance(value, str) for value in event.get("fields", {}).values()), "fields"
            events.append(event["event"])
        assert events, "no event"
        fault = faults.pop(0) if faults else "none"
        to = self.indexer()
        entry = {"fault": fault, "channel": channel, "indexer": to, "count": len(events), "code": 0}
        entry["is_acknowledged"] = bool(settings["acknowledgements"])
        seen.append(entry)
        if fault == "busy":
            entry["code"] = 9
            return self.answer(503, {"text": "Server is busy", "code": 9})
        if fault == "token":
            entry["code"] = 4
            return self.answer(403, {"text": f"Invalid token {TOKEN}", "code": 4})
        if fault == "html":
            return self.answer(200, b"<html>welcome to this hotel</html>")
        due_at = time.monotonic() + settings["delay_ms"] / 1000
        bad = next((at for at, event in enumerate(events) if event.get("metric") == "bad"), None)
        if bad is not None or fault == "refuse":
            entry["code"] = 6
            posts.append({"events": events[:bad], "due": due_at} if bad else {"events": [], "due": due_at})
            return self.answer(400, {"text": "Invalid data format", "code": 6, "invalid-event-number": bad or 0})
        if fault == "late":
            due_at += 2.5
        elif fault == "vanish":
            due_at = None
        post = {"events": events, "due": due_at}
        posts.append(post)
        reply = {"text": "Success", "code": 0}
        if settings["acknowledgements"]:
            assert channel and GUID.fullmatch(channel), f"channel {channel}"
            of_channel = indexers[to].setdefault(channel.lower(), [])
            reply["ackId"] = len(of_channel)
            of_channel.append(post)
        if fault == "lost":
            self.close_connection = True
            return None
        return self.answer(200, reply, [("Set-Cookie", f"LB={to}; Path=/; HttpOnly")] if settings["sticky"] else [])

    def acknowledge(self, question):
        if not settings["ack_path"]:
            return self.answer(404, b"<html>no such page</html>")
        if not settings["acknowledgements"]:
            return self.answer(400, {"text": "ACK is disabled", "code": 14})
        channel = re.fullmatch(r"/services/collector/ack\?channel=(.+)", self.path)[1]
        assert GUID.fullmatch(channel) and self.headers.get("X-Splunk-Request-Channel") == channel, "channel"
        assert set(question) == {"acks"} and all(isinstance(number, int) for number in question["acks"]), question
        # It keeps for ever what it has stored: the worst that an indexer can do, as to false acknowledgements.
        of_channel = indexers[self.indexer()].get(channel.lower(), [])
        acks = {str(number): number < len(of_channel) and due(of_channel[number]) for number in question["acks"]}
        return self.answer(200, {"acks": acks})


def obey(word, number):
    if word in settings:
        settings[word] = int(number)
    elif word == "crash":
        for post in (post for of_channel in indexers[int(number)].values() for post in of_channel):
            if not due(post):
                post["due"] = None
        indexers[int(number)] = {}
    else:
        faults.extend([word] * int(number))


serve(Collector, obey)
