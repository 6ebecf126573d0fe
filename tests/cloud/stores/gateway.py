"""A gateway before a store: it is killed and started again, and tells what has become of its readings."""

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from programs import Program, binary, free_ports, wait_for


class Gateway:
    """On a fixed port, so that devices find it again."""

    def __init__(self, folder: Path, *sinks: str, name: str = "truck-0042") -> None:
        self.folder = folder
        self.mqtt = f"127.0.0.1:{free_ports(1)[0]}"
        folder.mkdir()
        self.configuration = folder / "outrider.toml"
        self.configuration.write_text(
            f'[gateway]\nid = "{name}"\n[store]\npath = "{folder / "state"}"\n[mqtt]\nlisten = "{self.mqtt}"\n[admin]\nlisten = "127.0.0.1:0"\n' + "".join(sinks)
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

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://{self.admin}/api/status", timeout=10) as answer:
            status: dict[str, Any] = json.load(answer)
            return status

    def sink(self, name: str, stream: str = "raw") -> dict[str, Any]:
        return next(sink for sink in self.status()["sinks"] if (sink["name"], sink["stream"]) == (name, stream))

    def settled(self, name: str, stream: str = "raw") -> dict[str, Any]:
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
