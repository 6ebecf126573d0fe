"""A gateway that is killed and started again, and what has come of its devices' readings in Kafka."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import lives
from broker import Record
from lives import NAME, Devices

__all__ = ["NAME", "Devices", "Gateway", "Stored", "is_ordered", "kafka_sink"]


class Gateway(lives.Gateway):
    def forget_journals(self) -> None:
        """What a gateway has that is killed and does not know what was under way."""
        journals = list((self.folder / "state").glob("kafka.*.journal"))
        assert journals, "there is no journal"
        for journal in journals:
            journal.unlink()

    def sink(self, name: str = "kafka", stream: str = "raw") -> dict[str, Any]:
        return super().sink(name, stream)

    def ledger(self, name: str = "kafka", stream: str = "raw") -> dict[str, Any]:
        return super().ledger(name, stream)


def kafka_sink(brokers: Iterable[str], topic: str, name: str = "kafka", **keys: Any) -> str:
    """Its section; keys as they are in the configuration."""
    lines = {"name": name, "type": "kafka", "brokers": list(brokers), "raw": topic} | keys
    return "[[sink]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


@dataclass
class Stored:
    """What a topic holds: lines by device, in the order of their partitions."""

    readings: int = 0
    # Readings that are there more than once.
    repeats: int = 0
    devices: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    numbers: set[tuple[str, int]] = field(default_factory=set)

    @staticmethod
    def of(records: Iterable[Record]) -> "Stored":
        stored = Stored()
        identities: Counter[tuple[str, str, int]] = Counter()
        for record in records:
            for line in map(json.loads, record.value.splitlines()):
                identity = (line["run"], line["position"])
                identities[line["gateway"], *identity] += 1
                stored.devices.setdefault(line["device"], []).append(identity)
                stored.numbers.add((line["device"], line["seq"]))
                stored.readings += 1
        stored.repeats = stored.readings - len(identities)
        return stored

    def out_of_order(self) -> list[str]:
        """Devices of which a run comes back, or goes back; the first time of each reading counts."""
        return [device for device, identities in self.devices.items() if not is_ordered(list(dict.fromkeys(identities)))]


def is_ordered(identities: list[tuple[str, int]]) -> bool:
    runs = list(dict.fromkeys(run for run, _ in identities))
    # Runs have names without an order: those of one stay together, and its positions go up.
    return identities == sorted(identities, key=lambda identity: (runs.index(identity[0]), identity[1]))
