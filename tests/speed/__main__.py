"""Measures the release binaries on this machine and prints one table: `python3 tests/speed`.

The gateway, the load generator and a counting fake cloud share the machine, so their own processor time stands beside. A plain log that
is synced after each write is measured in the same run: what the disk gives today. Medians of several runs.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import scenarios  # noqa: E402
from processes import BINARIES, ROOT, Failed  # noqa: E402

SCENARIOS = {
    "yardstick": lambda quick: scenarios.yardstick(),
    "idle": lambda quick: scenarios.idle(),
    "saturated": lambda quick: scenarios.saturated(8 if quick else 20),
    "files": lambda quick: scenarios.files(8 if quick else 20, 2_000_000 if quick else 5_000_000),
    "paced": lambda quick: scenarios.paced(10 if quick else 30),
    "alerts": lambda quick: scenarios.alerts(20 if quick else 60),
    "catch_up": lambda quick: scenarios.catch_up(1_000_000 if quick else 2_000_000),
    "limited_shards": lambda quick: scenarios.limited_shards(),
    "throttled_records": lambda quick: scenarios.throttled_records(8 if quick else 20),
    # Longer than the time after which a snapshot is due in any case.
    "many_series": lambda quick: scenarios.many_series(660 if quick else 1_260),
    "encrypted": lambda quick: scenarios.encrypted(10 if quick else 30),
    "waiting_client": lambda quick: scenarios.waiting_client(5 if quick else 20),
}
for rate in scenarios.VEHICLES:
    SCENARIOS[f"vehicle_{rate}"] = lambda quick, rate=rate: scenarios.vehicle(rate, 60 if quick else 180)
    SCENARIOS[f"link_{rate}"] = lambda quick, rate=rate: scenarios.link(rate, 60 if quick else 180)
    SCENARIOS[f"mosquitto_{rate}"] = lambda quick, rate=rate: scenarios.mosquitto(rate, 20 if quick else 60)
for rate in (10, 100):
    SCENARIOS[f"alerts_{rate}"] = lambda quick, rate=rate: scenarios.alerts(20 if quick else 60, rate, scenarios.VEHICLES[rate])

# scenario, number, what it is, aim, floor, whether more is better
ROWS = [
    ("saturated", "acknowledged_per_second", "saturated, acknowledged a second", 100_000, 70_000, True),
    ("saturated", "delivered_per_second", "saturated, delivered a second", 100_000, 70_000, True),
    ("saturated", "cpu_s_per_million", "saturated, CPU s a million readings", 8, 12, False),
    ("files", "ratio", "lines of files, times the publishes acknowledged", 1, 0.8, True),
    ("paced", "cpu_s_per_million", "2,000 a second, CPU s a million readings", 15, 18, False),
    ("idle", "idle_rss_mb", "idle with Kinesis configured, RSS MB", 12, 20, False),
    ("paced", "peak_rss_mb", "2,000 a second, peak RSS MB", 15, 25, False),
    ("saturated", "peak_rss_mb", "saturated, peak RSS MB", 30, 60, False),
    ("paced", "cloud_ms_p50", "2,000 a second, publish to cloud p50 ms", 30, 50, False),
    ("paced", "cloud_ms_p99", "2,000 a second, publish to cloud p99 ms", 60, 100, False),
    ("alerts", "alert_ms_p99", "2,000 a second, publish to alert p99 ms", 25, 50, False),
    ("catch_up", "catch_up_per_second", "catch-up after an outage, readings a second", 60_000, 40_000, True),
    ("limited_shards", "shards_catch_up_ratio", "catch-up with limited shards, times the ideal", 1.1, 1.3, False),
    ("throttled_records", "goodput", "10 % of records throttled, goodput", 0.98, 0.95, True),
    ("vehicle_10", "written_bytes", "10 a second, bytes written a reading", 2_000, 2_000, False),
    ("vehicle_100", "written_bytes", "100 a second, bytes written a reading", 1_000, 1_000, False),
    ("vehicle_2000", "written_bytes", "2,000 a second, bytes written a reading", 333, 380, False),
    ("many_series", "written_bytes", "1,000 series at 10 a second, bytes written a reading", 2_000, 2_000, False),
    ("vehicle_10", "cpu_ms", "10 a second, CPU ms a reading", 0.6, 0.6, False),
    ("vehicle_100", "cpu_ms", "100 a second, CPU ms a reading", 0.25, 0.25, False),
    ("vehicle_2000", "cpu_ms", "2,000 a second, CPU ms a reading", 0.045, 0.045, False),
    ("vehicle_10", "puback_ms_p99", "10 a second, publish to PUBACK p99 ms", 1_200, 1_200, False),
    ("vehicle_2000", "puback_ms_p99", "2,000 a second, publish to PUBACK p99 ms", 100, 100, False),
    ("waiting_client", "acknowledged_per_second", "one client that waits, publishes a second", 60, 60, True),
    ("link_10", "lean_body_bytes", "10 a second, lean link, request body bytes a reading", 100, 100, False),
    ("link_100", "lean_body_bytes", "100 a second, lean link, request body bytes a reading", 60, 60, False),
    ("link_2000", "lean_body_bytes", "2,000 a second, lean link, request body bytes a reading", 50, 50, False),
    ("encrypted", "cpu_ratio", "2,000 a second, CPU of TLS, times that of plain", 1.5, 1.5, False),
    ("alerts_10", "alert_ms_p99", "10 a second, publish to alert p99 ms", 25, 50, False),
    ("alerts_100", "alert_ms_p99", "100 a second, publish to alert p99 ms", 25, 50, False),
]
# Numbers without an aim, to put the others into perspective.
BESIDE = [
    ("link_10", "default_body_bytes", "10 a second, request body bytes a reading with the defaults"),
    ("link_100", "default_body_bytes", "100 a second, request body bytes a reading with the defaults"),
    ("link_2000", "default_body_bytes", "2,000 a second, request body bytes a reading with the defaults"),
    ("yardstick", "log_readings_per_second", "plain synced log, readings a second (500 a sync)"),
    ("yardstick", "fsync_ms_p50", "plain synced log, sync p50 ms"),
    ("yardstick", "fsync_ms_p99", "plain synced log, sync p99 ms"),
    ("files", "lines_per_second", "lines of files, stored a second"),
    ("saturated", "generator_cpu_s_per_million", "saturated, the load generator's own CPU s a million"),
    ("saturated", "cloud_cpu_s_per_million", "saturated, the fake cloud's own CPU s a million"),
    ("saturated", "puback_ms_p99", "saturated, publish to PUBACK p99 ms"),
    ("paced", "puback_ms_p50", "2,000 a second, publish to PUBACK p50 ms"),
    ("alerts", "alert_ms_p50", "2,000 a second, publish to alert p50 ms"),
    ("catch_up", "catch_up_cpu_s_per_million", "catch-up, CPU s a million readings"),
    ("catch_up", "catch_up_peak_rss_mb", "catch-up, peak RSS MB (the outage included)"),
    ("limited_shards", "shards_ideal_s", "catch-up with limited shards, the ideal in s"),
    ("vehicle_10", "puback_ms_p50", "10 a second, publish to PUBACK p50 ms"),
    ("vehicle_100", "puback_ms_p50", "100 a second, publish to PUBACK p50 ms"),
    ("vehicle_100", "puback_ms_p99", "100 a second, publish to PUBACK p99 ms"),
    ("encrypted", "plain_cpu_ms", "2,000 a second, CPU ms a reading in the clear"),
    ("encrypted", "tls_cpu_ms", "2,000 a second, CPU ms a reading by TLS"),
    ("encrypted", "tls_puback_ms_p99", "2,000 a second, publish to PUBACK p99 ms by TLS"),
    ("encrypted", "mosquitto_cpu_ms", "Mosquitto with TLS and its database, CPU ms a message"),
    ("encrypted", "mosquitto_puback_ms_p99", "Mosquitto with TLS, publish to PUBACK p99 ms"),
    ("mosquitto_10", "cpu_ms", "Mosquitto, 10 a second, CPU ms a message"),
    ("mosquitto_100", "cpu_ms", "Mosquitto, 100 a second, CPU ms a message"),
    ("mosquitto_2000", "cpu_ms", "Mosquitto, 2,000 a second, CPU ms a message"),
    ("mosquitto_2000", "puback_ms_p99", "Mosquitto, 2,000 a second, publish to PUBACK p99 ms"),
]


def measure(names, runs, quick):
    results = {}
    for run in range(1, runs + 1):
        for name in names:
            print(f"run {run} of {runs}: {name}", file=sys.stderr, flush=True)
            try:
                numbers = SCENARIOS[name](quick)
            except Failed as failure:
                print(f"  failed: {failure}", file=sys.stderr)
                results.setdefault((name, "failed"), []).append(str(failure))
                continue
            for number, value in numbers.items():
                results.setdefault((name, number), []).append(value)
    return results


def shown(value):
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def judged(median, aim, floor, more_is_better):
    reaches = (lambda bound: median >= bound) if more_is_better else (lambda bound: median <= bound)
    return "aim reached" if reaches(aim) else "within the floor" if reaches(floor) else "BELOW THE FLOOR"


def print_table(results, runs):
    print(f"{platform.machine()}, {os.cpu_count()} cores shared by all; medians of {runs}, range in brackets\n")
    print(f"| {'':<50} | {'measured':>30} | {'aim':>8} | {'floor':>8} | |\n|{'-' * 52}|{'-' * 31}:|{'-' * 9}:|{'-' * 9}:|---|")

    def cell(values):
        return f"{shown(statistics.median(values))} ({shown(min(values))} to {shown(max(values))})"

    for scenario, number, what, aim, floor, more in ROWS:
        if values := results.get((scenario, number)):
            verdict = judged(statistics.median(values), aim, floor, more)
            print(f"| {what:<50} | {cell(values):>30} | {shown(aim):>8} | {shown(floor):>8} | {verdict} |")
    for scenario, number, what in BESIDE:
        if values := results.get((scenario, number)):
            print(f"| {what:<50} | {cell(values):>30} | {'':>8} | {'':>8} | |")
    for (scenario, number), failures in results.items():
        if number == "failed":
            print(f"\n{scenario} failed {len(failures)} times: {failures[0]}")


def main():
    parser = argparse.ArgumentParser(prog="python3 tests/speed", description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="how often everything is measured (default 3)")
    parser.add_argument("--quick", action="store_true", help="shorter measurements")
    parser.add_argument("--no-build", action="store_true", help="take the release binaries as they are")
    parser.add_argument("scenarios", nargs="*", help=f"some of: {', '.join(SCENARIOS)} (default all)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    if not arguments.no_build:
        subprocess.run(["cargo", "build", "--release", "--locked", "--workspace"], cwd=ROOT, check=True)
    if not (BINARIES / "outrider").exists():
        sys.exit(f"no binaries in {BINARIES}")
    results = measure(arguments.scenarios or list(SCENARIOS), arguments.runs, arguments.quick)
    print_table(results, arguments.runs)
    return 1 if any(number == "failed" for _, number in results) else 0


if __name__ == "__main__":
    sys.exit(main())
