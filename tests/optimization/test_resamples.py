"""The best mixture of every resample: that of a search in it alone, with regrets that are what the words say."""

import jax
import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Auto, Budget, InputError, Limits, Observations
from bimixjax.estimation import AutoResampled, Resampled
from bimixjax.optimization import OptimalResamples

KEY, COUNT, LAST = jax.random.key(1), 24, Budget(volume=8000.0)


def observations() -> Observations:
    """Two domains whose losses fall with their own share, with runs that err by half a percent."""
    random, steps = np.random.default_rng(0), np.array([1000.0, 4000.0, 8000.0])
    share, step = np.repeat(np.linspace(0.1, 0.9, 8), 3), np.tile(steps, 8)
    noise = np.repeat(0.005 * random.standard_normal((2, 8)), 3, axis=1)
    table = {"run": np.repeat(list("abcdefgh"), 3), "step": step, "mixture/x": share, "mixture/y": 1 - share}
    table |= {"loss/x": (share**-0.1 * (2 + 30 * step**-0.4)) * np.exp(noise[0])}
    table |= {"loss/y": ((1 - share) ** -0.15 * (2.5 + 30 * step**-0.4)) * np.exp(noise[1])}
    return Observations.from_frame(pd.DataFrame(table))


@pytest.fixture(scope="module")
def single() -> Resampled:
    return bimixjax.bootstrap("bimix", observations(), key=KEY, count=COUNT)


@pytest.fixture(scope="module")
def auto() -> AutoResampled:
    return bimixjax.bootstrap(Auto(members=("offset",)), observations(), key=KEY, count=COUNT)


@pytest.fixture(scope="module")
def chosen(single: Resampled) -> OptimalResamples:
    return bimixjax.optimize_resamples(single, budget=LAST)


def test_each_resample_is_searched_as_a_fit_of_its_own(single: Resampled, chosen: OptimalResamples) -> None:
    for index in (0, 7):
        fit = single.resample(index)
        alone = bimixjax.optimize(fit, budget=LAST)
        np.testing.assert_allclose(chosen.proportions[index], alone.proportions, rtol=1e-9)
        goal = bimixjax.objective(fit, budget=LAST)
        regret = float(goal(chosen.best.proportions)) - alone.objective
        assert chosen.regret[index] == pytest.approx(regret, abs=1e-12)


def test_the_softmax_finds_what_the_dual_does(single: Resampled, chosen: OptimalResamples) -> None:
    found = bimixjax.optimize_resamples(single, budget=LAST, method="softmax")
    assert found.converged.all()
    np.testing.assert_allclose(found.proportions, chosen.proportions, atol=1e-4)
    np.testing.assert_allclose(found.regret, chosen.regret, atol=1e-8)


def test_limits_hold_in_every_resample(single: Resampled) -> None:
    limits = Limits(lower={"x": 0.05}, upper={"y": 0.55})
    for method in ("dual", "softmax"):
        found = bimixjax.optimize_resamples(single, budget=LAST, limits=limits, method=method)
        assert np.all(found.proportions[:, 1] <= 0.55 + 1e-9)
        np.testing.assert_allclose(found.proportions.sum(1), 1.0)
        np.testing.assert_allclose(found.proportions[:, 1], 0.55, atol=1e-3)


def test_weights_count(single: Resampled, chosen: OptimalResamples) -> None:
    found = bimixjax.optimize_resamples(single, budget=LAST, weights={"x": 3.0, "y": 1.0})
    assert np.all(found.proportions[:, 0] > chosen.proportions[:, 0])


def test_sizes_fitted_apart_are_searched_apart() -> None:
    one = observations().to_frame()
    frame = pd.concat([one.assign(model_size=1e6), one.assign(run="b" + one["run"], model_size=1e7)])
    frame.loc[frame["model_size"] == 1e7, "loss/x"] *= 0.5
    resamples = bimixjax.bootstrap("bimix", Observations.from_frame(frame), key=KEY, count=4)
    budget = Budget(volume=8000.0, model_size=1e7)
    found = bimixjax.optimize_resamples(resamples, budget=budget)
    np.testing.assert_allclose(
        found.proportions[2], bimixjax.optimize(resamples.resample(2), budget=budget).proportions, rtol=1e-9
    )


def test_auto_is_searched_resample_by_resample(auto: AutoResampled) -> None:
    found = bimixjax.optimize_resamples(auto, budget=LAST)
    alone = bimixjax.optimize(auto.resample(3), budget=LAST)
    np.testing.assert_allclose(found.proportions[3], alone.proportions, atol=1e-4)
    lower, upper = found.interval(level=0.8)
    assert np.all((lower < found.best.proportions) & (found.best.proportions < upper))
    assert 0 <= found.expected_regret < 0.01
    assert np.min(found.regret) >= 0


def test_the_interval_holds_the_share_asked_for(chosen: OptimalResamples) -> None:
    lower, upper = chosen.interval(level=0.5)
    inside = (chosen.proportions >= lower) & (chosen.proportions <= upper)
    np.testing.assert_allclose(inside.mean(0), 0.5, atol=0.05)
    with pytest.raises(InputError, match="level is 1"):
        chosen.interval(level=1)


def test_the_regret_is_below_its_limit_in_the_share_asked_for(chosen: OptimalResamples) -> None:
    assert np.mean(chosen.regret <= chosen.regret_limit(level=0.75)) == pytest.approx(0.75, abs=0.05)
    with pytest.raises(InputError, match="level is 0"):
        chosen.regret_limit(level=0)


def test_bad_input_is_refused_as_by_a_search(auto: AutoResampled) -> None:
    with pytest.raises(InputError, match="unknown domain 'z'"):
        bimixjax.optimize_resamples(auto, budget=LAST, limits=Limits(upper={"z": 0.5}))
    with pytest.raises(InputError, match="auto is not one"):
        bimixjax.optimize_resamples(auto, budget=LAST, method="dual")
