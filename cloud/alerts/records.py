"""From a Kinesis record to the alerts in it. A record holds many lines of JSON, of several types."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """In the order of their gravity."""

    WARNING = 1
    MINOR = 2
    MAJOR = 3
    CRITICAL = 4


@dataclass(frozen=True)
class Key:
    """What an alert is about; the key of the table."""

    source: str
    alert: str


@dataclass(frozen=True)
class Alert:
    """What decisions and notifications need of an alert, and the whole of it as it was sent."""

    gateway: str
    device: str
    metric: str
    kind: str
    id: str
    revision: int
    raised: bool
    severity: Severity
    raised_at_ms: int
    message: str
    text: str

    @property
    def key(self) -> Key:
        return Key(f"{self.gateway}/{self.device}", f"{self.metric}/{self.kind}")


@dataclass(frozen=True)
class Unreadable:
    """A line that is no record of a gateway; trying again would not help."""

    line: bytes
    reason: str


def read(data: bytes) -> Iterator[Alert | Unreadable]:
    """Yields the alerts among the lines of a record, in their order, and the lines that cannot be read."""
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if _type_of(fields) == "alert":
                yield _alert(fields, line)
        except (ValueError, KeyError, TypeError) as error:
            yield Unreadable(line, f"{type(error).__name__}: {error}")


def _type_of(fields: Any) -> str:
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise ValueError("not an object with a type")
    return fields["type"]


def _alert(fields: dict[str, Any], line: bytes) -> Alert:
    state = _text(fields, "state")
    if state not in ("raised", "cleared"):
        raise ValueError(f"unknown state {state}")
    return Alert(
        gateway=_text(fields, "gateway"),
        device=_text(fields, "device"),
        metric=_text(fields, "metric"),
        kind=_text(fields, "kind"),
        id=_text(fields, "id"),
        revision=_whole(fields, "revision"),
        raised=state == "raised",
        severity=Severity[_text(fields, "severity").upper()],
        raised_at_ms=_whole(fields, "raised_at_ms"),
        message=_text(fields, "message"),
        text=line.decode("utf-8"),
    )


def _text(fields: dict[str, Any], name: str) -> str:
    if not isinstance(fields[name], str) or not fields[name]:
        raise ValueError(f"{name} is no text")
    return fields[name]


def _whole(fields: dict[str, Any], name: str) -> int:
    if not isinstance(fields[name], int) or isinstance(fields[name], bool):
        raise ValueError(f"{name} is no whole number")
    return fields[name]
