"""A fleet's gateway, the streams and their consumers in one process and in a time of its own, with faults by a seed. What is true is known here, so that what the books say
can be compared with it.
"""

import argparse
import json
import random
from dataclasses import dataclass, field
from typing import Any

import kept
import verify
from book import Book
from report import Report
from seen import Place, Section
from shelf import Taken

STREAMS = ("raw", "anomalies")
DEVICES = [f"device-{number}" for number in range(6)]
OF_GATEWAY = "_gateway"


class Memory:
    """A shelf. What is read is a copy."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def names(self, prefix: str) -> list[str]:
        return sorted(name for name in self.files if not prefix or name.startswith(f"{prefix}/"))

    def read(self, name: str) -> dict[str, Any] | None:
        return json.loads(self.files[name]) if name in self.files else None

    def write(self, name: str, value: dict[str, Any]) -> None:
        self.files[name] = json.dumps(value)

    def write_new(self, name: str, value: dict[str, Any]) -> None:
        if name in self.files:
            raise Taken(name)
        self.write(name, value)

    def remove(self, name: str) -> None:
        self.files.pop(name, None)


@dataclass
class Kept:
    """A record in the gateway's store."""

    sequence: int
    run: str
    position: int
    key: str
    line: bytes


@dataclass
class Log:
    """One stream in the gateway's store, and its delivery to Kinesis."""

    last_sequence: int = 0
    positions: dict[str, int] = field(default_factory=dict)
    newest: int | None = None
    pending: dict[str, list[Kept]] = field(default_factory=dict)
    aside: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("delivered", "expired", "dead_lettered", "quarantined", "passed_over"), 0))

    def waiting(self) -> list[Kept]:
        return [record for records in self.pending.values() for record in records]

    def cursor(self) -> int:
        """It passes over keys that are set aside."""
        open_sequences = [records[0].sequence for key, records in self.pending.items() if records and key not in self.aside]
        return min(open_sequences, default=self.last_sequence + 1) - 1


class Shard:
    def __init__(self, name: str) -> None:
        self.name = name
        self.records: list[tuple[Place, int, bytes]] = []
        self.closed = False
        # Of its consumer: the next record to be read, and what is not written down yet.
        self.at = 0
        self.section: Section | None = None
        self.has_begun = False


class World:
    def __init__(self, seed: int, is_lossy: bool, loses_replies: bool = True) -> None:
        self.random = random.Random(seed)
        self.is_lossy, self.loses_replies = is_lossy, loses_replies
        self.now_ms = 1_700_000_000_000
        self.logs = {stream: Log() for stream in STREAMS}
        self.runs = 0
        self.sequence_number = 10**20
        self.shards: dict[str, list[Shard]] = {stream: [Shard(f"{stream}/shard-{number}") for number in range(2)] for stream in STREAMS}
        self.shelf = Memory()
        # What is on the streams, and what was taken out of them.
        self.sent: dict[str, set[tuple[str, int]]] = {stream: set() for stream in STREAMS}
        self.taken: dict[str, set[tuple[str, int]]] = {stream: set() for stream in STREAMS}
        self.sent_twice = dict.fromkeys(STREAMS, 0)
        # What the gateway gave up, and of these what is on the stream all the same, because a reply was lost.
        self.given_up: dict[str, set[tuple[str, int]]] = {stream: set() for stream in STREAMS}
        self.restart()

    # ---- the gateway ----

    def restart(self) -> None:
        """What was sent and not saved as done is sent again: here nothing is, which the faults of sending make up for."""
        self.runs += 1
        self.run = f"{self.runs:016x}"
        self.tell()

    def accept(self, stream: str, key: str, fields: dict[str, Any]) -> None:
        log = self.logs[stream]
        log.last_sequence += 1
        position = log.positions[self.run] = log.positions.get(self.run, 0) + 1
        log.newest = position
        line = json.dumps({"v": 1, "gateway": "truck", "run": self.run, "position": position} | fields).encode() + b"\n"
        log.pending.setdefault(key, []).append(Kept(log.last_sequence, self.run, position, key, line))

    def measure(self) -> None:
        for _ in range(self.random.randint(1, 12)):
            self.accept("raw", self.random.choice(DEVICES), {"type": "reading"})
        if self.random.random() < 0.3:
            self.accept("anomalies", self.random.choice(DEVICES), {"type": "anomaly"})

    def tell(self) -> None:
        """The gateway's own record, as the store is before it is in it."""
        streams = [{"stream": name, "last_sequence": log.last_sequence, "last_position": log.newest} for name, log in self.logs.items()]
        ledger, sinks = [], []
        for name, log in self.logs.items():
            buffered = len(log.waiting())
            settled = {each: log.counts[each] for each in ("delivered", "expired", "dead_lettered", "quarantined")}
            ledger.append(
                {"stream": name, "sink": "cloud", "accepted": log.last_sequence, "buffered": buffered, "cursor": log.cursor(), "passed_over": 0} | settled
            )
            held = {"keys_set_aside": {"count": len(log.aside), "first": sorted(log.aside)}} if log.aside else {}
            sinks.append({"name": "cloud", "stream": name, "kind": "kinesis"} | held)
        told = {"type": "gateway", "at_ms": self.now_ms, "state": "running", "streams": streams, "ledger": ledger, "sinks": sinks}
        self.accept("anomalies", OF_GATEWAY, told)

    def send(self, stream: str) -> None:
        """Some lines of some keys, each key's in order; a reply may be lost, and what was sent is sent again."""
        log = self.logs[stream]
        for key in self.random.sample(list(log.pending), self.random.randint(0, len(log.pending))):
            if key in log.aside:
                continue
            records = log.pending[key][: self.random.randint(1, 20)]
            if records:
                self.put(stream, key, records)
                if not self.loses_replies or self.random.random() > 0.1:
                    self.done(stream, key, len(records), "delivered")

    def done(self, stream: str, key: str, count: int, how: str) -> None:
        log = self.logs[stream]
        log.counts[how] += count
        if how != "delivered":
            self.given_up[stream] |= {(record.run, record.position) for record in log.pending[key][:count]}
        del log.pending[key][:count]
        if not log.pending[key]:
            del log.pending[key]

    def refuse(self, stream: str) -> None:
        """The first line of a key becomes a dead letter."""
        log = self.logs[stream]
        if log.pending:
            self.done(stream, self.random.choice(list(log.pending)), 1, "dead_lettered")

    def expire(self) -> None:
        log = self.logs["raw"]
        for record in sorted(log.waiting(), key=lambda record: record.sequence)[: self.random.randint(1, 8)]:
            self.done("raw", record.key, 1, "expired")

    def set_aside(self, stream: str) -> None:
        log = self.logs[stream]
        if log.aside and self.random.random() < 0.5:
            log.aside.remove(min(log.aside))
        elif log.pending:
            log.aside.add(self.random.choice(list(log.pending)))

    # ---- Kinesis ----

    def put(self, stream: str, key: str, records: list[Kept]) -> None:
        shards = [shard for shard in self.shards[stream] if not shard.closed]
        shard = shards[hash_of(key) % len(shards)]
        lines = []
        for record in records:
            identity = (record.run, record.position)
            if self.is_lossy and self.random.random() < 0.01:
                self.taken[stream].add(identity)
                continue
            self.sent_twice[stream] += identity in self.sent[stream]
            self.sent[stream].add(identity)
            lines.append(record.line)
        self.sequence_number += self.random.randint(1, 1000)
        # As one record, or aggregated.
        parts = [b"".join(lines)] if self.random.random() < 0.5 else lines
        for number, part in enumerate(part for part in parts if part):
            shard.records.append((Place(self.sequence_number, number), self.now_ms, part))

    def reshard(self, stream: str) -> None:
        shards = self.shards[stream]
        for shard in shards:
            shard.closed = True
        first = len(shards)
        shards += [Shard(f"{stream}/shard-{number}") for number in range(first, first + self.random.randint(1, 3))]

    # ---- its consumers ----

    def read(self, shard: Shard) -> None:
        if not shard.has_begun:
            self.begin(shard)
        assert shard.section is not None
        count = self.random.randint(1, 10)
        for place, arrived_ms, data in shard.records[shard.at : shard.at + count]:
            if shard.section.after is None or place > shard.section.after:
                shard.section.take(place, arrived_ms, data)
        shard.at = min(shard.at + count, len(shard.records))
        if self.random.random() < 0.4:
            self.write(shard)

    def begin(self, shard: Shard) -> None:
        """From what is written down, and by a checkpoint that may be behind it."""
        written = [Place.of_text(name.rsplit("/", 1)[1].removesuffix(".json")) for name in self.shelf.names(f"{shard.name}/sections")]
        through = max(written, default=None)
        shard.at = sum(place <= through for place, _, _ in shard.records) if through else 0
        shard.at = max(shard.at - self.random.randint(0, 5), 0)
        shard.section, shard.has_begun = Section(through), True

    def write(self, shard: Shard) -> None:
        assert shard.section is not None
        if not shard.section.is_empty:
            through = shard.section.through
            assert through is not None
            self.shelf.write_new(f"{shard.name}/sections/{through.text()}.json", shard.section.written())
            shard.section = Section(through)
            if self.random.random() < 0.05:
                shard.has_begun = False
                return
        is_at_tip = shard.at >= len(shard.records)
        read_to_ms = self.now_ms if is_at_tip else shard.records[shard.at][1] - 1
        self.shelf.write(f"{shard.name}/at.json", {"read_to_ms": read_to_ms, "through": None, "ended": shard.closed and is_at_tip})

    def kill(self, shard: Shard) -> None:
        """What is not written down is gone."""
        shard.has_begun = False

    # ---- all of it ----

    def step(self) -> None:
        self.now_ms += self.random.randint(0, 50)
        stream = self.random.choice(STREAMS)
        choice = self.random.random()
        if choice < 0.35:
            self.measure()
        elif choice < 0.60:
            self.send(stream)
        elif choice < 0.64:
            self.tell()
        elif choice < 0.66:
            self.refuse(stream)
        elif choice < 0.67:
            self.expire()
        elif choice < 0.68:
            self.set_aside(stream)
        elif choice < 0.685:
            self.restart()
        elif choice < 0.688:
            self.reshard(stream)
        elif choice < 0.98:
            shard = self.random.choice([shard for shards in self.shards.values() for shard in shards])
            self.kill(shard) if self.random.random() < 0.02 else self.read(shard)

    def settle(self) -> None:
        """Everything is sent, told of, and read."""
        # The word of one round may be taken out of the stream.
        for _ in range(4):
            self.now_ms += 100
            self.measure()
            self.tell()
            self.deliver_all()
        self.now_ms += 100
        self.read_all()

    def deliver_all(self) -> None:
        for stream, log in self.logs.items():
            log.aside.clear()
            for key, records in list(log.pending.items()):
                self.put(stream, key, records)
                self.done(stream, key, len(records), "delivered")

    def read_all(self) -> None:
        for shard in (shard for shards in self.shards.values() for shard in shards):
            while True:
                self.read(shard)
                if shard.has_begun and shard.at >= len(shard.records):
                    self.write(shard)
                    if shard.has_begun:
                        break

    def verify(self) -> Report:
        given = argparse.Namespace(grace=0.005, late=10, sink=None, accept=False)
        return verify.verify(self.shelf, given, self.now_ms, lambda _: [shard.name for shards in self.shards.values() for shard in shards])

    def book(self) -> Book:
        found = self.shelf.read(verify.BOOK)
        assert found is not None
        return kept.read(found)

    def lost(self, stream: str, after: int = 0, through: int = 10**18) -> int:
        """How many of these sequences were said to be delivered, and are nowhere."""
        gone = self.taken[stream] - self.sent[stream] - self.given_up[stream] - {(record.run, record.position) for record in self.logs[stream].waiting()}
        return sum(after < self.sequence_of(stream, *identity) <= through for identity in gone)

    def sequence_of(self, stream: str, run: str, position: int) -> int:
        before = sum(count for other, count in self.logs[stream].positions.items() if int(other, 16) < int(run, 16))
        return before + position


def hash_of(key: str) -> int:
    return sum(key.encode())
