"""The template on an emulator of AWS, with a real gateway and a small fleet before it."""

import io
import json
import os
import shutil
import subprocess
import tempfile
import unittest
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import costs
import template
from alert_cases import alert
from emulated import Emulator
from lake import Lake, download
from programs import ENVIRONMENT, ROOT, run_fleet, start_gateway, wait_for

FLEET = [
    "--vehicles",
    "5",
    "--history",
    "90s",
    "--duration",
    "22s",
    "--fault",
    "step:truck-03:container_temperature:+9@3s..12s",
    "--fault",
    "spike:truck-02:engine_temperature:+60@5s",
]
RANKS = ["warning", "minor", "major", "critical"]
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()


def cloud(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "cloud" / command, *arguments], env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=120)


class Deployed(unittest.TestCase):
    """One deployment and one run of the fleet; the tests look at what has come of them."""

    folder: Path
    files: Path
    emulator: Emulator
    outputs: dict[str, str]
    queues: dict[str, str]
    fleet: dict[str, Any]
    alerts: list[dict[str, Any]]
    lake: Lake

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="outrider-cloud-")))
        cls.emulator = Emulator(cls.folder)
        cls.addClassCleanup(cls.emulator.end)
        deployed = cloud("deploy", "--stack", "fleet", "--endpoint", cls.emulator.url)
        assert deployed.returncode == 0, deployed.stderr
        stack = cls.emulator.client("cloudformation").describe_stacks(StackName="fleet")["Stacks"][0]
        cls.outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        cls.queues = {topic: cls.subscribe(topic) for topic in ("Driver", "Fleet")}

        gateway, address = start_gateway(cls.folder, deployed.stdout)
        cls.addClassCleanup(gateway.end)
        cls.fleet = run_fleet(address, *FLEET)
        # Ends along the data flow: what is stored is sent first.
        gateway.end()
        assert cls.fleet["readings_acknowledged"] > 2_000, cls.fleet
        cls.alerts = cls.sent_alerts()
        cls.files = cls.folder / "files"
        wait_for("all readings in S3", cls.readings_are_there)
        cls.lake = Lake(cls.files)

    @classmethod
    def subscribe(cls, topic: str) -> str:
        sqs = cls.emulator.client("sqs")
        url = sqs.create_queue(QueueName=f"hears-{topic.lower()}")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        cls.emulator.client("sns").subscribe(TopicArn=cls.outputs[f"{topic}TopicArn"], Protocol="sqs", Endpoint=arn)
        return url

    @classmethod
    def sent_alerts(cls) -> list[dict[str, Any]]:
        """The alerts on the anomalies stream, in their order."""
        lines = [json.loads(line) for line in cls.lines("AnomaliesStreamName")]
        return [line for line in lines if line["type"] == "alert"]

    @classmethod
    def lines(cls, stream: str) -> list[bytes]:
        """What the first and only shard of a stream has."""
        kinesis = cls.emulator.client("kinesis")
        shard = {"StreamName": cls.outputs[stream], "ShardId": "shardId-000000000000"}
        iterator = kinesis.get_shard_iterator(ShardIteratorType="TRIM_HORIZON", **shard)["ShardIterator"]
        records = kinesis.get_records(ShardIterator=iterator, Limit=10_000)["Records"]
        return [line for record in records for line in record["Data"].splitlines(keepends=True)]

    @classmethod
    def readings_are_there(cls) -> bool:
        download(cls.emulator.client("s3"), cls.outputs["BucketName"], cls.files)
        rows = Lake(cls.files).rows("SELECT count(*) AS n FROM raw")
        return rows[0]["n"] >= cls.fleet["readings_acknowledged"]

    def test_every_acknowledged_reading_is_in_the_parquet_files_once(self) -> None:
        rows = self.lake.rows(
            "SELECT count(*) AS n, count(DISTINCT (gateway, run, position)) AS identities, count(DISTINCT (device, metric, seq)) AS said,"
            " count(*) FILTER (WHERE type <> 'reading' OR value IS NULL) AS odd FROM raw"
        )
        acknowledged = self.fleet["readings_acknowledged"]
        self.assertEqual(rows, [{"n": acknowledged, "identities": acknowledged, "said": acknowledged, "odd": 0}])
        self.assertEqual(
            [key for key in download(self.emulator.client("s3"), self.outputs["BucketName"], self.files) if key.startswith("errors/")], []
        )

    def test_nothing_is_missing_and_what_is_taken_away_is_found_missing(self) -> None:
        query = template.queries()["missing positions"]
        self.assertEqual(self.lake.rows(query, YESTERDAY, YESTERDAY), [])
        copy = self.folder / "copy"
        shutil.copytree(self.files, copy)
        victim = sorted((copy / "raw").rglob("*.parquet"), key=lambda path: path.stat().st_mtime)[3]
        lost = self.lake.rows(f"SELECT position FROM read_parquet('{victim}') ORDER BY position")
        victim.unlink()
        found = Lake(copy).rows(query, YESTERDAY, YESTERDAY)
        positions = [position for gap in found for position in range(gap["missing_from"], gap["missing_to"] + 1)]
        self.assertEqual(positions, [row["position"] for row in lost])

    def test_the_named_queries_answer(self) -> None:
        queries = template.queries()
        latest = self.lake.rows(queries["latest values"])
        self.assertEqual(len(latest), 25)
        readings = self.lake.rows(queries["readings of a device"], "truck-01", YESTERDAY)
        self.assertEqual(self.lake.rows("SELECT count(*) AS n FROM raw WHERE device = 'truck-01'"), [{"n": len(readings)}])
        detectors = {row["metric"] for row in self.lake.rows(queries["anomalies by detector"])}
        self.assertLessEqual({"container_temperature", "engine_temperature"}, detectors)
        (fresh,) = self.lake.rows(queries["freshness"])
        self.assertEqual((fresh["gateway"], fresh["state"]), ("truck-0042", "running"))
        self.assertLess(fresh["age_s"], 300)

    def test_the_panels_of_the_dashboard_show_something(self) -> None:
        now = datetime.now(UTC)
        variables = {
            "${__from:date:YYYY-MM-DD}": YESTERDAY,
            "${__to:date:YYYY-MM-DD}": now.date().isoformat(),
            "${__from}": str(int((now - timedelta(hours=6)).timestamp() * 1000)),
            "${__to}": str(int(now.timestamp() * 1000)),
            "$metric": "container_temperature",
        }
        shown = {}
        for panel in json.loads((template.CLOUD / "dashboard" / "grafana.json").read_text())["panels"]:
            sql = panel["targets"][0]["rawSQL"]
            for name, value in variables.items():
                sql = sql.replace(name, value)
            self.assertNotIn("$", sql)
            shown[panel["title"]] = self.lake.rows(sql)
        self.assertEqual({row["device"] for row in shown["$metric"]}, {f"truck-0{number}" for number in range(1, 6)})
        self.assertTrue(shown["Raised now"])
        self.assertTrue(shown["Anomalies by detector"])
        self.assertEqual([(row["gateway"], row["missing"]) for row in shown["Gateways"]], [("truck-0042", 0)])

    def test_the_costs_are_computed_with_bytes_as_they_are(self) -> None:
        lines = self.lines("RawStreamName")
        mean = sum(map(len, lines)) / len(lines)
        self.assertLess(abs(mean / costs.LINE_BYTES - 1), 0.15, mean)
        self.assertIn(costs.table(), (template.CLOUD / "README.md").read_text())

    def test_athena_answers_in_the_workgroup(self) -> None:
        athena = self.emulator.client("athena")
        started = athena.start_query_execution(
            QueryString=template.queries()["latest values"],
            WorkGroup=self.outputs["WorkGroupName"],
            QueryExecutionContext={"Database": self.outputs["DatabaseName"]},
        )["QueryExecutionId"]

        def ended() -> str:
            status = athena.get_query_execution(QueryExecutionId=started)["QueryExecution"]["Status"]
            return f"{status['State']} {status.get('StateChangeReason', '')}".strip() if status["State"] in ("SUCCEEDED", "FAILED") else ""

        self.assertEqual(wait_for("Athena", ended), "SUCCEEDED")
        self.assertEqual(len(athena.get_query_results(QueryExecutionId=started)["ResultSet"]["Rows"]), 1 + 25)

    def test_each_raised_alert_is_told_once_on_each_topic(self) -> None:
        expected = self.expected_notifications()
        self.assertGreaterEqual(len({identity for identity, _ in expected}), 2)
        for topic, queue in self.queues.items():
            heard = self.hear(queue, len(expected))
            told = [(record["id"], record["severity"]) for record in (json.loads(message["Message"]) for message in heard)]
            self.assertEqual(sorted(told), sorted(expected), topic)
            for message in heard:
                record, attributes = json.loads(message["Message"]), message["MessageAttributes"]
                self.assertEqual(
                    {name: attributes[name]["Value"] for name in attributes}, {name: record[name] for name in ("gateway", "device", "severity")}
                )

    def hear(self, queue: str, count: int) -> list[dict[str, Any]]:
        """So many messages, and what comes after them."""
        heard: list[dict[str, Any]] = []

        def enough() -> bool:
            heard.extend(self.receive(queue))
            return len(heard) >= count

        wait_for(f"{count} notifications in {queue}", enough, 20)
        return heard + self.receive(queue)

    def expected_notifications(self) -> list[tuple[str, str]]:
        """Of each alert its first severity, and each graver one."""
        gravest: dict[str, int] = {}
        expected = []
        for sent in self.alerts:
            rank = RANKS.index(sent["severity"])
            if sent["state"] == "raised" and rank > gravest.get(sent["id"], -1):
                gravest[sent["id"]] = rank
                expected.append((sent["id"], sent["severity"]))
        return expected

    def receive(self, queue: str) -> list[dict[str, Any]]:
        sqs = self.emulator.client("sqs")
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1).get("Messages", [])
        for message in messages:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in messages]

    def test_the_table_has_the_latest_of_each_alert(self) -> None:
        latest = {(f"{sent['gateway']}/{sent['device']}", f"{sent['metric']}/{sent['kind']}"): sent for sent in self.alerts}

        def kept() -> dict[tuple[str, str], Any]:
            items = self.emulator.client("dynamodb").scan(TableName=self.outputs["LatestAlertsTable"])["Items"]
            return {(item["source"]["S"], item["alert"]["S"]): json.loads(item["record"]["S"]) for item in items}

        wait_for("the table", lambda: kept() == latest, 20)


class Deploying(unittest.TestCase):
    """The commands: again, away, and what they say when it does not work."""

    def emulator(self) -> Emulator:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="outrider-cloud-")))
        emulator = Emulator(folder)
        self.addCleanup(emulator.end)
        return emulator

    def test_an_unreadable_line_is_set_aside_and_its_neighbours_are_kept(self) -> None:
        emulator = self.emulator()
        self.assertEqual(cloud("deploy", "--endpoint", emulator.url).returncode, 0)
        data = b"no record\n" + json.dumps(alert()).encode() + b"\n"
        emulator.client("kinesis").put_record(StreamName="outrider-anomalies", PartitionKey="truck-0042/tank-1", Data=data)
        sqs = emulator.client("sqs")
        queue = sqs.get_queue_url(QueueName="outrider-alert-failures")["QueueUrl"]
        message = wait_for("the failure queue", lambda: sqs.receive_message(QueueUrl=queue).get("Messages"))
        self.assertIn("JSONDecodeError", json.loads(message[0]["Body"])["reason"])
        key = {"source": {"S": "truck-0042/tank-1"}, "alert": {"S": "container_temperature/anomaly"}}
        item = wait_for("the neighbour", lambda: emulator.client("dynamodb").get_item(TableName="outrider-latest-alerts", Key=key).get("Item"))
        self.assertEqual(json.loads(item["record"]["S"]), alert())

    def test_deploying_again_changes_nothing_and_destroying_keeps_the_readings(self) -> None:
        emulator = self.emulator()
        where = ["--stack", "twice", "--endpoint", emulator.url]
        first = cloud("deploy", *where, "--fleet-email", "fleet@example.com")
        self.assertEqual((first.returncode, cloud("deploy", *where).stdout), (0, first.stdout), first.stderr)
        # What is not given again stays.
        self.assertEqual(len(emulator.client("sns").list_subscriptions()["Subscriptions"]), 1)

        s3 = emulator.client("s3")
        bucket = next(entry["Name"] for entry in s3.list_buckets()["Buckets"] if "code" not in entry["Name"])
        s3.put_object(Bucket=bucket, Key="raw/dt=2026-11-24/hour=01/one.parquet", Body=b"readings")
        gone = cloud("destroy", *where)
        self.assertEqual(gone.returncode, 0, gone.stderr)
        self.assertIn(f"the bucket {bucket} is kept", gone.stdout)
        self.assertEqual([entry["Name"] for entry in s3.list_buckets()["Buckets"]], [bucket])
        self.assertEqual(emulator.client("kinesis").list_streams()["StreamNames"], [])
        self.assertIn("there is no stack twice", cloud("destroy", *where).stdout)

        cloud("deploy", *where)
        self.assertIn("is removed with all its files", cloud("destroy", *where, "--delete-data").stdout)
        self.assertEqual([entry["Name"] for entry in s3.list_buckets()["Buckets"]], [bucket])

    def test_the_engine_is_deployed_beside_it_and_goes_with_it(self) -> None:
        emulator = self.emulator()
        connector = Path(self.enterContext(tempfile.TemporaryDirectory())) / "connector.jar"
        connector.write_bytes(b"a connector")
        engine = ["--endpoint", emulator.url, "--connector", str(connector)]
        self.assertIn("cloud/deploy comes first", cloud("flink/deploy", *engine).stderr)
        self.assertEqual(cloud("deploy", "--endpoint", emulator.url).returncode, 0)
        deployed = cloud("flink/deploy", *engine)
        self.assertEqual(deployed.returncode, 0, deployed.stderr)
        self.assertIn("findings are on the stream outrider-engine-findings", deployed.stdout)

        application = emulator.client("kinesisanalyticsv2").describe_application(ApplicationName="outrider-engine")["ApplicationDetail"]
        self.assertIn(application["ApplicationStatus"], ("STARTING", "RUNNING"))
        location = application["ApplicationConfigurationDescription"]["ApplicationCodeConfigurationDescription"]["CodeContentDescription"][
            "S3ApplicationCodeLocationDescription"
        ]
        code = emulator.client("s3").get_object(Bucket="outrider-code-000000000000-eu-central-1", Key=location["FileKey"])["Body"].read()
        names = zipfile.ZipFile(io.BytesIO(code)).namelist()
        self.assertEqual([name for name in names if not name.startswith("sql/")], ["lib/connector.jar", "main.py"])
        self.assertEqual(len(names), 2 + len(list((template.CLOUD / "flink" / "sql").iterdir())))

        gone = cloud("destroy", "--endpoint", emulator.url)
        self.assertIn("the stack outrider-engine is removed\nthe stack outrider is removed", gone.stdout)

    def test_what_does_not_work_is_said_in_a_line(self) -> None:
        wrong = {
            ("--stack", "Not_A_Name"): "a name has 1 to 20 characters",
            ("--deep-after-days", "100"): "at least 90 days in Glacier Instant Retrieval",
            ("--endpoint", "http://127.0.0.1:9"): 'Could not connect to the endpoint URL: "http://127.0.0.1:9/"',
        }
        for arguments, expected in wrong.items():
            told = cloud("deploy", *arguments)
            self.assertEqual(told.returncode, 1)
            self.assertIn(expected, told.stderr)
            self.assertEqual(len(told.stderr.splitlines()), 1, told.stderr)


if __name__ == "__main__":
    unittest.main()
