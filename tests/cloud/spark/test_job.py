"""The job from a real Kafka to a real OpenSearch, through all that may happen to it: every record is there once, and what is none is among the failed."""

import json
import subprocess
import sys
import tempfile
import time
import unittest
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faults
import feeding
import main
import panels
from broker import Broker
from bulk import Client, Halt, Target
from faults import Holding, Proxy, Trouble
from feeding import Line
from job import Job
from kafka import KafkaConsumer, TopicPartition
from opensearch import OpenSearch
from programs import ROOT, wait_for

GROUP = "outrider-search"
PARTITIONS = 3
# The machine may have other work.
PATIENCE_SECONDS = 240
# What no gateway sends: the first is refused by us, the second by OpenSearch, the third cannot even be shown as text.
BROKEN = [b"no json\n", b"", b"\xff\xfe\n"]


class Outcome(unittest.TestCase):
    """One run of everything; the tests look at what has come of it."""

    folder: Path
    opensearch: OpenSearch
    proxy: Proxy
    trouble: Trouble
    sent: list[Line]
    unprepared: str
    killed_with: int
    known_after_kill: int
    down: list[dict[str, float]]
    group_lag_when_down: int
    recovered: dict[str, float]
    memory: dict[str, int]
    last_words: list[str]
    exit_code: int
    group_lag_at_end: int
    seconds: dict[str, float]

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="outrider-spark-")))
        cls.seconds = {}
        broker = Broker(cls.folder)
        cls.addClassCleanup(broker.end)
        broker.create_topics("raw", "anomalies", partitions=PARTITIONS)
        cls.opensearch = OpenSearch(cls.folder)
        cls.addClassCleanup(lambda: cls.opensearch.end())
        cls.proxy = Proxy(cls.opensearch.url)
        cls.addClassCleanup(cls.proxy.end)
        feed = feeding.Feed(cls.folder / "gateway")
        cls.sent = feed.raw + feed.anomalies
        cls.unprepared = refusal(lambda: templates(cls.opensearch.url).wait())
        prepare(cls.proxy.url)
        templates(cls.opensearch.url).wait()

        half = len(feed.raw) // 2
        feeding.send(broker, "raw", feed.raw[:half])
        cls.kill_in_the_middle(broker)
        # All of it again, as after lost acknowledgements, with the rest and with what is no record.
        feeding.send(broker, "raw", feed.raw[:half])
        feeding.send(broker, "raw", feed.raw[half:-1_000])
        feeding.send(broker, "anomalies", feed.anomalies)
        broker.send("raw", [("bad", BROKEN[0]), ("bad", unmapped(feed.raw[0])), ("bad", feed.raw[0].text), ("bad", BROKEN[2])], 4)
        cls.trouble = cls.proxy.fault = Trouble()
        job = cls.start(broker)
        wait_for("all that was sent", lambda: caught_up(job), PATIENCE_SECONDS)
        cls.known_after_kill = cls.proxy.statuses[409]
        cls.lose_opensearch_for_a_while(broker, job, feed.raw[-1_000:])
        cls.memory = job.memory_bytes()
        cls.refuse(broker, job)

    @classmethod
    def start(cls, broker: Broker, *more: str) -> Job:
        job = Job(cls.folder, broker.address, cls.proxy.url, *more)
        cls.addClassCleanup(job.end)
        return job

    @classmethod
    def kill_in_the_middle(cls, broker: Broker) -> None:
        """Of a batch of which OpenSearch has a part and Spark's checkpoint nothing."""
        holding = Holding(passes=3)
        cls.proxy.fault = holding
        job = cls.start(broker, "--records-max", "300")
        assert holding.held.wait(PATIENCE_SECONDS), job.log()
        job.kill()
        holding.released.set()
        cls.killed_with = cls.opensearch.count("outrider-readings-*")

    @classmethod
    def lose_opensearch_for_a_while(cls, broker: Broker, job: Job, lines: list[Line]) -> None:
        cls.proxy.fault = faults.passing
        cls.opensearch.kill()
        feeding.send(broker, "raw", lines)
        wait_for("lag", lambda: job.metrics()["lag_records"] > 0)
        first = job.metrics()
        wait_for("lag that grows", lambda: job.metrics()["oldest_unprocessed_seconds"] > first["oldest_unprocessed_seconds"] + 2)
        feeding.send(broker, "raw", lines)
        wait_for("more lag, which the group tells, too", lambda: job.metrics()["lag_records"] == group_lag(broker))
        cls.down = [first, job.metrics()]
        cls.group_lag_when_down = group_lag(broker)
        cls.opensearch.start()
        wait_for("all that has waited", lambda: caught_up(job), PATIENCE_SECONDS)
        wait_for("the group to say so", lambda: group_lag(broker) == 0)
        # Once OpenSearch takes how things are, the dashboard shows it.
        wait_for("the lag in OpenSearch", lambda: newest_status(cls.opensearch)["lag_records"] == 0)
        cls.recovered = job.metrics()

    @classmethod
    def refuse(cls, broker: Broker, job: Job) -> None:
        """The job ends, and Kafka says that something waits."""
        cls.proxy.fault = faults.forbidden
        feeding.send(broker, "raw", cls.sent[:1])
        cls.exit_code = job.process.wait(PATIENCE_SECONDS)
        cls.last_words = [line for line in job.said() if line.startswith("the job ends")]
        cls.group_lag_at_end = group_lag(broker)

    def test_every_record_is_there_once(self) -> None:
        found = [
            document["_id"]
            for document in self.opensearch.documents("outrider-readings-*,outrider-anomalies-*,outrider-alerts-*,outrider-gateways-*")
        ]
        expected: dict[str, set[str]] = {"readings": set(), "others": set()}
        for line in self.sent:
            expected["readings" if b'"type":"reading"' in line.text else "others"].add(line.identity)
        self.assertGreater(len(expected["readings"]), 30_000)
        # Streams count their positions by themselves, so an id is one of a kind within its index.
        readings = [document["_id"] for document in self.opensearch.documents("outrider-readings-*")]
        self.assertEqual(len(readings), len(set(readings)))
        self.assertEqual(set(readings), expected["readings"])
        self.assertEqual(Counter(found) - Counter(readings), Counter(expected["others"]))
        print(f"{len(found)} documents, each once; faults: {dict(self.trouble.seen)}; statuses: {dict(self.proxy.statuses)}")

    def test_documents_are_the_gateways_lines(self) -> None:
        lines = {line.identity: json.loads(line.text) for line in self.sent if b'"type":"reading"' in line.text}
        for document in self.opensearch.documents("outrider-readings-*"):
            self.assertEqual(document["_source"], lines[document["_id"]])
            day = time.strftime("%Y.%m.%d", time.gmtime(document["_source"]["received_at_ms"] / 1000))
            self.assertEqual(document["_index"], f"outrider-readings-{day}")

    def test_it_was_killed_in_the_middle_and_what_was_stored_is_known(self) -> None:
        self.assertGreater(self.killed_with, 0)
        self.assertLess(self.killed_with, len(self.sent) // 2)
        self.assertGreater(self.known_after_kill, len(self.sent) // 4)

    def test_what_is_no_record_is_among_the_failed_with_its_place_and_its_neighbour_is_stored(self) -> None:
        failed = sorted((document["_source"] for document in self.opensearch.documents("outrider-failed-*")), key=lambda each: each["line"])
        self.assertEqual([(each["line"], each["refused_by"]) for each in failed], [(0, "line"), (1, "opensearch"), (3, "line")])
        self.assertEqual(len({(each["topic"], each["partition"], each["offset"]) for each in failed}), 1)
        self.assertEqual((failed[0]["topic"], failed[0]["text"]), ("raw", "no json"))
        self.assertIn("failed to parse field [value] of type [double]", failed[1]["reason"])
        self.assertEqual(failed[2]["base64"], "//4=")

    def test_each_fault_has_happened_and_requests_are_bounded(self) -> None:
        self.assertEqual(self.trouble.seen.keys(), {"passing", "busy", "lost", "throttled"})
        self.assertGreater(self.proxy.statuses[429], 0)
        self.assertLessEqual(self.proxy.bytes_max, 5_000_000)

    def test_lag_grows_while_opensearch_is_down_and_is_over_afterwards(self) -> None:
        first, second = self.down
        self.assertGreater(second["lag_records"], first["lag_records"])
        self.assertGreater(second["oldest_unprocessed_seconds"], first["oldest_unprocessed_seconds"] + 2)
        self.assertEqual(self.group_lag_when_down, second["lag_records"])
        self.assertEqual((self.recovered["lag_records"], self.recovered["oldest_unprocessed_seconds"]), (0, 0))
        seen = [document["_source"]["lag_records"] for document in self.opensearch.documents("outrider-status-*")]
        self.assertEqual(min(seen), 0)

    def test_what_is_refused_ends_it_with_words_and_the_group_tells_that_it_is_dead(self) -> None:
        self.assertNotEqual(self.exit_code, 0)
        (words,) = self.last_words
        self.assertRegex(words, r"^the job ends: OpenSearch refuses with 403 \(the user or the role may not write.*no permissions")
        self.assertEqual(self.group_lag_at_end, 1)

    def test_the_queries_of_every_panel_answer(self) -> None:
        objects = {each["id"]: each for each in panels.saved_objects() if each["type"] != "index-pattern"}
        patterns = {each["id"]: each["attributes"]["title"] for each in panels.saved_objects() if each["type"] == "index-pattern"}
        asked = 0
        for each in objects.values():
            if each["type"] != "visualization":
                continue
            index = patterns[each["references"][0]["id"]]
            known = self.opensearch.call("GET", f"/{index}/_field_caps?fields=*")["fields"]
            for field in panels.fields(each):
                (kind,) = known[field].values()
                self.assertTrue(kind["aggregatable"] and kind["searchable"], f"{field} of {each['id']}")
            answer = self.opensearch.call("POST", f"/{index}/_search", panels.query(each))
            self.assertEqual(answer.get("_shards", {}).get("failed"), 0, answer)
            leaves = panels.leaves(answer["aggregations"])
            self.assertTrue(any(shows(leaf) for leaf in leaves), (each["id"], leaves))
            asked += 1
        self.assertEqual(asked, 10)

    def test_columns_of_the_saved_search_are_fields(self) -> None:
        (search,) = [each for each in panels.saved_objects() if each["type"] == "search"]
        known = self.opensearch.call("GET", "/outrider-alerts-*/_field_caps?fields=*")["fields"]
        self.assertLessEqual({*search["attributes"]["columns"], *(field for field, _ in search["attributes"]["sort"])}, known.keys())
        for document in self.opensearch.documents("outrider-alerts-*"):
            self.assertLessEqual(set(search["attributes"]["columns"]), document["_source"].keys())

    def test_what_it_takes(self) -> None:
        self.opensearch.call("POST", "/outrider-readings-*/_forcemerge?max_num_segments=1&flush=true")
        stats = self.opensearch.call("GET", "/outrider-readings-*/_stats/docs,store")["_all"]["primaries"]
        print(f"{stats['store']['size_in_bytes'] / stats['docs']['count']:.0f} bytes of disk a reading")
        print("memory:", {name: f"{size / 1e6:.0f} MB" for name, size in self.memory.items() if size > 20e6})
        self.assertGreater(stats["docs"]["count"], 0)

    def test_without_templates_nothing_is_stored(self) -> None:
        self.assertRegex(self.unprepared, "no template for outrider-alerts, .*outrider-status; run prepare.py first")

    def test_a_minimal_opensearch_says_that_it_cannot_delete(self) -> None:
        done = subprocess.run(prepare_command(self.opensearch.url, "--keep-days", "30"), capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("index state management", done.stderr)


def prepare_command(url: str, *more: str) -> list[str]:
    return [sys.executable, str(ROOT / "cloud/spark/prepare.py"), "--opensearch", url, *more]


def prepare(url: str) -> None:
    subprocess.run(prepare_command(url), check=True, stdout=subprocess.DEVNULL, timeout=60)


def unmapped(line: Line) -> bytes:
    """A record of which we cannot tell that it does not fit, and OpenSearch can."""
    record = json.loads(line.text)
    return json.dumps(record | {"position": 10**12, "value": "warm"}).encode() + b"\n"


def templates(url: str) -> main.Templates:
    return main.Templates(Client(Target(url)))


def refusal(action: Callable[[], None]) -> str:
    try:
        action()
    except Halt as halt:
        return str(halt)
    return ""


def shows(leaf: dict[str, Any]) -> bool:
    """Whether a bucket has documents, and a value for each metric of its panel."""
    metrics = [found for name, found in leaf.items() if name.isdigit()]
    return leaf["doc_count"] > 0 and all(has_value(metric) for metric in metrics)


def has_value(metric: dict[str, Any]) -> bool:
    if "hits" in metric:
        return bool(metric["hits"]["hits"][0]["fields"])
    return metric["value"] is not None


def caught_up(job: Job) -> bool:
    metrics = job.metrics()
    return metrics.get("lag_records") == 0 and metrics["stored"] > 0


def newest_status(opensearch: OpenSearch) -> dict[str, Any]:
    opensearch.call("POST", "/outrider-status-*/_refresh")
    found = opensearch.call("GET", "/outrider-status-*/_search?size=1&sort=at_ms:desc")["hits"]["hits"]
    return found[0]["_source"] if found else {"lag_records": None}


def group_lag(broker: Broker) -> int:
    """As any tool for lag tells it: from what the group has committed to the ends."""
    consumer = KafkaConsumer(bootstrap_servers=broker.address, group_id=GROUP, enable_auto_commit=False)
    partitions = [TopicPartition(topic, number) for topic in ("raw", "anomalies") for number in range(PARTITIONS)]
    ends = consumer.end_offsets(partitions)
    lag = sum(ends[partition] - (consumer.committed(partition) or 0) for partition in partitions)
    consumer.close()
    return lag


if __name__ == "__main__":
    unittest.main()
