"""Prints the rows of Parquet files with DuckDB, a JSON object each without what is null; first of all the type of each column.

Read as one table, as Athena does with all files of a folder."""

import json
import sys

import duckdb

table = duckdb.read_parquet(sys.argv[1:], hive_partitioning=False)
print(json.dumps(dict(zip(table.columns, map(str, table.types)))))
for row in table.fetchall():
    print(json.dumps({name: value for name, value in zip(table.columns, row) if value is not None}))
