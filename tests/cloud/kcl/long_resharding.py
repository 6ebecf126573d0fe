"""Streams whose shards are split and merged while gateways publish and while nobody reads, under the Kinesis Client Library: what the verification says of them, and of
records that did not come through.

The library passes over a whole aggregate if the own key of any record within belongs to another shard: it takes that for a repeat that came of resharding. Gateways give all
records of an aggregate one key; what happens to others is shown beside it.
"""

import hashlib
import json
import signal
import unittest
from collections import Counter
from pathlib import Path
from typing import Any

import aws_kinesis_agg.aggregator
from client_library import Daemon
from programs import Program, binary, run_fleet, wait_for
from streams import Streams
from test_aggregates import MAGIC, split
from verification import WAIT_SECONDS, Gateway, Verification

# So many that each shard gets some of either gateway's.
VEHICLES = "12"
FLEET = 'raw = "fleet"\nanomalies = "anomalies"'
COMPLETE, MISSING, UNKNOWN = 0, 1, 2


def too_early(log: str, stream: str, families: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of these parents and children those of which, by the consumers' own words, the child was begun before the parent was read to its end, or one of both never."""
    lines = log.splitlines()

    def first(words: str) -> int | None:
        return next((number for number, line in enumerate(lines) if f"consumer: {stream}/{words}" in line), None)

    def is_late(parent: str, child: str) -> bool:
        ended, begun = first(f"{parent} is read to its end"), first(f"{child} from ")
        return ended is not None and begun is not None and ended < begun

    return [family for family in families if not is_late(*family)]


class Orders(unittest.TestCase):
    def test_a_child_that_is_begun_too_early_is_found(self) -> None:
        said = ["fleet/a from TRIM_HORIZON", "fleet/a is read to its end", "fleet/c from TRIM_HORIZON", "fleet/b from 7", "fleet/b is read to its end"]
        log = "\n".join(f"12:00 INFO - consumer: {line}" for line in said)
        self.assertEqual(too_early(log, "fleet", [("a", "c"), ("b", "c"), ("b", "d")]), [("b", "c"), ("b", "d")])


class Resharded(Verification):
    def setUp(self) -> None:
        super().setUp()
        self.streams = Streams(self.folder)
        self.addCleanup(self.streams.end)
        self.endpoint, self.kinesis = self.streams.url, self.streams.kinesis
        for stream, shards in {"fleet": 2, "anomalies": 1, "elsewhere": 1, "elsewhere-anomalies": 1}.items():
            self.streams.create(stream, shards)

    def test_nothing_is_missing_but_what_did_not_come_through(self) -> None:
        aggregating = self.gateway("truck-0051", f'{FLEET}\nrecord = "kpl"\nbatch_delay = "500ms"')
        plain = self.gateway("truck-0052", f'{FLEET}\nbatch_delay = "500ms"')
        robbed = self.gateway("truck-0053", 'raw = "elsewhere"\nanomalies = "elsewhere-anomalies"\nbatch_delay = "2s"')
        run_fleet(robbed.address, "--vehicles", "3", "--interval", "250ms", "--duration", "6s")
        fleets = [self.publish_until_told(gateway) for gateway in (aggregating, plain)]
        daemons = {stream: self.read(stream) for stream in ("fleet", "anomalies")}
        self.wait_until_begun("fleet", "anomalies")

        # While all is read as it comes.
        self.streams.split("fleet", "shardId-000000000000")
        self.calm()
        self.wait_until_begun("fleet")
        self.calm()
        self.streams.merge("fleet", "shardId-000000000003", "shardId-000000000001")
        self.streams.scale("anomalies", 2)
        self.calm()
        self.wait_until_begun("fleet", "anomalies")
        wait_for("a report that all is complete so far", lambda: self.calm()[0] == COMPLETE, WAIT_SECONDS)

        # While nobody reads, through two generations.
        self.wait_for_word("elsewhere-anomalies", robbed.ledger()["raw"]["accepted"])
        robbed_ledger = robbed.ledger()
        robbed.end()
        daemons["fleet"].end()
        known = set(self.streams.shards("fleet"))
        self.streams.scale("fleet", 4)
        victims = self.copy_but_some()
        self.wait_until_filled("fleet")
        self.streams.scale("fleet", 2)
        self.wait_until_filled("fleet")
        unread = {f"fleet/{shard}" for shard in self.streams.shards("fleet").keys() - known}
        code, report = self.calm()
        self.assertEqual((code, set(report["shards_unread"])), (UNKNOWN, unread), report)
        daemons["fleet"] = self.read("fleet")
        self.wait_until_begun("fleet")

        for gateway, fleet in zip((aggregating, plain), fleets, strict=True):
            acknowledged = self.stop(fleet)
            wait_for("all to be delivered", gateway.is_delivered, WAIT_SECONDS)
            self.assertEqual(gateway.ledger()["raw"]["accepted"], acknowledged)
        self.assert_complete({"truck-0051": aggregating, "truck-0052": plain})
        self.assert_found(victims, robbed_ledger)
        for stream, daemon in daemons.items():
            families = self.streams.families(stream)
            self.assertEqual(too_early(daemon.log.read_text(), stream, families), [], families)
            self.assertIsNone(daemon.process.poll(), daemon.log.read_text()[-3000:])
        self.assertEqual({stream: len(self.streams.families(stream)) for stream in daemons}, {"fleet": 12, "anomalies": 2})

    def read(self, stream: str) -> Daemon:
        """This emulator takes much of a processor for each read."""
        return self.start(stream, "polling.properties", idleTimeBetweenReadsInMillis="1000")

    def publish_until_told(self, gateway: Gateway) -> Program:
        command = [binary("firmware-sim"), "fleet", "--broker", gateway.address, "--vehicles", VEHICLES, "--interval", "5s"]
        fleet = Program(command, self.folder / "fleets.log", {})
        self.addCleanup(fleet.end)
        return fleet

    def stop(self, fleet: Program) -> int:
        """Returns how many readings were acknowledged to it."""
        fleet.process.send_signal(signal.SIGINT)
        return json.loads(fleet.output.readline())["readings_acknowledged"]

    def wait_until_begun(self, *streams: str) -> None:
        """Until consumers have said of each shard how far they are."""
        places = [Path(self.seen) / stream / shard / "at.json" for stream in streams for shard in self.streams.shards(stream)]
        wait_for("consumers of all shards", lambda: all(place.exists() for place in places), WAIT_SECONDS)

    def wait_until_filled(self, stream: str) -> None:
        """Until there is something of both gateways in each open shard, so that a child is not read by chance after its parent."""

        for shard in self.streams.open_shards(stream):

            def is_filled(shard: str = shard) -> bool:
                return {record["PartitionKey"].partition("/")[0] for record in self.streams.records(stream, shard)} >= {"truck-0051", "truck-0052"}

            wait_for(f"records in {shard} of {stream}", is_filled, WAIT_SECONDS)

    def calm(self) -> tuple[int, dict[str, Any]]:
        """At no time anything is said to be missing that is only not read yet."""
        code, report = self.verify()
        self.assertEqual(report["alarms"], {}, report)
        return code, report

    def copy_but_some(self) -> list[dict[str, Any]]:
        """What a gateway has sent elsewhere comes here, aggregated. Of the longest one the record in the middle is left out, and in the shortest one that record has a key that
        belongs to another shard. Returns what does not come through: the one, and all of the other."""
        records = self.streams.records("elsewhere", "shardId-000000000000")
        by_length = sorted(range(len(records)), key=lambda at: records[at]["Data"].count(b"\n"))
        victims = []
        for at, record in enumerate(records):
            lines, own = record["Data"].splitlines(keepends=True), record["PartitionKey"]
            keys = [own] * len(lines)
            if at in (by_length[0], by_length[-1]):
                middle = len(lines) // 2
                self.assertGreater(middle, 0, "an aggregate has the key of its first record")
                if at == by_length[0]:
                    keys[middle] = self.key_elsewhere(own)
                    victims += lines
                else:
                    keys.pop(middle)
                    victims.append(lines.pop(middle))
            aggregator = aws_kinesis_agg.aggregator.RecordAggregator()
            for key, line in zip(keys, lines, strict=True):
                aggregator.add_user_record(key, line)
            key, _, data = aggregator.clear_and_get().get_contents()
            self.kinesis.put_record(StreamName="fleet", PartitionKey=key, Data=data)
        for record in self.streams.records("elsewhere-anomalies", "shardId-000000000000"):
            self.kinesis.put_record(StreamName="anomalies", PartitionKey=record["PartitionKey"], Data=record["Data"])
        return [json.loads(line) for line in victims]

    def key_elsewhere(self, key: str) -> str:
        here = self.shard_of("fleet", key)
        return next(other for other in map(str, range(1_000)) if self.shard_of("fleet", other) != here)

    def shard_of(self, stream: str, key: str) -> str:
        """The open shard whose records have this key."""
        shards = self.streams.shards(stream)
        return next(shard for shard in self.streams.open_shards(stream) if is_of(shards[shard], key))

    def assert_complete(self, gateways: dict[str, Gateway]) -> None:
        """All that the gateways have delivered was seen, as often as the streams have it."""
        ledgers = {name: {"raw": gateway.ledger()["raw"]} for name, gateway in gateways.items()}
        for gateway in gateways.values():
            gateway.restart()
        there = self.readings()
        for name, ledger in ledgers.items():
            raw = self.judged(name, ledger)["raw"]
            lost = {term: raw[term] for term in ("lost", "explained", "waiting", "missing")}
            self.assertEqual(lost, dict.fromkeys(lost, 0), raw)
            self.assertEqual((raw["seen"], raw["seen"] + raw["repeats"]), (len(there[name]), there[name].total()))
            self.assertEqual(raw["seen"], ledger["raw"]["delivered"])

    def readings(self) -> dict[str, Counter[tuple[str, int]]]:
        """How often each reading is on the stream, by gateway, read without the client library. Those of the gateways here have the key of the shard that they are in."""
        found: dict[str, Counter[tuple[str, int]]] = {}
        aggregates = Counter[str]()
        for shard, described in self.streams.shards("fleet").items():
            for record in self.streams.records("fleet", shard):
                gateway = record["PartitionKey"].partition("/")[0]
                lines = split(record["PartitionKey"], record["Data"])
                if gateway != "truck-0053":
                    self.assertEqual({key for key, _ in lines}, {record["PartitionKey"]})
                    self.assertTrue(is_of(described, record["PartitionKey"]), "the emulator has put it into a wrong shard")
                    aggregates[shard] += record["Data"].startswith(MAGIC)
                read = [json.loads(line) for _, data in lines for line in data.splitlines()]
                found.setdefault(gateway, Counter()).update((each["run"], each["position"]) for each in read)
        self.assertEqual([shard for shard, count in aggregates.items() if count == 0], [], "shards without an aggregate")
        return found

    def assert_found(self, victims: list[dict[str, Any]], ledger: dict[str, dict[str, int]]) -> None:
        told = self.judged("truck-0053", {"raw": ledger["raw"]})["raw"]
        code, report = self.verify()
        self.assertEqual((code, report["alarms"]), (MISSING, {"truck-0053/raw": len(victims)}), report)
        holes = [(run, position) for run, first, last in told["holes"] for position in range(first, last + 1)]
        self.assertEqual(holes, sorted((victim["run"], victim["position"]) for victim in victims))
        self.assertEqual(told["seen"], ledger["raw"]["accepted"] - len(victims))
        self.verify("--accept")
        self.assertEqual(self.verify()[0], COMPLETE)


def is_of(shard: dict[str, Any], key: str) -> bool:
    at, hashes = int(hashlib.md5(key.encode()).hexdigest(), 16), shard["HashKeyRange"]
    return int(hashes["StartingHashKey"]) <= at <= int(hashes["EndingHashKey"])


if __name__ == "__main__":
    unittest.main()
