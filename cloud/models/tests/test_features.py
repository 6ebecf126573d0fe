"""Features and rows as the gateway has them."""

import math

import numpy as np
import pytest

from outrider_models import rows, window


def test_features_of_a_window():
    found = window([0.0, 1.0, 3.0], [1.0, 2.0, 6.0])
    assert found["mean"] == 3.0 and found["minimum"] == 1.0 and found["maximum"] == 6.0
    assert found["last"] == 6.0 and found["count"] == 3.0
    assert found["deviation"] == pytest.approx(math.sqrt((4.0 + 1.0 + 9.0) / 3.0))
    assert found["slope"] == pytest.approx(np.polyfit([0.0, 1.0, 3.0], [1.0, 2.0, 6.0], 1)[0])


def test_too_few_readings_have_no_deviation_and_no_slope():
    found = window([5.0], [2.0])
    assert (found["mean"], found["last"], found["count"]) == (2.0, 2.0, 1.0)
    assert math.isnan(found["deviation"]) and math.isnan(found["slope"])
    assert math.isnan(window([5.0, 5.0], [2.0, 3.0])["slope"]), "of one time"
    assert window([], [])["count"] == 0.0


def test_windows_are_open_at_their_beginning():
    times = np.arange(0.0, 25.0)
    at, found = rows({"t": (times, times)}, ["t.count", "t.minimum", "t.last"])
    assert list(at) == list(times)
    assert list(found[-1]) == [10.0, 15.0, 24.0]


def test_a_row_is_made_of_the_time_that_all_metrics_have_reached():
    at, found = rows({"a": ([0.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]), "b": ([0.5, 2.5], [7.0, 8.0])}, ["a.last", "b.last"])
    # When b comes at 0.5, a has reached 0 only, where b has no reading yet; when a comes at 1, both have reached 0.5.
    assert list(at) == [0.5, 2.0, 2.5]
    assert found.tolist() == [[1.0, 7.0], [3.0, 7.0], [3.0, 8.0]]


def test_a_metric_that_is_behind_gives_no_row():
    at, _ = rows({"a": (np.arange(0.0, 20.0), np.zeros(20)), "b": ([0.0, 1.0], [0.0, 0.0])}, ["a.last", "b.last"])
    assert list(at) == [0.0, 1.0]


def test_names_that_are_no_features_are_refused():
    with pytest.raises(ValueError, match="'t.median' is not the name"):
        rows({"t": ([0.0], [0.0])}, ["t.median"])
    with pytest.raises(ValueError, match="no readings of 'u'"):
        rows({"t": ([0.0], [0.0])}, ["u.mean"])
