"""The dashboard by itself: it is what the code prints, and its parts fit together. Its queries are asked in test_job.py."""

import json
import unittest

import dashboard
import panels
import prepare


class Dashboard(unittest.TestCase):
    def test_the_file_is_what_the_code_prints(self) -> None:
        self.assertEqual(panels.SAVED.read_text(), dashboard.saved_objects(), "python3 cloud/spark/dashboard.py > cloud/spark/dashboard.ndjson")

    def test_every_reference_leads_to_an_object_and_every_object_is_shown(self) -> None:
        objects = {(each["type"], each["id"]): each for each in panels.saved_objects()}
        self.assertEqual(len(objects), len(panels.saved_objects()))
        shown = set()
        for each in objects.values():
            for reference in each["references"]:
                self.assertIn((reference["type"], reference["id"]), objects)
                shown.add((reference["type"], reference["id"]))
        self.assertEqual(objects.keys() - shown, {("dashboard", "outrider")})

    def test_each_panel_has_its_object_and_a_place_of_its_own(self) -> None:
        (board,) = [each for each in panels.saved_objects() if each["type"] == "dashboard"]
        references = {each["name"] for each in board["references"]}
        cells: set[tuple[int, int]] = set()
        for panel in json.loads(board["attributes"]["panelsJSON"]):
            references.remove(panel["panelRefName"])
            place = panel["gridData"]
            self.assertLessEqual(place["x"] + place["w"], dashboard.COLUMNS)
            covered = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            self.assertFalse(cells & covered)
            cells |= covered
        self.assertEqual(references, set())

    def test_patterns_are_those_of_the_templates_and_their_times_are_dates(self) -> None:
        templates = prepare.templates()
        patterns = [each["attributes"] for each in panels.saved_objects() if each["type"] == "index-pattern"]
        # What rules write has no shape that a panel could show.
        self.assertEqual({pattern["title"] for pattern in patterns}, {f"{name}-*" for name in templates} - {"outrider-records-*"})
        for pattern in patterns:
            mapping = templates[pattern["title"].removesuffix("-*")]["template"]["mappings"]["properties"]
            self.assertEqual(mapping[pattern["timeFieldName"]]["type"], "date")

    def test_orders_and_ids_of_aggregations_fit(self) -> None:
        for each in panels.saved_objects():
            if each["type"] == "visualization":
                aggregations = panels.state(each)["aggs"]
                self.assertEqual([one["id"] for one in aggregations], [str(number) for number in range(1, len(aggregations) + 1)])
                metrics = {one["id"] for one in aggregations if one["schema"] == "metric"}
                for one in aggregations:
                    self.assertIn(one["params"].get("orderBy", "1"), metrics)


if __name__ == "__main__":
    unittest.main()
