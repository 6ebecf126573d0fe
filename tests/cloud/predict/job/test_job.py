"""The job in Spark: what comes into Kafka is the latest state of each vehicle in DynamoDB, joined with what is known of it, also when the job is killed on the way."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

from broker import Broker
from emulated import Emulator
from programs import ENVIRONMENT, REGION, ROOT, wait_for

ETL = ROOT / "cloud" / "predict" / "etl"
DEVICES = [f"van-{number}" for number in range(8)]
METRICS = ["speed", "engine_temperature", "fuel"]
WAIT_SECONDS = 400


class Job:
    """Spark, which is several processes in a session of their own."""

    def __init__(self, folder: Path, kafka: str, dynamodb: str) -> None:
        self.log = folder / f"job-{len(list(folder.glob('job-*.log')))}.log"
        jars = ",".join(str(path) for path in (Path(os.environ["SPARK_TESTS"]) / "connector").glob("*.jar"))
        # On a cluster, the program is there without its folder.
        program = shutil.copy(ETL / "main.py", folder)
        settings = ["spark.ui.enabled=false", "spark.driver.host=127.0.0.1", "spark.driver.bindAddress=127.0.0.1", "spark.driver.memory=600m", "spark.sql.shuffle.partitions=2"]
        submit = [str(Path(sys.executable).parent / "spark-submit"), "--master", "local[2]", "--jars", jars]
        submit += ["--py-files", f"{ETL / 'process.py'},{ETL / 'merging.py'}", *(part for each in settings for part in ("--conf", each))]
        options = {"kafka": kafka, "topics": "raw", "table": "states", "region": REGION, "endpoint": dynamodb, "every": "1 second"}
        options |= {"vehicles": str(folder / "vehicles.json"), "checkpoint": str(folder / "checkpoint")}
        named = [part for name, value in options.items() for part in (f"--{name}", value)]
        own = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_DIRS": str(folder / "local"), "PYTHONPATH": ""}
        with self.log.open("wb") as output:
            environment = os.environ | ENVIRONMENT | own
            self.process = subprocess.Popen([*submit, program, *named], stdout=output, stderr=output, env=environment, start_new_session=True)

    def kill(self) -> None:
        """All of its processes at once, as when the power goes. Python's workers leave the group, but not the session."""
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(path.name)) == self.process.pid:
                    os.kill(int(path.name), signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()


class Streaming(unittest.TestCase):
    def test_the_latest_state_of_each_vehicle_is_there_also_after_a_kill(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="outrider-etl-")))
        emulator = Emulator(folder)
        self.addCleanup(emulator.end)
        dynamodb = emulator.client("dynamodb")
        key = {"AttributeDefinitions": [{"AttributeName": "source", "AttributeType": "S"}], "KeySchema": [{"AttributeName": "source", "KeyType": "HASH"}]}
        dynamodb.create_table(TableName="states", BillingMode="PAY_PER_REQUEST", **key)
        # Of the last one nothing is known.
        known = "".join(json.dumps({"device": device, "model": f"m{number}", "engine_max": 90.5}) + "\n" for number, device in enumerate(DEVICES[:-1]))
        (folder / "vehicles.json").write_text(known)
        broker = Broker(folder)
        self.addCleanup(broker.end)
        broker.create_topics("raw", partitions=3)
        job = Job(folder, broker.address, emulator.url)
        self.addCleanup(lambda: job.kill())

        expected: dict[str, dict[str, Any]] = {}
        broker.send("raw", lines(expected, 0), 7)
        self.wait(job, dynamodb, expected)
        # More comes while it is dead, and some of what it has read comes again.
        job.kill()
        broker.send("raw", [*lines({}, 0)][-20:], 7)
        broker.send("raw", lines(expected, 1), 7)
        job = Job(folder, broker.address, emulator.url)
        items = self.wait(job, dynamodb, expected)
        self.assertEqual(items[f"truck-0042/{DEVICES[0]}"]["vehicle"], {"M": {"model": {"S": "m0"}, "engine_max": {"N": "90.5"}}})
        self.assertEqual(items[f"truck-0042/{DEVICES[-1]}"]["vehicle"], {"M": {}})
        self.assertTrue(all(int(item["expires_at"]["N"]) > 1_700_000_000 for item in items.values()))

    def wait(self, job: Job, dynamodb: Any, expected: dict[str, dict[str, Any]]) -> dict[str, Any]:
        def stored() -> dict[str, Any] | None:
            assert job.process.poll() is None, f"the job ended: {job.log.read_text()[-3000:]}"
            items = {item["source"]["S"]: item for item in dynamodb.scan(TableName="states")["Items"]}
            told = {
                source: {name: float(value["N"]) for name, value in item.items() if name.startswith("metric:") or name == "measured_at_ms"}
                for source, item in items.items()
            }
            return items if told == expected else None

        return wait_for("all states", stored, WAIT_SECONDS) or {}


def lines(latest: dict[str, dict[str, Any]], part: int) -> list[tuple[str, bytes]]:
    """A half of what vehicles say, and what becomes of it."""
    draw, made = random.Random(part), []
    for number in range(300):
        device, metric, value, at = draw.choice(DEVICES), draw.choice(METRICS), draw.randint(0, 999) / 4, (part * 300 + number + 1) * 1_000
        said = {"type": "reading", "gateway": "truck-0042", "device": device, "metric": metric, "value": value, "measured_at_ms": at}
        made.append((f"truck-0042/{device}", json.dumps(said).encode() + b"\n"))
        latest.setdefault(f"truck-0042/{device}", {}).update({f"metric:{metric}": value, "measured_at_ms": at})
    return made


if __name__ == "__main__":
    unittest.main()
