"""Real servers that take line protocol, from Debian's packages: InfluxDB 1.6 and VictoriaMetrics 1.79. Each has its folder and its port, and is killed and started again."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from programs import Program, free_ports, wait_for


def post(url: str, query: dict[str, str]) -> bytes:
    with urllib.request.urlopen(url, data=urllib.parse.urlencode(query).encode(), timeout=60) as answer:
        content: bytes = answer.read()
        return content


class Server:
    """One that is killed rather than stopped: what it has answered for must be there all the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        self.port, self.other_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def command(self) -> list[str]:
        raise NotImplementedError

    def is_there(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=5):
                return True
        except OSError:
            return False

    def start(self) -> None:
        self.program = Program(self.command(), self.folder / "log", {})
        wait_for("the server", self.is_there)

    def kill(self) -> None:
        self.program.process.kill()
        self.program.process.wait()
        self.program.end()

    def end(self) -> None:
        self.program.end()


LOGIN = "u=root&p=root-pass"


class InfluxDb(Server):
    def command(self) -> list[str]:
        configuration = self.folder / "influxdb.conf"
        configuration.write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{self.other_port}"\n'
            f'[meta]\ndir = "{self.folder}/meta"\n[data]\ndir = "{self.folder}/data"\nwal-dir = "{self.folder}/wal"\n'
            f'[http]\nbind-address = "127.0.0.1:{self.port}"\nauth-enabled = true\nlog-enabled = false\n'
        )
        return ["influxd", "run", "-config", str(configuration)]

    def query(self, text: str, database: str = "") -> list[dict[str, Any]]:
        """The series of an answer."""
        answer = json.loads(post(f"{self.url}/query?{LOGIN}", {"q": text, "db": database, "epoch": "ns"}))
        (result,) = answer["results"]
        assert "error" not in result, result
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def set_up(self) -> None:
        """The first user may be made without a login."""
        self.query("CREATE USER root WITH PASSWORD 'root-pass' WITH ALL PRIVILEGES")
        self.query("CREATE USER gateway WITH PASSWORD 'gateway-pass'")

    def make(self, database: str, duration: str = "INF") -> None:
        self.query(f'CREATE DATABASE "{database}" WITH DURATION {duration}')
        self.query(f'GRANT WRITE ON "{database}" TO gateway')

    def write(self, database: str, lines: str) -> None:
        """As somebody else does."""
        urllib.request.urlopen(f"{self.url}/write?db={database}&{LOGIN}", data=lines.encode(), timeout=60).close()

    def points(self, database: str, measurement: str) -> list[tuple[dict[str, str], int, dict[str, Any]]]:
        """Tags, time and fields of each."""
        found = []
        for series in self.query(f'SELECT * FROM "{measurement}" GROUP BY *', database):
            for at, *values in series["values"]:
                fields = {key: value for key, value in zip(series["columns"][1:], values, strict=True) if value is not None}
                found.append((series.get("tags", {}), at, fields))
        return found


class VictoriaMetrics(Server):
    def command(self) -> list[str]:
        return [
            "victoria-metrics",
            f"-storageDataPath={self.folder}/data",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-retentionPeriod=2d",
            "-dedup.minScrapeInterval=1ms",
            "-loggerLevel=WARN",
        ]

    def points(self, name: str) -> list[tuple[dict[str, str], int, float]]:
        """Labels, time and value of each. What is written can be read a moment later."""
        urllib.request.urlopen(f"{self.url}/internal/force_flush", timeout=60).close()
        lines = post(f"{self.url}/api/v1/export", {"match[]": name}).decode().splitlines()
        return [(row["metric"], at, value) for row in map(json.loads, lines) for at, value in zip(row["timestamps"], row["values"], strict=True)]

    def counter(self, name: str) -> float:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as answer:
            rows = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line.startswith(name)]
        return sum(float(value) for _, value in rows)


def now_ms() -> int:
    return int(time.time() * 1000)
