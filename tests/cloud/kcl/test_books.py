"""The books: spans beside a plain set, and what is told of losses beside a world in which they are known."""

import os
import random
import unittest
from unittest.mock import patch

import account
from book import END_MS, Book
from seen import Section
from spans import Spans
from world import STREAMS, World

WORLDS = int(os.environ.get("WORLDS", "20"))
STEPS = 400


class SpansBesideASet(unittest.TestCase):
    def test_they_say_the_same(self) -> None:
        for seed in range(200):
            draw = random.Random(seed)
            spans, plain = Spans(), set()
            for _ in range(60):
                first = draw.randint(1, 80)
                last = first + draw.randint(0, 6)
                more = set(range(first, last + 1))
                self.assertEqual(spans.add(first, last), len(more - plain))
                plain |= more
                low, high = sorted((draw.randint(1, 90), draw.randint(1, 90)))
                self.assertEqual(spans.count(low, high), len(plain & set(range(low, high + 1))))
                holes = [number for begin, end in spans.holes(low, high) for number in range(begin, end + 1)]
                self.assertEqual(holes, [number for number in range(low, high + 1) if number not in plain])
                self.assertEqual((spans.first, spans.last), (min(plain), max(plain)))
                listed = spans.listed()
                self.assertTrue(all(a[1] + 1 < b[0] for a, b in zip(listed, listed[1:], strict=False)), listed)
                self.assertEqual(Spans(listed).listed(), listed)

    def test_holes_that_are_forgotten_are_counted(self) -> None:
        spans = Spans([[1, 2], [5, 5], [9, 12], [20, 20]])
        self.assertEqual(spans.forget_holes(2), 2 + 3)
        self.assertEqual(spans.listed(), [[1, 12], [20, 20]])
        self.assertEqual((spans.forget_holes(2), spans.forget_holes(1), len(spans)), (0, 7, 1))


class Worlds(unittest.TestCase):
    """Restarts, repeats, resharding, dead letters, expiry, keys set aside, consumers that are killed, and a look at any time."""

    def test_where_nothing_is_lost_nobody_is_ever_alarmed(self) -> None:
        for seed in range(WORLDS):
            world = World(seed, is_lossy=False)
            for number in range(STEPS):
                world.step()
                if number % 17 == 0:
                    made = world.verify()
                    self.assertEqual(made.facts["alarms"], {}, f"seed {seed}, step {number}: {made.lines}")
            world.settle()
            made = world.verify()
            self.assertEqual(made.facts["outcome"], "complete", f"seed {seed}: {made.lines}")
            for stream in STREAMS:
                told = made.facts["gateways"]["truck"][stream]
                self.assertEqual(told["repeats"], world.sent_twice[stream], f"seed {seed}: {made.lines}")
                unseen = [identity for identity in world.given_up[stream] - world.sent[stream] if world.sequence_of(stream, *identity) > told["base"]]
                self.assertEqual(told["explained"], len(unseen), f"seed {seed}, {stream}: {made.lines}")

    def test_what_is_lost_is_found_to_the_record_and_never_too_early(self) -> None:
        losses = 0
        for seed in range(1_000, 1_000 + WORLDS):
            world = World(seed, is_lossy=True, loses_replies=bool(seed % 2))
            for number in range(STEPS):
                world.step()
                if number % 17 == 0:
                    made = world.verify()
                    for stream, told in made.facts.get("gateways", {}).get("truck", {}).items():
                        self.assertLessEqual(told.get("lost", 0), world.lost(stream), f"seed {seed}, step {number}: {made.lines}")
            world.settle()
            made = world.verify()
            for stream in STREAMS:
                told = made.facts["gateways"]["truck"][stream]
                lost = world.lost(stream, told["base"], told["cursor"])
                losses += lost
                # What was given up and is there all the same, or was given up before all is known, may hide a loss.
                hidden = sum(identity in world.sent[stream] or world.sequence_of(stream, *identity) <= told["base"] for identity in world.given_up[stream])
                self.assertIn(told["lost"], range(lost - hidden, lost + 1), f"seed {seed}, {stream}: {made.lines}")
        self.assertGreater(losses, 2 * WORLDS)

    def is_alarmed(self) -> bool:
        """Whether anybody is in the first of the worlds above in which nothing is lost, and nobody should be."""
        for seed in range(min(WORLDS, 12)):
            world = World(seed, is_lossy=False)
            for number in range(STEPS):
                world.step()
                if number % 17 == 0 and world.verify().facts["alarms"]:
                    return True
        return False

    def test_controls(self) -> None:
        with patch.object(account, "LOST", ()):
            self.assertTrue(self.is_alarmed(), "what the gateway explains makes no difference")
        with patch.object(Book, "watermark_ms", lambda book: END_MS):
            self.assertTrue(self.is_alarmed(), "that all shards are read makes no difference")
        with patch.object(Section, "written", lambda section, written=Section.written: written(section) | {"runs": written(section)["runs"][:-1]}):
            self.assertTrue(self.is_alarmed(), "what is written down makes no difference")


if __name__ == "__main__":
    unittest.main()
