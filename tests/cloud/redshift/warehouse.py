"""What stands for Redshift: its statements in DuckDB, with transactions, COPY by a manifest, and failures where a test wants them."""

import json
import re
import tempfile
from typing import Any

import duckdb
from load import Failed

# What Redshift has beside standard SQL, and where rows lie, which makes no difference to what they are.
LAYOUT = re.compile(r"\)\s*(DISTKEY|DISTSTYLE|SORTKEY)[^;]*;")
COPY = re.compile(r"COPY (\w+) FROM 's3://([^/]+)/([^']+)' IAM_ROLE '[^']+' REGION '[^']+' MANIFEST FORMAT JSON 'auto' ZSTD")


class Warehouse:
    def __init__(self, s3: Any, schema: str) -> None:
        self._s3 = s3
        self._duck = duckdb.connect()
        self._duck.execute(LAYOUT.sub(");", schema))
        # Statements after which the connection is gone, by their number in the transaction.
        self.fails_after: int | None = None

    def rows(self, sql: str) -> list[str]:
        return [row[0] for row in self._duck.execute(sql).fetchall()]

    def query(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        for name, value in parameters.items():
            sql = sql.replace(f":{name}", str(value))
        found = self._duck.execute(sql)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def transaction(self, sql: list[str]) -> None:
        self._duck.execute("BEGIN")
        try:
            for number, statement in enumerate(sql):
                self._do(statement)
                if number == self.fails_after:
                    raise Failed("the connection is gone")
            self._duck.execute("COMMIT")
        except Exception as error:
            self._duck.execute("ROLLBACK")
            raise error if isinstance(error, Failed) else Failed(str(error)) from error

    def _do(self, statement: str) -> None:
        if statement.startswith("LOCK "):
            return
        if statement.startswith("SELECT 1 / "):
            # A division by zero is no error in DuckDB, as it is in Redshift.
            if self._duck.execute(statement).fetchall() != [(1,)]:
                raise Failed("division by zero")
            return
        copy = COPY.fullmatch(statement)
        if copy is None:
            self._duck.execute(statement.replace("SYSDATE", "CAST(now() AS TIMESTAMP)"))
            return
        table, bucket, key = copy.groups()
        for entry in json.loads(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read())["entries"]:
            self._copy(table, bucket, entry)

    def _copy(self, table: str, bucket: str, entry: dict[str, Any]) -> None:
        """By the names of columns; an object becomes its text."""
        body = self._s3.get_object(Bucket=bucket, Key=entry["url"].removeprefix(f"s3://{bucket}/"))["Body"].read()
        assert len(body) == entry["meta"]["content_length"]
        columns = self._duck.execute(f"SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = '{table}'").fetchall()
        types = ", ".join(f"{name}: '{kind}'" for name, kind in columns)
        names = ", ".join(name for name, _ in columns)
        with tempfile.NamedTemporaryFile(suffix=".ndjson.zst") as file:
            file.write(body)
            file.flush()
            rows = f"read_json('{file.name}', format = 'newline_delimited', compression = 'zstd', columns = {{{types}}})"
            self._duck.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {rows}")
