"""What comes of each answer of `_bulk`, against an OpenSearch in memory that has every fault there is."""

import http.client
import json
import random
import unittest
from collections import Counter
from collections.abc import Callable
from unittest import mock

import bulk
from bulk import Counts, Halt, Reply, Store
from records import Document, documents
from test_records import NOON_MS, line

Reject = Callable[[str], int | None]


class Memory:
    """Takes documents by `create`. `fault` may answer instead, before or after they are stored; `reject` names a status for an id."""

    def __init__(self, fault: Callable[["Memory", bytes], Reply | None] | None = None, reject: Reject = lambda _: None) -> None:
        self.stored: dict[tuple[str, str], bytes] = {}
        self.sent: list[list[str]] = []
        self.bytes_max = 0
        self._fault = fault
        self._reject = reject

    def request(self, method: str, path: str, body: bytes, content: str) -> Reply:
        assert (method, path, content) == ("POST", bulk.BULK, "application/x-ndjson")
        self.bytes_max = max(self.bytes_max, len(body))
        lines = body.split(b"\n")
        self.sent.append([json.loads(action)["create"]["_id"] for action in lines[:-1:2]])
        faulty = self._fault(self, body) if self._fault else None
        return faulty or self.take(body)

    def take(self, body: bytes) -> Reply:
        lines = body.split(b"\n")
        items = [self._create(json.loads(action)["create"], source) for action, source in zip(lines[:-1:2], lines[1::2], strict=True)]
        return Reply(200, json.dumps({"errors": any("error" in item["create"] for item in items), "items": items}).encode())

    def _create(self, action: dict, source: bytes) -> dict:
        place = (action["_index"], action["_id"])
        status = self._reject(action["_id"])
        if status is None:
            status = 409 if place in self.stored else 201
        if status == 201:
            self.stored[place] = source
            return {"create": {"status": status}}
        return {"create": {"status": status, "error": {"type": "some_exception", "reason": "because"}}}

    def ids(self) -> list[str]:
        return sorted(identity for index, identity in self.stored if not index.startswith("outrider-failed"))

    def reasons(self) -> list[str]:
        return [json.loads(source)["reason"] for (index, _), source in self.stored.items() if index.startswith("outrider-failed")]


def lines_from(first: int, count: int, **changes: object) -> list[Document]:
    value = b"\n".join(line(position=position, **changes) for position in range(first, first + count))
    return list(documents("raw", 0, first, NOON_MS, value))


def store(memory: Memory, sent: list[Document]) -> tuple[Counts, list[str], list[float]]:
    said: list[str] = []
    pauses: list[float] = []
    return Store(memory, said.append, pauses.append).store(iter(sent)), said, pauses  # type: ignore[arg-type]


def first_time(reply: Reply | Exception) -> Callable[[Memory, bytes], Reply | None]:
    """The first request is answered so."""

    def fault(memory: Memory, _: bytes) -> Reply | None:
        if len(memory.sent) > 1:
            return None
        if isinstance(reply, Exception):
            raise reply
        return reply

    return fault


class Bulk(unittest.TestCase):
    def test_what_is_there_already_is_accepted(self) -> None:
        memory = Memory()
        self.assertEqual(store(memory, lines_from(1, 10))[0], Counts(stored=10))
        self.assertEqual(store(memory, lines_from(6, 10))[0], Counts(stored=5, known=5))
        self.assertEqual(len(memory.ids()), 15)

    def test_only_what_is_throttled_is_sent_again(self) -> None:
        for status in (429, 503, 500, 418):
            busy = Counter({"truck.7.0123456789abcdef.3": 2, "truck.7.0123456789abcdef.4": 1})

            def reject(identity: str, status: int = status, busy: Counter[str] = busy) -> int | None:
                busy[identity] -= 1
                return status if busy[identity] >= 0 else None

            memory = Memory(reject=reject)
            counts, said, pauses = store(memory, lines_from(1, 5))
            self.assertEqual(counts, Counts(stored=5))
            self.assertEqual([len(request) for request in memory.sent], [5, 2, 1])
            self.assertEqual((len(pauses), len(said)), (2, 2))
            self.assertIn(f"does not take 2 of 5 documents now, trying again: {status}: some_exception: because", said[0])

    def test_an_answer_that_says_nothing_repeats_the_request(self) -> None:
        half = Reply(200, b'{"errors":false,"items":[{"create":{"status":201}}]}')
        answers: list[Reply | Exception] = [
            Reply(503, b""),
            Reply(429, b"slow"),
            Reply(408, b""),
            Reply(200, b'{"errors":fal'),
            Reply(200, b"[]"),
            half,
        ]
        answers += [ConnectionResetError(), TimeoutError(), http.client.IncompleteRead(b"")]
        for answer in answers:
            memory = Memory(first_time(answer))
            counts, said, pauses = store(memory, lines_from(1, 4))
            self.assertEqual(counts, Counts(stored=4), answer)
            self.assertEqual((len(pauses), len(said)), (1, 2), answer)
            self.assertIn("takes documents again", said[1])

    def test_an_answer_that_was_lost_costs_a_repetition(self) -> None:
        def lose(memory: Memory, body: bytes) -> Reply | None:
            if len(memory.sent) == 1:
                memory.take(body)
                raise ConnectionResetError
            return None

        memory = Memory(lose)
        self.assertEqual(store(memory, lines_from(1, 4))[0], Counts(known=4))
        self.assertEqual(len(memory.ids()), 4)

    def test_pauses_grow_to_half_a_minute_and_one_line_is_written(self) -> None:
        memory = Memory(lambda memory, _: Reply(503, b"") if len(memory.sent) < 20 else None)
        _, said, pauses = store(memory, lines_from(1, 1))
        self.assertLess(pauses[0], 1)
        self.assertTrue(all(15 <= pause <= 30 for pause in pauses[8:]))
        self.assertEqual(len(said), 2)

    def test_what_is_refused_for_good_is_among_the_failed_and_its_neighbours_are_stored(self) -> None:
        memory = Memory(reject=lambda identity: 400 if identity.endswith(".3") else None)
        self.assertEqual(store(memory, lines_from(1, 5))[0], Counts(stored=4, failed=1))
        self.assertEqual(memory.reasons(), ["some_exception: because"])
        # The same again: it is there once.
        self.assertEqual(store(memory, lines_from(1, 5))[0], Counts(known=5))

    def test_a_request_that_is_refused_is_halved_until_the_culprit_is_alone(self) -> None:
        for status in (400, 413):

            def culprit(_: Memory, body: bytes, status: int = status) -> Reply | None:
                return Reply(status, b"no") if b'abcdef.6"' in body else None

            memory = Memory(culprit)
            self.assertEqual(store(memory, lines_from(1, 9))[0], Counts(stored=8, failed=1))
            self.assertEqual(memory.reasons(), [f"{status}: no"])

    def test_what_the_document_is_not_to_blame_for_waits(self) -> None:
        for trouble in bulk.BLAMELESS:
            item = {"create": {"status": 400, "error": {"type": trouble, "reason": "this cluster has 1000 of 1000 shards"}}}
            memory = Memory(first_time(Reply(200, json.dumps({"errors": True, "items": [item]}).encode())))
            self.assertEqual(store(memory, lines_from(1, 1))[0], Counts(stored=1))

    def test_what_a_person_has_to_put_right_ends_it_with_words(self) -> None:
        for status, said in [(401, "password"), (403, "may not write"), (404, "is this the address|may not be made"), (302, "address")]:
            for memory in [Memory(lambda _, __, status=status: Reply(status, b"no")), Memory(reject=lambda _, status=status: status)]:
                if status == 302 and memory._fault is None:
                    continue
                with self.assertRaisesRegex(Halt, f"{status}.*({said})"):
                    store(memory, lines_from(1, 3))
                self.assertEqual(memory.ids(), [])

    def test_failed_documents_that_are_refused_end_it(self) -> None:
        memory = Memory(lambda _, __: Reply(400, b"plain HTTP request was sent to HTTPS port"))
        with self.assertRaisesRegex(Halt, "template.*HTTPS port"):
            store(memory, lines_from(1, 3))

    def test_requests_have_five_megabytes_at_most(self) -> None:
        memory = Memory()
        sent = lines_from(1, 60, device="x" * 200_000) + lines_from(61, 3, device="x" * 6_000_000)
        self.assertEqual(store(memory, sent)[0], Counts(stored=63))
        sizes = Counter(len(request) for request in memory.sent)
        self.assertEqual(sizes, {24: 2, 12: 1, 1: 3})

    def test_nothing_is_lost_by_faults_in_any_order(self) -> None:
        for seed in range(60):
            self.assertEqual(self.troubled(seed), 300)

    def test_the_controls_lose(self) -> None:
        """If anything but 201 and 409 counted as taken, documents would be missing; if ids were not the records' own, they would be there twice."""

        def careless(verdict: bulk.Verdict, document: Document, status: int, error: dict) -> None:
            verdict.counts.stored += 1

        with mock.patch.object(bulk, "_judge_item", careless):
            self.assertLess(min(self.troubled(seed) for seed in range(10)), 300)
        lines = bulk._lines
        with mock.patch.object(bulk, "_lines", lambda document: lines(document._replace(id=str(random.random())))):
            self.assertGreater(max(self.troubled(seed) for seed in range(10)), 300)

    def troubled(self, seed: int) -> int:
        """How many of 300 documents are there once each has been accepted."""
        chance = random.Random(seed)

        def fault(memory: Memory, body: bytes) -> Reply | None:
            kind = chance.choice(["none", "none", "busy", "reset", "lost", "cut"])
            if kind in ("lost", "cut"):
                reply = memory.take(body)
                if kind == "cut":
                    return Reply(200, reply.body[: len(reply.body) // 2])
            if kind in ("lost", "reset"):
                raise ConnectionResetError
            return Reply(503, b"") if kind == "busy" else None

        memory = Memory(fault, lambda _: 429 if chance.random() < 0.2 else None)
        with mock.patch.object(bulk, "REQUEST_BYTES_MAX", 10_000):
            store(memory, lines_from(1, 300))
        return len(memory.ids())


if __name__ == "__main__":
    unittest.main()
