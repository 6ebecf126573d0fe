"""An emulator of Kinesis whose closed shards stay readable to their end and name their children. The other emulator drops a shard that is split, with what is in it."""

import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import boto3
from programs import ENVIRONMENT, REGION, ROOT, Program, free_ports, wait_for

PROGRAM = ROOT / "tests" / ".cache" / "emulator" / "node_modules" / "kinesis-local"


class Streams(Program):
    """kinesis-local, as tests/setup.d/kinesis-emulator installs it."""

    def __init__(self, folder: Path) -> None:
        node = shutil.which("node")
        assert node and PROGRAM.exists(), "tests/setup.d/kinesis-emulator installs the emulator, and needs Node and npm"
        plain, tls = free_ports(2)
        own = {"KINESIS_MOCK_PLAIN_PORT": str(plain), "KINESIS_MOCK_TLS_PORT": str(tls), "KINESIS_MOCK_CERT_PATH": str(PROGRAM / "server.json")}
        self.url, self.log = f"http://127.0.0.1:{plain}", folder / "streams.log"
        command = ["/bin/sh", "-c", 'exec "$@" >&2', "sh", node, str(PROGRAM / "main.js")]
        super().__init__(command, self.log, ENVIRONMENT | own | {"LOG_LEVEL": "ERROR"})
        wait_for("the emulator of streams", self._answers)
        session = boto3.session.Session(ENVIRONMENT["AWS_ACCESS_KEY_ID"], ENVIRONMENT["AWS_SECRET_ACCESS_KEY"], region_name=REGION)
        self.kinesis = session.client("kinesis", endpoint_url=self.url)

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"the emulator ended; see {self.log.read_text()[-2000:]}"
        try:
            urllib.request.urlopen(self.url, timeout=2).close()
        except urllib.error.HTTPError:
            return True
        except (urllib.error.URLError, OSError):
            return False
        return True

    def create(self, stream: str, shards: int) -> None:
        self.kinesis.create_stream(StreamName=stream, ShardCount=shards)
        self._settle(stream)

    def split(self, stream: str, shard: str) -> None:
        """In halves."""
        hashes = self.shards(stream)[shard]["HashKeyRange"]
        middle = (int(hashes["StartingHashKey"]) + int(hashes["EndingHashKey"])) // 2 + 1
        self.kinesis.split_shard(StreamName=stream, ShardToSplit=shard, NewStartingHashKey=str(middle))
        self._settle(stream)

    def merge(self, stream: str, shard: str, adjacent: str) -> None:
        self.kinesis.merge_shards(StreamName=stream, ShardToMerge=shard, AdjacentShardToMerge=adjacent)
        self._settle(stream)

    def scale(self, stream: str, shards: int) -> None:
        self.kinesis.update_shard_count(StreamName=stream, TargetShardCount=shards, ScalingType="UNIFORM_SCALING")
        self._settle(stream)

    def _settle(self, stream: str) -> None:
        def is_active() -> bool:
            return self.kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"

        wait_for(f"{stream} to be active", is_active)

    def shards(self, stream: str) -> dict[str, dict[str, Any]]:
        return {shard["ShardId"]: shard for shard in self.kinesis.list_shards(StreamName=stream)["Shards"]}

    def open_shards(self, stream: str) -> set[str]:
        return {name for name, shard in self.shards(stream).items() if "EndingSequenceNumber" not in shard["SequenceNumberRange"]}

    def families(self, stream: str) -> list[tuple[str, str]]:
        """Parent and child, of each shard that came of others."""
        pairs = [(shard.get(of), name) for name, shard in self.shards(stream).items() for of in ("ParentShardId", "AdjacentParentShardId")]
        return [(parent, child) for parent, child in pairs if parent]

    def records(self, stream: str, shard: str) -> list[dict[str, Any]]:
        """All that is in a shard."""
        iterator = self.kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        found: list[dict[str, Any]] = []
        while iterator:
            answer = self.kinesis.get_records(ShardIterator=iterator, Limit=10_000)
            found += answer["Records"]
            iterator = answer.get("NextShardIterator") if answer["Records"] or answer["MillisBehindLatest"] else None
        return found
