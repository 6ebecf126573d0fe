"""What is to be loaded, and by which statements. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

# Redshift takes more, but a transaction that fails is done again as a whole.
OBJECTS_MAX = 500


@dataclass(frozen=True)
class Object:
    """One file of a gateway. It never changes, and no other one has a record of it."""

    key: str
    bytes: int


def next_objects(there: Iterable[Object], loaded: set[str]) -> list[Object]:
    """The oldest that are not loaded yet. Names begin with day and hour of receipt; a truck that was offline brings older ones later, which are found as well."""
    fresh = [each for each in there if each.key not in loaded and each.key.endswith(".ndjson.zst") and each.bytes > 0]
    return sorted(fresh, key=lambda each: each.key)[:OBJECTS_MAX]


def manifest(bucket: str, objects: list[Object]) -> str:
    """Names exactly what is to be read: one that is missing is an error, and one that came since is not loaded unnoticed."""
    entries = [{"url": f"s3://{bucket}/{each.key}", "mandatory": True, "meta": {"content_length": each.bytes}} for each in objects]
    return json.dumps({"entries": entries})


def statements(table: str, manifest_url: str, role_arn: str, region: str, objects: list[Object]) -> list[str]:
    """What is done in one transaction: all of it, or nothing. A second loader at the same time waits for the lock and then finds the objects loaded."""
    keys = ", ".join(_text(each.key) for each in objects)
    rows = ", ".join(f"({_text(each.key)}, SYSDATE)" for each in objects)
    return [
        "LOCK outrider_loaded",
        # A division by zero ends the transaction: there is no other way to say so in a batch.
        f"SELECT 1 / CASE WHEN COUNT(*) = 0 THEN 1 ELSE 0 END FROM outrider_loaded WHERE object_key IN ({keys})",
        f"COPY {table} FROM {_text(manifest_url)} IAM_ROLE {_text(role_arn)} REGION {_text(region)} MANIFEST FORMAT JSON 'auto' ZSTD",
        f"INSERT INTO outrider_loaded (object_key, loaded_at) VALUES {rows}",
    ]


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
