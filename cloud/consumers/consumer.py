"""A consumer of a stream: the program that the Kinesis Client Library's daemon for other languages runs, once for each shard.

The daemon sends a line of JSON for each thing that it wants done, and gets one back. What the records are is written down first, and only then a checkpoint is
set: at most what was not written down is read again, and what was is known by its place in the shard and passed over.
"""

import argparse
import base64
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

from seen import Place, Section
from shelf import Shelf, Taken, shelf

# Kinesis allows some five writes a second to a row of the table of leases.
CHECKPOINT_TRIES = 6
PAUSE_SECONDS = 1.0
# The client library reads ahead: at most so many batches were read and not handed over yet, by its queues of 11 and 8.
READ_AHEAD_MAX = 20
# Times of arrival within a shard are in order, but for so much.
DISORDER_MS = 1_000


class Ended(Exception):
    """The daemon has closed the pipe."""


class Daemon:
    """The other end of the pipe. Standard output is its own: nothing else may print there."""

    def __init__(self, requests: TextIO, replies: TextIO) -> None:
        self._requests, self._replies = requests, replies

    def next(self) -> dict[str, Any]:
        line = self._requests.readline()
        if not line:
            raise Ended("the daemon has gone")
        return json.loads(line)

    def done(self, action: str) -> None:
        self._send({"action": "status", "responseFor": action})

    def checkpoint(self, at: dict[str, Any], pause: Callable[[float], object]) -> None:
        """Sets the checkpoint; an empty one is the end of the shard. What cannot be set is set the next time, or by the shard's next consumer."""
        for attempt in range(CHECKPOINT_TRIES):
            self._send({"action": "checkpoint"} | at)
            error = self.next().get("error")
            if error != "ThrottlingException":
                break
            pause(PAUSE_SECONDS * 2**attempt)
        if error:
            say(f"no checkpoint: {error}")

    def _send(self, reply: dict[str, Any]) -> None:
        self._replies.write(json.dumps(reply) + "\n")
        self._replies.flush()


class Recency:
    """Up to when a shard is read. A batch says how far it was behind the newest record when it was read, and not when that was: it may have waited since. But it was read
    after the one before all those that may have been read ahead was handed over."""

    def __init__(self, read_to_ms: int = 0) -> None:
        self._handed_over_ms: deque[int] = deque(maxlen=READ_AHEAD_MAX)
        self.read_to_ms = read_to_ms

    def take(self, now_ms: int, behind_ms: int, newest_arrived_ms: int | None) -> None:
        """Each batch, also an empty one."""
        if len(self._handed_over_ms) == READ_AHEAD_MAX:
            self.read_to_ms = max(self.read_to_ms, self._handed_over_ms[0] - behind_ms)
        if newest_arrived_ms is not None:
            self.read_to_ms = max(self.read_to_ms, newest_arrived_ms - DISORDER_MS)
        self._handed_over_ms.append(now_ms)


class Consumer:
    """Does what the daemon says, for one shard."""

    def __init__(
        self,
        daemon: Daemon,
        kept: Shelf,
        stream: str,
        every_seconds: float,
        now: Callable[[], float] = time.time,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._daemon, self._kept, self._stream = daemon, kept, stream
        self._every_seconds, self._now, self._pause = every_seconds, now, pause
        self._shard = ""
        self._section = Section(None)
        # The last record in the daemon's own words: whoever compares sequence numbers as texts gets the same text back.
        self._last: dict[str, Any] = {}
        self._recency = Recency()
        self._written_at = 0.0

    def run(self) -> None:
        actions = {
            "initialize": self._initialize,
            "processRecords": self._process,
            "leaseLost": self._lose,
            "shardEnded": self._end_shard,
            "shutdownRequested": self._stop,
        }
        while True:
            request = self._daemon.next()
            action = request["action"]
            if action in actions:
                actions[action](request)
            else:
                say(f"the daemon asks for {action}, which is not known here")
            self._daemon.done(action)

    def _initialize(self, request: dict[str, Any]) -> None:
        self._shard = f"{self._stream}/{request['shardId']}"
        checkpoint = Place.parse(request["sequenceNumber"], request.get("subSequenceNumber") or 0)
        # A checkpoint that could not be set any more is behind what is written down.
        written = [Place.of_text(name.rsplit("/", 1)[1].removesuffix(".json")) for name in self._kept.names(f"{self._shard}/sections")]
        # What the shard's last consumer has said of that still holds.
        self._recency = Recency((self._kept.read(f"{self._shard}/at.json") or {"read_to_ms": 0})["read_to_ms"])
        self._section = Section(max([*written, *([checkpoint] if checkpoint else [])], default=None))
        self._written_at = self._now()
        say(f"{self._shard} from {request['sequenceNumber']}")

    def _process(self, request: dict[str, Any]) -> None:
        for record in request["records"]:
            place = Place(int(record["sequenceNumber"]), record.get("subSequenceNumber") or 0)
            if self._section.after is not None and place <= self._section.after:
                continue
            self._last = {"sequenceNumber": record["sequenceNumber"], "subSequenceNumber": place.subsequence}
            self._section.take(place, int(record["approximateArrivalTimestamp"]), base64.b64decode(record["data"]))
            if self._section.is_full:
                self._write()
        newest = max((int(record["approximateArrivalTimestamp"]) for record in request["records"]), default=None)
        self._recency.take(int(self._now() * 1000), int(request.get("millisBehindLatest") or 0), newest)
        if self._now() - self._written_at >= self._every_seconds:
            self._write()

    def _write(self, ended: bool = False) -> None:
        """First what was seen, then how far that is, then the checkpoint."""
        through = self._section.through
        if through is not None:
            try:
                self._kept.write_new(f"{self._shard}/sections/{through.text()}.json", self._section.written())
            except Taken:
                # Another consumer has had the same shard since, so what is before is written as well, by one or the other.
                say(f"{self._shard}: another consumer has written down the same")
            self._section = Section(through)
        at = self._section.after
        self._kept.write(f"{self._shard}/at.json", {"read_to_ms": self._recency.read_to_ms, "through": at and at.text(), "ended": ended})
        self._written_at = self._now()
        if through is not None or ended:
            self._daemon.checkpoint({} if ended else self._last, self._pause)

    def _end_shard(self, _: dict[str, Any]) -> None:
        # Until the checkpoint says so, nobody begins with the shards that this one was split or merged into.
        say(f"{self._shard} is read to its end")
        self._write(ended=True)

    def _stop(self, _: dict[str, Any]) -> None:
        self._write()

    def _lose(self, _: dict[str, Any]) -> None:
        """Another consumer has the shard, and reads on from what is written down."""
        self._section = Section(self._section.after)


def say(line: str) -> None:
    print(f"consumer: {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stream", required=True, metavar="NAME", help="the stream of Kinesis that the daemon reads")
    parser.add_argument("--seen", required=True, metavar="PLACE", help="where to write down what was seen: a folder, or s3://bucket/prefix")
    parser.add_argument("--every", type=float, default=10, metavar="SECONDS", help="how often that is written down (%(default)s)")
    parser.add_argument("--endpoint", metavar="URL", help="of S3, for emulators")
    given = parser.parse_args()
    try:
        Consumer(Daemon(sys.stdin, sys.stdout), shelf(given.seen, given.endpoint), given.stream, given.every).run()
    except Ended as end:
        say(f"ends: {end}")


if __name__ == "__main__":
    main()
