"""The gateway's sink with a real OpenSearch, and the templates that come with it: what arrives is what the ledger says, each record once."""

import copy
import json
import tempfile
import threading
import unittest
from pathlib import Path
from typing import Any

from lives import Gateway
from opensearch import OpenSearch
from programs import ROOT, run_fleet, wait_for
from publishing import publish

TEMPLATE = json.loads((ROOT / "config/opensearch/opensearch.json").read_text())
STREAMS = ["raw", "anomalies", "trips"]
FLEET = ["--vehicles", "5", "--duration", "4s", "--interval", "100ms"]


class SearchGateway(Gateway):
    """With a sink that takes every stream, also one of a rule."""

    def __init__(self, folder: Path, url: str, keys: str = "") -> None:
        rule = '[[stream]]\nname = "trips"\n[[rule]]\nname = "trip"\nsql = "SELECT * FROM \'trips/+\'"\n[rule.stream]\nname = "trips"\n'
        sink = f'[[sink]]\nname = "search"\ntype = "opensearch"\nurl = "{url}"\nbatch_delay = "50ms"\ntimeout = "10s"\n{keys}'
        super().__init__(folder, rule, sink, name="Truck 42")

    def lines(self) -> dict[str, dict[str, int]]:
        """Of the ledger, by stream."""
        return {line["stream"]: line for line in self.status()["ledger"] if line["sink"] == "search"}

    def error(self, stream: str) -> str:
        return self.sink("search", stream)["last_error"] or ""

    def is_done(self) -> bool:
        return all(line["buffered"] == 0 for line in self.lines().values())


def fleet(address: str, number: int = 0) -> dict[str, Any]:
    """What a fleet says that was sent. Each run has other numbers than the one before."""
    return run_fleet(address, *FLEET, "--first-sequence", str(1 + 1000 * number))


class OpenSearchTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = OpenSearch(Path(cls.folder.name))
        cls.addClassCleanup(cls.folder.cleanup)
        cls.addClassCleanup(cls.server.end)

    def setUp(self) -> None:
        self.server.call("DELETE", "/outrider-*?expand_wildcards=all")
        answer = self.server.call("PUT", "/_index_template/outrider", TEMPLATE)
        assert answer.get("acknowledged"), answer

    def gateway(self, keys: str = "") -> SearchGateway:
        gateway = SearchGateway(Path(self.folder.name) / self.id().rsplit(".", 1)[1], self.server.url, keys)
        self.addCleanup(gateway.end)
        return gateway

    def expect_ledger(self, gateway: SearchGateway, dead_lettered: int = 0) -> list[dict[str, Any]]:
        """What is there is what is counted as delivered: by number, by identity, and once."""
        wait_for("everything to be delivered", gateway.is_done)
        status = gateway.status()
        self.assertTrue(status["ledger_adds_up"], status)
        found = []
        for stream, line in gateway.lines().items():
            documents = self.server.documents(f"outrider-{stream}-*")
            for document in documents:
                source = document["_source"]
                self.assertEqual(document["_id"], f"{source['gateway']}.{source['run']}.{stream}.{source['position']}")
                self.assertEqual(document["_index"][:-10], f"outrider-{stream}-")
            identities = {document["_id"] for document in documents}
            self.assertEqual(len(identities), len(documents), "an id in two indices")
            # The gateway's own records of the time between the two looks are not counted yet.
            if stream == "anomalies":
                self.assertGreaterEqual(len(documents), line["delivered"], line)
            else:
                self.assertEqual(len(documents), line["delivered"], line)
            found += documents
        self.assertEqual(sum(line["dead_lettered"] for line in gateway.lines().values()), dead_lettered)
        return [document["_source"] for document in found]

    def expect_fleet(self, documents: list[dict[str, Any]], acknowledged: int) -> None:
        readings = [document for document in documents if document["type"] == "reading" and document["device"].startswith("truck-")]
        self.assertEqual(len(readings), acknowledged)

    def test_each_type_of_record_is_found_by_its_fields(self) -> None:
        gateway = self.gateway()
        summary = fleet(gateway.address)
        trips = [b'{"a": {"b": [1, "x"]}}', b"17", b'"text"', b'{"": {"..": null}}']
        publish(gateway.address, [("trips/a", trip) for trip in trips])
        note = {"value": 1, "when": "2026-01-01", "a": "x", "a.b": "y", "": "z"}
        publish(gateway.address, [("devices/odd/level", json.dumps(note).encode()), ("devices/odd/level", b'{"value": 2, "when": "never"}')])
        wait_for("the trips", lambda: gateway.lines()["trips"]["delivered"] == len(trips))
        documents = self.expect_ledger(gateway)
        self.expect_fleet(documents, summary["readings_acknowledged"])
        for stream, query in [
            ("raw", {"term": {"attributes.when": "never"}}),
            ("raw", {"bool": {"filter": [{"term": {"device": "odd"}}, {"range": {"value": {"gt": 1.5}}}]}}),
            ("trips", {"term": {"topic": "trips/a"}}),
            ("anomalies", {"bool": {"filter": [{"term": {"type": "gateway"}}, {"range": {"@timestamp": {"gt": "now-1h"}}}]}}),
        ]:
            found = self.server.call("POST", f"/outrider-{stream}-*/_count", {"query": query})
            self.assertGreater(found.get("count", 0), 0, found)
        # What is no object is bytes to a rule.
        found = [json.dumps(document["payload"]) for document in documents if "payload" in document]
        self.assertEqual(sorted(found), sorted(json.dumps(json.loads(trip)) for trip in trips if trip.startswith(b"{")))

    def test_one_that_does_not_fit_is_a_dead_letter_and_a_block_is_waited_out(self) -> None:
        # A template of somebody who wants to know when.
        template = copy.deepcopy(TEMPLATE)
        template["template"]["mappings"]["properties"]["attributes"] = {"dynamic": False, "properties": {"when": {"type": "date"}}}
        self.assertTrue(self.server.call("PUT", "/_index_template/outrider", template).get("acknowledged"))
        gateway = self.gateway()
        publish(gateway.address, [("devices/first/level", b'{"value": 1}')])
        wait_for("the index", lambda: self.server.count("outrider-raw-*") == 1)
        acknowledged = 0
        # By whom an operator, and by whom a disk that is full, is imitated.
        for block, words in [("write", "FORBIDDEN/8/index write"), ("read_only_allow_delete", "TOO_MANY_REQUESTS/12/disk usage")]:
            self.server.call("PUT", "/outrider-raw-*/_settings", {"index.blocks": {block: True}})
            acknowledged += fleet(gateway.address, int(block != "write"))["readings_acknowledged"]
            payloads = [b'{"value": 1, "when": "2026-01-01"}', b'{"value": 2, "when": "never"}', b'{"value": 3}']
            publish(gateway.address, [("devices/odd/level", payload) for payload in payloads])
            wait_for(block, lambda words=words: words in gateway.error("raw"))
            self.assertEqual(gateway.lines()["raw"]["dead_lettered"], int(block != "write"))
            self.server.call("PUT", "/outrider-raw-*/_settings", {"index.blocks": {block: None}})
            wait_for("everything to be delivered", gateway.is_done)
        documents = self.expect_ledger(gateway, dead_lettered=2)
        self.expect_fleet(documents, acknowledged)
        self.assertEqual(len([document for document in documents if document.get("device") == "odd" and document["type"] == "reading"]), 4)

    def test_kills_of_both_leave_each_document_there_once(self) -> None:
        gateway = self.gateway('request_size_max = "256KiB"\n')
        acknowledged = 0
        for number in range(3):
            summaries: list[dict[str, Any]] = []
            run = lambda address=gateway.address, number=number, summaries=summaries: summaries.append(fleet(address, number))  # noqa: E731
            thread = threading.Thread(target=run)
            thread.start()
            before = self.server.count("outrider-raw-*")
            wait_for("some to be stored", lambda before=before: self.server.count("outrider-raw-*") > before)
            self.server.kill()
            thread.join()
            acknowledged += summaries[0]["readings_acknowledged"]
            wait_for("it to be noticed", lambda: gateway.error("raw") != "")
            if number < 2:
                gateway.kill()
                gateway.start()
            self.server.start()
        self.expect_fleet(self.expect_ledger(gateway), acknowledged)

    def test_a_data_stream_works_as_well(self) -> None:
        template = TEMPLATE | {"data_stream": {}, "priority": 401, "index_patterns": ["outrider-ds-*"]}
        self.assertTrue(self.server.call("PUT", "/_index_template/outrider-ds", template).get("acknowledged"))
        gateway = self.gateway('index = "outrider-ds-{stream}"\nstreams = ["raw", "trips"]\n')
        summary = fleet(gateway.address)
        wait_for("everything to be delivered", gateway.is_done)
        self.assertEqual(self.server.count("outrider-ds-raw"), summary["readings_acknowledged"])
        self.assertEqual(gateway.lines()["raw"]["delivered"], summary["readings_acknowledged"])
        self.server.call("DELETE", "/_data_stream/outrider-ds-raw")


if __name__ == "__main__":
    unittest.main()
