"""How far the job is behind, told in three ways: as the offsets of a consumer group of Kafka, as metrics for Prometheus, and as documents in OpenSearch.

Spark keeps its offsets in its checkpoint and tells Kafka nothing, and of a batch that waits it tells nobody anything. So this looks by itself, in a thread of
its own: it does not wait where the job waits.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Protocol

from bulk import Client, Counts
from records import STATUS


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Kafka(Protocol):
    """What is asked of Kafka; `consumer.py` asks it."""

    def ends(self) -> dict[Place, int]:
        """The offset of the next record of each partition."""

    def beginnings(self) -> dict[Place, int]:
        """The offset of the oldest record that is still there."""

    def committed(self) -> dict[Place, int]:
        """What this group has done, where it has done anything."""

    def commit(self, offsets: dict[Place, int]) -> None:
        """For whoever looks at the group."""

    def time_ms(self, place: Place, offset: int) -> int | None:
        """When the record at this offset came, or the next one after it; None if it does not say so, or does not come in time."""


class Waiting(NamedTuple):
    """What of a partition is not done."""

    records: int
    since_ms: int | None


def waiting(kafka: Kafka, done: dict[Place, int], known: dict[tuple[Place, int], int]) -> dict[Place, Waiting]:
    """`known` is what was asked before: while nothing goes on, the oldest record stays the same."""
    ends, beginnings = kafka.ends(), kafka.beginnings()
    found = {}
    for place, end in ends.items():
        first = max(done.get(place, 0), beginnings[place])
        if end <= first:
            found[place] = Waiting(0, None)
            continue
        if (place, first) not in known:
            since = kafka.time_ms(place, first)
            for old in [entry for entry in known if entry[0] == place]:
                del known[old]
            if since is not None and since >= 0:
                known[place, first] = since
        found[place] = Waiting(end - first, known.get((place, first)))
    return found


@dataclass
class Look:
    """What was seen, and when."""

    at_ms: int
    partitions: dict[Place, Waiting] = field(default_factory=dict)

    @property
    def records(self) -> int:
        return sum(each.records for each in self.partitions.values())

    @property
    def oldest_seconds(self) -> float:
        """For how long the oldest record has been waiting; 0 if none does."""
        since = [each.since_ms for each in self.partitions.values() if each.since_ms is not None]
        return max(0, self.at_ms - min(since)) / 1000 if since else 0


def exposition(look: Look | None, counts: Counts) -> str:
    """For Prometheus."""
    lines = ["# TYPE outrider_search_documents_total counter"]
    lines += [f'outrider_search_documents_total{{result="{name}"}} {getattr(counts, name)}' for name in ("stored", "known", "failed")]
    if look is not None:
        lines.append("# TYPE outrider_search_lag_records gauge")
        for place, each in sorted(look.partitions.items()):
            lines.append(f'outrider_search_lag_records{{topic="{place.topic}",partition="{place.partition}"}} {each.records}')
        lines += [
            "# TYPE outrider_search_oldest_unprocessed_seconds gauge",
            f"outrider_search_oldest_unprocessed_seconds {look.oldest_seconds}",
            "# TYPE outrider_search_lag_seen_timestamp_seconds gauge",
            f"outrider_search_lag_seen_timestamp_seconds {look.at_ms / 1000}",
        ]
    return "\n".join(lines) + "\n"


def status_document(look: Look, counts: Counts, group: str) -> bytes:
    """A request of _bulk with how things are."""
    document = {
        "at_ms": look.at_ms,
        "group": group,
        "lag_records": look.records,
        "oldest_unprocessed_seconds": look.oldest_seconds,
        **vars(counts),
        "partitions": [{**place._asdict(), **each._asdict()} for place, each in look.partitions.items()],
    }
    index = f"{STATUS}-{time.strftime('%Y.%m', time.gmtime(look.at_ms / 1000))}"
    return json.dumps({"create": {"_index": index}}).encode() + b"\n" + json.dumps(document).encode() + b"\n"


class Monitor:
    """Looks every few seconds. `progress` says which offsets are done, as Spark writes them, or None as long as no batch of this process is done."""

    def __init__(self, kafka: Kafka, client: Client, group: str, every_seconds: float, progress: Callable[[], str | None]) -> None:
        self._kafka = kafka
        self._client = client
        self._group = group
        self._every_seconds = every_seconds
        self._progress = progress
        self._known: dict[tuple[Place, int], int] = {}
        self._troubles: dict[str, str] = {}
        self._lock = threading.Lock()
        self._counts = Counts()
        self._look: Look | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join(30)

    def count(self, counts: Counts) -> None:
        with self._lock:
            self._counts.add(counts)

    def metrics(self) -> str:
        with self._lock:
            return exposition(self._look, self._counts)

    def _run(self) -> None:
        while not self._ended.is_set():
            self.turn(int(time.time() * 1000))
            self._ended.wait(self._every_seconds)

    def turn(self, now_ms: int) -> None:
        """Each of the three ways by itself: where one fails, the others go on."""
        look = self._try("Kafka does not tell the lag", lambda: self._seen(now_ms))
        if look is None:
            return
        with self._lock:
            self._look = look
            document = status_document(look, self._counts, self._group)
        self._try("OpenSearch does not take the lag", lambda: self._send(document))

    def _seen(self, now_ms: int) -> Look:
        progress = self._progress()
        if progress is None:
            # Since the start nothing is done yet: what the group says holds, which may be a batch behind.
            return Look(now_ms, waiting(self._kafka, self._kafka.committed(), self._known))
        done = offsets(progress)
        look = Look(now_ms, waiting(self._kafka, done, self._known))
        self._try("Kafka does not take the group's offsets", lambda: self._kafka.commit(done))
        return look

    def _send(self, document: bytes) -> bool:
        reply = self._client.request("POST", "/_bulk", document, "application/x-ndjson")
        if reply.status != 200 or json.loads(reply.body).get("errors"):
            raise OSError(f"{reply.status}: {reply.body[:300].decode(errors='replace')}")
        return True

    def _try(self, trouble: str, action: Callable[[], Any]) -> Any:
        """A line when it begins to fail, and one when that is over."""
        try:
            result = action()
        except Exception as error:  # noqa: BLE001, py4j has errors of many kinds, and none of them may end this thread
            if trouble not in self._troubles:
                print(f"{trouble}: {str(error)[:500]}", file=sys.stderr, flush=True)
            self._troubles[trouble] = str(error)
            return None
        if self._troubles.pop(trouble, None):
            print(f"over: {trouble}", file=sys.stderr, flush=True)
        return result


def offsets(progress: str) -> dict[Place, int]:
    """From the JSON in which Spark has them: topic, partition, next offset."""
    return {Place(topic, int(partition)): offset for topic, parts in json.loads(progress).items() for partition, offset in parts.items()}


def serve(address: str, metrics: Callable[[], str]) -> str:
    """A page for Prometheus at HOST:PORT; returns where it is."""
    host, _, port = address.rpartition(":")

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/metrics"
            body = metrics().encode() if found else b"/metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((host.strip("[]"), int(port)), Page)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return "{}:{}".format(*server.server_address[:2])
