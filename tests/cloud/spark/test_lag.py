"""How the lag is told: of which partitions, how old, in what form, and that one way that fails does not stop the others."""

import contextlib
import io
import json
import unittest
from urllib.error import HTTPError
from urllib.request import urlopen

import lag
from bulk import Counts, Reply
from lag import Look, Monitor, Place, Waiting

RAW_0, RAW_1 = Place("raw", 0), Place("raw", 1)


class Kafka:
    def __init__(self) -> None:
        self.at_end = {RAW_0: 100, RAW_1: 50}
        self.at_beginning = {RAW_0: 0, RAW_1: 20}
        self.group: dict[Place, int] = {}
        self.asked: list[tuple[Place, int]] = []
        self.broken = False

    def ends(self) -> dict[Place, int]:
        if self.broken:
            raise ConnectionError("no broker")
        return dict(self.at_end)

    def beginnings(self) -> dict[Place, int]:
        return self.at_beginning

    def committed(self) -> dict[Place, int]:
        return self.group

    def commit(self, offsets: dict[Place, int]) -> None:
        self.group = offsets

    def time_ms(self, place: Place, offset: int) -> int | None:
        self.asked.append((place, offset))
        return 1_000 + offset


class Search:
    def __init__(self) -> None:
        self.status = 200
        self.documents: list[dict] = []

    def request(self, method: str, path: str, body: bytes, content: str) -> Reply:
        self.documents.append(json.loads(body.splitlines()[1]))
        return Reply(self.status, b'{"errors":false}')


def monitor(kafka: Kafka, search: Search, done: list[str | None]) -> Monitor:
    return Monitor(kafka, search, "outrider-search", 1, lambda: done[-1])  # type: ignore[arg-type]


class Lag(unittest.TestCase):
    def test_what_waits_is_from_what_is_done_to_the_end_and_is_asked_for_once(self) -> None:
        kafka = Kafka()
        known: dict[tuple[Place, int], int] = {}
        for _ in range(3):
            found = lag.waiting(kafka, {RAW_0: 90, RAW_1: 50}, known)
            self.assertEqual(found, {RAW_0: Waiting(10, 1_090), RAW_1: Waiting(0, None)})
        self.assertEqual(kafka.asked, [(RAW_0, 90)])
        lag.waiting(kafka, {RAW_0: 95, RAW_1: 50}, known)
        self.assertEqual(len(known), 1)

    def test_a_partition_of_which_nothing_is_done_waits_from_its_oldest_record(self) -> None:
        self.assertEqual(lag.waiting(Kafka(), {}, {}), {RAW_0: Waiting(100, 1_000), RAW_1: Waiting(30, 1_020)})

    def test_the_age_is_that_of_the_oldest(self) -> None:
        look = Look(11_000, {RAW_0: Waiting(3, 9_000), RAW_1: Waiting(2, 1_000), Place("anomalies", 0): Waiting(1, None)})
        self.assertEqual((look.records, look.oldest_seconds), (6, 10))
        self.assertEqual(Look(5, {RAW_0: Waiting(0, None)}).oldest_seconds, 0)
        # A producer whose clock is ahead.
        self.assertEqual(Look(5, {RAW_0: Waiting(1, 9)}).oldest_seconds, 0)

    def test_a_look_is_told_in_three_ways(self) -> None:
        kafka, search = Kafka(), Search()
        watched = monitor(kafka, search, ['{"raw":{"0":90,"1":50}}'])
        watched.count(Counts(stored=7, known=2, failed=1))
        watched.turn(11_090)
        self.assertEqual(kafka.group, {RAW_0: 90, RAW_1: 50})
        (document,) = search.documents
        self.assertEqual((document["lag_records"], document["oldest_unprocessed_seconds"], document["stored"], document["failed"]), (10, 10, 7, 1))
        metrics = watched.metrics()
        for expected in [
            'outrider_search_lag_records{topic="raw",partition="0"} 10',
            'outrider_search_lag_records{topic="raw",partition="1"} 0',
            "outrider_search_oldest_unprocessed_seconds 10.0",
            "outrider_search_lag_seen_timestamp_seconds 11.09",
            'outrider_search_documents_total{result="known"} 2',
        ]:
            self.assertIn(expected + "\n", metrics)

    def test_before_the_first_batch_the_group_says_what_was_done_and_is_left_as_it_is(self) -> None:
        kafka = Kafka()
        kafka.group = {RAW_0: 60}
        watched = monitor(kafka, Search(), [None])
        watched.turn(0)
        self.assertIn('{topic="raw",partition="0"} 40\n', watched.metrics())
        self.assertEqual(kafka.group, {RAW_0: 60})

    def test_one_way_that_fails_stops_no_other_and_is_told_once(self) -> None:
        kafka, search = Kafka(), Search()
        watched = monitor(kafka, search, ['{"raw":{"0":90,"1":50}}'])
        search.status = 503
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            for at_ms in (1_000, 2_000):
                watched.turn(at_ms)
            self.assertIn("lag_seen_timestamp_seconds 2.0", watched.metrics())
            kafka.broken = True
            watched.turn(3_000)
            # What was seen last stands, with its time.
            self.assertIn("lag_seen_timestamp_seconds 2.0", watched.metrics())
            kafka.broken, search.status = False, 200
            watched.turn(4_000)
        lines = said.getvalue().splitlines()
        self.assertEqual(len(lines), 4, lines)
        self.assertIn("OpenSearch does not take the lag", lines[0])
        self.assertIn("no broker", lines[1])

    def test_metrics_are_served(self) -> None:
        address = lag.serve("127.0.0.1:0", lambda: "x 1\n")
        with urlopen(f"http://{address}/metrics", timeout=10) as answer:
            self.assertEqual(answer.read(), b"x 1\n")
        with self.assertRaises(HTTPError) as refused:
            urlopen(f"http://{address}/", timeout=10)
        refused.exception.close()


if __name__ == "__main__":
    unittest.main()
