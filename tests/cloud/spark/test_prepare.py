"""What prepare.py asks of an OpenSearch that has index state management, which the one of the tests has not."""

import json
import unittest

import prepare
from bulk import Halt, Reply


class Search:
    def __init__(self, *replies: Reply) -> None:
        self._replies = list(replies)
        self.sent: list[tuple[str, str, dict | None]] = []

    def request(self, method: str, path: str, body: bytes | None = None) -> Reply:
        self.sent.append((method, path, None if body is None else json.loads(body)))
        return self._replies.pop(0)


class Prepare(unittest.TestCase):
    def test_a_policy_is_made(self) -> None:
        search = Search(Reply(404, b"{}"), Reply(201, b"{}"))
        prepare.put_policy(search, 30)  # type: ignore[arg-type]
        method, path, body = search.sent[1]
        self.assertEqual((method, path), ("PUT", "/_plugins/_ism/policies/outrider-readings"))
        assert body is not None
        states = {state["name"]: state for state in body["policy"]["states"]}
        self.assertEqual(states["kept"]["transitions"], [{"state_name": "gone", "conditions": {"min_index_age": "30d"}}])
        self.assertEqual(states["gone"]["actions"], [{"delete": {}}])
        self.assertEqual(body["policy"]["ism_template"][0]["index_patterns"], ["outrider-readings-*"])

    def test_a_policy_is_replaced_by_the_version_that_was_seen(self) -> None:
        search = Search(Reply(200, b'{"_seq_no":7,"_primary_term":2}'), Reply(200, b"{}"))
        prepare.put_policy(search, 60)  # type: ignore[arg-type]
        self.assertEqual(search.sent[1][1], "/_plugins/_ism/policies/outrider-readings?if_seq_no=7&if_primary_term=2")

    def test_shards_are_those_of_readings(self) -> None:
        search = Search(*[Reply(200, b"{}")] * 7)
        prepare.put_templates(search, 12)  # type: ignore[arg-type]
        shards = {
            path.removeprefix("/_index_template/"): body["template"]["settings"]["index"]["number_of_shards"] for _, path, body in search.sent if body
        }
        self.assertEqual({name for name, count in shards.items() if count == 12}, {"outrider-readings"})
        self.assertEqual(len(shards), 7)

    def test_what_is_refused_is_told(self) -> None:
        with self.assertRaisesRegex(Halt, "template outrider-alerts: 403 no"):
            prepare.put_templates(Search(Reply(403, b"no")), 1)  # type: ignore[arg-type]


if __name__ == "__main__":
    unittest.main()
