"""Folds in one call against single fits of the selected rows: grids and other layouts, two sizes, missing losses."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from bimixjax import LAWS, FitResult, InputError, Observations, fit
from bimixjax.fitting import Criterion, FoldFits, fit_folds
from bimixjax.fitting.folds import fold_lanes
from bimixjax.fitting.lanes import Table
from bimixjax.solve import Status

RUNS = tuple(f"r{k}" for k in range(10))
SIZES = (1e7, 1e8)


@cache
def table(layout: str) -> Observations:
    """Losses of x and y with noise: 10 runs x 4 volumes x 2 sizes; two are missing; x is absent from one run."""
    random = np.random.default_rng(5)
    step = np.tile([1000, 2000, 4000, 8000], len(RUNS))
    share = np.repeat([0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 4)
    frames = []
    for size in SIZES:
        own = pd.DataFrame({"run": np.repeat([f"{run}-{size:g}" for run in RUNS], 4), "step": step, "model_size": size})
        own["mixture/x"], own["mixture/y"] = share, 1 - share
        if layout == "rows":
            # Every run is also measured at 8000, so that every fold has the same largest volume.
            own["step"] += np.where(step < 8000, random.integers(1, 900, len(own)), 0)
        for name in "xy":
            r = own[f"mixture/{name}"].where(own[f"mixture/{name}"] > 0, 0.01)
            own[f"loss/{name}"] = (
                r**-0.2 * (30 * own["step"] ** -0.5 + 2) * np.exp(0.003 * random.standard_normal(len(own)))
            )
        frames.append(own)
    frame = pd.concat(frames, ignore_index=True)
    frame.loc[[6, 50], "loss/x"] = np.nan
    return Observations.from_frame(frame)


def held_out(*runs: int) -> np.ndarray:
    """Weights of the rows without some runs, at both sizes."""
    numbers = np.array([int(run[1]) for run in table("grid").run])
    return 1.0 - np.isin(numbers, runs)


FOLDS = np.stack([held_out(3), held_out(0), held_out(9), held_out()])


@cache
def folds(layout: str, *, priors: bool = False) -> FoldFits:
    return fit_folds("bimix", table(layout), FOLDS, priors=priors)


def single(layout: str, weights: np.ndarray, *, priors: bool = False) -> FitResult:
    kept = table(layout).to_frame().iloc[np.flatnonzero(weights)]
    rows = Observations.from_frame(kept.reset_index(drop=True))
    return fit("bimix", rows, priors=priors)


def check(found: FoldFits, fold: int, alone: FitResult, layout: str) -> None:
    """One fold's predictions, coefficients and ends are those of a single fit."""
    observations = table(layout)
    assert found.targets == alone.targets
    for number, size in enumerate(SIZES):
        rows = observations.model_size == size
        one = alone.at(size)
        volumes = observations.volumes("steps")[rows]
        expected = np.asarray(one.predict(observations.proportions[rows], volumes))
        np.testing.assert_allclose(found.predicted[fold, rows], expected, rtol=1e-7)
        values = dict(zip(one.names, found.values[fold, number].T, strict=True))
        for name in ("C", "alpha", "beta"):
            np.testing.assert_allclose(values[name], one.coefficients[name], rtol=1e-5)
        np.testing.assert_array_equal(found.status[fold, number], one.status)
        np.testing.assert_array_equal(found.rows[fold, number], one.rows)
        np.testing.assert_array_equal(found.at_bound[fold, number], one.at_bound.any(-1))


@pytest.mark.parametrize("fold", range(3))
@pytest.mark.parametrize("layout", ["grid", "rows"])
def test_a_fold_is_a_fit_of_its_rows(layout, fold):
    check(folds(layout), fold, single(layout, FOLDS[fold]), layout)


def test_a_fold_of_all_rows_is_the_fit_of_the_table():
    check(folds("grid"), 3, single("grid", FOLDS[3]), "grid")


def test_priors_count_in_a_fold_as_in_a_fit():
    check(folds("grid", priors=True), 0, single("grid", FOLDS[0], priors=True), "grid")


@pytest.mark.parametrize("criterion", [Criterion(), Criterion(residual="absolute")])
def test_held_out_rows_do_not_move_the_fit_that_predicts_them(criterion):
    frame = table("grid").to_frame()
    # With priors the scale of absolute residuals decides the fit as well: it must be that of the fold's own rows.
    before, after = (
        fit_folds("bimix", Observations.from_frame(frame.assign(**changed)), FOLDS, criterion=criterion).predicted
        for changed in ({}, {"loss/y": np.where(FOLDS[0] == 0, 1.5, 1.0) * frame["loss/y"]})
    )
    np.testing.assert_allclose(after[0], before[0], rtol=1e-9)
    assert not np.allclose(after[3][:, 1], before[3][:, 1], rtol=1e-3)


def test_missing_losses_are_predicted_and_absent_domains_diverge():
    found = folds("grid")
    assert np.isfinite(found.predicted[:, [6, 50], 0]).all()
    absent = table("grid").proportions[:, 0] == 0
    assert np.isposinf(found.predicted[:, absent, 0]).all()
    assert np.isfinite(found.predicted[:, ~absent]).all()
    assert np.isfinite(found.predicted[..., 1]).all()


def test_lanes_hold_only_what_a_fold_fits_and_equal_folds_share_them():
    observations, few = table("grid"), held_out(*range(2, 10))
    laid_out = Table.of(LAWS["bimix"], observations, "steps", observations.targets)
    lanes, group = fold_lanes(laid_out, np.stack([few, few, held_out(*range(8))]))
    assert lanes.loss.shape == (2, 4, 4 * len(observations.targets))
    np.testing.assert_array_equal(group[0], group[1])
    assert (group[0] != group[2]).all()
    whole, _ = fold_lanes(laid_out, FOLDS)
    assert whole.loss.shape[:2] == (10, 4)


def test_fractions_are_weights():
    weights = np.where(held_out(4) > 0, 1.0, 0.25)
    found = fit_folds("bimix", table("grid"), np.stack([weights] * len(FOLDS)), priors=False)
    runs = {run: 0.25 for run in table("grid").runs if run.startswith("r4")}
    check(found, 0, fit("bimix", table("grid"), priors=False, weights=runs), "grid")
    np.testing.assert_array_equal(found.predicted[0], found.predicted[-1])


def test_a_size_without_rows_is_a_status_and_no_prediction():
    small = np.asarray(table("grid").model_size) == SIZES[0]
    found = fit_folds("bimix", table("grid"), np.stack([1.0 - small, *FOLDS[1:]]), priors=False)
    assert (found.status[0, 0] == Status.NO_OBSERVATIONS).all()
    assert np.isnan(found.predicted[0, small]).all()
    np.testing.assert_allclose(found.predicted[0, ~small], folds("grid").predicted[3, ~small], rtol=1e-9)
    np.testing.assert_allclose(found.predicted[1:], folds("grid").predicted[1:], rtol=1e-9)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (FOLDS[0], r"weights have shape \(80,\); allowed: \[folds, 80\]"),
        (FOLDS[:, 1:], r"weights have shape \(4, 79\)"),
        (FOLDS[:0], r"weights have shape \(0, 80\)"),
        (np.where(FOLDS == 0, -1.0, 1.0), r"fold 1 gives row 13 weight -1"),
        (np.where(FOLDS == 0, np.nan, 1.0), r"fold 1 gives row 13 weight nan"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights, words):
    with pytest.raises(InputError, match=words):
        fit_folds("bimix", table("grid"), weights)
