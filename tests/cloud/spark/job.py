"""The job of cloud/spark as a process of its own, and what it says of itself."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

from programs import ROOT, wait_for

# As the README has it: on a cluster, the program is there without its folder.
PARTS = ["records", "bulk", "options", "lag", "consumer"]
SPARK = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "600m",
}


class Job:
    def __init__(self, folder: Path, kafka: str, opensearch: str, *more: str) -> None:
        self._log = folder / f"spark-{len(list(folder.glob('spark-*.log')))}.log"
        jars = ",".join(str(path) for path in (Path(os.environ["SPARK_TESTS"]) / "connector").glob("*.jar"))
        parts = ",".join(str(ROOT / f"cloud/spark/{name}.py") for name in PARTS)
        program = shutil.copy(ROOT / "cloud/spark/main.py", folder)
        settings = [part for name, value in SPARK.items() for part in ("--conf", f"{name}={value}")]
        submit = [str(Path(sys.executable).parent / "spark-submit"), "--master", "local[2]", "--jars", jars, "--py-files", parts, *settings]
        options = ["--kafka", kafka, "--topics", "raw,anomalies", "--opensearch", opensearch, "--checkpoint", str(folder / "checkpoint")]
        often = ["--every", "0.5", "--look-every", "0.5", "--metrics", "127.0.0.1:0"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_DIRS": str(folder / "local")}
        with self._log.open("wb") as output:
            # Spark is several processes, and what the program says comes out with what Spark says.
            command = [*submit, program, *options, *often, *more]
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
        self._metrics = json.loads(wait_for("the job's start", self._ready, 180) or "")["metrics"]

    def _ready(self) -> str | None:
        assert self.process.poll() is None, f"the job ended: {self.log()}"
        return next((line for line in self.said() if line.startswith('{"event": "ready"')), None)

    def said(self) -> list[str]:
        return self._log.read_text().splitlines()

    def log(self) -> str:
        return self._log.read_text()[-5_000:]

    def metrics(self) -> dict[str, float]:
        """By name, with lag summed up over partitions; empty as long as nothing has been seen."""
        assert self.process.poll() is None, f"the job ended: {self.log()}"
        with urlopen(f"http://{self._metrics}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        found: dict[str, float] = {}
        for name, labels, value in re.findall(r"^outrider_search_(\w+)(\{.*\})? (.*)$", text, re.MULTILINE):
            result = re.search(r'result="(\w+)"', labels)
            key = result.group(1) if result else name
            found[key] = found.get(key, 0) + float(value)
        return found

    def processes(self) -> list[Path]:
        """Spark's and Python's, in /proc. Python's workers leave the group of processes, but not the session."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(path.name)) == self.process.pid:
                    found.append(path)
            except ProcessLookupError:
                continue
        return found

    def memory_bytes(self) -> dict[str, int]:
        """What each process of the job has at most used, by name and id."""
        found = {}
        for path in self.processes():
            status = dict(line.split(":", 1) for line in (path / "status").read_text().splitlines())
            if "VmHWM" in status:
                found[f"{status['Name'].strip()} {path.name}"] = int(status["VmHWM"].split()[0]) * 1024
        return found

    def cpu_seconds(self) -> float:
        fields = [(path / "stat").read_text().rsplit(")", 1)[1].split() for path in self.processes()]
        return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """All of its processes at once, as when the power goes."""
        for path in self.processes():
            try:
                os.kill(int(path.name), signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            pass
        self.kill()
