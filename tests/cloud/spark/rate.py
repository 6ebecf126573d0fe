"""What the job takes: prints readings a second, processor time and memory for a number of readings that wait in Kafka.

tests/fetch tests/cloud/kafka/setup tests/cloud/opensearch/setup tests/cloud/spark/setup
SPARK_TESTS=tests/.cache/spark KAFKA_JARS=tests/.cache/kafka/jars OPENSEARCH_INSTALLED=tests/.cache/opensearch/home \
PYTHONPATH=tests/cloud:tests/cloud/kafka:tests/cloud/spark:cloud/spark tests/.cache/spark/venv/bin/python tests/cloud/spark/rate.py 1000000
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from broker import Broker
from job import Job
from opensearch import OpenSearch
from programs import wait_for
from test_job import prepare_command

DEVICES = 60
METRICS = ["engine_temperature", "oil_pressure", "container_temperature", "battery_voltage", "latitude", "longitude", "vehicle_speed", "fuel_level"]
PARTITIONS = 6
# Some 64 KiB, which is what a record of the gateway's sinks holds.
LINES_MAX = 260


def lines(count: int) -> Iterator[tuple[str, bytes]]:
    now_ms = int(time.time() * 1000)
    for position in range(1, count + 1):
        device = f"truck-{position % DEVICES:02}"
        at_ms = now_ms - (count - position) // len(METRICS)
        record = {
            **{"v": 1, "type": "reading", "gateway": "truck-0042", "run": "6f1c8dad42106ace", "position": position, "device": device},
            **{"metric": METRICS[position // DEVICES % len(METRICS)], "value": 20 + position * 7919 % 1000 / 100},
            **{"measured_at_ms": at_ms, "received_at_ms": at_ms + 3, "time_quality": "synced"},
        }
        yield f"truck-0042/{device}", json.dumps(record, separators=(",", ":")).encode() + b"\n"


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, count: int) -> None:
    broker = Broker(folder)
    opensearch = OpenSearch(folder)
    try:
        broker.create_topics("raw", "anomalies", partitions=PARTITIONS)
        subprocess.run(prepare_command(opensearch.url), check=True, stdout=subprocess.DEVNULL)
        broker.send("raw", lines(count), LINES_MAX)
        search_before = cpu_seconds(opensearch.pid)
        job = Job(folder, broker.address, opensearch.url)
        try:
            cpu_before, started = job.cpu_seconds(), time.monotonic()
            wait_for("all of them", lambda: job.metrics().get("lag_records") == 0, 900)
            took, cpu, search_cpu = time.monotonic() - started, job.cpu_seconds() - cpu_before, cpu_seconds(opensearch.pid) - search_before
            memory = {name: size for name, size in job.memory_bytes().items() if size > 20e6}
        finally:
            job.end()
        stored = opensearch.count("outrider-readings-*")
        opensearch.call("POST", "/outrider-readings-*/_forcemerge?max_num_segments=1&flush=true")
        size = opensearch.call("GET", "/outrider-readings-*/_stats/store")["_all"]["primaries"]["store"]["size_in_bytes"]
    finally:
        opensearch.end()
        broker.end()
    print(f"{stored:,} readings in {took:.0f} s, {stored / took:,.0f} a second; {size / stored:.0f} bytes of disk a reading")
    print(f"processor time of a reading: the job {cpu / stored * 1e6:.1f} us, OpenSearch {search_cpu / stored * 1e6:.1f} us")
    print("memory of the job:", ", ".join(f"{name.split()[0]} {size / 1e6:.0f} MB" for name, size in memory.items()))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="outrider-spark-") as name:
        measure(Path(name), int(sys.argv[1]))
