"""From a trained model of scikit-learn to the document that the gateway reads."""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import sklearn

from . import evaluation, features

FORMAT, VERSION = "outrider-model", 1
# A document that computes anything else than its model is not written.
TOLERANCE = 1e-9
EXAMPLES_DEFAULT, EXAMPLES_MAX = 32, 256


class CannotExport(ValueError):
    """The model has something that the gateway cannot evaluate. The text names it."""


def export(model, inputs, file, *, examples=None):
    """Writes a trained model into a file for `[[model]] file = ...`.

    `inputs` are the names of its columns, in the order in which it was trained: `"engine_temperature.mean"` is the mean of this metric over the
    window; a name that is no feature is one that a rule gives. `examples` are rows that the gateway is to try whenever it reads the file; without
    them, some are made.
    """
    document = describe(model, inputs, examples=examples)
    file = Path(file)
    # Whoever watches the file must not read half of it.
    beside = file.with_name(file.name + ".new")
    beside.write_text(json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n", encoding="utf-8")
    os.replace(beside, file)
    return document


def describe(model, inputs, *, examples=None):
    """The document that `export` writes."""
    scaler, estimator = _parts(model)
    inputs = [_input(name) for name in inputs]
    _check_inputs(model, estimator, [one["name"] for one in inputs])
    write = _WRITERS.get(type(estimator).__name__)
    if write is None or not type(estimator).__module__.startswith("sklearn."):
        raise CannotExport(f"{_name(estimator)} cannot be exported; what can is {', '.join(sorted(_WRITERS))}")
    document = {
        "format": FORMAT,
        "version": VERSION,
        "about": f"{type(estimator).__name__} of scikit-learn {sklearn.__version__}",
        "inputs": inputs,
    }
    if hasattr(estimator, "classes_"):
        document["labels"] = _labels(estimator)
    if scaler is not None:
        document["scaler"] = scaler
    document["estimator"] = write(estimator)
    rows = _made_up(document) if examples is None else np.asarray(examples, np.float64)[:EXAMPLES_MAX]
    if rows.ndim != 2 or rows.shape[1] != len(inputs) or not np.isfinite(rows).all():
        raise ValueError(f"examples are rows of {len(inputs)} finite numbers")
    expected = outputs(model, rows)
    found = evaluation.evaluate(document, rows)
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
        raise CannotExport(f"{_name(estimator)} of scikit-learn {sklearn.__version__} computes something else than is known of it")
    document["examples"] = [
        {"inputs": row, "outputs": output} for row, output in zip(rows.tolist(), expected.tolist(), strict=True)
    ]
    return document


def outputs(model, rows):
    """What scikit-learn makes of rows, in the shape in which the gateway gives it."""
    with warnings.catch_warnings():
        # The rows are right, and have no names of columns.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        if hasattr(model, "score_samples") and not hasattr(model, "predict_proba"):
            return np.column_stack([model.score_samples(rows), model.decision_function(rows)])
        if hasattr(model, "predict_proba"):
            return model.predict_proba(rows)
        return model.predict(rows).reshape(len(rows), -1)


def _name(estimator):
    return f"{type(estimator).__module__}.{type(estimator).__qualname__}"


def _input(name):
    if not isinstance(name, str):
        metric, feature = name
        name = f"{metric}.{feature}"
    of = features.parse(name)
    return {"name": name} | ({"metric": of[0], "feature": of[1]} if of else {})


def _parts(model):
    """The scaler, or None, and the estimator."""
    if type(model).__name__ != "Pipeline":
        return None, model
    steps = [step for _, step in model.steps if step is not None and step != "passthrough"]
    *before, estimator = steps
    if not before:
        return None, estimator
    if len(before) > 1 or type(before[0]).__name__ != "StandardScaler":
        refused = next((step for step in before if type(step).__name__ != "StandardScaler"), before[-1])
        raise CannotExport(f"a Pipeline may have one StandardScaler before its estimator, not {_name(refused)}")
    scaler = before[0]
    count = scaler.n_features_in_
    mean = scaler.mean_ if scaler.with_mean else np.zeros(count)
    scale = scaler.scale_ if scaler.with_std else np.ones(count)
    return {"mean": mean.tolist(), "scale": scale.tolist()}, estimator


def _check_inputs(model, estimator, names):
    count = model.n_features_in_
    if len(names) != count:
        raise ValueError(f"the model was trained on {count} columns, and {len(names)} inputs are named")
    if len(set(names)) != count:
        raise ValueError("two inputs have the same name")
    known = getattr(model, "feature_names_in_", None)
    if known is not None and set(known) == set(names) and list(known) != names:
        raise ValueError(f"the model was trained with its columns in another order: {', '.join(known)}")
    # Of a network that classifies, this is the width of its last layer.
    if getattr(estimator, "n_outputs_", 1) != 1 and type(estimator).__name__ != "MLPClassifier":
        raise CannotExport(f"{_name(estimator)} with more than one output")


def _labels(estimator):
    labels = [str(label) for label in np.asarray(estimator.classes_).tolist()]
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise CannotExport(f"{_name(estimator)} needs two labels or more, whose texts differ; it has {labels}")
    return labels


# Linear models and networks.


def _layer(weights, bias, activation):
    return {"weights": np.atleast_2d(weights).tolist(), "bias": np.atleast_1d(bias).tolist(), "activation": activation}


def _linear(estimator):
    coefficients = np.atleast_2d(estimator.coef_)
    if len(coefficients) != 1:
        raise CannotExport(f"{_name(estimator)} with more than one output")
    return {"type": "dense", "layers": [_layer(coefficients, np.float64(np.squeeze(estimator.intercept_)), "identity")]}


def _logistic(estimator):
    coefficients = np.atleast_2d(estimator.coef_)
    is_one_of_many = len(coefficients) > 1
    if is_one_of_many and (estimator.solver == "liblinear" or getattr(estimator, "multi_class", "auto") == "ovr"):
        raise CannotExport(f"{_name(estimator)} with a model for each of several labels (one against the rest)")
    bias = np.broadcast_to(estimator.intercept_, len(coefficients))
    return {"type": "dense", "layers": [_layer(coefficients, bias, "softmax" if is_one_of_many else "logistic")]}


def _network(estimator):
    if estimator.out_activation_ not in ("identity", "logistic", "softmax"):
        raise CannotExport(f"{_name(estimator)} with the output {estimator.out_activation_!r}")
    if estimator.out_activation_ == "logistic" and estimator.n_outputs_ != 1:
        raise CannotExport(f"{_name(estimator)} with several labels at once")
    within = [estimator.activation] * (len(estimator.coefs_) - 1)
    layers = zip(estimator.coefs_, estimator.intercepts_, [*within, estimator.out_activation_], strict=True)
    return {"type": "dense", "layers": [_layer(weights.T, bias, activation) for weights, bias, activation in layers]}


# Trees.


def _tree(tree, leaf_values, columns=None):
    """A tree with its nodes in the order in which branches lead to later ones, and its leaves as -1, -2, ..."""
    order, waiting = [], [0]
    while waiting:
        node = waiting.pop()
        order.append(node)
        if tree.children_left[node] >= 0:
            waiting += [tree.children_right[node], tree.children_left[node]]
    inner = [node for node in order if tree.children_left[node] >= 0]
    leaves = [node for node in order if tree.children_left[node] < 0]
    index = {node: place for place, node in enumerate(inner)} | {node: -1 - place for place, node in enumerate(leaves)}
    columns = range(tree.n_features) if columns is None else columns
    return {
        "input": [int(columns[tree.feature[node]]) for node in inner],
        "threshold": [float(tree.threshold[node]) for node in inner],
        "left": [index[tree.children_left[node]] for node in inner],
        "right": [index[tree.children_right[node]] for node in inner],
        "leaves": np.ravel([leaf_values[node] for node in leaves]).tolist(),
    }


def _single(estimator):
    return {"type": "forest", "trees": [_mean_tree(estimator)]}


def _forest(estimator):
    return {"type": "forest", "trees": [_mean_tree(tree) for tree in estimator.estimators_]}


def _mean_tree(estimator):
    values = estimator.tree_.value[:, 0, :]
    if hasattr(estimator, "classes_"):
        sums = values.sum(axis=1, keepdims=True)
        # Before version 1.3 these are counts.
        values = values if np.allclose(sums, 1.0) else values / sums
    return _tree(estimator.tree_, values)


def _boosting(estimator):
    if estimator.init_ != "zero" and type(estimator.init_).__name__ not in ("DummyClassifier", "DummyRegressor"):
        raise CannotExport(f"{_name(estimator)} that begins with {_name(estimator.init_)}")
    if estimator.loss not in ("log_loss", "exponential", "squared_error", "absolute_error", "huber", "quantile"):
        raise CannotExport(f"{_name(estimator)} with the loss {estimator.loss!r}")
    # One tree for each output in turn.
    trees = [_tree(tree.tree_, tree.tree_.value[:, 0, :]) for tree in estimator.estimators_.ravel()]
    rate, link = float(estimator.learning_rate), "identity"
    somewhere = np.zeros((1, estimator.n_features_in_))
    is_classifier = hasattr(estimator, "classes_")
    raw = (estimator.decision_function if is_classifier else estimator.predict)(somewhere).reshape(-1)
    grown = [[tree.predict(somewhere)[0] for tree in stage] for stage in estimator.estimators_]
    initial = raw - rate * np.sum(grown, axis=0)
    if is_classifier:
        link = "logistic" if len(initial) == 1 else "softmax"
    if estimator.loss == "exponential":
        # Its probability is the logistic function of twice the sum.
        initial, rate = 2.0 * initial, 2.0 * rate
    return {"type": "boosting", "initial": initial.tolist(), "rate": rate, "link": link, "trees": trees}


def _isolation(estimator):
    if estimator.max_samples_ < 2:
        raise CannotExport(f"{_name(estimator)} of trees that saw one sample each")
    trees = []
    for tree, columns in zip(estimator.estimators_, estimator.estimators_features_, strict=True):
        tree = tree.tree_
        lengths = np.zeros(tree.node_count)
        # Branches lead to nodes with higher numbers.
        for node in range(tree.node_count):
            for child in (tree.children_left[node], tree.children_right[node]):
                if child >= 0:
                    lengths[child] = lengths[node] + 1.0
        rest = [evaluation.usual_length(int(samples)) for samples in tree.n_node_samples]
        trees.append(_tree(tree, (lengths + rest)[:, np.newaxis], columns))
    document = {"type": "isolation_forest", "samples": int(estimator.max_samples_), "offset": float(estimator.offset_)}
    return document | {"trees": trees}


_WRITERS = {
    "LinearRegression": _linear,
    "Ridge": _linear,
    "LogisticRegression": _logistic,
    "MLPClassifier": _network,
    "MLPRegressor": _network,
    "DecisionTreeClassifier": _single,
    "DecisionTreeRegressor": _single,
    "RandomForestClassifier": _forest,
    "RandomForestRegressor": _forest,
    "GradientBoostingClassifier": _boosting,
    "GradientBoostingRegressor": _boosting,
    "IsolationForest": _isolation,
}


def _made_up(document):
    """Rows on both sides of what the model distinguishes, the same at each run."""
    random = np.random.default_rng(1)
    count = len(document["inputs"])
    rows = random.normal(0.0, 2.0, (EXAMPLES_DEFAULT, count))
    thresholds = [[] for _ in range(count)]
    for tree in document["estimator"].get("trees", ()):
        for column, threshold in zip(tree["input"], tree["threshold"], strict=True):
            thresholds[column].append(threshold)
    for column, known in enumerate(thresholds):
        if known:
            known = np.array(known)
            spread = np.ptp(known) or 1.0
            rows[:, column] = random.choice(known, len(rows)) + random.normal(0.0, 0.1, len(rows)) * spread
    scaler = document.get("scaler")
    return rows * np.array(scaler["scale"]) + np.array(scaler["mean"]) if scaler else rows
