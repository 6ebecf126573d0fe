"""What a line of a stream says of itself: which record it is, and of a gateway's own record its ledger. Pure."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

# Types of records that have a stream of their own; what rules write names its stream.
STREAMS = {"reading": "raw", "anomaly": "anomalies", "alert": "anomalies", "gateway": "anomalies"}
COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
LOST = ("expired", "dead_lettered", "quarantined", "passed_over")


class Identity(NamedTuple):
    """What is unique in the world, and is the same when a record comes twice."""

    gateway: str
    stream: str
    run: str
    position: int


class Line(NamedTuple):
    identity: Identity
    # Of a gateway's own record, what it says of its store and its sinks.
    ledger: dict[str, Any] | None


class Unreadable(NamedTuple):
    """A line that is no record of a gateway."""

    reason: str


def read(data: bytes) -> Iterator[Line | Unreadable]:
    """The lines of a record of Kinesis, or of one of those that were aggregated in it."""
    compression = next((name for magic, name in COMPRESSED.items() if data.startswith(magic)), None)
    if compression:
        yield Unreadable(f'compressed by {compression}: the sink of the gateway must have compression = "none"')
        return
    for line in data.split(b"\n"):
        if line.strip():
            yield _read(line)


def _read(line: bytes) -> Line | Unreadable:
    try:
        fields = json.loads(line)
        stream = STREAMS.get(fields["type"]) or (fields["stream"] if fields["type"] == "record" else None)
        identity = Identity(fields["gateway"], stream, fields["run"], fields["position"])
        if not all(isinstance(part, str) and part for part in identity[:3]) or type(identity.position) is not int or identity.position < 1:
            return Unreadable("no identity: gateway, run and position do not say which record it is")
        return Line(identity, _ledger(fields) if fields["type"] == "gateway" else None)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Unreadable(f"no record of a gateway: {type(error).__name__}: {error}"[:200])


def _ledger(fields: dict[str, Any]) -> dict[str, Any]:
    """What the bookkeeping needs of a gateway's own record: where each stream is, and what became of it for each sink."""
    aside = {(sink["name"], sink["stream"]) for sink in fields["sinks"] if sink.get("keys_set_aside")}
    kinds = {(sink["name"], sink["stream"]): sink["kind"] for sink in fields["sinks"]}
    return {
        "at_ms": int(fields["at_ms"]),
        "state": str(fields["state"]),
        "streams": {stream["stream"]: [int(stream["last_sequence"]), stream["last_position"]] for stream in fields["streams"]},
        "sinks": [_sink(entry, kinds, aside) for entry in fields["ledger"]],
    }


def _sink(entry: dict[str, Any], kinds: dict[tuple[str, str], str], aside: set[tuple[str, str]]) -> dict[str, Any]:
    which = (entry["sink"], entry["stream"])
    settled = {name: int(entry.get(name, 0)) for name in ("accepted", "delivered", "buffered", "cursor", *LOST)}
    return {"sink": which[0], "stream": which[1], "kind": kinds.get(which), "aside": which in aside} | settled
