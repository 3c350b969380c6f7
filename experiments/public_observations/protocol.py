"""The three questions of the paper's protocol, each at one model size: rows fitted, later volumes, unseen mixtures.

Answers are rows, dicts of names and numbers.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bimixjax
from bimixjax import FitResult, Observations, metrics

Row = dict[str, Any]
Floats = NDArray[np.float64]

# A rank correlation of fewer mixtures says nothing.
FEWEST_RANKED = 5


def in_sample(fit: FitResult) -> Iterator[Row]:
    """One row per target of a fit: its rows, its error and R2 on them, coefficients with standard errors, status."""
    values, errors = fit.coefficients, fit.standard_errors
    free = [name for name in values if name not in fit.law.gauge]
    for i, target in enumerate(fit.targets):
        yield {
            "target": target,
            "rows": int(fit.rows[i]),
            "absent": int(fit.zero[i]),
            "missing": int(fit.missing[i]),
            "error": float(fit.error[i]),
            "r2": float(fit.r2[i]),
            **{name: float(values[name][i]) for name in free},
            **{f"{name}_standard_error": float(errors[name][i]) for name in free},
            "status": fit.sentences[i],
        }


def extrapolation(early: Observations, late: Observations, law: str, *, priors: bool, alone: bool) -> Iterator[Row]:
    """Fit early volumes, predict late ones; one row per late run and target, with (predicted - measured) / measured.

    With `alone`, every run is fitted by itself and only its volume varies, as Table 1 of the paper suggests.
    """
    for runs in [(run,) for run in late.runs] if alone else [late.runs]:
        fit = bimixjax.fit(law, early.select(runs=runs), volume="steps", priors=priors)
        later = late.select(runs=runs)
        outcome = Outcome.of(fit, later)
        relative = outcome.predicted / outcome.measured - 1
        for run, row in zip(later.run.tolist(), relative.tolist(), strict=True):
            yield from ({"run": run, "target": t, "relative": value} for t, value in zip(fit.targets, row, strict=True))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Losses [n, t] predicted and measured of n mixtures, and which are of a domain that the mixture lacks.

    A prediction is infinite at an absent domain, where the law diverges, and NaN where the fitted rows determine none.
    Both are counted and left out of errors.
    """

    predicted: Floats
    measured: Floats
    absent: NDArray[np.bool_]

    @classmethod
    def of(cls, fit: FitResult, held: Observations) -> "Outcome":
        """Predict the mixtures of a table at their volumes."""
        absent = held.proportions[:, list(fit.own)] == 0
        predicted = np.asarray(fit.predict(held.proportions, volume=held.volumes("steps"), from_prior=True))
        measured = held.losses[:, [held.targets.index(target) for target in fit.targets]]
        return cls(predicted=np.where(absent, np.inf, predicted), measured=measured, absent=absent)

    def only(self, targets: NDArray[np.bool_]) -> "Outcome":
        """The same with no prediction for the other targets [t]."""
        return replace(self, predicted=np.where(targets | self.absent, self.predicted, np.nan))

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Where the law gives a number [n, t]."""
        return np.isfinite(self.predicted)

    def spearman(self, columns: Sequence[int], rows: NDArray[np.bool_]) -> float:
        """Rank correlation of the mean loss over `columns`, over some mixtures; infinite losses rank last, as ties."""
        if rows.sum() < FEWEST_RANKED:
            return math.nan
        predicted, measured = (losses[rows][:, columns].mean(1) for losses in (self.predicted, self.measured))
        return float(metrics.spearman(predicted, measured))


def complete(table: Observations, share: float = 0.8) -> Observations:
    """The rows with a loss of every domain, at the volumes that at least this share of the runs have."""
    whole = np.isfinite(table.losses[:, [table.targets.index(target) for target in table.own_targets]]).all(1)
    steps = table.volumes("steps")
    wanted = [s for s in np.unique(steps) if len(set(table.run[whole & (steps == s)])) >= share * len(table.runs)]
    rows = np.flatnonzero(whole & np.isin(steps, wanted))
    return Observations.from_frame(table.to_frame().iloc[rows], source=table.source)


def designs(table: Observations, count: int, draws: int) -> list[tuple[str, ...]]:
    """Runs to fit: draw d is `default_rng(1000 count + d).choice` of the run numbers; every subset where they are few.

    A run's number is the digits at the end of its id.
    """
    runs = {int(re.findall(r"\d+$", run)[0]): run for run in table.runs}
    numbers = sorted(runs)
    if math.comb(len(numbers), count) <= draws:
        return [tuple(runs[number] for number in subset) for subset in combinations(numbers, count)]
    drawn = [np.random.default_rng(1000 * count + d).choice(numbers, count, replace=False) for d in range(draws)]
    return [tuple(runs[number] for number in subset.tolist()) for subset in drawn]


def generalization(fitted: Observations, held: Observations, law: str, *, priors: bool, ranked: Sequence[str]) -> Row:
    """Fit some runs, predict the last loss of others; errors, rank correlations, and counts of what has none.

    Without priors, a target that was fitted at one share only is not predicted at another: any exponent fits.
    """
    fit = bimixjax.fit(law, fitted, volume="steps", priors=priors)
    lowest, highest = fit.proportion_range[np.arange(len(fit.targets)), list(fit.own)].T
    outcome = Outcome.of(fit, held).only((highest > lowest) | priors)
    usable, measured = outcome.usable, outcome.measured
    columns = [fit.targets.index(target) for target in ranked or fit.targets]
    finite = np.all(usable[:, columns], axis=1, keepdims=False)
    no_law = np.broadcast_to(_last_losses(fitted, held, fit.targets), measured.shape)
    return {
        "cells": usable.size,
        "absent": int(outcome.absent.sum()),
        "unfitted": int(np.isnan(outcome.predicted).sum()),
        "error": float(metrics.mean_relative_error(outcome.predicted[usable], measured[usable])),
        "no_law": float(metrics.mean_relative_error(no_law[usable], measured[usable])),
        "no_law_every_cell": float(metrics.mean_relative_error(no_law, measured)),
        "mixtures": len(held),
        "mixtures_finite": int(finite.sum()),
        "spearman": outcome.spearman(columns, np.full(len(held), True)),
        "spearman_finite": outcome.spearman(columns, finite),
    }


def _last_losses(fitted: Observations, held: Observations, targets: Sequence[str]) -> Floats:
    """What one would expect without a law: the mean loss of the fitted runs at the volume of those held out."""
    last = float(held.volumes("steps").max())
    return fitted.select(targets=targets, volume=(last, last), unit="steps").losses.mean(0)
