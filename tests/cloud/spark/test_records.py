"""Lines to documents: ids, indices, and what is no record; and whether code and templates know all that records hold."""

import json
import unittest
from typing import Any

import prepare
import records
from programs import ROOT
from records import ID_BYTES_MAX, KINDS, Document, documents

SCHEMAS = ROOT / "config/schema"
NOON_MS = 1_795_953_600_000
READING: dict[str, Any] = {
    **{"v": 1, "type": "reading", "gateway": "truck.7", "run": "0123456789abcdef", "position": 5, "device": "d", "metric": "m", "value": 1.5},
    **{"measured_at_ms": 0, "received_at_ms": NOON_MS, "time_quality": "synced"},
}
# How OpenSearch is to keep a field, by its type in the schema. Lists of texts are fields with several values.
MAPPED = {
    "string": {"keyword", "text"},
    "integer": {"long", "integer", "unsigned_long", "date"},
    "number": {"double"},
    "boolean": {"boolean"},
    "object": {"flat_object", "object"},
    "array": {"keyword", "object"},
}


def line(**changes: Any) -> bytes:
    return json.dumps(READING | changes).encode()


def made(value: bytes | None) -> list[Document]:
    return list(documents("raw", 2, 77, NOON_MS, value))


def reason(value: bytes) -> str:
    (document,) = made(value)
    assert document.index_name == "outrider-failed-2026.11", document
    return json.loads(document.source)["reason"]


class Records(unittest.TestCase):
    def test_a_record_of_kafka_is_many_documents_with_their_lines_as_they_are(self) -> None:
        found = made(line() + b"\n\n" + line(position=6) + b"\r\n" + line(position=7))
        self.assertEqual([document.id for document in found], [f"truck.7.0123456789abcdef.{position}" for position in (5, 6, 7)])
        self.assertEqual({document.index_name for document in found}, {"outrider-readings-2026.11.29"})
        self.assertEqual(json.loads(found[1].source)["position"], 6)
        self.assertEqual([document.origin.line for document in found if document.origin], [0, 1, 2])

    def test_nothing_makes_nothing(self) -> None:
        self.assertEqual(made(None) + made(b"") + made(b"\n \n"), [])

    def test_index_and_id_follow_from_the_record_and_from_nothing_else(self) -> None:
        here = list(documents("raw", 0, 1, NOON_MS, line()))[0]
        later = list(documents("again", 3, 9, NOON_MS + 90 * records.DAY_MS, line()))[0]
        self.assertEqual((here.index_name, here.id), (later.index_name, later.id))
        before_midnight, midnight = line(received_at_ms=NOON_MS + records.DAY_MS // 2 - 1), line(received_at_ms=NOON_MS + records.DAY_MS // 2)
        self.assertEqual([made(each)[0].index_name[-2:] for each in (before_midnight, midnight)], ["29", "30"])

    def test_what_rules_write_is_known_by_its_stream_too(self) -> None:
        of_rule = {"type": "record", "stream": "trips", "rule": "r", "topic": None, "payload": [1, {"any": "shape"}]}
        found = made(line(**of_rule) + b"\n" + line(**of_rule | {"stream": "stops"}))
        self.assertEqual([document.id for document in found], [f"truck.7.0123456789abcdef.{stream}.5" for stream in ("trips", "stops")])
        self.assertEqual({document.index_name for document in found}, {"outrider-records-2026.11"})

    def test_what_is_no_record_says_why_and_where_it_was(self) -> None:
        for broken, said in [
            (b"{", "no JSON"),
            (b"\xff", "no UTF-8"),
            (b"[1]", "no object"),
            (b"[" * 100_000, "no JSON"),
            (line()[:-1] + b',"value":NaN}', "NaN"),
            (line(type="other"), "'other' is not known"),
            (line(type=7), "type is no text"),
            (line(v=2), "v 2 is not known"),
            (line(position=0), "position is no whole number"),
            (line(position=True), "position is no whole number"),
            (line(position=2**63), "position is no whole number"),
            (line(run="short"), "run"),
            (line(gateway=""), "gateway is no text"),
            (line(gateway="\ud800"), "gateway or run is no text"),
            (line(gateway="x" * ID_BYTES_MAX), "more than 512 bytes"),
            (line(received_at_ms="soon"), "received_at_ms is no whole number"),
            (line(received_at_ms=10**15), "received_at_ms is no whole number"),
            (json.dumps({name: value for name, value in READING.items() if name not in ("value", "device")}).encode(), "device, value is missing"),
            (b"\x28\xb5\x2f\xfd" + b"\n" * 9, "compressed by zstd"),
            (b"\x1f\x8b" + b"\n" * 9, "compressed by gzip"),
        ]:
            self.assertIn(said, reason(broken))
        found = [json.loads(document.source) for document in made(line() + b"\nx\n\xff")[1:]]
        self.assertEqual([(each["topic"], each["partition"], each["offset"], each["line"]) for each in found], [("raw", 2, 77, 1), ("raw", 2, 77, 2)])
        self.assertEqual((found[0]["text"], found[1]["base64"]), ("x", "/w=="))

    def test_a_failed_line_is_one_document_however_often_it_is_read(self) -> None:
        self.assertEqual(made(b"x"), made(b"x"))
        self.assertEqual(len({document.id for document in made(b"x\nx\ny")}), 3)
        # A topic that was deleted and made again counts anew.
        self.assertNotEqual(made(b"x")[0].id, made(b"y")[0].id)
        self.assertEqual([each.index_name for each in documents("raw", 0, 0, -1, b"x")], ["outrider-failed-1970.01"])

    def test_required_fields_are_those_of_the_schemas(self) -> None:
        for name, kind in KINDS.items():
            self.assertEqual(sorted(kind.required), sorted(json.loads((SCHEMAS / f"{name}.json").read_text())["required"]), name)

    def test_templates_have_all_fields_of_the_schemas_by_their_types(self) -> None:
        templates = prepare.templates()
        for name, kind in KINDS.items():
            fields = json.loads((SCHEMAS / f"{name}.json").read_text())["properties"]
            mapping = templates[kind.prefix]["template"]["mappings"]["properties"]
            self.assertEqual(mapping.keys(), fields.keys())
            for field, schema in fields.items():
                self.assertIn(mapping[field]["type"], mapped_types(schema), f"{field} of {name}")
        self.assertEqual(sorted(templates), records.TEMPLATES)
        for name, template in templates.items():
            self.assertEqual(template["index_patterns"], [f"{name}-*"])
            # A newer gateway may add a field: it is kept, and no reason to refuse a reading.
            self.assertIs(template["template"]["mappings"]["dynamic"], False)
            self.assertIs(template["template"]["settings"]["index"]["mapping"]["coerce"], False)


def mapped_types(schema: dict[str, Any]) -> set[str]:
    if "const" in schema:
        return {"boolean"} if isinstance(schema["const"], bool) else {"integer"} if isinstance(schema["const"], int) else {"keyword"}
    if "enum" in schema:
        return {"keyword"}
    if "type" not in schema:
        return {"object"}
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return next(MAPPED[kind] for kind in kinds if kind != "null")


if __name__ == "__main__":
    unittest.main()
