"""Alerts as gateways send them, and services that live in memory and fail when told to."""

import base64
import json
import logging
from typing import Any

from alerts.decisions import Kept
from alerts.handler import process
from alerts.records import Alert, Key, Unreadable

# What fails on purpose is not to fill the output.
logging.disable(logging.ERROR)


def alert(**fields: Any) -> dict[str, Any]:
    """An alert record with what matters to the test."""
    record = {
        "v": 1,
        "type": "alert",
        "gateway": "truck-0042",
        "run": "7f3c9a1e5b20d4c8",
        "position": 7,
        "id": "one",
        "revision": 1,
        "device": "tank-1",
        "metric": "container_temperature",
        "kind": "anomaly",
        "state": "raised",
        "severity": "minor",
        "detectors": ["shift"],
        "value": 25.8,
        "expected": 22.1,
        "score": 1.8,
        "raised_at_ms": 1_000,
        "updated_at_ms": 1_000,
        "cleared_at_ms": None,
        "count": 1,
        "message": "container_temperature of tank-1 is 25.8; 22.1 was normal",
        "stored": True,
    }
    return record | fields


def record(sequence_number: int, *lines: dict[str, Any] | bytes) -> dict[str, Any]:
    """A record of the stream with these lines, as Lambda hands it over."""
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    data = b"".join(text + b"\n" for text in texts)
    return {"kinesis": {"sequenceNumber": str(sequence_number), "data": base64.b64encode(data).decode()}}


class Crashed(BaseException):
    """The process is gone: nothing handles this."""


class Memory:
    """Services that remember. `failing` names calls and devices, as in `notify:tank-1`, and `crash_before` a call."""

    def __init__(self) -> None:
        self.table: dict[Key, tuple[Kept, str]] = {}
        self.notified: list[tuple[str, int, str]] = []
        self.aside: list[tuple[str, Unreadable]] = []
        self.failing: set[str] = set()
        self.crash_before: str | None = None

    def kept(self, key: Key) -> Kept | None:
        self._may_fail("kept", key.source.split("/")[1])
        return self.table[key][0] if key in self.table else None

    def notify(self, alert: Alert) -> None:
        self._may_fail("notify", alert.device)
        self.notified.append((alert.id, alert.revision, alert.severity.name.lower()))

    def keep(self, alert: Alert) -> None:
        self._may_fail("keep", alert.device)
        self.table[alert.key] = (Kept(alert.id, alert.revision, alert.raised, alert.severity, alert.raised_at_ms), alert.text)

    def set_aside(self, sequence_number: str, unreadable: Unreadable) -> None:
        self._may_fail("set_aside", "line")
        self.aside.append((sequence_number, unreadable))

    def _may_fail(self, call: str, device: str) -> None:
        if self.crash_before == call:
            raise Crashed
        if f"{call}:{device}" in self.failing:
            raise ConnectionError(f"{call} of {device} failed on purpose")


def failed(services: Memory, *records: dict[str, Any]) -> list[str]:
    """Handles a batch, and returns the sequence numbers of those that have to come again."""
    return [failure["itemIdentifier"] for failure in process(list(records), services)["batchItemFailures"]]


def deliver(services: Memory, *records: dict[str, Any], attempts: int = 4) -> list[str]:
    """Hands a batch over as Lambda does: again from the first record that failed. Returns what failed to the end."""
    rest = list(records)
    for _ in range(attempts):
        again = failed(services, *rest)
        if not again:
            return []
        first = min(int(number) for number in again)
        rest = [entry for entry in rest if int(entry["kinesis"]["sequenceNumber"]) >= first]
    return again
