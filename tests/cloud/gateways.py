"""Real gateways with an archive, and other sinks beside it: what they have kept, and what their detectors say of each window."""

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard
from programs import Program, binary, run_fleet

Line = tuple[dict[str, Any], bytes]


class Gateway:
    """One run of a gateway with a fleet before it, to its clean end."""

    def __init__(self, folder: Path, name: str, *fleet: str, sinks: str = "") -> None:
        self.archive = folder / "archive"
        folder.mkdir()
        configuration = folder / "outrider.toml"
        configuration.write_text(
            f'[gateway]\nid = "{name}"\n[store]\npath = "{folder / "state"}"\n[mqtt]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
            f'[[sink]]\nname = "files"\ntype = "archive"\npath = "{self.archive}"\n{sinks}'
        )
        program = Program([binary("outrider"), "run", "--config", str(configuration)], folder / "gateway.log", {})
        try:
            self.summary = run_fleet(program.ready()["mqtt"], *fleet)
        finally:
            program.end()

    def lines(self, stream: str) -> list[Line]:
        """All records of a stream in their order, parsed and as they are."""
        lines = [(json.loads(line), line) for path in (self.archive / stream).rglob("*.zst") for line in _decompressed(path)]
        return sorted(lines, key=lambda entry: entry[0]["position"])


def _decompressed(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))


def statistics(readings: list[dict[str, Any]]) -> dict[tuple[str, int], tuple[int, float, float]]:
    """Number, mean and deviation of the window of each reading, as the gateway computes them, by series and time."""
    rows = "".join(f"{series(reading)},{reading['measured_at_ms']},{reading['value']!r}\n" for reading in readings)
    done = subprocess.run([binary("outrider"), "detect", "--stats"], input=rows, capture_output=True, text=True, check=True)
    found = {}
    for row in done.stdout.splitlines():
        name, at_ms, n, mean, deviation = row.split(",")
        found[name, int(at_ms)] = (int(n), float(mean), float(deviation))
    return found


def series(record: dict[str, Any]) -> str:
    return f"{record['gateway']}/{record['device']}/{record['metric']}"
