"""The bootstrap over runs: each resample is the fit with its weights, and their spread is that of fresh data."""

from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from bimixjax import FitResult, InputError, Observations, fit
from bimixjax.fitting import Resampled, bootstrap
from bimixjax.solve import Status

RUNS, STEPS, COUNT = 12, np.array([1000.0, 3000.0, 9000.0, 27000.0]), 200
KEY = jax.random.key(3)


def table(seed: int) -> Observations:
    """Losses of one domain whose runs each err by about one percent as a whole."""
    random = np.random.default_rng(seed)
    share = np.repeat(np.linspace(0.1, 0.8, RUNS), len(STEPS))
    step = np.tile(STEPS, RUNS)
    noise = np.repeat(0.01 * random.standard_normal(RUNS), len(STEPS)) + 0.001 * random.standard_normal(len(step))
    loss = share**-0.15 * (20 * step**-0.4 + 2.0) * np.exp(noise)
    run = np.repeat([f"r{k}" for k in range(RUNS)], len(STEPS))
    frame = {"run": run, "step": step, "mixture/x": share, "mixture/y": 1 - share, "loss/x": loss}
    return Observations.from_frame(pd.DataFrame(frame))


@pytest.fixture(scope="module")
def found() -> Resampled:
    return bootstrap("bimix", table(0), key=KEY, count=COUNT, priors=False)


def test_limits_of_losses_without_bound_are_without_bound(found):
    """At a share of 0 the law diverges: no NaN, and no warning."""
    np.testing.assert_array_equal(found.interval([0.0, 1.0], 9000.0), np.full((2, 1), np.inf))


def test_every_resample_is_the_fit_with_its_weights(found):
    with jax.enable_x64(True):
        key = jax.random.fold_in(KEY, 7)
        drawn = np.asarray(jax.random.exponential(key, (RUNS,), jax.numpy.float64))
    runs = sorted(f"r{k}" for k in range(RUNS))
    weights = dict(zip(runs, drawn / drawn.mean(), strict=True))
    single = fit("bimix", table(0), priors=False, weights=weights)
    np.testing.assert_allclose(found.values[7], single.values, rtol=1e-5)


def test_all_converge_and_the_same_key_gives_the_same_numbers(found):
    assert (found.status == Status.CONVERGED).all()
    again = bootstrap("bimix", table(0), key=KEY, count=COUNT, priors=False)
    np.testing.assert_array_equal(again.values, found.values)


def test_the_spread_of_alpha_is_that_of_fresh_data():
    """Runs err as a whole, which the covariance of independent rows understates and the bootstrap sees."""
    found = [bootstrap("bimix", table(seed), key=KEY, count=COUNT, priors=False) for seed in range(30)]
    fresh = np.std([float(each.fit.coefficients["alpha"][0]) for each in found], ddof=1)
    resampled = np.mean([each.standard_errors["alpha"][0] for each in found])
    independent = np.mean([each.fit.standard_errors["alpha"][0] for each in found])
    assert resampled == pytest.approx(fresh, rel=0.35)
    assert resampled > 1.3 * independent


def test_intervals_hold_the_share_asked_for(found):
    narrow, wide = (found.interval([0.5, 0.5], 27_000, level=level) for level in (0.5, 0.9))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    B, C, alpha, beta = np.moveaxis(found.values[:, 0], -1, 0)
    losses = 0.5**-alpha * (B * 27_000**-beta + C)
    assert np.mean((losses >= narrow[0]) & (losses <= narrow[1])) == pytest.approx(0.5, abs=0.01)


def test_correlations_are_those_of_the_resamples(found):
    np.testing.assert_allclose(found.correlation[0], np.corrcoef(found.values[:, 0].T), rtol=1e-9)


def test_resamples_come_back_from_their_file_which_is_one_of_the_fit_too(found: Resampled, tmp_path: Path):
    found.save(tmp_path / "resamples.json")
    again = Resampled.load(tmp_path / "resamples.json")
    np.testing.assert_array_equal(again.values, found.values)
    np.testing.assert_array_equal(again.status, found.status)
    for limits in zip(again.interval([0.5, 0.5], 27_000), found.interval([0.5, 0.5], 27_000), strict=True):
        np.testing.assert_array_equal(*limits)
    np.testing.assert_array_equal(FitResult.load(tmp_path / "resamples.json").covariance, found.fit.covariance)


def test_a_file_of_a_fit_has_no_resamples(found: Resampled, tmp_path: Path):
    found.fit.save(tmp_path / "fit.json")
    with pytest.raises(InputError, match="fit.json lacks resampled"):
        Resampled.load(tmp_path / "fit.json")


def test_bad_input_is_refused(found):
    with pytest.raises(InputError, match="count is 1; allowed: at least 2"):
        bootstrap("bimix", table(0), key=KEY, count=1)
    with pytest.raises(InputError, match="level is 1.5"):
        found.interval([0.5, 0.5], 27_000, level=1.5)
