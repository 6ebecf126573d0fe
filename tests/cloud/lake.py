"""The Parquet files of the bucket as the tables of Athena, in DuckDB."""

from pathlib import Path
from typing import Any

import duckdb

# Functions of Athena's dialect that DuckDB calls otherwise.
DIALECT = "CREATE MACRO to_unixtime(moment) AS epoch(moment); CREATE MACRO from_unixtime(seconds) AS to_timestamp(seconds)"


def download(s3: Any, bucket: str, folder: Path) -> list[str]:
    """Brings all files of the bucket into a folder, under their keys, and returns these."""
    keys = []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", []):
            path = folder / entry["Key"]
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
            keys.append(entry["Key"])
    return keys


class Lake:
    """The tables `raw` and `anomalies` over the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._connection = duckdb.connect()
        self._connection.execute(DIALECT)
        for table in ("raw", "anomalies"):
            files = f"'{folder}/{table}/**/*.parquet', union_by_name = true"
            partitions = "hive_partitioning = true, hive_types = {'dt': VARCHAR, 'hour': INTEGER}"
            self._connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet({files}, {partitions})")

    def rows(self, sql: str, *parameters: Any) -> list[dict[str, Any]]:
        found = self._connection.execute(sql, parameters)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
