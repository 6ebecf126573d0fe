"""What the function does with alerts: whom it tells, what it keeps, and what becomes of records that fail."""

import json
import unittest

from alert_cases import Crashed, Memory, alert, deliver, failed, record
from alerts.records import Alert, Key, read


class Notifying(unittest.TestCase):
    def setUp(self) -> None:
        self.services = Memory()

    def test_a_raised_alert_is_told_once(self) -> None:
        failed(self.services, record(1, alert()), record(2, alert()), record(3, alert(revision=2, count=9)))
        self.assertEqual(self.services.notified, [("one", 1, "minor")])

    def test_a_graver_one_is_told_again_and_a_lesser_one_is_not(self) -> None:
        failed(self.services, record(1, alert(), alert(revision=2, severity="critical"), alert(revision=3, severity="major")))
        self.assertEqual(self.services.notified, [("one", 1, "minor"), ("one", 2, "critical")])

    def test_clearing_is_kept_and_not_told(self) -> None:
        failed(self.services, record(1, alert(), alert(revision=2, state="cleared", cleared_at_ms=9)))
        self.assertEqual(len(self.services.notified), 1)
        self.assertFalse(self.the_one().raised)

    def test_an_alert_that_is_raised_anew_is_told(self) -> None:
        lines = [
            alert(),
            alert(revision=2, state="cleared"),
            alert(id="two", raised_at_ms=2_000),
            alert(id="two", raised_at_ms=2_000, revision=2, severity="major"),
        ]
        failed(self.services, record(1, *lines))
        self.assertEqual([notified[:2] for notified in self.services.notified], [("one", 1), ("two", 1), ("two", 2)])

    def test_only_a_clearing_tells_nobody(self) -> None:
        failed(self.services, record(1, alert(state="cleared", revision=5)))
        self.assertEqual(self.services.notified, [])
        self.assertEqual(self.the_one().revision, 5)

    def test_kinds_metrics_devices_and_gateways_are_apart(self) -> None:
        others = [alert(), alert(kind="limit"), alert(metric="speed"), alert(device="tank-2"), alert(gateway="truck-0043")]
        failed(self.services, record(1, *others))
        self.assertEqual((len(self.services.notified), len(self.services.table)), (5, 5))

    def the_one(self):
        return self.services.table[Key("truck-0042/tank-1", "container_temperature/anomaly")][0]


class OutOfOrder(unittest.TestCase):
    def setUp(self) -> None:
        self.services = Memory()

    def test_an_older_revision_changes_nothing(self) -> None:
        failed(self.services, record(1, alert(revision=3, severity="major")), record(2, alert(revision=2, severity="critical")))
        kept, _ = next(iter(self.services.table.values()))
        self.assertEqual((kept.revision, len(self.services.notified)), (3, 1))

    def test_an_alert_raised_earlier_changes_nothing(self) -> None:
        failed(self.services, record(1, alert(id="two", raised_at_ms=2_000)), record(2, alert(id="one", raised_at_ms=1_000, revision=99)))
        kept, _ = next(iter(self.services.table.values()))
        self.assertEqual((kept.id, len(self.services.notified)), ("two", 1))

    def test_any_order_keeps_the_newest(self) -> None:
        lines = [alert(revision=revision, state="cleared" if revision == 4 else "raised") for revision in (2, 4, 1, 3)]
        failed(self.services, *(record(number, line) for number, line in enumerate(lines)))
        kept, _ = next(iter(self.services.table.values()))
        self.assertEqual((kept.revision, kept.raised), (4, False))


class Failing(unittest.TestCase):
    def setUp(self) -> None:
        self.services = Memory()

    def test_dying_between_notification_and_write_repeats_and_never_loses(self) -> None:
        self.services.crash_before = "keep"
        with self.assertRaises(Crashed):
            failed(self.services, record(1, alert()))
        self.assertEqual((len(self.services.notified), self.services.table), (1, {}))
        self.services.crash_before = None
        failed(self.services, record(1, alert()))
        self.assertEqual((len(self.services.notified), len(self.services.table)), (2, 1))

    def test_writing_first_would_lose_the_notification(self) -> None:
        # The control: what is kept before it is told is known when it comes again.
        (kept,) = read(json.dumps(alert()).encode())
        assert isinstance(kept, Alert)
        self.services.keep(kept)
        failed(self.services, record(1, alert()))
        self.assertEqual(self.services.notified, [])

    def test_dying_before_the_notification_loses_nothing(self) -> None:
        for call in ("kept", "notify"):
            services = Memory()
            services.crash_before = call
            with self.assertRaises(Crashed):
                failed(services, record(1, alert()))
            services.crash_before = None
            failed(services, record(1, alert()))
            self.assertEqual(services.notified, [("one", 1, "minor")])

    def test_a_record_that_fails_comes_again_and_its_neighbours_are_told_at_once(self) -> None:
        self.services.failing = {"notify:tank-2"}
        batch = [record(1, alert()), record(2, alert(device="tank-2", id="two")), record(3, alert(device="tank-3", id="three"))]
        self.assertEqual(failed(self.services, *batch), ["2"])
        self.assertEqual([notified[0] for notified in self.services.notified], ["one", "three"])
        self.services.failing = set()
        self.assertEqual(deliver(self.services, *batch[1:]), [])
        self.assertEqual([notified[0] for notified in self.services.notified], ["one", "three", "two"])

    def test_a_clearing_does_not_overtake_the_raising_that_failed(self) -> None:
        self.services.failing = {"notify:tank-1"}
        batch = [record(1, alert()), record(2, alert(revision=2, state="cleared"))]
        self.assertEqual(failed(self.services, *batch), ["1", "2"])
        self.assertEqual(self.services.table, {})
        self.services.failing = set()
        self.assertEqual(deliver(self.services, *batch), [])
        self.assertEqual(self.services.notified, [("one", 1, "minor")])

    def test_what_fails_to_the_end_is_named(self) -> None:
        self.services.failing = {"keep:tank-1"}
        self.assertEqual(deliver(self.services, record(1, alert(device="tank-9")), record(2, alert())), ["2"])


class Reading(unittest.TestCase):
    def setUp(self) -> None:
        self.services = Memory()

    def test_a_bad_line_costs_nobody_else_anything(self) -> None:
        bad = [b"\xff\xfe", b"[]", b'{"type":"alert"}', b'{"type":"alert","severity":"dire"}', b"null", b'{"v":1']
        batch = [record(1, alert()), record(2, *bad, alert(device="tank-2")), record(3, alert(device="tank-3"))]
        self.assertEqual(failed(self.services, *batch), [])
        self.assertEqual(len(self.services.notified), 3)
        self.assertEqual([(number, unreadable.line) for number, unreadable in self.services.aside], [("2", line) for line in bad])

    def test_a_bad_line_that_cannot_be_set_aside_comes_again(self) -> None:
        self.services.failing = {"set_aside:line"}
        self.assertEqual(failed(self.services, record(1, b"?"), record(2, alert())), ["1"])

    def test_all_lines_of_a_record_are_read_and_other_types_passed_over(self) -> None:
        lines = [{"v": 1, "type": "anomaly"}, alert(), {"v": 1, "type": "gateway"}, alert(device="tank-2"), {"type": "of a later version"}]
        self.assertEqual(failed(self.services, record(1, *lines)), [])
        self.assertEqual((len(self.services.notified), self.services.aside), (2, []))

    def test_the_table_keeps_the_record_as_it_was_sent(self) -> None:
        line = json.dumps(alert(), indent=None, separators=(" ,  ", ":")).encode()
        failed(self.services, record(1, line))
        _, text = next(iter(self.services.table.values()))
        self.assertEqual(text, line.decode())


if __name__ == "__main__":
    unittest.main()
