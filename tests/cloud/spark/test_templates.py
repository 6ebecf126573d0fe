"""The job looks whether OpenSearch was prepared before it stores anything."""

import contextlib
import io
import unittest
from unittest import mock

import main
from bulk import Halt, Reply
from records import TEMPLATES


class Search:
    def __init__(self, *replies: Reply | Exception) -> None:
        self._replies = list(replies)

    def request(self, method: str, path: str) -> Reply:
        reply = self._replies.pop(0) if self._replies else Reply(200, b"{}")
        if isinstance(reply, Exception):
            raise reply
        return reply


def wait(*replies: Reply | Exception) -> int:
    """For how many pauses it waits."""
    with mock.patch.object(main.time, "sleep") as sleep, contextlib.redirect_stderr(io.StringIO()):
        main.Templates(Search(*replies)).wait()  # type: ignore[arg-type]
        return sleep.call_count


class Templates(unittest.TestCase):
    def test_it_waits_until_opensearch_can_be_asked(self) -> None:
        self.assertEqual(wait(), 0)
        self.assertEqual(wait(ConnectionRefusedError(), Reply(503, b""), Reply(200, b"{}"), Reply(429, b"")), 3)

    def test_it_ends_where_one_is_missing_or_may_not_be_seen(self) -> None:
        with self.assertRaisesRegex(Halt, f"no template for {TEMPLATES[1]}; run prepare.py first"):
            wait(Reply(200, b"{}"), Reply(404, b"{}"))
        with self.assertRaisesRegex(Halt, "does not show its templates, 403: no"):
            wait(Reply(403, b"no"))


if __name__ == "__main__":
    unittest.main()
