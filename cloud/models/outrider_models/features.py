"""What the gateway computes of the readings of a window. A model has to be trained on the same numbers as it is given later."""

import math

import numpy as np

FEATURES = ("mean", "deviation", "minimum", "maximum", "slope", "last", "count")


def parse(name):
    """An input's name as its metric and feature: what stands behind the last dot. `None` if it is no feature."""
    metric, dot, feature = name.rpartition(".")
    return (metric, feature) if dot and metric and feature in FEATURES else None


def window(times, values):
    """All features of the readings of one window; times in seconds, ascending. NaN where there are too few readings."""
    times, values = np.asarray(times, float), np.asarray(values, float)
    count = len(values)
    if count == 0:
        return {name: math.nan for name in FEATURES} | {"count": 0.0}
    mean = values.mean()
    found = {
        "mean": mean,
        "deviation": math.sqrt(((values - mean) ** 2).mean()) if count > 1 else math.nan,
        "minimum": values.min(),
        "maximum": values.max(),
        "slope": math.nan,
        "last": values[-1],
        "count": float(count),
    }
    apart = times - times.mean()
    squares = (apart**2).sum()
    if squares > 0:
        found["slope"] = (apart * (values - mean)).sum() / squares
    return {name: float(value) for name, value in found.items()}


def rows(readings, inputs, window_s=10.0):
    """Times and rows at which the gateway would give the model its inputs, and what it would give.

    `readings` are times (seconds) and values of each metric, `{"speed": (times, values)}`. A row is made for each time T at which all metrics
    of the inputs have been heard at T or later, of the readings in (T - window, T] of each. None is made when a metric is behind the newest
    one by more than half a window, or a feature is missing.
    """
    wanted = []
    for name in inputs:
        of = parse(name)
        if of is None:
            raise ValueError(f"{name!r} is not the name of a metric and one of {', '.join(FEATURES)}, as in 'speed.mean'")
        if of[0] not in readings:
            raise ValueError(f"there are no readings of {of[0]!r}")
        wanted.append(of)
    series = {}
    for metric in {metric for metric, _ in wanted}:
        times, values = (np.asarray(column, float) for column in readings[metric])
        order = np.argsort(times, kind="stable")
        order = order[np.isfinite(values[order])]
        series[metric] = times[order], values[order]
    scored, found, before = [], [], None
    for now in np.unique(np.concatenate([times for times, _ in series.values()])):
        newest = [times[np.searchsorted(times, now, "right") - 1] if times[:1] <= now else -math.inf for times, _ in series.values()]
        at = min(newest)
        if at == before or not now - at <= window_s / 2:
            continue
        before = at
        features = {}
        for metric, (times, values) in series.items():
            first, end = np.searchsorted(times, [at - window_s, at], "right")
            features[metric] = window(times[first:end], values[first:end])
        row = [features[metric][feature] for metric, feature in wanted]
        if all(map(math.isfinite, row)):
            scored.append(at)
            found.append(row)
    return np.array(scored), np.array(found, float).reshape(len(found), len(wanted))
