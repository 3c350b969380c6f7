"""Metrics against scipy and hand-made cases; missing losses, ties and axes."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from bimixjax import InputError, metrics

NAN = math.nan
PAIRED = [metrics.mean_relative_error, metrics.r2, metrics.spearman, metrics.regret]
PAIRED += [metrics.normalized_regret, metrics.top_recall]


def test_mean_relative_error() -> None:
    assert metrics.mean_relative_error([1.5, 2.0, 9.0], [1.0, 4.0, NAN]) == 0.5


def test_r2() -> None:
    assert metrics.r2([1, 2, 3], [1, 2, 3]) == 1
    assert metrics.r2([2, 2, 2], [1, 2, 3]) == 0
    assert metrics.r2([3, 2, 1], [1, 2, 3]) == -3
    assert metrics.r2([10.0, 1000.0], [10.0, 100.0], log=True) == pytest.approx(-1)
    assert math.isnan(metrics.r2([1, 2], [3, 3]))
    assert math.isnan(metrics.r2([-1, 2], [3, 4], log=True))


@settings(deadline=None)
@given(
    hnp.arrays(float, 12, elements=st.integers(0, 4).map(float)),
    hnp.arrays(float, 12, elements=st.floats(0.5, 9)),
)
def test_spearman_is_scipys(predicted: np.ndarray, measured: np.ndarray) -> None:
    found = metrics.spearman(predicted, measured)
    if len(np.unique(predicted)) == 1 or len(np.unique(measured)) == 1:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(scipy.stats.spearmanr(predicted, measured)[0], abs=1e-12)


def test_spearman_of_ties_and_missing_losses() -> None:
    predicted, measured = [1, 1, 2, 3, 0], [5, 6, 6, 9, NAN]
    expected = scipy.stats.spearmanr(predicted[:4], measured[:4])[0]
    assert metrics.spearman(predicted, measured) == pytest.approx(expected, abs=1e-15)


def test_regret() -> None:
    assert metrics.regret([3, 1, 2], [2.0, 2.5, 4.0]) == 0.5
    assert metrics.regret([1, 2, 3], [2.0, 2.5, 4.0]) == 0
    assert metrics.regret([1, 2, 3], [NAN, 2.5, 2.0]) == 0.5


def test_coverage() -> None:
    assert metrics.coverage([1, 1, 1, 1], [2, 2, 2, 2], [1, 2, 2.5, NAN]) == pytest.approx(2 / 3)
    assert metrics.coverage([NAN], [2], [1]) == 0


@pytest.mark.parametrize("metric", PAIRED)
def test_an_axis_is_lane_by_lane(metric: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    predicted, measured = rng.random((2, 3, 10, 4)) + 1
    measured[:, rng.random((10, 4)) < 0.3] = NAN
    lanes = metric(predicted, measured, axis=1)
    assert lanes.shape == (3, 4)
    assert lanes[2, 1] == metric(predicted[2, :, 1], measured[2, :, 1])
    assert isinstance(metric(predicted, measured), float)


@pytest.mark.parametrize("metric", PAIRED)
def test_a_broken_prediction_is_not_masked(metric: Callable[..., Any]) -> None:
    assert math.isnan(metric([1, NAN, 2], [1, 2, 3]))


@pytest.mark.parametrize("metric", PAIRED)
def test_nothing_measured(metric: Callable[..., Any]) -> None:
    assert math.isnan(metric([1, 2], [NAN, NAN]))
    lanes = metric([[1, 1], [2, 2]], [[NAN, 1], [NAN, 2]], axis=0)
    assert np.isnan(lanes).tolist() == [True, False]


def test_shapes_must_agree() -> None:
    with pytest.raises(InputError, match=r"arrays have shapes \(3, 1\), measured \(3,\); allowed: one shape"):
        metrics.mean_relative_error(np.ones((3, 1)), np.ones(3))
    with pytest.raises(InputError, match=r"arrays have shapes \(2,\), \(3,\), measured \(3,\)"):
        metrics.coverage(np.ones(2), np.ones(3), np.ones(3))


def test_a_normalized_regret_is_one_for_an_average_choice() -> None:
    measured = [1.0, 2.0, 3.0, 6.0]
    assert [metrics.normalized_regret(-np.eye(4)[i], measured) for i in range(4)] == [0, 0.5, 1, 2.5]
    assert math.isnan(metrics.normalized_regret([1, 2], [3, 3]))
    assert metrics.normalized_regret([2.0, 1.0, 3.0], [1.0, NAN, 3.0]) == 0


def test_the_top_is_found_among_those_liked_best() -> None:
    measured = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert metrics.top_recall(measured, measured) == 1
    assert metrics.top_recall([5, 4, 3, 2, 1], measured) == pytest.approx(1 / 3)
    assert metrics.top_recall([1, math.inf, math.inf, math.inf, math.inf], measured) == pytest.approx(1 / 3)
    assert metrics.top_recall([1, 9, 2, 9, 9], measured, count=2) == 0.5
