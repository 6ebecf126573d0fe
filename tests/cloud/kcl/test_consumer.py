"""The consumer's side of the pipe to the daemon: what is written down before which checkpoint, and what a start after any end makes of it."""

import base64
import io
import json
import tempfile
import unittest
from pathlib import Path
from typing import Any

from consumer import READ_AHEAD_MAX, Consumer, Daemon, Ended, Recency
from lines import Line, Unreadable, read
from seen import Place
from shelf import Folder, Taken
from world import Memory

RUN = "00000000000000aa"


def line(position: int, **fields: Any) -> bytes:
    return json.dumps({"v": 1, "type": "reading", "gateway": "truck", "run": RUN, "position": position} | fields).encode() + b"\n"


def record(sequence: int, data: bytes, subsequence: int = 0) -> dict[str, Any]:
    arrived = {"approximateArrivalTimestamp": 1_000 + sequence, "partitionKey": "truck/tank"}
    return {"action": "record", "data": base64.b64encode(data).decode(), "sequenceNumber": str(sequence), "subSequenceNumber": subsequence} | arrived


def initialize(at: str = "TRIM_HORIZON", subsequence: int = 0) -> dict[str, Any]:
    return {"action": "initialize", "shardId": "shard-0", "sequenceNumber": at, "subSequenceNumber": subsequence}


def process(*records: dict[str, Any], behind_ms: int = 0) -> dict[str, Any]:
    return {"action": "processRecords", "records": list(records), "millisBehindLatest": behind_ms}


class Pipe(Daemon):
    """A daemon that asks for one thing after another, and answers each checkpoint with the next of its errors."""

    def __init__(self, shelf: Memory, requests: list[dict[str, Any]], errors: list[str | None]) -> None:
        super().__init__(io.StringIO(), io.StringIO())
        self._shelf, self.asked, self._errors = shelf, requests, errors
        self.replies: list[dict[str, Any]] = []
        self.written_before: list[list[str]] = []

    def next(self) -> dict[str, Any]:
        if self.replies and self.replies[-1]["action"] == "checkpoint":
            self.written_before.append(self._shelf.names("fleet/shard-0/sections"))
            return {"action": "checkpoint", "error": self._errors.pop(0) if self._errors else None}
        if not self.asked:
            raise Ended("no more")
        return self.asked.pop(0)

    def _send(self, reply: dict[str, Any]) -> None:
        self.replies.append(reply)


class Talking(unittest.TestCase):
    def setUp(self) -> None:
        self.shelf = Memory()

    def talk(self, *requests: dict[str, Any], errors: list[str | None] | None = None, every: float = 0) -> Pipe:
        pipe = Pipe(self.shelf, list(requests), errors or [])
        with self.assertRaises(Ended):
            Consumer(pipe, self.shelf, "fleet", every, now=lambda: 2.0, pause=lambda _: None).run()
        return pipe

    def sections(self) -> list[dict[str, Any]]:
        return [self.shelf.read(name) or {} for name in self.shelf.names("fleet/shard-0/sections")]

    def positions(self) -> list[list[list[int]]]:
        return [section["runs"][0]["positions"] for section in self.sections()]

    def test_each_request_is_answered_and_a_checkpoint_names_the_record_in_the_aggregate(self) -> None:
        pipe = self.talk(initialize(), process(record(7, line(1)), record(8, line(2), 0), record(8, line(3), 1)))
        self.assertEqual(
            pipe.replies,
            [
                {"action": "status", "responseFor": "initialize"},
                {"action": "checkpoint", "sequenceNumber": "8", "subSequenceNumber": 1},
                {"action": "status", "responseFor": "processRecords"},
            ],
        )
        self.assertEqual(self.positions(), [[[1, 3]]])
        self.assertEqual(self.shelf.read("fleet/shard-0/at.json"), {"read_to_ms": 8, "through": Place(8, 1).text(), "ended": False})

    def test_a_checkpoint_has_the_sequence_number_as_it_was_told(self) -> None:
        told = record(7, line(1)) | {"sequenceNumber": "0007"}
        pipe = self.talk(initialize(), process(told))
        self.assertEqual(pipe.replies[1], {"action": "checkpoint", "sequenceNumber": "0007", "subSequenceNumber": 0})

    def test_what_was_seen_is_written_down_before_the_checkpoint(self) -> None:
        pipe = self.talk(initialize(), process(record(7, line(1))))
        self.assertEqual(pipe.written_before, [[f"fleet/shard-0/sections/{Place(7, 0).text()}.json"]])

    def test_after_a_kill_what_was_written_down_is_not_seen_again(self) -> None:
        self.talk(initialize(), process(record(7, line(1)), record(8, line(2), 0)))
        # The checkpoint was not set any more.
        self.talk(initialize(), process(record(7, line(1)), record(8, line(2), 0), record(8, line(3), 1)))
        self.assertEqual(self.positions(), [[[1, 2]], [[3, 3]]])
        self.assertEqual([section["runs"][0]["repeats"] for section in self.sections()], [0, 0])
        self.assertEqual(self.sections()[1]["after"], self.sections()[0]["through"])

    def test_how_far_a_shard_was_read_holds_for_its_next_consumer(self) -> None:
        self.talk(initialize(), process(record(7, line(1))))
        self.talk(initialize(), process(), every=0)
        self.assertEqual((self.shelf.read("fleet/shard-0/at.json") or {})["read_to_ms"], 7)

    def test_what_was_not_written_down_is_seen_by_the_next_one(self) -> None:
        self.talk(initialize(), process(record(7, line(1))), {"action": "leaseLost"}, every=60)
        self.assertEqual(self.sections(), [])
        self.talk(initialize(), process(record(7, line(1))))
        self.assertEqual(self.positions(), [[[1, 1]]])

    def test_a_stop_writes_down_and_the_end_of_a_shard_is_a_checkpoint_without_a_place(self) -> None:
        pipe = self.talk(initialize(), process(record(7, line(1))), {"action": "shutdownRequested"}, {"action": "shardEnded"}, every=60)
        checkpoints = [reply for reply in pipe.replies if reply["action"] == "checkpoint"]
        self.assertEqual(checkpoints, [{"action": "checkpoint", "sequenceNumber": "7", "subSequenceNumber": 0}, {"action": "checkpoint"}])
        self.assertTrue((self.shelf.read("fleet/shard-0/at.json") or {})["ended"])

    def test_a_throttled_checkpoint_is_tried_again_and_another_error_is_left_to_the_next(self) -> None:
        pipe = self.talk(initialize(), process(record(7, line(1))), errors=["ThrottlingException", "ThrottlingException", None])
        self.assertEqual([reply["action"] for reply in pipe.replies].count("checkpoint"), 3)
        pipe = self.talk(initialize(), process(record(9, line(2))), errors=["ShutdownException"])
        self.assertEqual([reply["action"] for reply in pipe.replies], ["status", "checkpoint", "status"])

    def test_nothing_but_time_goes_on_where_nothing_comes(self) -> None:
        pipe = self.talk(initialize(), *[process(behind_ms=500)] * (READ_AHEAD_MAX + 1))
        self.assertEqual([reply["action"] for reply in pipe.replies], ["status"] * (READ_AHEAD_MAX + 2))
        self.assertEqual((self.shelf.read("fleet/shard-0/at.json") or {})["read_to_ms"], 1_500)

    def test_a_batch_that_waited_does_not_say_that_what_came_meanwhile_was_read(self) -> None:
        recency = Recency()
        for number in range(READ_AHEAD_MAX):
            recency.take(10_000 + number, 0, None)
        self.assertEqual(recency.read_to_ms, 0, "nothing is known yet: all of these may have been read before the first was handed over")
        recency.take(99_000, 0, None)
        self.assertEqual(recency.read_to_ms, 10_000)
        recency.take(99_500, 700, 50_000)
        self.assertEqual(recency.read_to_ms, 49_000, "records say when they came")
        recency.take(99_600, 0, None)
        self.assertEqual(recency.read_to_ms, 49_000, "it never goes back")

    def test_lines_say_which_record_they_are(self) -> None:
        found = list(read(line(1) + b"no record\n" + line(2, type="record", stream="trips") + line(3).replace(b": 3}", b": null}") + line(4, type="other")))
        self.assertEqual([each.identity.stream if isinstance(each, Line) else "unreadable" for each in found], ["raw", "unreadable", "trips", *["unreadable"] * 2])
        (compressed,) = read(b"\x28\xb5\x2f\xfd rest")
        self.assertIn("compressed by zstd", compressed.reason if isinstance(compressed, Unreadable) else "")

    def test_a_folder_keeps_what_is_whole_and_refuses_what_is_there(self) -> None:
        folder = Folder(Path(self.enterContext(tempfile.TemporaryDirectory())))
        folder.write_new("a/sections/1.json", {"n": 1})
        with self.assertRaises(Taken):
            folder.write_new("a/sections/1.json", {"n": 2})
        folder.write("a/at.json", {"n": 3})
        folder.write("a/at.json", {"n": 4})
        self.assertEqual((folder.read("a/sections/1.json"), folder.read("a/at.json"), folder.read("b.json")), ({"n": 1}, {"n": 4}, None))
        self.assertEqual((folder.names("a/sections"), folder.names("")), (["a/sections/1.json"], ["a/at.json", "a/sections/1.json"]))
        folder.remove("a/sections/1.json")
        self.assertEqual(folder.names("a/sections"), [])


if __name__ == "__main__":
    unittest.main()
