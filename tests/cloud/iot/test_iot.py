"""A gateway's sink and bridge at the AWS IoT broker of the emulator, with the certificate of a thing.

The emulator differs from AWS, and this is therefore not tested: it does not look at ALPN, so no wrong protocol is refused (what is offered is read off the
wire instead); it lets in who shows no certificate; without its AUTH it does not evaluate policies; it loses the sessions of its clients when it ends.
"""

import json
import socket
import tempfile
import unittest
from pathlib import Path
from typing import Any

from lives import Gateway
from programs import wait_for
from publishing import publish
from things import ALPN, Cloud, Link, Subscriber, Thing

START_MS = 1_790_000_000_000
DEVICES = 4


class AtAwsIot(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="outrider-iot-")))
        self.cloud = Cloud(self.folder)
        self.addCleanup(lambda: self.cloud.end())
        self.thing = self.cloud.thing("truck-0042")
        self.backend = self.cloud.thing("backend")
        self.link = Link(self.cloud.port)
        self.addCleanup(self.link.close)

    def gateway(self, *sections: str, name: str = "gateway") -> Gateway:
        gateway = Gateway(self.folder / name, *sections)
        self.addCleanup(gateway.end)
        return gateway

    def subscriber(self, topics: str) -> Subscriber:
        subscriber = Subscriber(self.backend.connection(self.cloud.port), self.backend.name, topics)
        self.addCleanup(subscriber.end)
        return subscriber

    def restart_cloud(self, subscriber: Subscriber, topics: str) -> Subscriber:
        """With the link down, so that nobody publishes before the new subscriber is there."""
        self.link.down()
        subscriber.has_all()
        self.cloud.end()
        self.cloud.start()
        return self.subscriber(topics)


class Sending(AtAwsIot):
    topics = "fleet/#"

    def sink(self, version: str, thing: Thing | None = None) -> str:
        login = (thing or self.thing).login(self.link.port, version)
        return f'[[sink]]\nname = "iot"\ntype = "mqtt"\nstreams = ["raw"]\ntopic = "fleet/{{gateway}}/{{device}}"\nrecord = "single"\n{login}'

    def publish(self, gateway: Gateway, numbers: range) -> None:
        publish(
            gateway.address,
            ((f"devices/badge-{n % DEVICES}/temperature", json.dumps({"value": n, "ts": START_MS + n * 1000}).encode()) for n in numbers),
        )

    def test_everything_arrives_over_a_restart_of_the_broker_and_a_kill_of_the_gateway_by_version_5(self) -> None:
        self.everything_arrives("5")

    def test_everything_arrives_over_a_restart_of_the_broker_and_a_kill_of_the_gateway_by_version_3(self) -> None:
        self.everything_arrives("3.1.1")

    def everything_arrives(self, version: str) -> None:
        first = self.subscriber(self.topics)
        gateway = self.gateway(self.sink(version))
        self.publish(gateway, range(300))
        wait_for("some messages", lambda: len(first.messages) >= 20)
        self.assertIn(ALPN.encode(), self.link.hello)

        second = self.restart_cloud(first, self.topics)
        self.publish(gateway, range(300, 500))
        self.link.up()
        wait_for("some messages after the restart", lambda: len(second.messages) >= 20)
        gateway.kill()
        gateway.start()
        self.publish(gateway, range(500, 600))

        ledger = gateway.ledger("iot")
        second.has_all()
        records = [json.loads(payload) for _, payload in first.messages + second.messages]
        by_identity = {(record["gateway"], record["run"], record["position"]): record for record in records}
        self.assertEqual((ledger["delivered"], len(by_identity)), (600, 600), ledger)
        self.assertEqual(sorted(record["value"] for record in by_identity.values()), list(range(600)))
        for topic, payload in first.messages + second.messages:
            record = json.loads(payload)
            self.assertEqual(topic, f"fleet/truck-0042/{record['device']}")
        for device in range(DEVICES):
            # By the first time that each came: what was not acknowledged is sent again.
            order = list(dict.fromkeys(record["value"] for record in records if record["device"] == f"badge-{device}"))
            self.assertEqual(order, sorted(order), f"the order of badge-{device}")
        self.assertIsNone(gateway.sink("iot")["last_error"])

    def test_a_certificate_that_was_revoked_is_refused_and_named_until_it_holds_again(self) -> None:
        for version in ["5", "3.1.1"]:
            with self.subTest(version=version):
                subscriber = self.subscriber(self.topics)
                self.cloud.iot.update_certificate(certificateId=self.thing.certificate_id, newStatus="INACTIVE")
                gateway = self.gateway(self.sink(version), name=f"revoked-{version}")
                self.publish(gateway, range(10))
                self.assertRegex(self.error(gateway), "not authorised.*truck-0042")
                self.assertEqual(subscriber.messages, [])
                self.cloud.iot.update_certificate(certificateId=self.thing.certificate_id, newStatus="ACTIVE")
                self.assertEqual(gateway.ledger("iot")["delivered"], 10)
                gateway.end()
                subscriber.end()

    def test_a_certificate_of_a_stranger_is_refused_and_named(self) -> None:
        """One that the broker's CA did not sign and that nobody registered. The emulator ends the connection without an alert of TLS."""
        (self.folder / "elsewhere").mkdir()
        elsewhere = Cloud(self.folder / "elsewhere")
        try:
            stranger = elsewhere.thing("truck-0042")
        finally:
            elsewhere.end()
        stranger.ca = self.cloud.ca
        gateway = self.gateway(self.sink("5", stranger))
        self.publish(gateway, range(10))
        self.assertRegex(self.error(gateway), "closes the connection at CONNECT; look at client_id, certificate, alpn")
        (row,) = [row for row in gateway.status()["ledger"] if (row["sink"], row["stream"]) == ("iot", "raw")]
        self.assertEqual((row["delivered"], row["buffered"]), (0, 10), row)

    def error(self, gateway: Gateway) -> str:
        found: str = wait_for("the sink to say what is wrong", lambda: gateway.sink("iot")["last_error"])
        return found


class Bridging(AtAwsIot):
    def bridge(self, gateway: Gateway) -> dict[str, Any]:
        bridge: dict[str, Any] = gateway.status()["bridges"][0]
        return bridge

    def wait_connected(self, gateway: Gateway, connections: int) -> None:
        def is_there() -> bool:
            bridge = self.bridge(gateway)
            return bridge["connected"] and bridge["connections"] >= connections

        wait_for("the bridge", is_there)

    def command(self, name: str) -> None:
        self.cloud.publish("fleet/truck-0042/commands/door", {"id": name, "door": "open"})

    def test_commands_come_in_once_and_status_goes_out_after_an_outage_and_a_lost_session_by_version_5(self) -> None:
        self.both_ways("5")

    def test_commands_come_in_once_and_status_goes_out_after_an_outage_and_a_lost_session_by_version_3(self) -> None:
        self.both_ways("3.1.1")

    def both_ways(self, version: str) -> None:
        topics = """topics = ['commands/# in 1 "" fleet/truck-0042/', 'status/# out 1 "" fleet/truck-0042/']\ncommands = ['commands/#']\n"""
        gateway = self.gateway(f'[[bridge]]\nname = "aws"\n{topics}{self.thing.login(self.link.port, version)}')
        host, port = gateway.address.rsplit(":", 1)
        doors = Subscriber(socket.create_connection((host, int(port)), timeout=60), "door", "commands/#")
        self.addCleanup(doors.end)
        there = self.subscriber("fleet/truck-0042/status/#")
        self.wait_connected(gateway, 1)
        self.assertIn(ALPN.encode(), self.link.hello)

        self.command("one")
        publish(gateway.address, [("status/door", b"0")])
        wait_for("the first status", lambda: there.messages)
        wait_for("the first command", lambda: doors.messages)

        # The link is away, and the session is kept.
        self.link.down()
        wait_for("the bridge to notice", lambda: not self.bridge(gateway)["connected"])
        self.command("two")
        self.command("two")
        publish(gateway.address, (("status/door", str(n).encode()) for n in range(1, 50)))
        self.link.up()
        self.wait_connected(gateway, 2)
        wait_for("the command that was kept", lambda: len(doors.messages) >= 2)
        wait_for("the second one to be recognised", lambda: self.bridge(gateway)["commands_repeated"] >= 1)
        wait_for("what had waited", lambda: len(set(there.messages)) >= 50)

        # The broker is away, and the session is lost.
        after = self.restart_cloud(there, "fleet/truck-0042/status/#")
        publish(gateway.address, (("status/door", str(n).encode()) for n in range(50, 100)))
        self.link.up()
        self.wait_connected(gateway, 3)
        wait_for("what had waited", lambda: len(set(after.messages)) >= 50)
        def three_came() -> bool:
            self.command("three")
            return len(doors.messages) >= 3

        # What is sent before the bridge has subscribed again is lost.
        wait_for("a command", three_came)
        before = self.bridge(gateway)["commands_repeated"]
        self.command("two")
        wait_for("that one to be recognised", lambda: self.bridge(gateway)["commands_repeated"] > before)
        doors.has_all()

        ids = [json.loads(payload)["id"] for _, payload in doors.messages]
        self.assertEqual(ids, ["one", "two", "three"])
        self.assertEqual({topic for topic, _ in doors.messages}, {"commands/door"})
        arrived = [int(payload) for _, payload in there.messages + after.messages]
        self.assertEqual(sorted(set(arrived)), list(range(100)))
        # It is looked every second how many there are.
        wait_for("nothing to wait", lambda: self.bridge(gateway)["waiting"] == 0)
        status = self.bridge(gateway)
        self.assertEqual((status["commands"], status["waiting"], status["dropped"], status["sent_refused"]), (3, 0, 0, 0), status)


if __name__ == "__main__":
    unittest.main()
