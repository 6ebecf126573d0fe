"""Logins, TLS and compression with a real cluster: what is right works, what is wrong is said in words, and what is stored others can read."""

import tempfile
import unittest
from pathlib import Path

from broker import Record, partition_of
from cluster import PASSWORD, USER, Cluster, cluster, make_certificates
from kafka.admin import ACLOperation
from programs import wait_for
from restarts import Devices, Gateway, Stored, kafka_sink

PARTITIONS = 4


class Access(unittest.TestCase):
    """A gateway with many sinks, and one whose sinks are wrong; the tests look at what has come of them."""

    cluster: Cluster
    gateway: Gateway
    wrong_gateway: Gateway
    acknowledged: set[tuple[str, int]]
    # By name, the listener and the keys of a sink.
    right: dict[str, tuple[str, dict[str, object]]]
    wrong: dict[str, tuple[str, dict[str, object]]]

    @classmethod
    def setUpClass(cls) -> None:
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="outrider-kafka-")))
        cls.cluster = cluster()
        make_certificates(folder / "other")
        certificates = cls.cluster.certificates
        tls: dict[str, object] = {"ca": str(certificates / "ca.pem")}
        identity: dict[str, object] = {
            "certificate": str(certificates / "devices" / "truck-0042.pem"),
            "key": str(certificates / "devices" / "truck-0042.key"),
        }
        user = {"username": USER, "password": PASSWORD}
        stranger = {"username": USER, "password": "wrong horse"}
        cls.right = {
            "plain": ("PASSWORD", {"sasl": "plain", **user}),
            "scram-256": ("PASSWORD", {"sasl": "scram-sha-256", **user}),
            "scram-512": ("PASSWORD", {"sasl": "scram-sha-512", **user}),
            "tls": ("TLS", tls),
            "tls-both": ("MUTUAL", tls | identity),
            "tls-scram": ("BOTH", {**tls, "sasl": "scram-sha-512", **user}),
            "none": ("INTERNAL", {"compression": "none", "record": "single"}),
            "gzip": ("INTERNAL", {"compression": "gzip"}),
            "zstd": ("INTERNAL", {"compression": "zstd"}),
            "whole": ("INTERNAL", {"partition": "gateway"}),
        }
        cls.wrong = {
            "wrong-plain": ("PASSWORD", {"sasl": "plain", **stranger}),
            "wrong-scram": ("PASSWORD", {"sasl": "scram-sha-512", **stranger}),
            "no-login": ("PASSWORD", {}),
            "needless-login": ("INTERNAL", {"sasl": "plain", **user}),
            "needless-tls": ("INTERNAL", tls),
            "no-tls": ("TLS", {}),
            "no-tls-but-login": ("BOTH", {"sasl": "plain", **user}),
            "other-ca": ("TLS", {"ca": str(folder / "other" / "ca.pem")}),
            "no-certificate": ("MUTUAL", tls),
            "nothing-allowed": ("PASSWORD", {"sasl": "plain", **user}),
            "not-to-be-written": ("PASSWORD", {"sasl": "plain", **user}),
        }
        for name in [*cls.right, "nothing-allowed", "not-to-be-written"]:
            cls.cluster.create_topic(name, PARTITIONS)
        # To write is all that has to be allowed.
        for name, (_, keys) in cls.right.items():
            if "sasl" in keys or "certificate" in keys:
                cls.cluster.allow(USER if "sasl" in keys else "CN=truck-0042", name)
        cls.cluster.allow(USER, "not-to-be-written", ACLOperation.DESCRIBE)
        cls.gateway = Gateway(folder / "right", *(cls.sink(name, *how) for name, how in cls.right.items()))
        cls.addClassCleanup(cls.gateway.end)
        cls.wrong_gateway = Gateway(folder / "wrong", *(cls.sink(name, *how) for name, how in cls.wrong.items()))
        cls.addClassCleanup(cls.wrong_gateway.end)
        Devices(cls.wrong_gateway, 1, 10, 1).acknowledged()
        cls.acknowledged = Devices(cls.gateway, 3, 200).acknowledged()

    @classmethod
    def sink(cls, name: str, listener: str, keys: dict[str, object]) -> str:
        return kafka_sink(cls.cluster.addresses[listener], name, name, **keys)

    def stored(self, name: str) -> list[Record]:
        self.gateway.ledger(name)
        records = self.cluster.read(name)
        stored = Stored.of(records)
        self.assertEqual((self.acknowledged - stored.numbers, stored.repeats, stored.out_of_order()), (set(), 0, []), name)
        return records

    def test_each_way_to_connect_delivers_everything(self) -> None:
        for name in self.right:
            with self.subTest(name):
                self.assertTrue(self.stored(name))

    def test_keys_and_partitions_are_those_that_other_producers_choose(self) -> None:
        for name in ("none", "gzip", "zstd"):
            records = self.stored(name)
            self.assertEqual({record.key for record in records}, {f"truck-0042/d0{number}" for number in range(8)})
            self.assertEqual([record for record in records if record.partition != partition_of(record, PARTITIONS)], [])
            self.assertGreater(len({record.partition for record in records}), 1)
        sent = {name: self.gateway.sink(name)["sent_bytes"] for name in ("none", "gzip", "zstd")}
        print(f"bytes sent: {sent}")
        self.assertLess(max(sent["gzip"], sent["zstd"]) * 2, sent["none"])
        self.assertEqual({record.key for record in self.stored("whole")}, {"truck-0042"})
        self.assertEqual({len(record.value.splitlines()) for record in self.stored("none")}, {1})

    def test_what_is_wrong_is_said_in_words(self) -> None:
        expected = {
            "wrong-plain": ["refuses the login", "username and password"],
            "wrong-scram": ["refuses the login", "username and password"],
            "no-login": ["does this port need a login, by sasl?"],
            "needless-login": ["takes no login at this port"],
            "needless-tls": ["does this port speak TLS?"],
            "no-tls": ["speaks TLS; set tls = true"],
            "no-tls-but-login": ["speaks TLS; set tls = true"],
            "other-ca": ["the TLS handshake", "UnknownIssuer", "look at tls, ca"],
            "no-certificate": ["the TLS handshake", "look at tls, ca, certificate"],
            "nothing-allowed": ["no permission to write to the topic nothing-allowed"],
            "not-to-be-written": ["no permission to write to the topic not-to-be-written"],
        }
        wait_for("all words", lambda: all(self.wrong_gateway.sink(name)["last_error"] for name in expected))
        for name, words in expected.items():
            with self.subTest(name):
                said = self.wrong_gateway.sink(name)["last_error"]
                print(f"{name}: {said}")
                self.assertEqual([word for word in words if word not in said], [], said)
                self.assertNotIn("horse", said + self.wrong_gateway.log())


if __name__ == "__main__":
    unittest.main()
