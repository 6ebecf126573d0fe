#!/usr/bin/env python3
"""What somebody does in a notebook who has recorded a pump for a quarter of an hour: features, a model, its file.

Writes pump.json into the folder that is named, and readings of a healthy and of a failing pump, readings.csv, as `outrider rules backtest` reads
them; prints how many of the windows of each the model finds unusual.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import outrider_models

INPUTS = ["vibration.deviation", "vibration.maximum", "motor_current.mean", "motor_current.slope"]
THRESHOLD = 0.6
BEGAN_MS = 1_790_000_000_000

random = np.random.default_rng(5)


def recorded(seconds, vibration, current):
    times = np.arange(float(seconds))
    return {
        "vibration": (times, vibration + 0.3 * random.normal(size=seconds)),
        "motor_current": (times, current + 0.5 * random.normal(size=seconds)),
    }


folder = Path(sys.argv[1])
healthy = recorded(900, 2.0, 10.0)
times, rows = outrider_models.rows(healthy, INPUTS)
model = make_pipeline(StandardScaler(), IsolationForest(n_estimators=100, random_state=1)).fit(rows)
outrider_models.export(model, INPUTS, folder / "pump.json")

# A bearing that fails: it shakes, and the motor works against it.
failing = recorded(60, 2.0, 10.0)
shaking = np.where(np.arange(60) % 2 == 0, 9.0, -3.0)
failing["vibration"] = failing["vibration"][0], failing["vibration"][1] + shaking
failing["motor_current"] = failing["motor_current"][0], failing["motor_current"][1] + 12.0
for name, readings in (("healthy", healthy), ("failing", failing)):
    _, found = outrider_models.rows(readings, INPUTS)
    unusual = (-model.score_samples(found) > THRESHOLD).sum()
    print(name, len(found), unusual)

lines = [
    f"pump-7/{metric},{BEGAN_MS + offset_ms + int(time * 1000)},{value}"
    for offset_ms, readings in ((0, healthy), (900_000, failing))
    for metric, (seconds, values) in readings.items()
    for time, value in zip(seconds, values, strict=True)
]
lines.sort(key=lambda line: int(line.split(",")[1]))
(folder / "readings.csv").write_text("\n".join(lines) + "\n")
