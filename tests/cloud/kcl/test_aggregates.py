"""`record = "kpl"`, read by the library that the makers of the format give to others."""

import base64
import json
import tempfile
import unittest
from pathlib import Path
from typing import Any

from aws_kinesis_agg import deaggregator
from emulated import Emulator
from programs import REGION, run_fleet, start_gateway, wait_for

# As the unit test of the gateway's encoder has them: under the key `k` two lines.
MAGIC = b"\xf3\x89\x9a\xc2"
MESSAGE = b"\x0a\x01k\x1a\x08\x08\x00\x1a\x04one\n\x1a\x08\x08\x00\x1a\x04two\n"
DIGEST = bytes.fromhex("ec264b73cc0d4609a2ef37a02129fff2")


def split(partition_key: str, data: bytes) -> list[tuple[str, bytes]]:
    """The records in a record, with their partition keys."""
    kinesis = {"kinesisSchemaVersion": "1.0", "sequenceNumber": "1", "approximateArrivalTimestamp": 0, "partitionKey": partition_key}
    event = {"kinesis": kinesis | {"data": base64.b64encode(data).decode()}, "eventID": "shard:1"}
    return [(each["kinesis"]["partitionKey"], base64.b64decode(each["kinesis"]["data"])) for each in deaggregator.deaggregate_records([event])]


class Aggregates(unittest.TestCase):
    def test_the_bytes_of_the_encoder_are_two_records(self) -> None:
        self.assertEqual(split("k", MAGIC + MESSAGE + DIGEST), [("k", b"one\n"), ("k", b"two\n")])
        spoilt = MAGIC + MESSAGE + bytes(16)
        self.assertEqual(split("k", spoilt), [("k", spoilt)], "a wrong digest is no aggregate")

    def test_each_reading_of_a_gateway_is_a_record_under_the_key_of_its_aggregate(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="outrider-kpl-")))
        emulator = Emulator(folder)
        self.addCleanup(emulator.end)
        kinesis = emulator.client("kinesis")
        for stream in ("raw", "anomalies"):
            kinesis.create_stream(StreamName=stream, ShardCount=1)
        sink = f'[[sink]]\nname = "cloud"\ntype = "kinesis"\nregion = "{REGION}"\nendpoint = "{emulator.url}"\nraw = "raw"\nanomalies = "anomalies"\n'
        gateway, address = start_gateway(folder, f'{sink}record = "kpl"\nbatch_delay = "1s"\n')
        self.addCleanup(gateway.end)
        fleet = run_fleet(address, "--vehicles", "3", "--duration", "5s")

        def records() -> list[dict[str, Any]]:
            iterator = kinesis.get_shard_iterator(StreamName="raw", ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
            return kinesis.get_records(ShardIterator=iterator, Limit=10_000)["Records"]

        def lines() -> list[tuple[str, bytes]]:
            return [line for record in records() for line in split(record["PartitionKey"], record["Data"])]

        wait_for("all readings", lambda: len(lines()) >= fleet["readings_acknowledged"])
        found = lines()
        read = [json.loads(line) for _, line in found]
        self.assertEqual(sorted(each["position"] for each in read), list(range(1, fleet["readings_acknowledged"] + 1)))
        self.assertEqual([key for key, _ in found], [f"truck-0042/{each['device']}" for each in read])
        self.assertTrue(all(line.endswith(b"\n") and line.count(b"\n") == 1 for _, line in found))
        self.assertTrue(any(record["Data"].startswith(MAGIC) for record in records()), "nothing was aggregated")
        for device in {each["device"] for each in read}:
            positions = [each["position"] for each in read if each["device"] == device]
            self.assertEqual(positions, sorted(positions), "out of order")


if __name__ == "__main__":
    unittest.main()
