"""A synthetic fleet, of which everything is known: two trucks shaken at one place, one that runs hot, and one that falls silent."""

import json
import random
from collections import Counter
from typing import Any

SECONDS = 150
SHAKEN = ("van-01", "van-02")
SHAKEN_AT = 60
HOT = "van-05"
SILENT = "van-07"
SILENT_AFTER = 40
VANS = 9


def readings(start_ms: int, vans: int = VANS, seconds: int = SECONDS) -> list[dict[str, Any]]:
    """In the order of their times. The vans stand some hundred metres apart; van-08 is shaken, too, far away."""
    chance = random.Random(3)
    records: list[dict[str, Any]] = []
    positions: Counter[str] = Counter()
    for second in range(seconds):
        for number in range(1, vans + 1):
            van = f"van-{number:02}"
            if van == SILENT and second > SILENT_AFTER:
                continue
            values = {
                "latitude": 48.1 + (0.5 if van == "van-08" else 0.002 * number) + chance.gauss(0, 1e-5),
                "longitude": 11.5 + chance.gauss(0, 1e-5),
                "axle_load": (40 if van == HOT else 10) + chance.gauss(0, 0.05) + (25 if van in (*SHAKEN, "van-08") and second == SHAKEN_AT else 0),
            }
            for metric, value in values.items():
                positions[van] += 1
                records.append(
                    {
                        "v": 1,
                        "type": "reading",
                        "gateway": van,
                        "run": "0000000000000001",
                        "position": positions[van],
                        "device": "van",
                        "metric": metric,
                        "value": value,
                        "measured_at_ms": start_ms + 1_000 * second + number,
                        "received_at_ms": start_ms + 1_000 * second + number + 5,
                        "time_quality": "synced",
                        "attributes": {"model": "sprinter"},
                    }
                )
    return records


def line(record: dict[str, Any]) -> tuple[str, bytes]:
    """Its partition key, and the record as it is sent."""
    return f"{record['gateway']}/{record['device']}", json.dumps(record).encode() + b"\n"
