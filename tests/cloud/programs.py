"""Starts the gateway, a fleet and other programs, and ends them by process id."""

import json
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-central-1"
# Any credentials will do for the emulator.
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "cloud", "AWS_SECRET_ACCESS_KEY": "cloud", "AWS_REGION": REGION, "AWS_EC2_METADATA_DISABLED": "true"}
# Long enough for a machine that does much else.
WAIT_SECONDS = 180

Found = TypeVar("Found")


def binary(name: str) -> str:
    return str(Path(os.environ["OUTRIDER_BINARIES"]) / name)


def wait_for(what: str, condition: Callable[[], Found], seconds: float = WAIT_SECONDS) -> Found:
    """Returns the first true value of `condition`, or fails."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds} s in vain for: {what}")


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens. They are none of those that the system gives to outgoing connections, which might take one before it is
    listened on, or while what listens there is started again."""
    first_of_system = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    held: list[socket.socket] = []
    for port in random.SystemRandom().sample(range(10_000, first_of_system), 50 * count):
        try:
            held.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        if len(held) == count:
            break
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    assert len(ports) == count, "there are no free ports"
    return ports


class Program:
    """A process with its log in a file of its own."""

    def __init__(self, arguments: list[str], log: Path, environment: dict[str, str]) -> None:
        with log.open("ab") as errors:
            self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=errors, env=os.environ | environment, text=True)
        assert self.process.stdout is not None
        self.output = self.process.stdout
        self.name, self.log = arguments[0], log

    def ready(self) -> dict[str, Any]:
        """The line that a program prints when it is ready."""
        line = self.output.readline()
        assert line, f"{self.name} did not start: {self.log.read_text()}"
        return json.loads(line)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.output.close()


def start_gateway(folder: Path, sink: str) -> tuple[Program, str]:
    """A gateway with this sink, and where devices connect."""
    configuration = folder / "outrider.toml"
    configuration.write_text(
        f'[gateway]\nid = "truck-0042"\n[store]\npath = "{folder / "state"}"\n[mqtt]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n{sink}'
    )
    gateway = Program([binary("outrider"), "run", "--config", str(configuration)], folder / "gateway.log", ENVIRONMENT)
    return gateway, gateway.ready()["mqtt"]


def run_fleet(address: str, *arguments: str) -> dict[str, Any]:
    """A fleet from its start to its end, and its summary."""
    done = subprocess.run([binary("firmware-sim"), "fleet", "--broker", address, *arguments], capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout)
