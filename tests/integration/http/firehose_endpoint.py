"""An endpoint for Amazon Data Firehose's HTTP delivery, as its specification 1.0 describes one, that takes nothing else and misbehaves as ordered.

It leaves out a request whose id it has taken before, and complains if that one held something else. GET / answers with the records it has taken,
GET /seen with the requests, GET /problems with what was not as specified.
"""

import base64
import json
import re
import time

from fake import Handler, lock, serve

KEY = "hidden-key"
ARN = "arn:aws:firehose:eu-central-1:123456789012:deliverystream/fleet"
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
taken, seen, problems, faults = {}, [], [], []
body_max = None


class Endpoint(Handler):
    def do_GET(self):
        with lock:
            records = [record for records in taken.values() for record in records]
            self.answer(200, {"/": records, "/seen": seen, "/problems": problems}[self.path])

    def do_HEAD(self):
        self.send_response(405)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        global body_max
        raw = self.body()
        with lock:
            try:
                body = self.checked(raw)
            except (AssertionError, KeyError, ValueError) as problem:
                problems.append(repr(problem))
                self.answer(400, {"errorMessage": repr(problem)})
                return
            name = body["requestId"]
            fault = faults.pop(0) if faults else "none"
            if body_max is not None and len(raw) > body_max:
                fault = "413"
            records = [json.loads(base64.b64decode(record["data"], validate=True)) for record in body["records"]]
            if any(record.get("metric") == "bad" for record in records):
                fault = "400"
            seen.append({"fault": fault, "id": name, "count": len(records)})
            if fault in ("none", "lost", "late", "wrong-id", "no-timestamp", "html", "long"):
                if taken.setdefault(name, records) != records:
                    problems.append(f"{name} has other records than before")
        right = {"requestId": name, "timestamp": int(time.time() * 1000)}
        as_json = [("Content-Type", "application/json")]
        if fault == "none":
            self.answer(200, right, as_json)
        elif fault == "lost":
            self.close_connection = True
        elif fault == "late":
            time.sleep(2)
            self.answer(200, right, as_json)
        elif fault == "wrong-id":
            self.answer(200, {**right, "requestId": "ed4acda5-034f-9f42-bba1-f29aea6d7d8f"}, as_json)
        elif fault == "no-timestamp":
            self.answer(200, {"requestId": name}, as_json)
        elif fault == "html":
            self.answer(200, b"<html>welcome to this hotel</html>")
        elif fault == "foreign-400":
            self.answer(400, b"<html>bad request</html>")
        elif fault == "long":
            self.answer(200, {**right, "x": "x" * (1 << 20)}, as_json)
        else:
            text = f"no room for {self.headers['X-Amz-Firehose-Access-Key']} at yard 7"
            self.answer(int(fault), {**right, "errorMessage": text}, as_json)

    def checked(self, raw):
        headers = self.headers
        assert self.path == "/deliver?tenant=7", self.path
        assert headers["X-Amz-Firehose-Protocol-Version"] == "1.0", "version"
        assert headers["X-Amz-Firehose-Access-Key"] == KEY, "access key"
        assert headers["X-Amz-Firehose-Source-Arn"] == ARN, "ARN"
        assert headers["Content-Type"] == "application/json", "type"
        attributes = json.loads(headers["X-Amz-Firehose-Common-Attributes"])
        assert attributes == {"commonAttributes": {"site": "yard 7"}}, attributes
        body = json.loads(raw)
        assert set(body) == {"requestId", "timestamp", "records"}, set(body)
        assert body["requestId"] == headers["X-Amz-Firehose-Request-Id"] and GUID.fullmatch(body["requestId"]), "id"
        assert isinstance(body["timestamp"], int) and abs(body["timestamp"] / 1000 - time.time()) < 60, "time"
        assert body["records"] and all(set(record) == {"data"} for record in body["records"]), "records"
        assert all(len(base64.b64decode(record["data"], validate=True)) <= 1000 << 10 for record in body["records"]), "size"
        return body


def obey(word, count):
    global body_max
    if word == "body_max":
        body_max = int(count)
    else:
        faults.extend([word] * int(count))


serve(Endpoint, obey)
