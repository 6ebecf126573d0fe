"""The gateway's sink and a real server of PostgreSQL, through what happens to both: each acknowledged reading is a row, once."""

import json
import random
import subprocess
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

from database import PASSWORD, Database, documented
from lives import Devices, Gateway
from programs import binary, wait_for
from publishing import publish
from relay import Relay

RATE = 300
SINK = "database"


def sink(port: int, schema: str, host: str = "127.0.0.1", **keys: Any) -> str:
    """Its section; keys as they are in the configuration."""
    lines = {"name": SINK, "type": "postgres", "url": f"postgres://outrider@{host}:{port}/fleet", "raw": f"{schema}.readings", "batch_delay": "20ms"} | keys
    return "[[sink]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in lines.items())


def toml(value: str | dict[str, str]) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


class Postgres(unittest.TestCase):
    folder: Path
    database: Database

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="outrider-postgres-")))
        # What a session does not ask for is lost in a crash.
        cls.database = Database(cls.folder / "server", "synchronous_commit = off", "wal_writer_delay = 10s", "wal_writer_flush_after = 1GB")
        cls.addClassCleanup(cls.database.end)
        cls.database.sql("CREATE DATABASE fleet", "postgres")

    def setUp(self) -> None:
        self.schema = self.id().rsplit(".", 1)[1].removeprefix("test_")[:60]
        self.database.create(self.schema)

    def gateway(self, name: str = "truck-0042", port: int | None = None, more: str = "", **keys: Any) -> Gateway:
        gateway = Gateway(self.folder / f"{self.schema}-{name}", sink(port or self.database.port, self.schema, **keys), more, name=name)
        self.addCleanup(gateway.end)
        return gateway

    def devices(self, gateway: Gateway, seconds: int | None = None, rate: int = RATE) -> Devices:
        devices = Devices(gateway, seconds, rate)
        self.addCleanup(devices.stop)
        return devices

    def error(self, gateway: Gateway) -> str:
        return gateway.sink(SINK)["last_error"] or ""

    def rows(self) -> int:
        return self.database.number(f"SELECT count(*) FROM {self.schema}.readings")

    def goes_on(self, rows: int = 300) -> None:
        before = self.rows()
        wait_for("more rows", lambda: self.rows() > before + rows)

    def settled(self, *fleets: tuple[Gateway, Devices]) -> int:
        """Everything that was acknowledged is there, and nothing twice; the ledgers say the same."""
        acknowledged = {(gateway.name, device, number) for gateway, devices in fleets for device, number in devices.acknowledged()}
        accepted = 0
        for gateway, _ in fleets:
            row = gateway.ledger(SINK)
            self.assertEqual(row["delivered"], row["accepted"])
            accepted += row["accepted"]
        found = self.database.sql(f"SELECT gateway, device, seq FROM {self.schema}.readings")
        stored = {(gateway, device, int(number)) for gateway, device, number in found}
        print(f"{self.schema}: {len(acknowledged)} acknowledged, {accepted} accepted, {len(found)} rows")
        self.assertEqual(acknowledged - stored, set(), "lost")
        self.assertEqual(len(found), accepted)
        return len(found)

    def test_all_arrives_as_the_archive_has_it(self) -> None:
        rules = '[[stream]]\nname = "trips"\nkeep = "bulk"\n[[rule]]\nname = "hot"\nsql = "SELECT value, note FROM \'devices/odd/t\'"\nstream = "trips"\n'
        gateway = self.gateway(anomalies=f"{self.schema}.events", streams={"trips": f"{self.schema}.trips"}, more=rules)
        exact = 2**53 + 1
        payloads = [
            {"value": exact, "seq": 2**64 - 1, "note": "it's \"quoted\" \\ {} , \n ünïcödé \U0001f69a NULL"},
            {"value": -1.5e-300, "ts": 1795465865123},
            {"value": 22.4},
        ]
        publish(gateway.address, [("devices/odd/t", json.dumps(payload).encode()) for payload in payloads])
        devices = self.devices(gateway, 2)
        wait_for("the odd ones", lambda: self.database.number(f"SELECT count(*) FROM {self.schema}.readings WHERE device = 'odd'") == 3)
        found = self.database.sql(
            f"SELECT value, value_exact, seq, attributes->>'note' = {literal(payloads[0]['note'])}, metric, "
            f"abs(extract(epoch FROM received_at - now())) < 60, time_quality FROM {self.schema}.readings WHERE device = 'odd' ORDER BY position"
        )
        self.assertEqual((float(found[0][0]), *found[0][1:6]), (2.0**53, str(exact), str(2**64 - 1), "t", "t", "t"))
        self.assertEqual((float(found[1][0]), found[2][0]), (-1.5e-300, "22.4"))
        devices.acknowledged()
        for stream, table in (("raw", "readings"), ("anomalies", "events"), ("trips", "trips")):
            row = gateway.ledger(SINK, stream)
            self.assertGreater(row["accepted"], 0, stream)
            self.assertEqual(self.database.number(f"SELECT count(*) FROM {self.schema}.{table}"), row["accepted"])
        types = self.database.sql(f"SELECT DISTINCT type, record->>'type', at IS NULL FROM {self.schema}.events")
        self.assertIn(("gateway", "gateway", "f"), types)
        trips = self.database.sql(f"SELECT rule, payload->>'value', record->>'stream' FROM {self.schema}.trips ORDER BY position LIMIT 1")
        self.assertEqual(trips, [("hot", str(exact), "trips")])

    def test_a_bad_row_is_a_dead_letter_and_its_neighbours_are_rows(self) -> None:
        gateway = self.gateway(batch_delay="1s")
        good = [(f"devices/d{number % 7}/t", json.dumps({"value": number, "seq": number}).encode()) for number in range(200)]
        bad = [("devices/d3/t", b'{"value":1,"note":"a\\u0000b"}'), ("devices/d5/t", b'{"value":2,"note":"\\u0000"}')]
        publish(gateway.address, good[:100] + bad[:1] + good[100:150] + bad[1:] + good[150:])
        row = gateway.ledger(SINK)
        self.assertEqual((row["accepted"], row["delivered"], row["dead_lettered"]), (202, 200, 2))
        self.assertEqual(self.rows(), 200)
        listed = self.command(gateway, "buffer", "dead-letters", "list")
        self.assertIn("22P05", listed.stdout + listed.stderr)

    def command(self, gateway: Gateway, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([binary("outrider"), *arguments, "--config", str(gateway.configuration)], capture_output=True, text=True, timeout=60)

    def test_kills_of_the_gateway_lose_nothing_and_repeat_nothing(self) -> None:
        gateway = self.gateway()
        devices = self.devices(gateway, 10)
        chance = random.Random(1)
        kills = 0
        while not devices.are_done():
            time.sleep(chance.uniform(0.2, 1))
            gateway.kill()
            gateway.start()
            kills += 1
        self.settled((gateway, devices))
        print(f"{kills} kills")
        self.assertGreater(kills, 4)

    def test_crashes_of_the_server_lose_nothing(self) -> None:
        gateway = self.gateway()
        devices = self.devices(gateway)
        for _ in range(3):
            self.goes_on()
            self.database.stop("immediate")
            wait_for("the sink to miss it", lambda: self.error(gateway))
            self.database.start()
        self.goes_on()
        self.settled((gateway, devices))

    def test_what_another_session_does_not_sync_is_lost_in_a_crash(self) -> None:
        """Without this the test of crashes would say nothing."""
        self.database.sql(f"CREATE TABLE {self.schema}.unsynced (n int); CHECKPOINT; INSERT INTO {self.schema}.unsynced VALUES (1)")
        self.database.stop("immediate")
        self.database.start()
        self.assertEqual(self.database.number(f"SELECT count(*) FROM {self.schema}.unsynced"), 0)

    def test_lost_answers_repeat_nothing(self) -> None:
        relay = Relay(self.database.port)
        self.addCleanup(relay.close)
        gateway = self.gateway(port=relay.port)
        devices = self.devices(gateway)
        for _ in range(8):
            self.goes_on(100)
            relay.keep_answers_back()
            wait_for("an answer", relay.kept_back.is_set)
            relay.cut()
        self.goes_on()
        self.settled((gateway, devices))

    def test_two_gateways_share_a_table(self) -> None:
        fleets = []
        for name in ("truck-1", "truck-2"):
            gateway = self.gateway(name)
            fleets.append((gateway, self.devices(gateway, 3)))
        self.settled(*fleets)

    def test_a_lock_is_waited_for(self) -> None:
        gateway = self.gateway(timeout="1s")
        devices = self.devices(gateway)
        self.goes_on()
        holder = subprocess.Popen(
            ["psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(self.database.port), "-U", "owner", "-d", "fleet"], stdin=subprocess.PIPE, text=True
        )
        assert holder.stdin is not None
        holder.stdin.write(f"BEGIN; LOCK TABLE {self.schema}.readings IN SHARE MODE;\n")
        holder.stdin.flush()
        wait_for("the sink to wait", lambda: "no reply in time" in self.error(gateway))
        # Nobody of those that gave up waits on in the server.
        self.assertLess(len(list(self.database.backends())), 4)
        holder.communicate("COMMIT;\n")
        self.goes_on()
        self.settled((gateway, devices))

    def test_a_table_that_is_replaced_gets_what_the_other_did_not(self) -> None:
        gateway = self.gateway()
        devices = self.devices(gateway)
        self.goes_on()
        self.database.sql(f"ALTER TABLE {self.schema}.readings RENAME TO before")
        wait_for("words", lambda: "has no table" in self.error(gateway))
        # With another order of columns, and one of its own.
        self.database.sql(
            f"CREATE TABLE {self.schema}.readings (site text DEFAULT 'x' NOT NULL, seq numeric, value real, measured_at timestamp, metric text, device text, "
            f"position numeric, run varchar(16), gateway text, UNIQUE (position, gateway, run)); GRANT INSERT, SELECT ON {self.schema}.readings TO outrider"
        )
        self.goes_on()
        columns = "gateway, run, position, device, seq"
        self.database.sql(
            f"BEGIN; ALTER TABLE {self.schema}.readings RENAME TO after; "
            f"CREATE TABLE {self.schema}.readings (LIKE {self.schema}.before INCLUDING ALL); COMMIT; "
            f"GRANT INSERT, SELECT ON {self.schema}.readings TO outrider"
        )
        acknowledged = devices.acknowledged()
        row = gateway.ledger(SINK)
        found = self.database.sql(" UNION ALL ".join(f"SELECT {columns} FROM {self.schema}.{table}" for table in ("before", "after", "readings")))
        self.assertEqual(len({row[:3] for row in found}), len(found), "twice")
        self.assertEqual(acknowledged - {(row[3], int(row[4])) for row in found}, set(), "lost")
        self.assertEqual(len(found), row["accepted"])

    def test_a_row_without_a_partition_waits_for_it_and_others_go_on(self) -> None:
        (into_key, grant) = partition_statements()
        self.database.sql(
            f"SET search_path TO {self.schema}; ALTER TABLE readings RENAME TO plain; "
            f"CREATE TABLE readings (LIKE plain INCLUDING DEFAULTS) PARTITION BY RANGE (measured_at); ALTER TABLE readings ADD PRIMARY KEY "
            f"(gateway, run, position, measured_at); CREATE TABLE now PARTITION OF readings FOR VALUES FROM ('2025-01-01') TO ('2100-01-01'); "
            f"GRANT INSERT, SELECT (gateway, run, position) ON readings TO outrider; {grant}"
        )
        self.assertIn("PRIMARY KEY (gateway, run, position, measured_at)", into_key)
        gateway = self.gateway()
        devices = self.devices(gateway, 2)
        publish(gateway.address, [("devices/old/t", b'{"value":1,"ts":1500000000000,"seq":1}'), ("devices/old/t", b'{"value":2,"ts":1500000001000,"seq":2}')])
        expected = devices.acknowledged()
        wait_for("the others", lambda: self.rows() >= len(expected))
        self.assertEqual(self.database.number(f"SELECT count(*) FROM {self.schema}.readings WHERE device = 'old'"), 0)
        self.assertEqual(gateway.status()["ledger_adds_up"], True)
        self.database.sql(f"CREATE TABLE {self.schema}.old PARTITION OF {self.schema}.readings FOR VALUES FROM ('2000-01-01') TO ('2025-01-01')")
        row = gateway.ledger(SINK)
        self.assertEqual((row["delivered"], row["dead_lettered"], self.rows()), (row["accepted"], 0, row["accepted"]))

    def test_what_does_not_fit_is_said_by_doctor_and_in_the_status(self) -> None:
        gateway = self.gateway(anomalies=f"{self.schema}.events")
        said = self.command(gateway, "doctor").stdout
        self.assertIn(f"raw to the table {self.schema}.readings: PostgreSQL", said)
        self.assertEqual(self.rows(), 0, "doctor writes nothing")
        self.database.sql(f"ALTER TABLE {self.schema}.readings DROP COLUMN device; REVOKE SELECT ON {self.schema}.events FROM outrider; REVOKE ALL (gateway) ON {self.schema}.events FROM outrider")
        said = self.command(gateway, "doctor").stdout
        self.assertIn("it has no column device text", said)
        self.assertIn("GRANT SELECT (gateway)", said)
        publish(gateway.address, [("devices/a/t", b"1.5")])
        wait_for("words", lambda: "it has no column device text" in self.error(gateway))
        self.database.sql(f"ALTER TABLE {self.schema}.readings ADD COLUMN device text")
        self.assertEqual(gateway.ledger(SINK)["delivered"], 1)

    def test_a_domain_over_a_domain_fits_and_a_trigger_is_told_in_the_log(self) -> None:
        self.database.sql(
            f"CREATE DOMAIN {self.schema}.name AS varchar(40); CREATE DOMAIN {self.schema}.metric AS {self.schema}.name NOT NULL; "
            f"ALTER TABLE {self.schema}.readings ALTER COLUMN metric TYPE {self.schema}.metric; "
            f"CREATE FUNCTION {self.schema}.pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; "
            f"CREATE TRIGGER redirects BEFORE INSERT ON {self.schema}.readings FOR EACH ROW EXECUTE FUNCTION {self.schema}.pass()"
        )
        gateway = self.gateway()
        publish(gateway.address, [("devices/a/t", b"1.5")])
        self.assertEqual(gateway.ledger(SINK)["delivered"], 1)
        self.assertEqual(self.database.sql(f"SELECT metric FROM {self.schema}.readings"), [("t",)])
        wait_for("the log to tell of it", lambda: "trigger redirects may change" in gateway.log())
        self.assertIn("trigger redirects may change", self.command(gateway, "doctor").stdout)

    def test_logins_and_certificates(self) -> None:
        self.make_certificates()
        self.database.configure("ssl = on", f"ssl_cert_file = '{self.database.folder}/localhost.pem'", f"ssl_key_file = '{self.database.folder}/localhost.key'")
        local = "host all owner 127.0.0.1/32 trust"
        ca, other = str(self.database.folder / "ca.pem"), str(self.database.folder / "other.pem")
        right = {"password": PASSWORD, "host": "localhost", "sslmode": "verify-full", "ca": ca}
        self.addCleanup(self.database.allow, "host all all 127.0.0.1/32 trust")
        cases: list[tuple[str, str, dict[str, Any], str]] = [
            ("scram", "hostssl all all 127.0.0.1/32 scram-sha-256", right, ""),
            ("wrong", "hostssl all all 127.0.0.1/32 scram-sha-256", right | {"password": "guessed"}, "password authentication failed"),
            ("other", "hostssl all all 127.0.0.1/32 scram-sha-256", right | {"ca": other}, "the TLS handshake"),
            ("name", "hostssl all all 127.0.0.1/32 scram-sha-256", right | {"host": "127.0.0.1"}, "the TLS handshake"),
            ("anybody", "hostssl all all 127.0.0.1/32 scram-sha-256", {"password": PASSWORD, "sslmode": "require"}, ""),
            ("plain", "hostssl all all 127.0.0.1/32 scram-sha-256", {"password": PASSWORD}, "no pg_hba.conf entry"),
            ("without", "host all all 127.0.0.1/32 scram-sha-256", {"host": "localhost"}, "set password"),
            ("clear", "hostssl all all 127.0.0.1/32 password", right, ""),
            ("certificate", f"hostssl all all 127.0.0.1/32 cert", {
                "host": "localhost", "sslmode": "verify-full", "ca": ca,
                "certificate": str(self.database.folder / "outrider.pem"), "key": str(self.database.folder / "outrider.key"),
            }, ""),
        ]
        self.database.configure(f"ssl_ca_file = '{ca}'")
        for number, (name, line, keys, words) in enumerate(cases):
            with self.subTest(name):
                self.database.allow(local, line)
                gateway = self.gateway(name, **keys)
                publish(gateway.address, [("devices/a/t", b"1.5")])
                if words:
                    wait_for(words, lambda gateway=gateway, words=words: words in self.error(gateway))
                    self.assertNotIn("guessed", gateway.log())
                else:
                    self.assertEqual(gateway.ledger(SINK)["delivered"], 1)
                    self.assertEqual(self.database.number(f"SELECT count(*) FROM {self.schema}.readings WHERE gateway = '{name}'"), 1)
                self.assertNotIn(PASSWORD, gateway.log())
                gateway.end()

    def make_certificates(self) -> None:
        """Of a CA: one for the server `localhost`, and one for the user `outrider`. Another CA has none."""
        folder = self.database.folder
        for ca in ("ca", "other"):
            openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", f"/CN={ca}", "-keyout", f"{folder}/{ca}.key", "-out", f"{folder}/{ca}.pem")
        for name in ("localhost", "outrider"):
            openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", f"{folder}/{name}.key", "-out", f"{folder}/{name}.csr")
            openssl("x509", "-req", "-in", f"{folder}/{name}.csr", "-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key", "-days", "30", "-copy_extensions", "copyall", "-out", f"{folder}/{name}.pem")
        self.database.own("localhost.key", "localhost.pem", "ca.pem")


def literal(text: Any) -> str:
    return "'" + str(text).replace("'", "''") + "'"


def partition_statements() -> tuple[str, str]:
    """Of the documentation: what puts the time into the key, and what grants it."""
    (statements,) = documented("TimescaleDB, and tables with partitions")
    alters, _, grants = (statement.strip() for statement in statements.strip().split(";\n"))
    return alters, grants


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
