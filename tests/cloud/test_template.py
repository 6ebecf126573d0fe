"""The template: what cfn-lint says of it, and whether it fits the records."""

import json
import subprocess
import unittest

import template
from stack.emulator import without

SCHEMAS = template.CLOUD.parent / "config" / "schema"
TYPES = {"string": "string", "integer": "bigint", "number": "double", "boolean": "boolean", "object": "string", "array": "string"}
# Which records a stream carries.
STREAMS = {"raw": ["reading"], "anomalies": ["anomaly", "alert", "gateway"]}


def column_type(field: dict) -> str:
    """The type of a column for a field of a record; lists and objects become JSON text."""
    if "const" in field:
        return "boolean" if isinstance(field["const"], bool) else "bigint" if isinstance(field["const"], int) else "string"
    if "enum" in field:
        return "string"
    kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
    return next(TYPES[kind] for kind in kinds if kind != "null")


class Template(unittest.TestCase):
    def test_cfn_lint_finds_nothing(self) -> None:
        for path in sorted(template.CLOUD.rglob("template.yaml")):
            found = subprocess.run(["cfn-lint", path], capture_output=True, text=True)
            self.assertEqual((found.returncode, found.stdout), (0, ""), path)

    def test_columns_are_the_fields_of_the_records_and_type_is_the_first(self) -> None:
        tables = {table["TableInput"]["Name"]: table["TableInput"] for table in template.resources("AWS::Glue::Table").values()}
        self.assertEqual(tables.keys(), STREAMS.keys())
        for stream, records in STREAMS.items():
            fields: dict[str, str] = {}
            for record in records:
                for name, field in json.loads((SCHEMAS / f"{record}.json").read_text())["properties"].items():
                    self.assertEqual(fields.setdefault(name, column_type(field)), column_type(field), f"{name} of {record}")
            columns = [(column["Name"], column["Type"]) for column in tables[stream]["StorageDescriptor"]["Columns"]]
            self.assertEqual(dict(columns), fields)
            self.assertEqual(columns[0][0], "type")

    def test_partitions_are_computed_where_the_files_are_put(self) -> None:
        deliveries = template.resources("AWS::KinesisFirehose::DeliveryStream").values()
        prefixes = {delivery["ExtendedS3DestinationConfiguration"]["Prefix"] for delivery in deliveries}
        self.assertEqual(prefixes, {f"{stream}/dt=!{{timestamp:yyyy-MM-dd}}/hour=!{{timestamp:HH}}/" for stream in STREAMS})
        for table in template.resources("AWS::Glue::Table").values():
            parameters, name = table["TableInput"]["Parameters"], table["TableInput"]["Name"]
            self.assertTrue(parameters["storage.location.template"].endswith(f"/{name}/dt=${{!dt}}/hour=${{!hour}}/"))
            self.assertEqual(parameters["projection.hour.digits"], "2")

    def test_every_alarm_says_what_to_think_of_and_the_readme_what_to_do(self) -> None:
        readme = (template.CLOUD / "README.md").read_text()
        for alarm in template.resources("AWS::CloudWatch::Alarm").values():
            self.assertIn("`" + alarm["AlarmName"].removeprefix("${AWS::StackName}-") + "`", readme)
            self.assertGreater(len(alarm["AlarmDescription"]), 20)

    def test_what_an_emulator_does_not_know_is_left_out_and_nothing_else(self) -> None:
        text = (template.CLOUD / "template.yaml").read_text()
        left = template.yaml.load(without(text, {"AWS::IoT::RoleAlias", "AWS::Athena::NamedQuery"}), template._Loader)
        whole = template.load()
        gone = {name for name, resource in whole["Resources"].items() if resource["Type"] in ("AWS::IoT::RoleAlias", "AWS::Athena::NamedQuery")}
        self.assertEqual(len(gone), 1 + len(template.queries()))
        self.assertEqual(left["Resources"], {name: resource for name, resource in whole["Resources"].items() if name not in gone})
        self.assertEqual(left["Outputs"], whole["Outputs"])


if __name__ == "__main__":
    unittest.main()
