"""What the engine keeps: prints the size of a full checkpoint, and the processor time of a reading, for a number of series at one reading a second.

tests/cloud/flink/run has installed what it needs; then
FLINK_TESTS=tests/.cache/flink KAFKA_JARS=tests/.cache/kafka/jars PYTHONPATH=tests/cloud:tests/cloud/kafka:tests/cloud/flink \
tests/.cache/flink/venv/bin/python tests/cloud/flink/state.py 3000
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import fleet
from broker import Broker
from engine import newest_checkpoint_bytes, rows, runs, start
from programs import wait_for

SECONDS = 60
METRICS = 3


def cpu_seconds(pid: int) -> float:
    """What a process and those below it have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(cpu_seconds(int(child)) for child in children)


def measure(folder: Path, series: int) -> None:
    broker = Broker(folder)
    try:
        broker.create_topics("raw", "anomalies")
        readings = fleet.readings(int(time.time() * 1000) - 600_000, series // METRICS, SECONDS)
        job = start(folder, broker.address)
        try:
            wait_for("the first checkpoint", lambda: runs(job, folder) and any((folder / "checkpoints").rglob("_metadata")), 180)
            at_start = cpu_seconds(job.process.pid)
            broker.send("raw", map(fleet.line, readings), METRICS)
            # The newest of them wait for those that may be late.
            judged = len(readings) * (SECONDS - 8) // SECONDS
            wait_for("windows", lambda: runs(job, folder) and len(rows(folder / "windows")) >= judged, 300)
            cpu = cpu_seconds(job.process.pid) - at_start
        finally:
            job.end()
    finally:
        broker.end()
    size = newest_checkpoint_bytes(folder / "checkpoints")
    print(f"{series} series: {size:,} bytes, {size / series:,.0f} a series; {cpu / judged * 1e6:,.0f} us of a core a reading")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="outrider-flink-") as name:
        measure(Path(name), int(sys.argv[1]))
