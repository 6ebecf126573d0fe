"""Gateways before an emulator of Kinesis, daemons behind it, and the verification of what these have seen."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import aws_kinesis_agg.aggregator
from client_library import CONSUMERS, Daemon
from emulated import Emulator
from programs import ENVIRONMENT, REGION, Program, binary, run_fleet, wait_for
from publishing import publish

# A gateway says how it is every minute, and the library looks for shards every few seconds. A daemon that is started again is given any only when the one before it has not
# been heard of for more than two minutes, and then one generation of shards after the other, on a machine that may do much else.
WAIT_SECONDS = 900
BLOBS = """
[[stream]]
name = "blobs"
[[rule]]
name = "blobs"
sql = "SELECT * FROM 'blobs/#'"
stream = "blobs"
"""


class Gateway:
    def __init__(self, folder: Path, name: str, endpoint: str, sink: str, more: str = "") -> None:
        folder.mkdir()
        self._folder, self._configuration = folder, folder / "outrider.toml"
        self._configuration.write_text(
            f'[gateway]\nid = "{name}"\n[store]\npath = "{folder / "state"}"\nsize_max = "16MiB"\n[mqtt]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
            f'[[sink]]\nname = "cloud"\ntype = "kinesis"\nregion = "{REGION}"\nendpoint = "{endpoint}"\n{sink}\n{more}'
        )
        self._start()

    def _start(self) -> None:
        self.program = Program([binary("outrider"), "run", "--config", str(self._configuration)], self._folder / "gateway.log", ENVIRONMENT)
        ready = self.program.ready()
        self.address, self._admin = ready["mqtt"], ready["admin"]

    def end(self) -> None:
        self.program.end()

    def restart(self) -> None:
        """A gateway says how it is once a minute, and when it starts."""
        self.end()
        self._start()

    def ledger(self) -> dict[str, dict[str, int]]:
        with urlopen(f"http://{self._admin}/api/status", timeout=60) as answer:
            return {line["stream"]: line for line in json.load(answer)["ledger"]}

    def is_delivered(self) -> bool:
        return all(line["buffered"] == 0 for line in self.ledger().values())


class Verification(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="outrider-kcl-")))
        self.emulator = Emulator(self.folder)
        self.addCleanup(self.emulator.end)
        # Where the streams are. The table of leases is the emulator's in any case.
        self.endpoint = self.emulator.url
        self.kinesis = self.emulator.client("kinesis")
        self.seen = str(self.folder / "seen")

    def start(self, stream: str, properties: str, **more: str) -> Daemon:
        daemon = Daemon(self.folder, self.emulator.url, self.endpoint, stream, properties, self.seen, **more)
        self.addCleanup(daemon.end)
        return daemon

    def gateway(self, name: str, sink: str, more: str = "") -> Gateway:
        gateway = Gateway(self.folder / name, name, self.endpoint, sink, more)
        self.addCleanup(gateway.end)
        return gateway

    def verify(self, *options: str) -> tuple[int, dict[str, Any]]:
        where = ["--seen", self.seen, "--streams", "fleet,anomalies", "--region", REGION, "--endpoint", self.endpoint]
        command = [sys.executable, str(CONSUMERS / "verify.py"), *where, "--grace", "2", "--json", *options]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ENVIRONMENT)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def judged(self, name: str, ledger: dict[str, dict[str, int]]) -> dict[str, Any]:
        """Looks again and again until everything that this ledger had accepted is judged."""

        def found() -> dict[str, Any] | None:
            told = self.verify()[1].get("gateways", {}).get(name, {})
            return told if all(told.get(stream, {}).get("cursor", 0) >= line["accepted"] for stream, line in ledger.items()) else None

        return wait_for(f"a verdict on {name}", found, WAIT_SECONDS) or {}

    def feed(self, record: str) -> tuple[Gateway, Gateway]:
        """A gateway that loses what finds no room or is too long for a record, and one that is heard of through other hands. Before there is a stream for what they have,
        both say that sending fails, and so where their runs begin."""
        for stream in ("anomalies", "elsewhere-anomalies"):
            self.kinesis.create_stream(StreamName=stream, ShardCount=1)
        streams = 'streams = { raw = "fleet", anomalies = "anomalies", blobs = "fleet" }'
        honest = self.gateway("truck-0042", f'{streams}\nrecord = "{record}"\nrecord_size_max = "170KiB"', BLOBS)
        robbed = self.gateway("truck-0043", 'raw = "elsewhere"\nanomalies = "elsewhere-anomalies"')
        for gateway in (honest, robbed):
            run_fleet(gateway.address, "--vehicles", "3", "--duration", "3s")
        publish(honest.address, ((f"blobs/{number % 3}", blob(140_000)) for number in range(150)))
        publish(honest.address, [("blobs/1", blob(190_000)), ("blobs/2", blob(100))])
        self.kinesis.create_stream(StreamName="fleet", ShardCount=2)
        self.kinesis.create_stream(StreamName="elsewhere", ShardCount=1)
        return honest, robbed

    def deliver(self, honest: Gateway, robbed: Gateway) -> None:
        """Until all of both is delivered. Of the first one's readings none is left by then: a stream can be judged of which something was seen."""

        def is_delivered() -> bool:
            return honest.is_delivered() and robbed.is_delivered()

        wait_for("all to be delivered", is_delivered, WAIT_SECONDS)
        run_fleet(honest.address, "--vehicles", "3", "--duration", "3s")
        wait_for("the last readings to be delivered", is_delivered, WAIT_SECONDS)

    def assert_explained(self, ledger: dict[str, dict[str, int]]) -> None:
        """What the first gateway lost is told by itself, and nothing else is missing."""
        self.assertGreater(ledger["blobs"]["expired"], 0)
        self.assertEqual(ledger["blobs"]["dead_lettered"], 1)
        told = self.judged("truck-0042", ledger)
        code, report = self.verify()
        self.assertEqual((code, report["alarms"]), (0, {}), report)
        blobs = told["blobs"]
        self.assertEqual(blobs["explained"], ledger["blobs"]["expired"] + 1)
        self.assertEqual(blobs["seen"], ledger["blobs"]["delivered"])
        raw = told["raw"]
        self.assertEqual((raw["seen"], raw["explained"], raw["repeats"]), (ledger["raw"]["delivered"], ledger["raw"]["expired"], 0))

    def assert_found(self, victim: dict[str, Any], ledger: dict[str, dict[str, int]]) -> None:
        """One record of the second gateway is missing, and somebody may accept that."""
        told = self.judged("truck-0043", {"raw": ledger["raw"]})
        code, report = self.verify()
        self.assertEqual((code, report["alarms"]), (1, {"truck-0043/raw": 1}), report)
        self.assertEqual(told["raw"]["holes"], [[victim["run"], victim["position"], victim["position"]]])
        self.assertEqual((told["raw"]["seen"], told["raw"]["repeats"], told["anomalies"]["lost"]), (ledger["raw"]["accepted"] - 1, 0, 0))
        self.assertEqual(report["gateways"]["truck-0042"]["raw"]["repeats"], 0, "what was written down was read again")
        self.assertIn("  1 record LOST: the gateway was told that Kinesis has them, or says nothing of them.", report["report"])
        self.verify("--accept")
        self.assertEqual(self.verify()[0], 0)
        self.assertGreater(max(self.checkpoints("fleet")), 0, "no checkpoint is within an aggregate")

    def wait_for_word(self, stream: str, accepted: int) -> None:
        """Until a gateway says that this many readings are settled."""

        def last_word() -> int:
            told = [json.loads(line) for record in self.records(stream) for line in record["Data"].splitlines()]
            return max((entry["cursor"] for word in told if word["type"] == "gateway" for entry in word["ledger"] if entry["stream"] == "raw"), default=0)

        wait_for("a word of the gateway", lambda: last_word() >= accepted, 90)

    def records(self, stream: str) -> list[dict[str, Any]]:
        shard = {"StreamName": stream, "ShardId": "shardId-000000000000"}
        iterator = self.kinesis.get_shard_iterator(ShardIteratorType="TRIM_HORIZON", **shard)["ShardIterator"]
        return self.kinesis.get_records(ShardIterator=iterator, Limit=10_000)["Records"]

    def copy_aggregated_but_one(self, source: str, target: str, takes: bool = True) -> dict[str, Any]:
        """Each record becomes an aggregate by the library of the KPL's makers, under its key. Of the longest one, the line in the middle is left out."""
        records = self.records(source)
        robbed = max(records, key=lambda record: record["Data"].count(b"\n")) if takes else None
        victim: dict[str, Any] = {}
        for record in records:
            lines = record["Data"].splitlines(keepends=True)
            if record is robbed:
                victim = json.loads(lines.pop(len(lines) // 2))
            aggregator = aws_kinesis_agg.aggregator.RecordAggregator()
            for line in lines:
                aggregator.add_user_record(record["PartitionKey"], line)
            key, _, data = aggregator.clear_and_get().get_contents()
            self.kinesis.put_record(StreamName=target, PartitionKey=key, Data=data)
        return victim

    def checkpoints(self, stream: str) -> list[int]:
        """The subsequence numbers of the checkpoints in the table of leases."""
        items = self.emulator.client("dynamodb").scan(TableName=f"{stream}-consumer")["Items"]
        return [int(item["checkpointSubSequenceNumber"]["N"]) for item in items if "checkpointSubSequenceNumber" in item]


def blob(size: int) -> bytes:
    return json.dumps({"blob": secrets.token_urlsafe(size * 3 // 4)}).encode()
