"""The job of cloud/flink over Kafka, with its findings and windows in files."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from programs import ROOT, Program


def runs(job: Program, folder: Path) -> bool:
    assert job.process.poll() is None, f"the job ended: {(folder / 'flink.log').read_text()[-3000:]}"
    return True


def rows(folder: Path) -> list[dict[str, Any]]:
    """What a sink of files has committed."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((".", "_"))]
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def newest_checkpoint_bytes(folder: Path) -> int:
    complete = [path.parent for path in folder.rglob("_metadata")]
    newest = max(complete, key=lambda path: int(path.name.removeprefix("chk-")))
    return sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())


def start(folder: Path, kafka: str) -> Program:
    """The job, as a process of its own."""

    def topic(name: str) -> dict[str, str]:
        return {"connector": "kafka", "topic": name, "properties.bootstrap.servers": kafka, "scan.startup.mode": "earliest-offset"}

    def files(name: str) -> dict[str, str]:
        rolling = {"sink.rolling-policy.rollover-interval": "2 s", "sink.rolling-policy.check-interval": "1 s"}
        return {"connector": "filesystem", "path": str(folder / name), "format": "json", **rolling}

    flink = {
        "parallelism.default": "2",
        "table.exec.source.idle-timeout": "3 s",
        "execution.checkpointing.interval": "3 s",
        "execution.checkpointing.dir": f"file://{folder / 'checkpoints'}",
        "execution.checkpointing.num-retained": "3",
        "pipeline.jars": f"file://{next((Path(os.environ['FLINK_TESTS']) / 'connector').glob('*.jar'))}",
    }
    groups = {
        "source.raw": topic("raw"),
        "source.anomalies": topic("anomalies"),
        "sink.findings": files("findings"),
        "sink.windows": files("windows"),
        "flink": flink,
    }
    properties = folder / "properties.json"
    properties.write_text(json.dumps([{"PropertyGroupId": name, "PropertyMap": options} for name, options in groups.items()]))
    return Program([sys.executable, str(ROOT / "cloud/flink/main.py"), "--properties", str(properties)], folder / "flink.log", {})
