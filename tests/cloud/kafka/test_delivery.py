"""The gateway's sink and a real cluster, through what happens to both: each acknowledged reading is there once, in the order of its device."""

import random
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

from broker import partition_of
from cluster import Cluster, cluster
from link import Link, Produced
from programs import wait_for
from restarts import NAME, Devices, Gateway, Stored, kafka_sink

# What a box with some vehicles behind it has; and so much that there is always something under way.
RATE = 1_500
QUOTA = 128 << 10


class Delivery(unittest.TestCase):
    folder: Path
    cluster: Cluster
    early: Gateway
    early_devices: Devices

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="outrider-kafka-")))
        cls.cluster = cluster()
        # Its topic is made when all else is done.
        cls.early = Gateway(cls.folder / "late", kafka_sink(cls.cluster.addresses["INTERNAL"], "late"))
        cls.addClassCleanup(cls.early.end)
        cls.early_devices = Devices(cls.early, 1, 200)

    def gateway(self, topic: str, listener: str = "INTERNAL", name: str = NAME, **keys: Any) -> Gateway:
        sink = kafka_sink(self.cluster.addresses[listener], topic, **({"batch_delay": "5ms"} | keys))
        gateway = Gateway(self.folder / topic, sink, name=name)
        self.addCleanup(gateway.end)
        return gateway

    def devices(self, gateway: Gateway, seconds: int | None = None, rate: int = RATE) -> Devices:
        devices = Devices(gateway, seconds, rate)
        self.addCleanup(devices.stop)
        return devices

    def settled(self, gateway: Gateway, devices: Devices, topic: str) -> Stored:
        """What is there in the end: everything that was acknowledged, in order."""
        acknowledged = devices.acknowledged()
        row = gateway.ledger()
        stored = Stored.of(self.cluster.read(topic))
        print(f"{topic}: {len(acknowledged)} acknowledged, {row['accepted']} accepted, {stored.readings} stored, {stored.repeats} of them again")
        self.assertEqual(acknowledged - stored.numbers, set(), "lost")
        self.assertEqual(stored.out_of_order(), [])
        self.assertEqual((row["delivered"], stored.readings - stored.repeats), (row["accepted"], row["accepted"]))
        return stored

    def longest_pause(self, topic: str) -> float:
        """Seconds in which nothing was stored, by the times that the gateway gave its batches."""
        times = sorted({record.at_ms for record in self.cluster.read(topic)})
        return max(later - earlier for earlier, later in zip(times, times[1:], strict=False)) / 1000

    def goes_on(self, gateway: Gateway, records: int = 200) -> None:
        """So many records more are stored, each of several readings."""
        before = gateway.sink()["records_sent"]
        wait_for("more records", lambda: gateway.sink()["records_sent"] > before + records)

    def test_kills_of_the_gateway_repeat_nothing(self) -> None:
        self.cluster.create_topic("kills")
        gateway = self.gateway("kills")
        devices = self.devices(gateway, 10)
        chance = random.Random(1)
        kills = 0
        while not devices.are_done():
            time.sleep(chance.uniform(0.1, 1))
            gateway.kill()
            gateway.start()
            kills += 1
        stored = self.settled(gateway, devices, "kills")
        print(f"{kills} kills")
        self.assertGreater(kills, 4)
        self.assertEqual(stored.repeats, 0)

    def test_without_its_journal_a_gateway_that_is_killed_repeats(self) -> None:
        self.cluster.create_topic("forgetful")
        gateway = self.gateway("forgetful")
        devices = self.devices(gateway)

        def repeats_after_a_kill() -> bool:
            time.sleep(0.5)
            gateway.kill()
            gateway.forget_journals()
            gateway.start()
            return Stored.of(self.cluster.read("forgetful")).repeats > 0

        wait_for("a repeat", repeats_after_a_kill)
        self.settled(gateway, devices, "forgetful")

    def test_a_gateway_that_is_killed_before_it_hears_that_records_are_stored_repeats_nothing_unless_it_has_no_journal(self) -> None:
        for topic, has_journal in (("unheard", True), ("unheard-and-forgotten", False)):
            self.cluster.create_topic(topic)
            gateway = self.gateway(topic, "LINK")
            devices = self.devices(gateway)
            for _ in range(3):
                self.goes_on(gateway, 100)
                self.keep_an_answer_back()
                gateway.kill()
                self.cut()
                if not has_journal:
                    gateway.forget_journals()
                gateway.start()
            stored = self.settled(gateway, devices, topic)
            self.assertEqual(stored.repeats == 0, has_journal)

    def keep_an_answer_back(self) -> None:
        links = self.cluster.links
        for link in links:
            link.keep_answers_back()
        wait_for("an answer", lambda: any(link.kept_back.is_set() for link in links))

    def cut(self) -> None:
        for link in self.cluster.links:
            link.cut()

    def test_lost_answers_repeat_nothing(self) -> None:
        self.cluster.create_topic("lost-answers")
        gateway = self.gateway("lost-answers", "LINK")
        devices = self.devices(gateway)
        for _ in range(10):
            self.keep_an_answer_back()
            self.cut()
            self.goes_on(gateway, 100)
        self.assertEqual(self.settled(gateway, devices, "lost-answers").repeats, 0)

    def test_leaders_that_are_killed_and_come_back_are_followed(self) -> None:
        self.cluster.create_topic("led", partitions=4, replicas=2)
        gateway = self.gateway("led")
        devices = self.devices(gateway)
        leaders = self.cluster.leaders("led")
        self.assertEqual(set(leaders), {1, 2})
        self.goes_on(gateway)
        self.cluster.nodes[1].kill()
        wait_for("a new leader", lambda: self.cluster.leaders("led") == [1] * 4)
        self.goes_on(gateway)
        self.cluster.nodes[1].start()
        wait_for("the broker", self.cluster.is_whole)
        wait_for("the former leaders", lambda: self.cluster.elect_leaders("led") == leaders)
        self.goes_on(gateway)
        self.assertEqual(self.settled(gateway, devices, "led").repeats, 0)
        print(f"led: nothing was stored for {self.longest_pause('led'):.1f} s")

    def test_a_cluster_that_is_killed_and_started_again_has_everything_once(self) -> None:
        self.cluster.create_topic("dead", replicas=2)
        gateway = self.gateway("dead")
        devices = self.devices(gateway)
        self.goes_on(gateway)
        for node in self.cluster.nodes:
            node.kill()
        wait_for("the sink to miss it", lambda: gateway.sink()["last_error"])
        for node in self.cluster.nodes:
            node.start()
        self.goes_on(gateway)
        wait_for("the cluster", self.cluster.is_whole)
        self.assertEqual(self.settled(gateway, devices, "dead").repeats, 0)

    def test_a_quota_is_heeded(self) -> None:
        self.cluster.create_topic("slow")
        self.cluster.set_quota("outrider-throttled", QUOTA)
        gateway = self.gateway("slow", "LINK", "throttled", compression="none", request_size_max="64KiB", record_size="8KiB")
        for link in self.cluster.links:
            link.produced.clear()
        devices = self.devices(gateway, 3)
        stored = self.settled(gateway, devices, "slow")
        self.assertEqual(stored.repeats, 0)
        produced = sorted((each for link in self.cluster.links for each in link.produced), key=lambda each: each.at)
        seconds = produced[-1].at - produced[0].at
        rate = sum(each.bytes for each in produced) / seconds
        pauses = [(each.throttle_ms, pause) for link in self.cluster.links for each, pause in pauses_of(link)]
        print(f"slow: {len(produced)} requests in {seconds:.1f} s, {rate / 1024:.0f} KiB/s of {2 * QUOTA >> 10}; asked and made: {pauses[:5]}")
        self.assertGreater(len(pauses), 3)
        self.assertTrue(all(made_ms > asked_ms - 20 for asked_ms, made_ms in pauses), pauses)
        # Each broker counts for itself.
        self.assertLess(rate, 2 * QUOTA * 1.3)

    def test_a_topic_that_is_made_after_the_gateways_start_gets_everything(self) -> None:
        gateway = self.gateway("soon")
        devices = self.devices(gateway, 1)
        wait_for("words", lambda: "there is no topic soon" in (gateway.sink()["last_error"] or ""))
        self.cluster.create_topic("soon")
        self.assertEqual(self.settled(gateway, devices, "soon").repeats, 0)

    def test_what_waits_for_a_topic_for_longer_is_told_and_delivered_in_the_end(self) -> None:
        # The other tests have taken more than the half minute that it waits before it says so as an error.
        wait_for("the sink to halt", lambda: "halted: there is no topic late" in self.early.log())
        self.cluster.create_topic("late")
        self.assertEqual(self.settled(self.early, self.early_devices, "late").repeats, 0)

    def test_a_topic_that_grows_keeps_each_device_in_order(self) -> None:
        self.cluster.create_topic("growing", partitions=1)
        gateway = self.gateway("growing", "LINK")
        devices = self.devices(gateway)
        self.goes_on(gateway)
        # It is known with the next metadata, for which a lost connection is a reason. What is in doubt is of the former partition.
        self.keep_an_answer_back()
        self.cluster.grow_topic("growing", 5)
        self.cut()
        wait_for("records in others", lambda: {record.partition for record in self.cluster.read("growing")} > {0})
        self.goes_on(gateway)
        stored = self.settled(gateway, devices, "growing")
        self.assertEqual(stored.repeats, 0)
        for record in self.cluster.read("growing"):
            self.assertIn(record.partition, (0, partition_of(record, 5)))

    def test_of_what_is_too_large_for_the_topic_only_what_is_so_alone_is_a_dead_letter(self) -> None:
        gateway = self.gateway("narrow", compression="none", record_size="4KiB")
        # While there is no topic, short lines and long ones gather; then they share records, and records share batches.
        short, long, more = (
            Devices(gateway, 1, rate, 4, "--payload", size, "--first-sequence", first).acknowledged()
            for rate, size, first in ((400, "150", "1"), (8, "4000", "1000000"), (400, "150", "2000000"))
        )
        self.cluster.create_topic("narrow", partitions=1, max_message_bytes="2000")
        row = gateway.ledger()
        stored = Stored.of(self.cluster.read("narrow"))
        print(f"narrow: {len(short | more)} short, {len(long)} long; {row}")
        self.assertGreater(len(long), 4)
        self.assertEqual(((short | more) - stored.numbers, long & stored.numbers), (set(), set()))
        self.assertEqual((row["dead_lettered"], row["delivered"]), (len(long), len(short | more)))
        self.assertEqual((stored.repeats, stored.out_of_order()), (0, []))


def pauses_of(link: Link) -> list[tuple[Produced, float]]:
    """Requests whose answers asked for a pause, each with what passed before the next one, in milliseconds."""
    pairs = zip(link.produced, link.produced[1:], strict=False)
    return [(asked, (after.at - asked.answered_at) * 1000) for asked, after in pairs if asked.throttle_ms > 0]


if __name__ == "__main__":
    unittest.main()
