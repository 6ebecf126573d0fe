"""How quiet the detectors are in normal life, and what they find of its faults: `python3 tests/normal_life`.

Simulates days of each kind of machine with `firmware-sim record`, judges them with `outrider detect`, and compares what is flagged with the
faults that were made. Needs the release binaries (`cargo build --release --workspace`) and a GB of space for the readings of one kind.

What counts: flags of one series that are closer than 200 s are one episode. An episode that no fault explains is a false alarm, unless it is
of the first day. A fault explains episodes of its series until the series has recovered from it, and a fault of a machine those of all its
series for an hour longer, because all may show it. A gap without a fault is false only of a machine that is never switched off. A fault
is found if its series is flagged while it lasts, or shortly after; one of a machine, if any of its series is.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KINDS = ["vehicle", "tanker", "reefer", "cold-store", "plant"]
# These fall silent whenever they are parked.
PARKING = {"vehicle", "tanker"}
SENSOR_FAULTS = {"spike", "step", "drift", "stuck", "dropout", "noise"}
DAY_MS = 86_400_000
EPISODE_MS = 200_000
# How long after its end a fault may still be found, and how long a series needs to recover from it.
GRACE_MS = 10_000
RECOVERY_MS = {"step": 330_000, "drift": 330_000, "dropout": 60_000}
RECOVERY_DEFAULT_MS = 120_000
MACHINE_RECOVERY_MS = 3_600_000
# A pause of a series within which it still counts as being heard.
PAUSE_MS = 1_000_000


@dataclass
class Fault:
    series: str
    name: str
    start_ms: int
    end_ms: int
    size: float
    is_found: bool = False

    @property
    def device(self) -> str:
        return self.series.split("/")[0]

    @property
    def recovered_ms(self) -> int:
        if self.name not in SENSOR_FAULTS:
            return self.end_ms + MACHINE_RECOVERY_MS
        return self.end_ms + RECOVERY_MS.get(self.name, RECOVERY_DEFAULT_MS)

    def concerns(self, series: str) -> bool:
        return series == self.series or self.name not in SENSOR_FAULTS and series.startswith(self.device + "/")

    def explains(self, series: str, at_ms: int, slack_ms: int) -> bool:
        return self.concerns(series) and self.start_ms <= at_ms <= self.recovered_ms + slack_ms


@dataclass
class Heard:
    """What there is of one series."""

    heard_ms: int = 0
    last_ms: int = 0
    interval_ms: int = PAUSE_MS

    def take(self, at_ms: int) -> None:
        elapsed_ms = at_ms - self.last_ms
        if self.last_ms and elapsed_ms <= PAUSE_MS:
            self.heard_ms += elapsed_ms
            self.interval_ms = min(self.interval_ms, elapsed_ms)
        self.last_ms = at_ms


@dataclass
class Outcome:
    days: float
    false: dict[str, list[tuple[str, int, str]]]
    metric_days: dict[str, float]
    faults: list[Fault]


def read_readings(path: Path) -> dict[str, Heard]:
    heard: dict[str, Heard] = defaultdict(Heard)
    with path.open() as lines:
        for line in lines:
            series, at_ms, _ = line.split(",", 2)
            heard[series].take(int(at_ms))
    return heard


def read_faults(path: Path) -> list[Fault]:
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    return [Fault(series, name, int(start), int(end), float(size)) for series, name, start, end, size in rows]


def judge(
    rows: list[str], heard: dict[str, Heard], faults: list[Fault], first_ms: int, is_parking: bool
) -> Outcome:
    false: dict[str, list[tuple[str, int, str]]] = defaultdict(list)
    by_device: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        by_device[fault.device].append(fault)
    last: dict[str, int] = {}
    for row in rows:
        series, at, _, detector, *_ = row.split(",")
        at_ms, it = int(at), heard[series]
        slack_ms = 2 * it.interval_ms
        explained = [fault for fault in by_device[series.split("/")[0]] if fault.explains(series, at_ms, slack_ms)]
        for fault in explained:
            fault.is_found |= at_ms <= fault.end_ms + GRACE_MS + slack_ms
        if explained or detector == "gap" and is_parking or at_ms < first_ms + DAY_MS:
            continue
        if at_ms - last.get(series, 0) > max(EPISODE_MS, slack_ms):
            false[series.split("/")[1]].append((series, at_ms, detector))
        last[series] = at_ms
    metric_days: dict[str, float] = defaultdict(float)
    for series, it in heard.items():
        metric_days[series.split("/")[1]] += it.heard_ms / DAY_MS
    days = sum(metric_days.values())
    return Outcome(days, false, metric_days, faults)


def run(kind: str, settings: argparse.Namespace, folder: Path) -> Outcome:
    readings, truth = folder / "readings.csv", folder / "faults.csv"
    record = [settings.simulator, "record", "--kind", kind, "--days", settings.days, "--seed", settings.seed]
    record += ["--devices", settings.devices, "--faults-per-day", settings.faults_per_day, "--ground-truth", truth]
    with readings.open("wb") as output:
        subprocess.run([str(word) for word in record], stdout=output, check=True)
    detect = [settings.outrider, "detect", *settings.detect.split(), str(readings)]
    rows = subprocess.run(detect, capture_output=True, text=True, check=True).stdout.splitlines()
    with readings.open() as lines:
        first_ms = int(lines.readline().split(",")[1])
    return judge(rows, read_readings(readings), read_faults(truth), first_ms, kind in PARKING)


def show(kind: str, outcome: Outcome, settings: argparse.Namespace) -> None:
    # The first day is not counted, which is as large a part of the time of being heard.
    share = (settings.days - 1) / settings.days
    total = sum(len(episodes) for episodes in outcome.false.values())
    rates = {metric: len(outcome.false[metric]) / (days * share) for metric, days in outcome.metric_days.items()}
    worst = max(rates, key=rates.get)
    found = sum(fault.is_found for fault in outcome.faults)
    print(
        f"{kind:<11} {outcome.days * share:8.1f} {total / (outcome.days * share):8.2f}"
        f"   {rates[worst]:5.2f} {worst:<24} {found:4} of {len(outcome.faults)}",
        flush=True,
    )
    if settings.verbose:
        for fault in outcome.faults:
            if not fault.is_found:
                seconds = (fault.end_ms - fault.start_ms) / 1000
                print(f"    missed: {fault.series} {fault.name} at {fault.start_ms}, {seconds:.0f} s, {fault.size:g}")
        for episodes in outcome.false.values():
            for series, at_ms, detector in episodes:
                print(f"    false: {series} {detector} at {at_ms}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/normal_life", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this kind; may be repeated")
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--devices", type=int, default=6)
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--faults-per-day", type=float, default=0.5, help="of each device")
    parser.add_argument("--detect", default="", help="more arguments for outrider detect")
    parser.add_argument("--verbose", action="store_true", help="list what was missed and what was false")
    parser.add_argument("--outrider", type=Path, default=ROOT / "target/release/outrider")
    parser.add_argument("--simulator", type=Path, default=ROOT / "target/release/firmware-sim")
    settings = parser.parse_args()
    if settings.days < 2:
        parser.error("--days: at least 2, because the first day is not counted")
    print(f"{'':<11} {'sensor':>8} {'false':>8}   {'worst kind of signal':<30} {'faults':>6}")
    print(f"{'kind':<11} {'days':>8} {'a day':>8}   {'a day':<30} {'found':>6}")
    outcomes = []
    for kind in settings.kind or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(run(kind, settings, Path(folder)))
        show(kind, outcomes[-1], settings)
    faults = [fault for outcome in outcomes for fault in outcome.faults]
    found = sum(fault.is_found for fault in faults)
    print(f"found {found} of {len(faults)} faults: {found / max(len(faults), 1):.3f}")
    by_name: dict[str, list[bool]] = defaultdict(list)
    for fault in faults:
        by_name[fault.name].append(fault.is_found)
    print(", ".join(f"{name} {sum(found)} of {len(found)}" for name, found in sorted(by_name.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
