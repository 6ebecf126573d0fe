"""What gateways put into S3 comes into the warehouse, each record once, and is counted by area and quarter of an hour."""

import json
import tempfile
import unittest
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from decisions import OBJECTS_MAX, Object, manifest, next_objects, statements
from emulated import Emulator
from load import Failed, load
from programs import ENVIRONMENT, REGION, ROOT, Program, binary, wait_for
from publishing import publish
from warehouse import Warehouse

REDSHIFT = ROOT / "cloud" / "redshift"
ROLE = "arn:aws:iam::000000000000:role/copy"
QUARTER_MS = 900_000
# Long ago, and at the edge of a quarter.
START_MS = 1_763_992_800_000
CAMPUS = """
[[route]]
topic = "campus/{area}/{device}/{metric...}"
[[sink]]
name = "lake"
type = "s3"
bucket = "badges"
rotate_after = "1s"
"""
AREAS = ["hall-1", "hall-2", "gate"]


class Deciding(unittest.TestCase):
    def test_what_is_loaded_is_not_loaded_again_and_the_oldest_comes_first(self) -> None:
        there = [Object(f"raw/dt=2026-11-24/hour=10/t-{number:04}.ndjson.zst", 9) for number in range(OBJECTS_MAX + 10, 0, -1)]
        others = [Object("raw/dt=2026-11-24/hour=10/t.parquet", 9), Object("raw/dt=2026-11-24/hour=09/empty.ndjson.zst", 0)]
        chosen = next_objects(there + others, {there[-1].key})
        self.assertEqual((len(chosen), chosen[0], chosen[-1].key), (OBJECTS_MAX, there[-2], f"raw/dt=2026-11-24/hour=10/t-{OBJECTS_MAX + 1:04}.ndjson.zst"))

    def test_the_manifest_names_each_object_and_its_size(self) -> None:
        told = json.loads(manifest("b", [Object("raw/one.ndjson.zst", 7)]))
        self.assertEqual(told, {"entries": [{"url": "s3://b/raw/one.ndjson.zst", "mandatory": True, "meta": {"content_length": 7}}]})

    def test_a_name_with_an_apostrophe_stays_a_text(self) -> None:
        for statement in statements("t", "s3://b/m'x", ROLE, REGION, [Object("raw/o'clock.ndjson.zst", 1)])[1:]:
            self.assertEqual(statement.count("'") % 2, 0, statement)


class Loading(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="outrider-redshift-")))
        cls.emulator = Emulator(cls.folder)
        cls.addClassCleanup(cls.emulator.end)
        cls.s3 = cls.emulator.client("s3")
        cls.s3.create_bucket(Bucket="badges", CreateBucketConfiguration={"LocationConstraint": REGION})
        configuration = cls.folder / "outrider.toml"
        configuration.write_text(
            f'[gateway]\nid = "campus"\n[store]\npath = "{cls.folder / "state"}"\n[mqtt]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n{CAMPUS}'
            f'region = "{REGION}"\nendpoint = "{cls.emulator.url}"\n'
        )
        cls.gateway = Program([binary("outrider"), "run", "--config", str(configuration)], cls.folder / "gateway.log", ENVIRONMENT)
        cls.addClassCleanup(cls.gateway.end)
        cls.address = cls.gateway.ready()["mqtt"]
        cls.sent = [
            {"area": AREAS[number % 3 if number % 7 else 0], "sensor": f"s{number % 5}", "badge": number * number % 23, "at": START_MS + number * 41_000}
            for number in range(200)
        ]

    def setUp(self) -> None:
        self.warehouse = Warehouse(self.s3, (REDSHIFT / "schema.sql").read_text())

    def publish(self, passages: list[dict[str, Any]]) -> None:
        publish(
            self.address,
            ((f"campus/{each['area']}/{each['sensor']}/badge", json.dumps({"value": each["badge"], "ts": each["at"]}).encode()) for each in passages),
        )

    def load(self) -> int:
        return load(self.s3, self.warehouse, "badges", "raw/", ROLE, REGION)

    def stored(self) -> int:
        return self.warehouse.query("SELECT count(*) AS n FROM outrider_readings")[0]["n"]

    def test_each_record_is_loaded_once_and_counted_where_it_belongs(self) -> None:
        self.publish(self.sent[:120])
        wait_for("the first files", self.load)
        before = self.stored()
        self.publish(self.sent[120:])

        def all_there() -> bool:
            # Each time the connection is lost elsewhere: before and after the copy, and before the commit.
            for self.warehouse.fails_after in range(4):
                count = self.stored()
                try:
                    self.load()
                except Failed:
                    self.assertEqual(self.stored(), count, "half of a transaction is there")
            self.warehouse.fails_after = None
            self.load()
            return self.stored() >= len(self.sent)

        wait_for("all files", all_there)
        self.assertGreater(before, 0)
        self.assertEqual((self.stored(), self.load()), (len(self.sent), 0))
        self.assertEqual(self.warehouse.query("SELECT count(DISTINCT (gateway, run, position)) AS n FROM outrider_readings"), [{"n": len(self.sent)}])

        found = self.warehouse.query((REDSHIFT / "areas.sql").read_text(), from_ms=START_MS, to_ms=START_MS + 10 * QUARTER_MS)
        self.assertEqual({(row["area"], row["quarter"]): (row["passages"], row["people"], row["sensors"]) for row in found}, self.expected())
        quarters = [row["quarter"] for row in found]
        self.assertEqual(quarters, sorted(quarters, reverse=True), "the newest quarter is first")

    def expected(self) -> dict[tuple[str, datetime], tuple[int, int, int]]:
        groups: dict[tuple[str, datetime], list[dict[str, Any]]] = defaultdict(list)
        for each in self.sent:
            quarter = datetime.fromtimestamp(each["at"] // QUARTER_MS * 900, UTC).replace(tzinfo=None)
            groups[each["area"], quarter].append(each)
        return {key: (len(group), len({each["badge"] for each in group}), len({each["sensor"] for each in group})) for key, group in groups.items()}

    def test_two_loaders_at_once_load_each_object_once(self) -> None:
        self.publish(self.sent[:10])
        wait_for("a file", self.load)
        objects = [Object(key, 1) for key in self.warehouse.rows("SELECT object_key FROM outrider_loaded")]
        before = self.stored()
        # The other one has looked before the first one was done.
        with self.assertRaisesRegex(Failed, "division by zero"):
            self.warehouse.transaction(statements("outrider_readings", "s3://badges/manifests/x.json", ROLE, REGION, objects[:1]))
        self.assertEqual(self.stored(), before)


if __name__ == "__main__":
    unittest.main()
