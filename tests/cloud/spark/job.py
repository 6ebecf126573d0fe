"""The job of cloud/spark as a process of its own, and what it says of itself."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from programs import ROOT

SPARK = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "600m",
}


class Job:
    def __init__(self, folder: Path, kafka: str, opensearch: str, *more: str) -> None:
        self._log = folder / "spark.log"
        jars = ",".join(str(path) for path in (Path(os.environ["SPARK_TESTS"]) / "connector").glob("*.jar"))
        settings = [part for name, value in SPARK.items() for part in ("--conf", f"{name}={value}")]
        submit = [str(Path(sys.executable).parent / "spark-submit"), "--master", "local[2]", "--jars", jars, *settings]
        options = ["--kafka", kafka, "--topics", "raw,anomalies", "--opensearch", opensearch, "--checkpoint", str(folder / "checkpoint")]
        often = ["--every", "0.5", "--look-every", "0.5", "--metrics", "127.0.0.1:0"]
        environment = os.environ | {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_DIRS": str(folder / "local")}
        with self._log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*submit, str(ROOT / "cloud/spark/main.py"), *options, *often, *more],
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                text=True,
                # Spark is several processes.
                start_new_session=True,
            )
        assert self.process.stdout is not None
        self._output = self.process.stdout
        line = self._output.readline()
        assert line, f"the job did not start: {self.log()}"
        self._metrics = json.loads(line)["metrics"]

    def log(self) -> str:
        return self._log.read_text()[-5_000:]

    def metrics(self) -> dict[str, float]:
        """By name, with lag summed up over partitions; empty as long as nothing has been seen."""
        assert self.process.poll() is None, f"the job ended: {self.log()}"
        with urlopen(f"http://{self._metrics}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found: dict[str, float] = {}
        for name, labels, value in re.findall(r"^outrider_search_(\w+)(\{.*\})? (.*)$", text, re.MULTILINE):
            result = re.search(r'result="(\w+)"', labels)
            key = result.group(1) if result else name
            found[key] = found.get(key, 0) + float(value)
        return found

    def memory_bytes(self) -> dict[str, int]:
        """What each process of the job has at most used, by what it is."""
        found: dict[str, int] = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(path.name)) != self.process.pid:
                    continue
                status = dict(line.split(":", 1) for line in (path / "status").read_text().splitlines())
                found[f"{status['Name'].strip()} {path.name}"] = int(status["VmHWM"].split()[0]) * 1024
            except (OSError, KeyError):
                continue
        return found

    def kill(self) -> None:
        """All of its processes at once, as when the power goes."""
        self._signal(signal.SIGKILL)

    def end(self) -> None:
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self.process.pid, number)
            self.process.wait(30)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._output.close()
