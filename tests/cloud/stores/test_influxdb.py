"""The gateway's sink and real servers of line protocol: what arrived is what the ledger says, through kills of both, bad points and a backlog that is too old."""

import json
import subprocess
import tempfile
import unittest
from collections import Counter
from pathlib import Path
from typing import Any

from influxdb import InfluxDb, VictoriaMetrics, now_ms
from lives import Gateway
from programs import binary, wait_for
from publishing import publish


def section(server: str, url: str, **keys: Any) -> str:
    lines = {"name": "points", "type": "influxdb", "server": server, "url": url, "batch_delay": "20ms", "timeout": "3s"} | keys
    return "[[sink]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


def readings(device: str, first: int, count: int, at_ms: int | None = None) -> list[tuple[str, bytes]]:
    """Of different values, so that each can be found again; a millisecond apart if they have times."""
    messages = []
    for number in range(first, first + count):
        time = {} if at_ms is None else {"ts": at_ms + number - first}
        messages.append((f"devices/{device}/temperature", json.dumps({"value": float(number)} | time).encode()))
    return messages


class Influx(unittest.TestCase):
    folder: Path
    server: InfluxDb

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="outrider-influxdb-")))
        cls.server = InfluxDb(cls.folder / "server")
        cls.addClassCleanup(lambda: cls.server.end())
        cls.server.set_up()

    def gateway(self, database: str, **keys: Any) -> Gateway:
        login = {"username": "gateway", "password": "gateway-pass"}
        sink = section("influxdb1", self.server.url, **({"database": database} | login | keys))
        gateway = Gateway(self.folder / database, sink)
        self.addCleanup(gateway.end)
        return gateway

    def settled(self, gateway: Gateway, stream: str = "raw") -> dict[str, Any]:
        row = gateway.ledger("points", stream)
        print({key: row[key] for key in ("stream", "accepted", "delivered", "dead_lettered", "passed_over")})
        return row

    def test_through_kills_of_both_each_reading_is_one_point(self) -> None:
        self.server.make("kills")
        gateway = self.gateway("kills")
        first = 0
        for end in ("server", "gateway", "both", "none"):
            publish(gateway.address, readings("a", first, 300))
            first += 300
            if end in ("server", "both"):
                self.server.kill()
            publish(gateway.address, readings("b", first, 300))
            first += 300
            if end in ("gateway", "both"):
                gateway.kill()
                gateway.start()
            if end in ("server", "both"):
                self.server.start()
        row = self.settled(gateway)
        points = self.server.points("kills", "temperature")
        self.assertEqual(Counter(fields["value"] for _, _, fields in points), Counter(map(float, range(first))))
        self.assertEqual((row["delivered"], row["accepted"]), (len(points), first))
        self.assertEqual({tags["device"] for tags, _, _ in points}, {"a", "b"})

    def test_readings_of_one_millisecond_are_all_there_unless_they_may_be_overwritten(self) -> None:
        for database, keys, is_whole in (("kept", {}, True), ("overwritten", {"same_time": "overwrite"}, False)):
            self.server.make(database)
            gateway = self.gateway(database, **keys)
            at_ms = now_ms() - 1000
            publish(gateway.address, [("devices/a/temperature", json.dumps({"value": number, "ts": at_ms, "seq": number}).encode()) for number in range(50)])
            row = self.settled(gateway)
            points = self.server.points(database, "temperature")
            print(f"{database}: {len(points)} points of {row['delivered']} delivered")
            self.assertEqual(len(points) == 50, is_whole)
            self.assertEqual({at // 1_000_000 for _, at, _ in points}, {at_ms})

    def test_of_points_of_another_type_among_good_ones_only_those_are_dead_letters(self) -> None:
        self.server.make("conflict")
        # Somebody has made integers of this metric. Of a time of about now: a type holds for a shard.
        self.server.write("conflict", f"level,device=x value=1i {now_ms()}000000")
        gateway = self.gateway("conflict")
        self.server.kill()
        messages = readings("a", 0, 100) + [("devices/a/level", b"7.5"), ("devices/b/level", b"8.5")] + readings("b", 100, 100)
        publish(gateway.address, messages)
        self.server.start()
        row = self.settled(gateway)
        self.assertEqual((row["dead_lettered"], row["delivered"]), (2, 200))
        self.assertEqual(len(self.server.points("conflict", "temperature")), 200)
        self.assertIn("field type conflict", gateway.dead_letters())

    def test_a_backlog_that_is_too_old_does_not_stop_what_is_not(self) -> None:
        self.server.make("short", "2h")
        gateway = self.gateway("short", streams=["raw"])
        self.server.kill()
        hour_ms = 3_600_000
        publish(gateway.address, readings("old", 0, 400, now_ms() - 5 * hour_ms))
        publish(gateway.address, readings("new", 400, 200, now_ms() - hour_ms))
        self.server.start()
        row = self.settled(gateway)
        self.assertEqual((row["dead_lettered"], row["delivered"]), (400, 200))
        points = self.server.points("short", "temperature")
        self.assertEqual({fields["value"] for _, _, fields in points}, set(map(float, range(400, 600))))
        self.assertNotIn("halted", gateway.log())

    def test_a_database_that_is_made_later_gets_everything(self) -> None:
        gateway = self.gateway("late")
        publish(gateway.address, readings("a", 0, 50))
        wait_for("words", lambda: "database not found" in (gateway.sink("points")["last_error"] or ""))
        self.server.make("late")
        self.assertEqual(self.settled(gateway)["delivered"], 50)
        self.assertEqual(len(self.server.points("late", "temperature")), 50)

    def test_names_come_back_as_they_were_and_the_second_stream_is_there(self) -> None:
        self.server.make("names")
        gateway = self.gateway("names")
        names = ["tank 1", "a,b=c", 'say "hi"', "trück", "50%", "end\\", "a\\,b", "%5C"]
        # Impossible temperatures are anomalies and alerts.
        publish(gateway.address, [(f"devices/{name}/temperature", b"-127") for name in names] + [("devices/nobody/temperature", b"nan")])
        for measurement in ("outrider_anomalies", "outrider_alerts", "outrider_gateway", "outrider_ledger"):
            wait_for(measurement, lambda measurement=measurement: self.server.points("names", measurement))
        row = self.settled(gateway)
        self.assertEqual((row["delivered"], row["passed_over"]), (len(names) + 1, 1))
        written = {"end\\": "end%5C", "a\\,b": "a%5C,b", "%5C": "%255C"}
        stored = {tags["device"] for tags, _, _ in self.server.points("names", "temperature")}
        self.assertEqual(stored, {written.get(name, name) for name in names})
        (ledger,) = [fields for tags, _, fields in self.server.points("names", "outrider_ledger")[-1:]]
        self.assertLessEqual({"accepted", "delivered", "buffered"}, set(ledger))

    def test_doctor_knows_whether_it_would_be_let_in(self) -> None:
        self.server.make("doctor")
        for keys, said in (({}, "it lets us in"), ({"database": "none"}, "database not found"), ({"password": "wrong"}, "HTTP status 401")):
            configuration = self.folder / "doctor.toml"
            login = {"database": "doctor", "username": "gateway", "password": "gateway-pass"} | keys
            configuration.write_text(section("influxdb1", self.server.url, **login))
            state = self.folder / "doctor-state"
            done = subprocess.run(
                [binary("outrider"), "doctor", "--json", "--config", str(configuration), "--state", str(state)], capture_output=True, text=True, check=False
            )
            (found,) = [each["found"] for each in json.loads(done.stdout)["findings"] if each["check"] == "sink points"]
            self.assertIn(said, found)
            self.assertNotIn("wrong", found)
        self.assertEqual(self.server.query("SHOW MEASUREMENTS", "doctor"), [])


class Victoria(unittest.TestCase):
    def test_each_reading_is_a_sample_and_what_is_too_old_is_dropped_in_silence(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="outrider-victoria-")))
        server = VictoriaMetrics(folder / "server")
        self.addCleanup(lambda: server.end())
        gateway = Gateway(folder / "gateway", section("victoriametrics", server.url, database="fleet"))
        self.addCleanup(gateway.end)
        at_ms = now_ms() - 3_600_000
        publish(gateway.address, readings("a", 0, 300, at_ms))
        server.program.process.terminate()
        server.program.process.wait(60)
        server.end()
        publish(gateway.address, readings("a", 300, 300, at_ms + 300))
        server.start()
        # The control of what `check` says: it answers for these as for any other.
        publish(gateway.address, readings("old", 600, 100, now_ms() - 5 * 86_400_000))
        row = gateway.ledger("points")
        self.assertEqual((row["delivered"], row["accepted"], row["dead_lettered"]), (700, 700, 0))
        points = wait_for("everything that is kept", lambda: self.complete(server, 600))
        self.assertEqual(Counter(value for _, _, value in points), Counter(map(float, range(600))))
        self.assertEqual({(labels["device"], labels["db"]) for labels, _, _ in points}, {("a", "fleet")})
        self.assertEqual(server.counter('vm_rows_invalid_total{type="influx"}'), 0)
        self.assertGreaterEqual(server.counter("vm_rows_ignored_total"), 100)
        wait_for("the second stream", lambda: server.points("outrider_ledger_delivered"))

    def complete(self, server: VictoriaMetrics, count: int) -> list[tuple[dict[str, str], int, float]]:
        points = server.points("temperature_value")
        return points if len(points) >= count else []


if __name__ == "__main__":
    unittest.main()
