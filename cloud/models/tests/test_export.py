"""What is exported computes the same as its model, and what cannot be is refused by name."""

import json
import warnings

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from outrider_models import CannotExport, describe, evaluate, export
from outrider_models.writer import outputs

INPUTS = ["t.mean", "t.slope", "load"]
RANDOM = np.random.default_rng(3)
ROWS = RANDOM.normal(size=(200, 3)) * [5.0, 0.1, 1e5] + [20.0, 0.0, -7e5]
VALUES = ROWS[:, 0] - 20.0 + 30.0 * ROWS[:, 1] + RANDOM.normal(size=200)
TWO = np.where(VALUES > 3.0, "bad", "good")
THREE = np.digitize(VALUES, [-3.0, 3.0])
scaled = lambda estimator: make_pipeline(StandardScaler(), estimator)  # noqa: E731
# Fits end before they have converged, which is of no concern here.
quick = {"max_iter": 60, "random_state": 1}

MODELS = [
    (scaled(LinearRegression()), VALUES),
    (make_pipeline(LinearRegression()), VALUES),
    (Ridge(fit_intercept=False), VALUES),
    (make_pipeline(StandardScaler(with_mean=False), Ridge()), VALUES),
    (make_pipeline(StandardScaler(with_std=False), Ridge()), VALUES),
    (scaled(LogisticRegression()), TWO),
    (scaled(LogisticRegression(fit_intercept=False)), THREE),
    (scaled(MLPRegressor(hidden_layer_sizes=(5, 4), **quick)), VALUES),
    (scaled(MLPClassifier(hidden_layer_sizes=(5,), activation="tanh", **quick)), TWO),
    (scaled(MLPClassifier(hidden_layer_sizes=(5,), activation="logistic", **quick)), THREE),
    (DecisionTreeClassifier(max_depth=4), THREE),
    (DecisionTreeRegressor(), VALUES),
    (scaled(RandomForestClassifier(7, max_depth=6, class_weight="balanced")), TWO),
    (RandomForestRegressor(7), VALUES),
    (GradientBoostingClassifier(n_estimators=9), TWO),
    (GradientBoostingClassifier(n_estimators=9), THREE),
    (GradientBoostingClassifier(n_estimators=9, loss="exponential"), TWO),
    (GradientBoostingClassifier(n_estimators=9, init="zero"), THREE),
    (GradientBoostingRegressor(n_estimators=9), VALUES),
    (GradientBoostingRegressor(n_estimators=9, loss="quantile"), VALUES),
    (GradientBoostingRegressor(n_estimators=9, init=DummyRegressor(strategy="constant", constant=4.0)), VALUES),
    (IsolationForest(n_estimators=9), None),
    (scaled(IsolationForest(n_estimators=9, max_samples=30, max_features=2, contamination=0.1, bootstrap=True)), None),
]


def fitted(model, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(ROWS) if expected is None else model.fit(ROWS, expected)


def name(one):
    return str(one[0]).replace("\n", "") if isinstance(one, tuple) else None


@pytest.mark.parametrize("model, expected", MODELS, ids=map(name, MODELS))
def test_a_document_computes_what_its_model_computes(tmp_path, model, expected):
    model = fitted(model, expected)
    export(model, INPUTS, tmp_path / "model.json")
    document = json.loads((tmp_path / "model.json").read_text())
    rows = np.vstack([ROWS, ROWS * 100.0, -ROWS])
    np.testing.assert_allclose(evaluate(document, rows), outputs(model, rows), rtol=1e-9, atol=1e-9)
    assert [one["name"] for one in document["inputs"]] == INPUTS
    assert document["inputs"][1] == {"name": "t.slope", "metric": "t", "feature": "slope"}
    assert "metric" not in document["inputs"][2]
    assert len(document["examples"]) == 32
    assert list(tmp_path.iterdir()) == [tmp_path / "model.json"], "nothing is left beside it"


def test_examples_lie_on_both_sides_of_what_a_tree_distinguishes():
    document = describe(fitted(DecisionTreeClassifier(max_depth=1), TWO), INPUTS)
    tree = document["estimator"]["trees"][0]
    sides = {example["inputs"][tree["input"][0]] <= tree["threshold"][0] for example in document["examples"]}
    assert sides == {True, False}


REFUSED = [
    (SVC(), TWO, "sklearn.svm._classes.SVC cannot be exported; what can is DecisionTreeClassifier"),
    (OneClassSVM(), None, "OneClassSVM cannot be exported"),
    (ExtraTreesClassifier(3), TWO, "ExtraTreesClassifier cannot be exported"),
    (HistGradientBoostingClassifier(max_iter=3), TWO, "HistGradientBoostingClassifier cannot be exported"),
    (CalibratedClassifierCV(LogisticRegression()), TWO, "CalibratedClassifierCV cannot be exported"),
    (make_pipeline(MinMaxScaler(), Ridge()), VALUES, "not sklearn.preprocessing._data.MinMaxScaler"),
    (make_pipeline(StandardScaler(), PCA(), Ridge()), VALUES, "not sklearn.decomposition._pca.PCA"),
    (make_pipeline(StandardScaler(), StandardScaler(), Ridge()), VALUES, "one StandardScaler before its estimator"),
    (RandomForestRegressor(3), np.column_stack([VALUES, VALUES]), "RandomForestRegressor with more than one output"),
    (LinearRegression(), np.column_stack([VALUES, VALUES]), "LinearRegression with more than one output"),
    (scaled(MLPRegressor(**quick)), np.column_stack([VALUES, VALUES]), "MLPRegressor with more than one output"),
    (scaled(MLPClassifier(**quick)), np.column_stack([THREE == 0, THREE == 1]), "MLPClassifier with several labels at once"),
    (scaled(MLPRegressor(loss="poisson", **quick)), np.abs(VALUES), "MLPRegressor with the output 'exp'"),
    (DecisionTreeClassifier(), np.ones(200), "needs two labels or more"),
    (GradientBoostingRegressor(n_estimators=3, init=LinearRegression()), VALUES, "that begins with sklearn.linear_model"),
]


@pytest.mark.parametrize("model, expected, message", REFUSED, ids=[message for *_, message in REFUSED])
def test_what_cannot_be_exported_is_refused_by_name(tmp_path, model, expected, message):
    model = fitted(model, expected)
    with pytest.raises(CannotExport) as refused:
        export(model, INPUTS, tmp_path / "model.json")
    assert message in str(refused.value)
    assert not list(tmp_path.iterdir())


class Improved(LinearRegression):
    def predict(self, X):
        return super().predict(X) + 1.0


def test_a_class_of_somebody_else_is_refused():
    with pytest.raises(CannotExport, match="Improved cannot be exported"):
        describe(fitted(Improved(), VALUES), INPUTS)


def test_a_model_that_computes_otherwise_is_refused():
    """The control of the check that compares the document with its model."""
    model = fitted(Ridge(), VALUES)
    model.predict = lambda rows: np.zeros(len(rows))
    with pytest.raises(CannotExport, match="computes something else"):
        describe(model, INPUTS)


def test_inputs_are_those_of_the_training():
    model = fitted(Ridge(), VALUES)
    for inputs, message in [(["a"], "3 columns, and 1 inputs"), (["a", "b", "a"], "the same name")]:
        with pytest.raises(ValueError, match=message):
            describe(model, inputs)
    model.feature_names_in_ = np.array(["t.slope", "t.mean", "load"], dtype=object)
    with pytest.raises(ValueError, match="another order: t.slope, t.mean, load"):
        describe(model, INPUTS)
    with pytest.raises(ValueError, match="rows of 3 finite numbers"):
        describe(fitted(Ridge(), VALUES), INPUTS, examples=[[1.0, float("nan"), 2.0]])
