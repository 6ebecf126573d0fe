"""A gateway that is killed and started again, and devices before it."""

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from programs import Program, binary, free_ports, wait_for

NAME = "truck-0042"
ENDLESS_SECONDS = 600


class Gateway:
    """On a fixed port, so that devices find it again."""

    def __init__(self, folder: Path, *sinks: str, name: str = NAME) -> None:
        self.folder, self.name = folder, name
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        folder.mkdir()
        self.configuration = folder / "outrider.toml"
        self.configuration.write_text(
            f'[gateway]\nid = "{name}"\n[store]\npath = "{folder / "state"}"\n[mqtt]\nlisten = "{self.address}"\n[admin]\nlisten = "127.0.0.1:0"\n'
            + "".join(sinks)
        )
        self.start()

    def start(self) -> None:
        self.program = Program([binary("outrider"), "run", "--config", str(self.configuration)], self.folder / "gateway.log", {"NO_PROXY": "*"})
        self.admin = self.program.ready()["admin"]

    def kill(self) -> None:
        self.program.process.kill()
        self.program.process.wait()
        self.program.end()

    def end(self) -> None:
        self.program.end()

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://{self.admin}/api/status", timeout=10) as answer:
            status: dict[str, Any] = json.load(answer)
            return status

    def sink(self, name: str, stream: str = "raw") -> dict[str, Any]:
        return next(sink for sink in self.status()["sinks"] if (sink["name"], sink["stream"]) == (name, stream))

    def ledger(self, name: str, stream: str = "raw") -> dict[str, Any]:
        """Where everything that this sink was to get has gone, once nothing is on the way."""

        def done() -> dict[str, Any]:
            status = self.status()
            (row,) = [row for row in status["ledger"] if (row["sink"], row["stream"]) == (name, stream)]
            assert status["ledger_adds_up"], status["ledger"]
            return row if row["buffered"] == 0 else {}

        return wait_for(f"everything to be delivered to {name}", done)

    def dead_letters(self) -> str:
        """What was refused, with the reasons."""
        command = [binary("outrider"), "buffer", "dead-letters", "list", "--config", str(self.configuration)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def log(self) -> str:
        return (self.folder / "gateway.log").read_text()


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
