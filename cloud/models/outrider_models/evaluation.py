"""Evaluates a file as the gateway does: an oracle for tests, and for whoever wants to look at a file without a gateway."""

import math

import numpy as np


def evaluate(document, rows):
    """What the model of a document makes of rows of inputs: a row each, of a value, of probabilities, or of the two numbers of an outlier."""
    rows = np.asarray(rows, np.float64)
    scaler = document.get("scaler")
    if scaler:
        rows = (rows - np.array(scaler["mean"])) / np.array(scaler["scale"])
    estimator = document["estimator"]
    found = _KINDS[estimator["type"]](estimator, rows)
    if len(document.get("labels", ())) == 2 and found.shape[1] == 1:
        found = np.hstack([1.0 - found, found])
    return found


def _dense(estimator, rows):
    for layer in estimator["layers"]:
        rows = _activate(layer["activation"], rows @ np.array(layer["weights"]).T + np.array(layer["bias"]))
    return rows


def _forest(estimator, rows):
    return sum(_leaves(tree, rows) for tree in estimator["trees"]) / len(estimator["trees"])


def _boosting(estimator, rows):
    sums = np.tile(np.array(estimator["initial"]), (len(rows), 1))
    for number, tree in enumerate(estimator["trees"]):
        sums[:, number % sums.shape[1]] += estimator["rate"] * _leaves(tree, rows)[:, 0]
    return _activate(estimator["link"], sums)


def _isolation(estimator, rows):
    length = sum(_leaves(tree, rows)[:, 0] for tree in estimator["trees"]) / len(estimator["trees"])
    score = -(2.0 ** (-length / usual_length(estimator["samples"])))
    return np.column_stack([score, score - estimator["offset"]])


_KINDS = {"dense": _dense, "forest": _forest, "boosting": _boosting, "isolation_forest": _isolation}


def _activate(name, sums):
    with np.errstate(over="ignore"):
        match name:
            case "identity":
                return sums
            case "relu":
                return np.maximum(sums, 0.0)
            case "tanh":
                return np.tanh(sums)
            case "logistic":
                return 1.0 / (1.0 + np.exp(-sums))
            case "softmax":
                powers = np.exp(sums - sums.max(axis=1, keepdims=True))
                return powers / powers.sum(axis=1, keepdims=True)
    raise ValueError(f"no activation {name!r}")


def _leaves(tree, rows):
    """The values of the leaf in which each row ends."""
    leaves = np.array(tree["leaves"]).reshape(len(tree["input"]) + 1, -1)
    single = rows.astype(np.float32)
    found = np.empty((len(rows), leaves.shape[1]))
    for number, row in enumerate(single):
        at = 0 if tree["input"] else -1
        while at >= 0:
            # A value of single precision beside a threshold of double precision, as in scikit-learn.
            is_left = float(row[tree["input"][at]]) <= tree["threshold"][at]
            at = tree["left" if is_left else "right"][at]
        found[number] = leaves[-1 - at]
    return found


def usual_length(samples):
    """The usual length of the way to one of so many samples in a tree that was grown at random."""
    if samples <= 1:
        return 0.0
    if samples == 2:
        return 1.0
    return 2.0 * (math.log(samples - 1.0) + np.euler_gamma) - 2.0 * (samples - 1.0) / samples
