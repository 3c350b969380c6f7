"""Intervals of `auto`: as wide as errors on runs left out say, by target, by table and for the weighted mean."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bimixjax
from bimixjax import Auto, AutoFit, InputError, Observations
from bimixjax.auto.averaging import Average, MemberFit, average, reach
from bimixjax.auto.folds import auto_folds
from bimixjax.auto.grids import build_cells
from bimixjax.auto.members import named_members

DOMAINS = ("web", "books", "code")
STEPS = (1000.0, 2000.0, 4000.0, 8000.0)
MIXTURES = np.array([[0.4, 0.4, 0.2], [0.1, 0.2, 0.7]])


def observed(losses: np.ndarray, steps: tuple[float, ...] | None = None) -> Observations:
    """Losses [K, T] of runs, or [K, t, T] of runs at steps."""
    runs, times = len(losses), len(steps or (1.0,))
    mixtures = np.repeat(np.random.default_rng(0).dirichlet(np.ones(3), runs), times, axis=0)
    frame = pd.DataFrame({"run": np.repeat([f"run{i}" for i in range(runs)], times)})
    if steps:
        frame["step"] = np.tile(steps, runs)
    frame[[f"mixture/{domain}" for domain in DOMAINS]] = mixtures
    values = losses.reshape(len(frame), -1)
    frame[[f"loss/{domain}" for domain in DOMAINS[: values.shape[1]]]] = values
    return Observations.from_frame(frame)


def left_out(errors: np.ndarray, deviation: float, *, members: tuple[str, ...] = ("transfer", "offset")) -> Average:
    """The average of two laws, both of which miss the losses of K runs that were left out by `errors` [K, T]."""
    runs = len(errors)
    observations = observed(np.exp(errors + 1.0))
    cells = build_cells(observations, np.ones((1, runs)), None, observations.targets)
    loss, nothing = cells.loss[0], np.zeros((len(cells.part[0]), 1, errors.shape[1]))
    nothing[:runs, 0] = errors
    unfitted: Any = None
    fit = MemberFit(
        fitted=unfitted, mean=loss, left_mean=loss - nothing, left_variance=np.full(loss.shape, deviation**2)
    )
    return average(named_members(members), [fit] * 2, cells, cells.lanes())


def test_the_spread_is_what_runs_left_out_measure_by_target_and_by_table() -> None:
    """The formula, written out; with fewer runs than the three domains it is wider."""
    for runs in (2, 12):
        errors = np.random.default_rng(runs).standard_normal((runs, 3)) * [0.01, 0.02, 0.04]
        absolute = (np.pi / 2) ** 0.5 * np.abs(errors / 0.02)
        pooled = (20 * 0.5 + 3 * runs * absolute.mean()) / (20 + 3 * runs)
        wanted = (20 * pooled + runs * absolute.mean(0)) / (20 + runs) * (1.175**0.5 if runs == 2 else 1)
        found = left_out(errors, 0.02)
        np.testing.assert_allclose(found.spread, wanted, rtol=1e-12)
        np.testing.assert_allclose(found.left_out_error, np.abs(errors).mean(0), rtol=1e-9)
        with_donor = left_out(errors, 0.02, members=("offset", "donor"))
        np.testing.assert_allclose(with_donor.spread * (1.175**0.5 if runs == 2 else 1), wanted, rtol=1e-12)


def test_errors_that_targets_share_are_correlated() -> None:
    """By pairs of targets, with .25 in place of 16 more runs; one target alone has nothing to be correlated with."""
    errors = 0.02 * np.random.default_rng(0).standard_normal((12, 3))
    pairs = sum(np.sum(errors[:, i] * errors[:, j]) for i in range(3) for j in range(3) if i != j)
    wanted = (16 * 0.25 + 12 * pairs / (2 * np.sum(errors**2))) / 28
    np.testing.assert_allclose(left_out(errors, 0.02).correlation, [wanted] * 3, rtol=1e-9)
    shared = np.repeat(errors[:, :1], 3, axis=1)
    np.testing.assert_allclose(left_out(shared, 0.02).correlation, [16 / 28] * 3, rtol=1e-9)
    np.testing.assert_allclose(left_out(errors[:, :1], 0.02).correlation, [0.25], rtol=1e-9)


def test_intervals_reach_as_far_as_student_t() -> None:
    for level in (0.1, 0.5, 0.8, 0.9, 0.95, 0.99):
        assert abs(reach(level) / stats.t.ppf((1 + level) / 2, 8) - 1) < 1e-3
    assert abs(reach(0.999) / stats.t.ppf(0.9995, 8) - 1) < 1e-2


@pytest.fixture(scope="module")
def fit() -> AutoFit:
    """Six runs of three domains, with noise of 1 % that is the same for two of them."""
    random = np.random.default_rng(1)
    noise = 0.01 * random.standard_normal((6, 1, 3))
    noise[..., 1] = noise[..., 0]
    shares = np.random.default_rng(0).dirichlet(np.ones(3), 6)
    losses = (shares[:, None] + 0.02) ** -0.08 * (2 + (np.array(STEPS)[:, None] / 8000.0) ** -0.4)
    return bimixjax.fit(Auto(members=("offset", "transfer")), observed(losses * np.exp(noise), STEPS))


def by_hand(fit: AutoFit, weights: np.ndarray, rho: np.ndarray, volume: float) -> tuple[np.ndarray, np.ndarray]:
    """Limits of the weighted mean, from those of each target by propagation through all pairs."""
    lower, upper = (np.log(np.asarray(end)) for end in fit.interval(MIXTURES, volume, level=0.8))
    parts = weights * np.exp((lower + upper) / 2)
    a = parts / parts.sum(-1, keepdims=True) * (upper - lower) / 2
    pairs = np.sqrt(rho[:, None] * rho) * (1 - np.eye(len(rho))) + np.eye(len(rho))
    width = np.sqrt(np.einsum("ni,ij,nj->n", a, pairs, a))
    return parts.sum(-1) * np.exp(-width), parts.sum(-1) * np.exp(width)


def test_the_weighted_mean_has_limits_by_the_correlation_of_its_targets(fit: AutoFit) -> None:
    rho = np.asarray(fit.sizes[0].correlation)
    assert ((rho > 0) & (rho < 1)).all()
    for weights in (None, {"web": 3.0, "code": 1.0}):
        w = np.full(3, 1 / 3) if weights is None else np.array([0.75, 0.0, 0.25])
        found = fit.mean_interval(MIXTURES, 8000.0, weights=weights, level=0.8)
        for end, wanted in zip(found, by_hand(fit, w, rho, 8000.0), strict=True):
            np.testing.assert_allclose(end, wanted, rtol=1e-9)
        one = fit.mean_interval(MIXTURES[0], 8000.0, weights=weights, level=0.8)
        np.testing.assert_allclose(one, [end[0] for end in found], rtol=1e-9)


def test_one_target_alone_has_the_limits_of_its_own(fit: AutoFit) -> None:
    lower, upper = fit.mean_interval(MIXTURES, 8000.0, weights={"books": 1.0})
    low, high = fit.interval(MIXTURES, 8000.0)
    np.testing.assert_allclose([lower, upper], [low[:, 1], high[:, 1]], rtol=1e-9)


def test_targets_are_off_together_at_volumes_that_were_not_fitted(fit: AutoFit) -> None:
    volumes = np.array([8000.0, 16000.0])
    lower, upper = (np.asarray(end) for end in fit.mean_interval(MIXTURES, volumes, level=0.8))
    inside = by_hand(fit, np.full(3, 1 / 3), np.asarray(fit.sizes[0].correlation), 8000.0)
    beyond = by_hand(fit, np.full(3, 1 / 3), np.ones(3), 16000.0)
    for place, (low, high) in enumerate((inside, beyond)):
        np.testing.assert_allclose([lower[place], upper[place]], [low[place], high[place]], rtol=1e-9)


def test_files_keep_the_correlation(fit: AutoFit, tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    fit.save(path)
    np.testing.assert_allclose(AutoFit.load(path).sizes[0].correlation, fit.sizes[0].correlation, rtol=1e-12)


@pytest.mark.parametrize("runs", [2, 4])
def test_a_run_that_diverged_makes_limits_wide_and_not_absurd(runs: int) -> None:
    """Its loss is four times that of the others: limits of a factor of fourteen say that nothing is known."""
    share = np.random.default_rng(0).dirichlet(np.ones(3), runs)
    frame = pd.DataFrame(share, columns=[f"mixture/{name}" for name in ("a", "b", "c")])
    loss = np.where(np.arange(runs) == 1, 10.0, 2.5)
    frame = frame.assign(run=[f"run{i}" for i in range(runs)], **{"loss/task": loss, "loss/a": loss * 1.1})
    lower, upper = bimixjax.fit("auto", Observations.from_frame(frame)).interval(np.eye(3))
    assert (np.asarray(upper) / np.asarray(lower)).max() < 200


def test_a_donor_widens_limits_by_what_is_unsure_of_its_expected_losses() -> None:
    """Alike in a study and in a fit; noise of its rows is none of the larger model's."""
    small = np.random.default_rng(2).dirichlet(np.ones(3), 8)
    frame = pd.DataFrame(np.concatenate([small, small[:3]]), columns=[f"mixture/{domain}" for domain in DOMAINS])
    frame["model_size"] = np.repeat([1e6, 1e7], [8, 3])
    frame["run"] = [f"run{i}" for i in range(11)]
    for domain in DOMAINS:
        frame[f"loss/{domain}"] = (frame[f"mixture/{domain}"] + 0.02) ** -0.08 * (
            3.0 - 0.3 * (frame["model_size"] > 1e6)
        )
    observations = Observations.from_frame(frame)
    settings = Auto(members=("offset",))
    fit = bimixjax.fit(settings, observations)
    assert fit.donors == {1e7: 1e6}
    folds = auto_folds(observations, np.ones((1, 11)), settings=settings)
    lower, upper = (np.asarray(end) for end in fit.interval(observations.proportions[8:], model_size=1e7))
    np.testing.assert_allclose(folds.lower[0, 8:], lower, rtol=1e-7)
    np.testing.assert_allclose(folds.upper[0, 8:], upper, rtol=1e-7)
    large = fit.at(1e7).sizes[0]
    assert large.lent is not None
    known = dataclasses.replace(large.lent.size, spread=np.zeros(3))
    surer = dataclasses.replace(
        fit, model_sizes=(1e7,), sizes=(dataclasses.replace(large, lent=dataclasses.replace(large.lent, size=known)),)
    )
    low, high = (np.asarray(end) for end in surer.interval(observations.proportions[8:]))
    assert (high / low < upper / lower).all()


def test_what_the_mean_refuses(fit: AutoFit) -> None:
    with pytest.raises(InputError, match="unknown target 'x' in weights"):
        fit.mean_interval(MIXTURES, 8000.0, weights={"x": 1.0})
    with pytest.raises(InputError, match="level is 1.0"):
        fit.mean_interval(MIXTURES, 8000.0, level=1.0)


def test_limits_are_asked_for_outside_of_transforms(fit: AutoFit) -> None:
    """They are computed on the host; predictions may be traced."""
    for limits in (fit.interval, fit.mean_interval):
        with pytest.raises(bimixjax.InputError, match="outside of jit"):
            jax.jit(lambda r, limits=limits: limits(r, 8000.0)[1])(MIXTURES)
