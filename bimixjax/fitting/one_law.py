"""Fit a law to observations: every target, and every model size, in one compiled call."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Unpack

import jax
import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from bimixjax._base import checks
from bimixjax.fitting import devices
from bimixjax.fitting.criterion import Criterion as Criterion
from bimixjax.fitting.devices import lanes_at_once
from bimixjax.fitting.diagnostics import report
from bimixjax.fitting.folds import FoldFits as FoldFits, fold_fits, fold_lanes
from bimixjax.fitting.lanes import Lanes, Table, choose_targets
from bimixjax.fitting.options import FitOptions, FoldOptions, Solver
from bimixjax.fitting.outliers import name_outliers, outliers
from bimixjax.fitting.problem import Batch
from bimixjax.fitting.resamples import Bootstrap
from bimixjax.fitting.resampling import Resampled as Resampled
from bimixjax.fitting.result import FitResult as FitResult, target_loss
from bimixjax.fitting.views import Ends, brief, describe, scaled
from bimixjax.laws import LAWS, Law, law_named
from bimixjax.observations import Observations, Unit
from bimixjax.solve import VarPro

# A prior one standard deviation off costs as much as one observation that is 1 % off.
_PRIOR_RESIDUAL = 0.01

# What a fit minimizes, and how, where nothing else is asked for.
_SQUARES, _SOLVER = Criterion(), VarPro()

# How often a law is fitted again without rows far outside, and what to do about these.
_REFITS = 3
_ADVICE = "leave these out (--exclude-run), or let large residuals count less (--criterion huber)"


def fit(law: Law | str, observations: Observations, **options: Unpack[FitOptions]) -> FitResult:
    """Fit a law to every target of a table, in one compiled call.

    Minimizes, for each target (and each model size, where the law has none), the sum over its observations of
    ((predicted - measured) / measured)^2, plus the weak priors of the law's coefficients.

    Args:
        law: a name in `LAWS`, or a law.
        observations: measured losses.
        **options: see `FitOptions`.

    Returns:
        The fit, with a status in words for each target.

    Raises:
        InputError: for an unknown law, target or unit of volume, or a target that the law cannot describe.

    Example:
        >>> import pandas as pd
        >>> import bimixjax
        >>> table = {"run": ["a"] * 3 + ["b"] * 3, "step": [1, 4, 16] * 2}
        >>> table |= {"mixture/x": [0.25] * 3 + [0.5] * 3, "mixture/y": [0.75] * 3 + [0.5] * 3}
        >>> table |= {"loss/x": [6.0, 4.0, 3.0, 3 * 2**0.5, 2 * 2**0.5, 1.5 * 2**0.5]}
        >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)), priors=False)
        >>> {name: round(float(value[0]), 4) for name, value in fit.coefficients.items()}
        {'A': 1.0, 'B': 2.0, 'C': 1.0, 'alpha': 0.5, 'beta': 0.5}

    Source: the law of arXiv 2405.14908, Eq. 1-3; the method, Golub and Pereyra (1973).
    """
    table, batch = prepared(law, observations, **options)
    return reported(table, batch, devices.solve(batch))


def bootstrap(
    law: Law | str, observations: Observations, *, key: jax.Array, count: int = 1000, **options: Unpack[FitOptions]
) -> Resampled:
    """Fit a law to a table, and again with random weights of its runs, all in one compiled call.

    Each run's squared residuals count by a weight from the standard exponential distribution, divided by their mean:
    the Bayesian bootstrap over runs. Rows of one run share what makes them err, so runs are drawn, not rows. The
    weights are drawn on the device; each fit starts where that of the whole table ended.

    Args:
        law: a name in `LAWS`, or a law.
        observations: measured losses.
        key: of the random weights; the same key gives the same weights on any number of devices.
        count: how many resamples, at least 2.
        **options: see `FitOptions`; the weights of the bootstrap multiply those given.

    Returns:
        The fit, and the coefficients of every resample.

    Raises:
        InputError: as `fit`; and for fewer than 2 resamples.

    Example:
        >>> import jax
        >>> import pandas as pd
        >>> from bimixjax import Observations
        >>> from bimixjax.fitting import bootstrap
        >>> table = {"run": list("abcd"), "mixture/x": [0.25, 0.4, 0.6, 0.8], "mixture/y": [0.75, 0.6, 0.4, 0.2]}
        >>> observations = Observations.from_frame(pd.DataFrame(table | {"loss/x": [4.0, 3.3, 2.5, 2.3]}))
        >>> found = bootstrap("bimix", observations, key=jax.random.key(0), count=20)
        >>> lower, upper = found.interval([0.5, 0.5])
        >>> bool(lower[0] < float(found.fit.predict([0.5, 0.5])[0]) < upper[0])
        True

    Source: Rubin, The Bayesian bootstrap, Annals of Statistics 9 (1981).
    """
    count = checks.resamples(count)
    table, batch = prepared(law, observations, **options)
    ends = devices.solve(batch)
    resamples, starts = Bootstrap(key=key, count=count, runs=table.runs), ends.solution.nonlinear.T[None]
    found = devices.solve(dataclasses.replace(batch, view=brief, resamples=resamples, starts=starts))
    return Resampled(
        fit=reported(table, batch, ends),
        values=found.values.reshape(count, len(ends.values), -1),
        status=found.status.reshape(count, -1),
    )


def fit_folds(
    law: Law | str, observations: Observations, weights: ArrayLike, **options: Unpack[FoldOptions]
) -> FoldFits:
    """Fit a law to many weightings of the rows of one table, in one compiled call, and predict every row in each.

    Args:
        law: a name in `LAWS`, or a law.
        observations: measured losses.
        weights: what the squared residuals of each row count in each fold [F, n]; 0 holds a row out.
        **options: see `FoldOptions`.

    Returns:
        Predictions and statuses per fold, model size and target.

    Raises:
        InputError: as `fit`; and for weights of another shape, negative or not finite.

    Example:
        >>> import numpy as np
        >>> import pandas as pd
        >>> from bimixjax import Observations
        >>> from bimixjax.fitting import fit_folds
        >>> table = {"run": ["a", "b", "c"], "mixture/x": [0.25, 1.0, 0.5], "mixture/y": [0.75, 0.0, 0.5]}
        >>> observations = Observations.from_frame(pd.DataFrame(table | {"loss/x": [4.0, 2.0, 2.8]}))
        >>> folds = fit_folds("bimix", observations, 1 - np.eye(3)[2:], priors=False)
        >>> round(float(folds.predicted[0, 2, 0]), 3)
        2.828
    """
    table, batch = prepared(law, observations, **options)
    lanes, group = fold_lanes(table, checks.fold_weights(weights, len(observations)))
    chunk = lanes_at_once(batch.law, lanes)
    ends = devices.solve(dataclasses.replace(batch, view=scaled, lanes=lanes, chunk=chunk))
    return fold_fits(batch.law, table, lanes, group, ends)


def prepared(
    law: Law | str,
    observations: Observations,
    *,
    volume: Unit | None = None,
    targets: Sequence[str] | None = None,
    priors: bool = True,
    weights: Mapping[str, float] | None = None,
    criterion: Criterion | None = None,
    solver: Solver | None = None,
) -> tuple[Table, Batch]:
    """Check what is asked for, and lay the table out: its columns, and the argument of the compiled call."""
    chosen = law_named(law) if isinstance(law, str) else law
    names = choose_targets(chosen, observations, None if targets is None else tuple(targets))
    table = Table.of(chosen, observations, observations.volume_unit(volume), names)
    lanes, solver = table.lanes(table.groups(_of_rows(observations, weights))), solver or _SOLVER
    # Where nobody says how many, a solver takes one.
    if solver.starts is None and chosen.local_minima > 1:
        solver = dataclasses.replace(solver, starts=chosen.local_minima)
    batch = Batch(
        law=chosen,
        solver=solver,
        criterion=criterion or _SQUARES,
        view=describe,
        chunk=lanes_at_once(chosen, lanes),
        lanes=lanes,
        resamples=None,
        starts=None,
        units=table.scales,
        strength=np.asarray(_PRIOR_RESIDUAL) if priors else None,
    )
    return table, batch


def reported(table: Table, batch: Batch, ends: Ends) -> FitResult:
    """Report on solved lanes, with notes on the table, on targets that are not fitted and on rows far outside."""
    law, named, notes = batch.law, table.observations.targets, list(table.observations.notes)
    if law.own_proportion and len(named) > len(table.targets):
        missing = ", ".join(name for name in named if name not in table.targets)
        notes.append(f"not fitted, since {law.name} needs a target that is a training domain: {missing}")
    outlying = _outlying(table, batch, ends)
    if outlying.any():
        sentence = name_outliers(outlying, table.observations.run, table.volume, table.unit)
        notes.append(f"{sentence}; {_ADVICE}")
    result = report(law, table, batch.lanes, ends, tuple(notes))
    if law not in LAWS.values():
        _check_units(result, table, batch.lanes, ends)
    return result


def _outlying(table: Table, batch: Batch, ends: Ends) -> Bool[np.ndarray, " N"]:
    """Find the rows far outside what the law says when it is fitted without them.

    They bend the fit by which they are found, so that it is done again until they are the same.
    """
    lanes, weight = batch.lanes, batch.lanes.weight
    rows, found = np.zeros(len(table.run), bool), _far(table, lanes, ends)
    for _ in range(_REFITS):
        if not found.any() or np.array_equal(found, rows):
            break
        rows = found
        kept = np.repeat(~rows[lanes.row], len(table.targets), axis=-1)
        weighted = dataclasses.replace(lanes, weight=weight * kept)
        found = _far(table, lanes, devices.solve(dataclasses.replace(batch, lanes=weighted)))
    return found


def _far(table: Table, lanes: Lanes, ends: Ends) -> Bool[np.ndarray, " N"]:
    """Find the rows far outside what a fit says."""
    predicted = np.where(lanes.flat(lanes.weight).T > 0, ends.predicted, np.nan)
    of_rows = np.full(table.losses.shape, np.nan)
    for row, found in zip(lanes.flat(lanes.row).T, np.split(predicted, len(table.by_size)), strict=True):
        of_rows[row[row >= 0]] = found[:, row >= 0].T
    return outliers(of_rows, table.losses, table.volume)


def _of_rows(observations: Observations, weights: Mapping[str, float] | None) -> np.ndarray | None:
    """Return the weight of each row [n] from those of runs; a run that is not named counts 1."""
    if weights is None:
        return None
    checks.known("run", tuple(weights), observations.runs, observations.source)
    for run, weight in weights.items():
        checks.not_negative(f"weight of run {run!r}", weight)
    return np.array([float(weights.get(run, 1.0)) for run in observations.run])


def _check_units(result: FitResult, table: Table, lanes: Lanes, ends: Ends) -> None:
    """Raise where a user's own law predicts other losses in the table's units than in those of the fit."""
    used = np.argwhere(lanes.flat(lanes.weight).T > 0)
    if not used.size:
        return
    lane, row = used[0]
    mixture, volume, model_size = (
        lanes.flat(values)[..., row, lanes.group[lane]] for values in (lanes.mixture, lanes.volume, lanes.model_size)
    )
    unique = np.inf if lanes.unique is None else lanes.flat(lanes.unique)[..., row, lanes.group[lane]]
    loss = float(
        target_loss(result.law)(
            result.values[lane],
            lanes.domain[lane],
            mixture,
            volume * table.scales[0],
            model_size * table.scales[1],
            unique * table.scales[0],
        )
    )
    if not np.isclose(loss, ends.predicted[lane, row], rtol=1e-6):
        raise checks.InputError(
            f"law {result.law.name!r} gives {ends.predicted[lane, row]:g} in the units of the fit and {loss:g} in "
            "those of the table; its with_units must say how its coefficients change"
        )
