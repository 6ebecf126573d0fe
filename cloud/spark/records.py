"""What a record of Kafka becomes: each of its lines a document of OpenSearch, or a failure that says why. Pure.

A document's id is the identity of its record, and its index follows from what the record itself says. So a record that is read twice is the same document both
times, whenever that is. An index that rolls over, or one by the time of storing, would get the second one again.
"""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

DAY = "%Y.%m.%d"
MONTH = "%Y.%m"
DAY_MS = 86_400_000
# The last millisecond of the year 9999, beyond which a date has no name.
TIME_MS_MAX = 253_402_300_799_999
POSITION_MAX = 2**63 - 1
# OpenSearch refuses a whole request for one that is longer.
ID_BYTES_MAX = 512
COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


# Python would take NaN and infinity, which JSON does not have.
DECODER = json.JSONDecoder(parse_constant=_refuse)


class Kind(NamedTuple):
    """How records of a type are kept."""

    prefix: str
    time: str
    pattern: str
    required: frozenset[str]


COMMON = ["v", "type", "gateway", "run", "position"]
MEASURED = ["device", "metric", "value", "measured_at_ms", "received_at_ms", "time_quality"]
FLAGGED = ["raw_run", "raw_position", "detector", "also", "score", "expected", "spread", "reason", "late"]
ALERT = [
    *("id", "revision", "device", "metric", "kind", "state", "severity", "detectors", "value", "expected", "score"),
    *("raised_at_ms", "updated_at_ms", "cleared_at_ms", "count", "message", "stored"),
]
GATEWAY = [
    *("version", "at_ms", "state", "clock", "uptime_s", "received", "ledger", "streams", "store_bytes", "damaged_stores", "store_oldest_age_s"),
    *("sinks", "dropped_sinks", "alerts_raised", "disk"),
]
OF_RULE = ["stream", "rule", "device", "topic", "received_at_ms"]
# Readings are many, so each day has an index; a day of the others would be an index of a few kilobytes.
KINDS = {
    "reading": Kind("outrider-readings", "received_at_ms", DAY, frozenset(COMMON + MEASURED)),
    "anomaly": Kind("outrider-anomalies", "received_at_ms", MONTH, frozenset(COMMON + MEASURED + FLAGGED)),
    "alert": Kind("outrider-alerts", "updated_at_ms", MONTH, frozenset(COMMON + ALERT)),
    "gateway": Kind("outrider-gateways", "at_ms", MONTH, frozenset(COMMON + GATEWAY)),
    "record": Kind("outrider-records", "received_at_ms", MONTH, frozenset(COMMON + OF_RULE)),
}
FAILED = "outrider-failed"
STATUS = "outrider-status"
TEMPLATES = sorted({kind.prefix for kind in KINDS.values()} | {FAILED, STATUS})


class Origin(NamedTuple):
    """Where a line was read."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    line: int


class Document(NamedTuple):
    """What is to be stored. One of the failed documents stands for a line that is not, so it has no origin of its own."""

    index_name: str
    id: str
    source: bytes
    origin: Origin | None


class Unfit(ValueError):
    """This line becomes no document; the text says why."""


def documents(topic: str, partition: int, offset: int, time_ms: int, value: bytes | None) -> Iterator[Document]:
    """Those of one record. A record without a line has none."""
    for number, line in enumerate(_lines(value or b"")):
        origin = Origin(topic, partition, offset, time_ms, number)
        try:
            yield document(line, origin)
        except Unfit as unfit:
            yield failed(line, origin, "line", str(unfit))


def _lines(value: bytes) -> list[bytes]:
    if _compression(value):
        return [value]
    return [line for line in value.split(b"\n") if line.strip()]


def _compression(value: bytes) -> str | None:
    return next((name for magic, name in COMPRESSED.items() if value.startswith(magic)), None)


def document(line: bytes, origin: Origin) -> Document:
    record = _parse(line)
    kind = KINDS.get(_text(record, "type"))
    if kind is None:
        raise Unfit(f"type {record['type'][:64]!r} is not known")
    if record.get("v") != 1:
        raise Unfit(f"v {record.get('v')!r:.64} is not known; v 1 is")
    missing = kind.required - record.keys()
    if missing:
        raise Unfit(f"{', '.join(sorted(missing))} is missing")
    return Document(_index(kind.prefix, kind.pattern, _number(record, kind.time, 0, TIME_MS_MAX) // DAY_MS), _identity(record), line, origin)


def _parse(line: bytes) -> dict[str, Any]:
    try:
        record = DECODER.decode(line.decode())
    except UnicodeDecodeError:
        # Neither form of compressed data begins like UTF-8.
        compression = _compression(line)
        told = f'compressed by {compression}; the sink of the gateway must have compression = "none"' if compression else "no UTF-8"
        raise Unfit(told) from None
    except (ValueError, RecursionError) as error:
        raise Unfit(f"no JSON: {error}") from None
    if not isinstance(record, dict):
        raise Unfit("no object of JSON")
    return record


def _identity(record: dict[str, Any]) -> str:
    gateway, run = _text(record, "gateway"), _text(record, "run")
    if len(run) != 16:
        raise Unfit("run has not 16 characters")
    # Positions count within a stream. Readings are of one, and so is all else but what rules write, which names its own.
    stream = f".{_text(record, 'stream')}" if record["type"] == "record" else ""
    identity = f"{gateway}.{run}{stream}.{_number(record, 'position', 1, POSITION_MAX)}"
    try:
        if len(identity.encode()) > ID_BYTES_MAX:
            raise Unfit(f"gateway, run and position have more than {ID_BYTES_MAX} bytes")
    except UnicodeEncodeError:
        raise Unfit("gateway or run is no text") from None
    return identity


def _text(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value:
        raise Unfit(f"{name} is no text")
    return value


def _number(record: dict[str, Any], name: str, least: int, most: int) -> int:
    value = record.get(name)
    if type(value) is not int or not least <= value <= most:
        raise Unfit(f"{name} is no whole number from {least} to {most}")
    return value


@lru_cache(maxsize=1024)
def _index(name: str, pattern: str, day: int) -> str:
    return f"{name}-{time.strftime(pattern, time.gmtime(day * 86_400))}"


def failed(line: bytes, origin: Origin, refused_by: str, reason: str) -> Document:
    """Stands for a line that could not be stored. The same line of the same place is the same document again."""
    kafka_at_ms = min(max(origin.time_ms, 0), TIME_MS_MAX)
    found = {
        "topic": origin.topic,
        "partition": origin.partition,
        "offset": origin.offset,
        "line": origin.line,
        "kafka_at_ms": kafka_at_ms,
        "refused_by": refused_by,
        "reason": reason[:2_000],
    }
    try:
        text = {"text": line.decode()}
    except UnicodeDecodeError:
        text = {"base64": base64.b64encode(line).decode()}
    place = json.dumps([origin.topic, origin.partition, origin.offset, origin.line]).encode()
    identity = hashlib.sha256(place + line).hexdigest()[:40]
    return Document(_index(FAILED, MONTH, kafka_at_ms // DAY_MS), identity, json.dumps(found | text).encode(), None)
