"""What comes into Kafka: the records of a real gateway, by key, many lines a record, as its sinks send them."""

import json
from pathlib import Path
from typing import NamedTuple

from broker import Broker
from gateways import Gateway

FLEET = ["--vehicles", "6", "--history", "20m", "--duration", "12s"]
FAULTS = ["--fault", "spike:truck-02:engine_temperature:+60@4s", "--fault", "step:truck-03:container_temperature:+9@5s..10s"]
# Some 8 KiB: several records for each device, and many for all.
LINES_MAX = 32


class Line(NamedTuple):
    key: str
    identity: str
    text: bytes


class Feed:
    """The lines of both streams in their order."""

    def __init__(self, folder: Path) -> None:
        gateway = Gateway(folder, "truck-0042", *FLEET, *FAULTS)
        self.raw = _lines(gateway, "raw")
        self.anomalies = [*_lines(gateway, "anomalies"), _later(gateway)]


def _later(gateway: Gateway) -> Line:
    """What the gateway would say of itself after a minute, of which the run is too short."""
    first, _ = next(entry for entry in gateway.lines("anomalies") if entry[0]["type"] == "gateway")
    later = first | {"position": 10**6, "at_ms": first["at_ms"] + 60_000, "store_oldest_age_s": 60}
    return Line(f"{later['gateway']}/", f"{later['gateway']}.{later['run']}.{later['position']}", json.dumps(later).encode() + b"\n")


def _lines(gateway: Gateway, stream: str) -> list[Line]:
    return [
        Line(f"{record['gateway']}/{record.get('device', '')}", f"{record['gateway']}.{record['run']}.{record['position']}", line)
        for record, line in gateway.lines(stream)
    ]


def send(broker: Broker, topic: str, lines: list[Line]) -> None:
    broker.send(topic, ((line.key, line.text) for line in lines), LINES_MAX)
