"""The fleet's engine: SQL over the streams of all gateways, as an application of Managed Flink or on a Flink of one's own.

Where records come from and findings go to is in groups of properties, which hold the options of Flink's connectors: `source.raw`, `source.anomalies`,
`sink.findings`, and if wanted `sink.windows`; `flink` has settings of Flink. Managed Flink puts them into a file; elsewhere `--properties FILE` names
one of the same form.
"""

import argparse
import json
from pathlib import Path

from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.table import EnvironmentSettings, Schema, StreamTableEnvironment

MANAGED = Path("/etc/flink/application_properties.json")
SQL = Path(__file__).resolve().parent / "sql"
VIEWS = ["differences", "sums", "windows", "judged", "troubled", "vehicle_means"]
FINDINGS = ["verdicts", "comparison", "places", "outliers", "silent"]
# How much later than the latest one a reading may come and still count across vehicles. Windows of one series take it however late it is.
LATE_SECONDS_MAX = 5
SETTINGS = {
    "table.local-time-zone": "UTC",
    # With each watermark Flink forgets late series, so a backlog should come between two of them. Findings are later by so much.
    "pipeline.auto-watermark-interval": "2 s",
    # A shard to which nobody writes does not hold up the others.
    "table.exec.source.idle-timeout": "30 s",
    # What is kept of a series that has ended.
    "table.exec.state.ttl": "1 d",
}
FINDING_COLUMNS = (
    "kind STRING, gateway STRING, device STRING, metric STRING, run STRING, `position` BIGINT, at_ms BIGINT, score DOUBLE, detail STRING"
)
WINDOW_COLUMNS = (
    "gateway STRING, run STRING, `position` BIGINT, device STRING, metric STRING, measured_at_ms BIGINT, n BIGINT, mean DOUBLE, deviation DOUBLE"
)

Properties = dict[str, dict[str, str]]


def properties() -> Properties:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--properties", type=Path, default=MANAGED, metavar="FILE")
    groups = json.loads(parser.parse_known_args()[0].properties.read_text())
    return {group["PropertyGroupId"]: group["PropertyMap"] for group in groups}


def environment(given: Properties) -> StreamTableEnvironment:
    settings = Configuration()
    for name, value in (SETTINGS | given.get("flink", {})).items():
        settings.set_string(name, value)
    stream = StreamExecutionEnvironment.get_execution_environment(settings)
    return StreamTableEnvironment.create(stream, EnvironmentSettings.new_instance().in_streaming_mode().with_configuration(settings).build())


def create_table(table: StreamTableEnvironment, name: str, columns: str, options: dict[str, str]) -> None:
    quoted = ", ".join("'{}' = '{}'".format(key, value.replace("'", "''")) for key, value in options.items())
    table.execute_sql(f"CREATE TEMPORARY TABLE {name} ({columns}) WITH ({quoted})")


def create_view(table: StreamTableEnvironment, name: str) -> None:
    table.execute_sql((SQL / f"{name}.sql").read_text())


def give_event_time(table: StreamTableEnvironment, parsed: str, name: str) -> None:
    """A table with `measured_at` as its time, which a view cannot declare: a record holds many readings, so it has no time itself."""
    create_view(table, name)
    schema = Schema.new_builder().column_by_expression("rt", "measured_at").watermark("rt", f"rt - INTERVAL '{LATE_SECONDS_MAX}' SECOND").build()
    rows = table.to_data_stream(table.from_path(parsed))
    table.create_temporary_view(name, table.from_data_stream(rows, schema))


def run(given: Properties) -> None:
    table = environment(given)
    for name in ("raw", "anomalies"):
        lines = "raw_lines" if name == "raw" else "anomaly_lines"
        create_table(table, lines, "line STRING", given[f"source.{name}"] | {"format": "raw"})
    create_table(table, "findings", FINDING_COLUMNS, given["sink.findings"])
    give_event_time(table, "parsed_readings", "readings")
    give_event_time(table, "parsed_anomalies", "anomalies")
    for name in VIEWS:
        create_view(table, name)
    statements = table.create_statement_set()
    for name in FINDINGS:
        statements.add_insert_sql((SQL / f"findings_{name}.sql").read_text())
    if "sink.windows" in given:
        create_table(table, "window_statistics", WINDOW_COLUMNS, given["sink.windows"])
        statements.add_insert_sql((SQL / "findings_windows.sql").read_text())
    result = statements.execute()
    # Managed Flink runs the job itself; on one's own machine the process is the job.
    if "flink" in given:
        result.wait()


if __name__ == "__main__":
    run(properties())
