"""The fleet's engine over Kafka: its windows are the gateway's, it finds what was planted, and a backlog is judged right."""

import json
import tempfile
import time
import unittest
from collections import Counter
from pathlib import Path
from typing import Any

import fleet
from broker import Broker, read
from engine import newest_checkpoint_bytes, rows, runs, start
from gateways import Gateway, series, statistics
from programs import wait_for

# The gateway watches each series from its second minute on.
LIVE = ["--vehicles", "6", "--interval", "500ms", "--duration", "84s"]
FAULTS = [
    "--fault",
    "spike:truck-02:engine_temperature:+60@68s",
    "--fault",
    "step:truck-03:container_temperature:+9@70s..78s",
    "--fault",
    "stuck:truck-04:engine_temperature@65s..80s",
]
BACKLOG = ["--vehicles", "1", "--history", "1h", "--duration", "2s", "--seed", "9"]
# Some 64 KiB, which is what a record of the gateway's sinks holds.
LINES_MAX = 190
# Of the mean's size.
TOLERANCE = 1e-9


class Engine(unittest.TestCase):
    """One run of everything; the tests look at what has come of it."""

    folder: Path
    now_ms: int
    vans: list[dict[str, Any]]
    live: list[dict[str, Any]]
    backlog: list[dict[str, Any]]
    anomalies: list[dict[str, Any]]
    # By stream, the lines of the live gateway: in its archive, and in Kafka.
    archived: dict[str, list[bytes]]
    sent: dict[str, list[bytes]]
    windows: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    checkpoint_bytes: int

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="outrider-flink-")))
        broker = Broker(cls.folder)
        cls.addClassCleanup(broker.end)
        broker.create_topics("raw", "anomalies")

        backlog = Gateway(cls.folder / "backlog", "truck-0043", *BACKLOG)
        backlog_lines = backlog.lines("raw")
        half = len(backlog_lines) // 2
        cls.backlog = [record for record, _ in backlog_lines]
        cls.vans = fleet.readings(int(time.time() * 1000) - 900_000)

        job = start(cls.folder, broker.address)
        cls.addClassCleanup(job.end)
        broker.send("raw", map(fleet.line, cls.vans), 3)
        sink = f'[[sink]]\nname = "kafka"\ntype = "kafka"\nbrokers = ["{broker.address}"]\nraw = "raw"\nanomalies = "anomalies"\n'
        live = Gateway(cls.folder / "live", "truck-0042", *LIVE, *FAULTS, sinks=sink)
        cls.now_ms = int(time.time() * 1000)
        cls.live = [record for record, _ in live.lines("raw")]
        cls.anomalies = [record for record, _ in live.lines("anomalies") if record["type"] == "anomaly"]
        cls.archived = {stream: [line for _, line in live.lines(stream)] for stream in ("raw", "anomalies")}
        cls.sent = {stream: lines_of(broker, stream, "truck-0042") for stream in ("raw", "anomalies")}

        broker.send("raw", (keyed(*entry) for entry in backlog_lines[:half]), LINES_MAX)
        cls.pass_time(broker, 60_000)
        expected = len(cls.vans) + len(cls.live) + half
        wait_for("windows", lambda: runs(job, cls.folder) and len(rows(cls.folder / "windows")) >= expected, 120)
        broker.send("raw", (keyed(*entry) for entry in backlog_lines[half:]), LINES_MAX)
        cls.pass_time(broker, 600_000)
        expected += len(backlog_lines) - half
        wait_for("the windows of all readings", lambda: len(rows(cls.folder / "windows")) >= expected)
        wait_for("the comparison", lambda: len(comparisons(rows(cls.folder / "findings"))) >= len(judged(cls.anomalies)))
        cls.windows = [window for window in rows(cls.folder / "windows") if window["gateway"] != "clock"]
        cls.findings = rows(cls.folder / "findings")
        cls.checkpoint_bytes = newest_checkpoint_bytes(cls.folder / "checkpoints")

    @classmethod
    def pass_time(cls, broker: Broker, later_ms: int) -> None:
        """Tells the engine that all before this time has come."""
        tick = fleet.readings(cls.now_ms + later_ms)[0] | {"gateway": "clock", "device": "clock", "metric": "id"}
        broker.send("raw", [fleet.line(tick)], 1)
        broker.send("anomalies", [fleet.line(tick | {"type": "anomaly", "raw_run": "0", "raw_position": 1, "late": False})], 1)

    def test_the_gateways_sink_has_sent_each_line_once_and_in_order(self) -> None:
        for stream, lines in self.sent.items():
            positions: dict[str, list[int]] = {}
            for record in map(json.loads, lines):
                positions.setdefault(record.get("device", ""), []).append(record["position"])
            self.assertTrue(all(found == sorted(found) for found in positions.values()))
            self.assertEqual(sorted(lines), sorted(self.archived[stream]))

    def test_windows_are_the_gateways_own(self) -> None:
        self.assertGreater(len(self.live), 4_000)
        self.assertEqual(self.differing(self.vans + self.live), [])

    def test_a_backlog_of_an_hour_behind_live_readings_is_judged_but_for_where_time_went_on(self) -> None:
        newest_live = max(reading["measured_at_ms"] for reading in self.live)
        behind = [reading for reading in self.backlog if reading["measured_at_ms"] < newest_live - 60_000]
        self.assertGreater(len(behind), 17_000)
        differing = self.differing(self.backlog)
        # The test lets time go on once in the middle; where the engine's watermark does so by itself, there is another cut.
        self.assertTrue(differing)
        self.assertLess(len(differing), len(self.backlog) * 0.02)
        # Each lacks readings, none has others; and they come in runs of less than twenty seconds, each behind a cut.
        self.assertTrue(all(found < expected for _, _, found, expected in differing), differing)
        cuts = {name: min(at_ms for other, at_ms, _, _ in differing if other == name) for name, _, _, _ in differing}
        for name, at_ms, _, _ in sorted(differing):
            if at_ms - cuts[name] >= 20_000:
                cuts[name] = at_ms
                self.assertIn((name, at_ms, 0), [(other, when, found) for other, when, found, _ in differing])

    def differing(self, readings: list[dict[str, Any]]) -> list[tuple[str, int, int, int]]:
        """The windows with another number of readings than the gateway's; those with the same number must be equal."""
        windows = {(series(window), window["measured_at_ms"]): window for window in self.windows}
        self.assertEqual(len(windows), len(self.windows), "each reading once")
        others = []
        farthest = 0.0
        for place, (n, mean, deviation) in statistics(readings).items():
            window = windows[place]
            if window["n"] != n:
                others.append((*place, window["n"], n))
                continue
            self.assertEqual((window["mean"] is None, window["deviation"] is None), (n == 0, n < 2))
            if n > 0:
                farthest = max(farthest, abs(window["mean"] - mean) / abs(mean))
            if n > 1:
                farthest = max(farthest, abs(window["deviation"] - deviation) / abs(mean))
        print(f"{len(readings)} windows, {len(others)} differ in number; the farthest is off by {farthest:.1e} of its mean")
        self.assertLess(farthest, TOLERANCE)
        return others

    def test_the_planted_spike_is_found_by_both(self) -> None:
        agreed = {(finding["device"], finding["metric"]) for finding in self.findings if finding["kind"] == "agree"}
        self.assertIn(("truck-02", "engine_temperature"), agreed)
        verdicts = Counter(
            (finding["device"], finding["metric"]) for finding in self.findings if finding["kind"] == "verdict" and finding["gateway"] == "truck-0042"
        )
        self.assertGreaterEqual(verdicts["truck-03", "container_temperature"], 1)
        self.assertLessEqual(
            verdicts.keys(), {("truck-02", "engine_temperature"), ("truck-03", "container_temperature"), ("truck-04", "engine_temperature")}
        )

    def test_the_comparison_has_each_verdict_of_either_side_once(self) -> None:
        compared = comparisons(self.findings)
        edge = {(record["raw_run"], record["raw_position"]) for record in judged(self.anomalies)}
        cloud = {
            (finding["run"], finding["position"]) for finding in self.findings if finding["kind"] == "verdict" and finding["gateway"] == "truck-0042"
        }
        by_kind = {
            kind: {(finding["run"], finding["position"]) for finding in compared if finding["kind"] == kind}
            for kind in ("agree", "edge_only", "cloud_only")
        }
        self.assertEqual(by_kind, {"agree": edge & cloud, "edge_only": edge - cloud, "cloud_only": cloud - edge})
        self.assertEqual(len(compared), len(edge | cloud))
        print("compared:", dict(Counter((finding["kind"], finding["detail"]) for finding in compared)))

    def test_vehicles_shaken_at_one_place_are_found_and_one_elsewhere_is_not(self) -> None:
        places = [finding for finding in self.findings if finding["kind"] == "place"]
        self.assertTrue(places)
        start = self.vans[0]["measured_at_ms"]
        for place in places:
            self.assertEqual((place["score"], place["detail"].split(": ")[1]), (2, "van-01/van to van-02/van"))
            self.assertLess(abs(place["at_ms"] - start - 1_000 * fleet.SHAKEN_AT), 13_000)

    def test_the_outlier_of_its_model_is_found_and_no_other(self) -> None:
        self.assertEqual(
            {(finding["gateway"], finding["metric"]) for finding in self.findings if finding["kind"] == "outlier"}, {(fleet.HOT, "axle_load")}
        )

    def test_the_silent_truck_is_told_first(self) -> None:
        # The truck with the backlog has fallen silent an hour ago, which is told if its records come before others have moved the time on.
        told = [finding for finding in self.findings if finding["kind"] == "silent" and finding["gateway"] != "truck-0043"]
        silent = sorted((finding["at_ms"], finding["gateway"]) for finding in told)
        start = self.vans[0]["measured_at_ms"]
        self.assertEqual(silent[0][1], fleet.SILENT)
        self.assertLess(abs(silent[0][0] - start - 1_000 * (fleet.SILENT_AFTER + 60)), 5_000)
        # The others go on for much longer, and are silent a minute after their last reading.
        self.assertTrue(all(at_ms > start + 1_000 * (fleet.SECONDS + 50) for at_ms, _ in silent[1:]))

    def test_state_is_small(self) -> None:
        count = len({series(window) for window in self.windows})
        print(f"a checkpoint of {count} series has {self.checkpoint_bytes:,} bytes")
        self.assertGreater(self.checkpoint_bytes, 0)


def lines_of(broker: Broker, topic: str, gateway: str) -> list[bytes]:
    records = [record for record in read(broker.address, topic) if record.key.split("/")[0] == gateway]
    return [line for record in records for line in record.value.splitlines(keepends=True)]


def keyed(record: dict[str, Any], line: bytes) -> tuple[str, bytes]:
    """As the gateway's sinks: the partition key of a device, or of the gateway for what it says of itself."""
    return f"{record['gateway']}/{record.get('device', '')}", line


def judged(anomalies: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in anomalies if record["raw_position"] is not None and not record["late"] and record["value"] is not None]


def comparisons(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [finding for finding in findings if finding["kind"] in ("agree", "edge_only", "cloud_only") and finding["gateway"] == "truck-0042"]


if __name__ == "__main__":
    unittest.main()
