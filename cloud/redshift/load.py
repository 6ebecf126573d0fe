"""Loads what gateways have put into S3 (`type = "s3"`) into Redshift: a manifest of the objects that are new, and one transaction that copies them and writes down that
they are in. Killed at any moment, it loads each object once. Run it every few minutes, or as a function of Lambda by a schedule (`handler`).
"""

import argparse
import os
import time
from collections.abc import Iterator
from typing import Any, Protocol

from decisions import Object, manifest, next_objects, statements


class Failed(Exception):
    """Redshift says why."""


class Warehouse(Protocol):
    """What the loader needs of Redshift; the tests have their own."""

    def rows(self, sql: str) -> list[str]:
        """The first column of what a query finds."""

    def transaction(self, sql: list[str]) -> None:
        """Does all of these, or raises Failed and has done none."""


class Redshift:
    """A cluster or a workgroup without servers, by the Data API."""

    def __init__(self, client: Any, where: dict[str, str], pause_seconds: float = 1) -> None:
        self._client, self._where, self._pause_seconds = client, where, pause_seconds

    def rows(self, sql: str) -> list[str]:
        identifier = self._client.execute_statement(Sql=sql, **self._where)["Id"]
        self._wait(identifier)
        pages = self._client.get_paginator("get_statement_result").paginate(Id=identifier)
        return [row[0]["stringValue"] for page in pages for row in page["Records"]]

    def transaction(self, sql: list[str]) -> None:
        self._wait(self._client.batch_execute_statement(Sqls=sql, **self._where)["Id"])

    def _wait(self, identifier: str) -> None:
        while True:
            told = self._client.describe_statement(Id=identifier)
            if told["Status"] == "FINISHED":
                return
            if told["Status"] in ("FAILED", "ABORTED"):
                raise Failed(told.get("Error", told["Status"]))
            time.sleep(self._pause_seconds)


def objects(s3: Any, bucket: str, prefix: str) -> Iterator[Object]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            yield Object(entry["Key"], entry["Size"])


def load(s3: Any, warehouse: Warehouse, bucket: str, prefix: str, role_arn: str, region: str) -> int:
    """Loads one batch, and returns of how many objects."""
    # Of objects that are in the bucket no more, nobody needs to know.
    loaded = set(warehouse.rows(f"SELECT object_key FROM outrider_loaded WHERE object_key LIKE '{prefix}%'"))
    fresh = next_objects(objects(s3, bucket, prefix), loaded)
    if not fresh:
        return 0
    # The same name for the same beginning: what a loader that was killed has left is written again, and the transaction decides.
    key = f"manifests/{fresh[0].key.replace('/', '_')}.json"
    s3.put_object(Bucket=bucket, Key=key, Body=manifest(bucket, fresh).encode())
    warehouse.transaction(statements("outrider_readings", f"s3://{bucket}/{key}", role_arn, region, fresh))
    return len(fresh)


def load_all(settings: dict[str, str]) -> int:
    import boto3

    where = {name: settings[key] for name, key in (("ClusterIdentifier", "CLUSTER"), ("WorkgroupName", "WORKGROUP"), ("Database", "DATABASE")) if key in settings}
    session = boto3.session.Session(region_name=settings["REGION"])
    warehouse = Redshift(session.client("redshift-data"), where)
    total = 0
    while count := load(session.client("s3"), warehouse, settings["BUCKET"], settings.get("PREFIX", "raw/"), settings["COPY_ROLE"], settings["REGION"]):
        total += count
    return total


def handler(_event: object, _context: object) -> dict[str, int]:
    """Called by Lambda, at most one at a time (ReservedConcurrentExecutions: 1)."""
    return {"objects": load_all({"REGION": os.environ["AWS_REGION"]} | dict(os.environ))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, what in (
        ("bucket", "where the gateways put their files"),
        ("region", "of the bucket and of Redshift"),
        ("database", "of Redshift"),
        ("copy-role", "ARN of the role by which Redshift reads the bucket"),
    ):
        parser.add_argument(f"--{name}", required=True, metavar="NAME", help=what)
    for name, what in (("prefix", "of the readings' files (raw/)"), ("cluster", "of Redshift"), ("workgroup", "of Redshift Serverless, instead")):
        parser.add_argument(f"--{name}", metavar="NAME", help=what)
    given = {name.upper(): value for name, value in vars(parser.parse_args()).items() if value is not None}
    print(f"{load_all(given)} objects loaded")


if __name__ == "__main__":
    main()
