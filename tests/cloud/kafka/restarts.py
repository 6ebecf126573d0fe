"""A gateway that is killed and started again, devices before it, and what has come of their readings."""

import json
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker import Record
from programs import Program, binary, free_ports, wait_for

NAME = "truck-0042"
ENDLESS_SECONDS = 600


class Gateway:
    """On a fixed port, so that devices find it again."""

    def __init__(self, folder: Path, *sinks: str, name: str = NAME) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        folder.mkdir()
        self.configuration = folder / "outrider.toml"
        self.configuration.write_text(
            f'[gateway]\nid = "{name}"\n[store]\npath = "{folder / "state"}"\n[mqtt]\nlisten = "{self.address}"\n[admin]\nlisten = "127.0.0.1:0"\n'
            + "".join(sinks)
        )
        self.start()

    def start(self) -> None:
        self.program = Program([binary("outrider"), "run", "--config", str(self.configuration)], self.folder / "gateway.log", {})
        line = self.program.output.readline()
        assert line, self.log()
        self.admin = json.loads(line)["admin"]

    def kill(self) -> None:
        self.program.process.kill()
        self.program.process.wait()
        self.program.end()

    def end(self) -> None:
        self.program.end()

    def forget_journals(self) -> None:
        """What a gateway has that is killed and does not know what was under way."""
        journals = list((self.folder / "state").glob("kafka.*.journal"))
        assert journals, "there is no journal"
        for journal in journals:
            journal.unlink()

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://{self.admin}/api/status", timeout=10) as answer:
            status: dict[str, Any] = json.load(answer)
            return status

    def sink(self, name: str = "kafka", stream: str = "raw") -> dict[str, Any]:
        return next(sink for sink in self.status()["sinks"] if (sink["name"], sink["stream"]) == (name, stream))

    def ledger(self, name: str = "kafka", stream: str = "raw") -> dict[str, Any]:
        """Where everything that this sink was to get has gone, once nothing is on the way."""

        def done() -> dict[str, Any]:
            status = self.status()
            (row,) = [row for row in status["ledger"] if (row["sink"], row["stream"]) == (name, stream)]
            assert status["ledger_adds_up"], status["ledger"]
            return row if row["buffered"] == 0 else {}

        return wait_for(f"everything to be delivered to {name}", done)

    def log(self) -> str:
        return (self.folder / "gateway.log").read_text()


def kafka_sink(brokers: Iterable[str], topic: str, name: str = "kafka", **keys: Any) -> str:
    """Its section; keys as they are in the configuration."""
    lines = {"name": name, "type": "kafka", "brokers": list(brokers), "raw": topic} | keys
    return "[[sink]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())


class Devices:
    """They publish at a rate, and send again what was not acknowledged before a connection was lost."""

    def __init__(self, gateway: Gateway, seconds: int | None, rate: int, devices: int = 8, *more: str) -> None:
        """Without a time they go on until somebody asks what was acknowledged."""
        self.is_endless = seconds is None
        self.file = gateway.folder / "acknowledged.ndjson"
        command = [binary("firmware-sim"), "load", "--broker", gateway.address, "--reconnect", "--acknowledged", str(self.file)]
        command += ["--connections", str(devices), "--rate", str(rate), "--drain", "30s", "--duration", f"{seconds or ENDLESS_SECONDS}s", *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def are_done(self) -> bool:
        return self.process.poll() is not None

    def stop(self) -> None:
        if not self.are_done():
            self.process.terminate()

    def acknowledged(self) -> set[tuple[str, int]]:
        """Device and sequence number of each reading."""
        if self.is_endless:
            self.stop()
        output, errors = self.process.communicate(timeout=120)
        assert self.process.returncode == 0, output + errors
        lines = map(json.loads, self.file.read_text().splitlines())
        return {(line["device"], number) for line in lines for first, last in line["acknowledged"] for number in range(first, last + 1)}


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
