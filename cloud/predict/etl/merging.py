"""What a batch of readings says of each vehicle, and how that becomes a change of its item. Pure: no Spark, no service."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

# Metrics of one item; DynamoDB allows 400 KB.
METRICS_MAX = 200


@dataclass
class State:
    """The latest of each metric of one vehicle."""

    source: str
    device: str
    measured_at_ms: int = 0
    latest: dict[str, tuple[int, float]] = field(default_factory=dict)

    def take(self, metric: str, measured_at_ms: int, value: float) -> None:
        self.measured_at_ms = max(self.measured_at_ms, measured_at_ms)
        known = self.latest.get(metric)
        if known is None or measured_at_ms >= known[0]:
            self.latest[metric] = (measured_at_ms, value)


def readings(data: bytes | str | None) -> Iterator[dict[str, Any]]:
    """The readings among the lines of one record; what is none is passed over, and has its place in S3."""
    text = data.decode(errors="replace") if isinstance(data, bytes | bytearray) else data or ""
    for line in text.splitlines():
        try:
            fields = json.loads(line)
        except ValueError:
            continue
        if not isinstance(fields, dict) or fields.get("type") != "reading":
            continue
        value = fields.get("value")
        named = all(isinstance(fields.get(name), str) and fields[name] for name in ("gateway", "device", "metric"))
        if named and type(fields.get("measured_at_ms")) is int and isinstance(value, int | float) and not isinstance(value, bool):
            yield fields


def merged(records: Iterable[bytes | str | None]) -> list[State]:
    """What all records of a batch say, by vehicle. The order of records makes no difference, nor does a repeat."""
    states: dict[str, State] = {}
    for data in records:
        for reading in readings(data):
            source = f"{reading['gateway']}/{reading['device']}"
            state = states.setdefault(source, State(source, reading["device"]))
            if reading["metric"] in state.latest or len(state.latest) < METRICS_MAX:
                state.take(reading["metric"], reading["measured_at_ms"], reading["value"])
    return list(states.values())


def update(table: str, state: State, vehicle: dict[str, Any], now_s: int, keep_s: int) -> dict[str, Any]:
    """A change of the vehicle's item in the form of DynamoDB's UpdateItem. One that is older than the item changes nothing, so a batch that is done again does no harm."""
    names = {"#at": "measured_at_ms", "#vehicle": "vehicle", "#expires": "expires_at"}
    values = {":at": _attribute(state.measured_at_ms), ":vehicle": _attribute(vehicle), ":expires": _attribute(now_s + keep_s)}
    changes = ["#at = :at", "#vehicle = :vehicle", "#expires = :expires"]
    for number, (metric, (_, value)) in enumerate(sorted(state.latest.items())):
        names[f"#m{number}"], values[f":m{number}"] = f"metric:{metric}", _attribute(value)
        changes.append(f"#m{number} = :m{number}")
    return {
        "TableName": table,
        "Key": {"source": {"S": state.source}},
        "UpdateExpression": f"SET {', '.join(changes)}",
        "ConditionExpression": "attribute_not_exists(#at) OR #at <= :at",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
    }


def _attribute(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | float | Decimal):
        return {"N": _digits(value)}
    if isinstance(value, dict):
        return {"M": {name: _attribute(each) for name, each in value.items()}}
    return {"NULL": True} if value is None else {"S": str(value)}


def _digits(value: int | float | Decimal) -> str:
    """DynamoDB keeps 38 digits, and numbers from 1e-130 to 1e125."""
    if isinstance(value, float):
        return repr(value) if value == 0 or 1e-130 <= abs(value) < 1e125 else "0"
    return str(value)
