#!/usr/bin/env python3
"""Writes the golden vectors of src/core/models/golden: a file for each kind of model, and what scikit-learn makes of many rows.

Run it with the versions of `pip install .[test]`. The data are made up here, by a seed, so nothing is fetched; the files change only if models,
format or scikit-learn do. Rows lie on thresholds, and so close beside them that single precision decides, as well as far away.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import outrider_models
from outrider_models.writer import outputs

FOLDER = Path(__file__).resolve().parents[2] / "src/core/models/golden"
INPUTS = ["engine_temperature.mean", "engine_temperature.slope", "vibration.deviation", "vibration.count", "load"]
ROWS_TRAINED, ROWS_KEPT = 300, 30


def data():
    random = np.random.default_rng(20)
    rows = random.normal(0.0, 1.0, (ROWS_TRAINED, len(INPUTS))) * [12.0, 0.4, 3.0, 2.0, 1e6] + [88.0, 0.0, 5.0, 10.0, -3e6]
    heat = (rows[:, 0] - 88.0) / 12.0 + rows[:, 2] / 3.0 + 0.3 * random.normal(size=ROWS_TRAINED)
    return rows, heat, np.digitize(heat, [0.8, 2.5])


def models(rows, heat, grades):
    is_hot = np.where(heat > 1.7, "hot", "well")
    names = np.array(["well", "warm", "hot"])[grades]
    scaled = lambda estimator: make_pipeline(StandardScaler(), estimator)  # noqa: E731
    yield "linear", scaled(LinearRegression()).fit(rows, heat)
    yield "ridge", Ridge(alpha=2.0).fit(rows, heat)
    yield "logistic", scaled(LogisticRegression()).fit(rows, is_hot)
    yield "logistic_of_three", scaled(LogisticRegression()).fit(rows, names)
    yield "network_relu", scaled(MLPRegressor(hidden_layer_sizes=(12, 6), max_iter=300, random_state=1)).fit(rows, heat)
    yield "network_tanh", scaled(MLPClassifier(hidden_layer_sizes=(8,), activation="tanh", max_iter=300, random_state=1)).fit(rows, is_hot)
    yield "network_logistic", scaled(MLPClassifier(hidden_layer_sizes=(8, 8), activation="logistic", max_iter=300, random_state=1)).fit(rows, names)
    yield "network_identity", scaled(MLPRegressor(hidden_layer_sizes=(4,), activation="identity", max_iter=300, random_state=1)).fit(rows, heat)
    yield "tree", DecisionTreeClassifier(max_depth=5, random_state=1).fit(rows, grades)
    yield "tree_regressor", DecisionTreeRegressor(max_depth=5, random_state=1).fit(rows, heat)
    yield "leaf", DecisionTreeRegressor(max_depth=5).fit(rows, np.ones(len(rows)))
    yield "forest", scaled(RandomForestClassifier(9, max_depth=5, random_state=1)).fit(rows, names)
    yield "forest_regressor", RandomForestRegressor(11, max_depth=5, random_state=1).fit(rows, heat)
    yield "boosting", GradientBoostingClassifier(n_estimators=12, random_state=1).fit(rows, is_hot)
    yield "boosting_of_three", scaled(GradientBoostingClassifier(n_estimators=8, random_state=1)).fit(rows, names)
    yield "boosting_exponential", GradientBoostingClassifier(n_estimators=8, loss="exponential", random_state=1).fit(rows, is_hot)
    yield "boosting_from_zero", GradientBoostingClassifier(n_estimators=8, init="zero", random_state=1).fit(rows, is_hot)
    yield "boosting_regressor", GradientBoostingRegressor(n_estimators=12, random_state=1).fit(rows, heat)
    yield "boosting_huber", GradientBoostingRegressor(n_estimators=8, loss="huber", random_state=1).fit(rows, heat)
    yield "isolation", IsolationForest(n_estimators=12, max_samples=64, random_state=1).fit(rows)
    yield "isolation_of_some_columns", scaled(IsolationForest(n_estimators=12, max_samples=48, max_features=0.6, contamination=0.05, random_state=1)).fit(rows)


def on_the_edge(document, rows):
    """Rows of which one value is at a threshold, or as close beside it as it can be in double or in single precision."""
    scaler = document.get("scaler", {"mean": [0.0] * len(INPUTS), "scale": [1.0] * len(INPUTS)})
    edges = []
    for tree in document["estimator"].get("trees", ()):
        for column, threshold in list(zip(tree["input"], tree["threshold"], strict=True))[:2]:
            single = np.float32(threshold)
            beside = [threshold, np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf), threshold * (1.0 + 2e-8)]
            beside += [float(np.nextafter(single, np.float32(to))) for to in (np.inf, -np.inf)] + [float(single)]
            for value in beside:
                row = rows[len(edges) % len(rows)].copy()
                row[column] = value * scaler["scale"][column] + scaler["mean"][column]
                edges.append(row)
    return np.array(edges[:: max(1, len(edges) // ROWS_KEPT)]).reshape(-1, len(INPUTS))


def windows():
    """A model of all features of two metrics, readings of them that are neither regular nor in step, and what it makes of their windows."""
    random = np.random.default_rng(21)
    inputs = [f"heat.{feature}" for feature in outrider_models.FEATURES] + ["current.mean", "current.slope", "current.deviation"]
    training = random.normal(size=(60, len(inputs)))
    model = LinearRegression().fit(training, training @ np.arange(1.0, 1.0 + len(inputs)))
    document = outrider_models.describe(model, inputs)
    readings = {}
    for metric, count, level in (("heat", 90, 80.0), ("current", 60, 12.0)):
        # In whole milliseconds, as the gateway has them; some at one time, and a silence in the middle.
        times = np.sort(random.integers(0, 40_000, count))
        times[times > 20_000] += 9_000
        readings[metric] = times, level + random.normal(size=count).cumsum()
    times, rows = outrider_models.rows({metric: (at / 1000.0, values) for metric, (at, values) in readings.items()}, inputs)
    scores = outrider_models.evaluate(document, rows)[:, 0]
    listed = [[int(at), metric, value] for metric, (ats, values) in readings.items() for at, value in zip(ats, values, strict=True)]
    return {
        "model": document,
        "readings": sorted(listed, key=lambda one: one[0]),
        "scores": [[round(at * 1000.0), score] for at, score in zip(times, scores, strict=True)],
    }


def main():
    warnings.filterwarnings("ignore", message="Stochastic Optimizer")
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "windows.json").write_text(json.dumps(windows(), separators=(",", ":"), allow_nan=False) + "\n")
    rows, heat, grades = data()
    for name, model in models(rows, heat, grades):
        document = outrider_models.export(model, INPUTS, FOLDER / f"{name}.json", examples=rows[:4])
        far = np.vstack([rows[:5] * 1e3, -rows[:5] * 1e6])
        tried = np.vstack([rows[-ROWS_KEPT:], on_the_edge(document, rows), far])
        cases = {"inputs": tried.tolist(), "outputs": outputs(model, tried).tolist()}
        (FOLDER / f"{name}.cases.json").write_text(json.dumps(cases, separators=(",", ":"), allow_nan=False) + "\n")
        print(f"{name}: {len(tried)} rows", file=sys.stderr)


if __name__ == "__main__":
    main()
