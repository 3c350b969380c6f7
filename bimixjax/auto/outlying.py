"""Rows that do not belong to the others: found by what the other runs say of them, and left out of a fit of `auto`.

A run that diverged, or an evaluation that went wrong, is so far off that squared residuals would bend every law towards
it. A run at the edge of the simplex is far from what the other runs say as well, but a law can pass through it. So a
run is outlying only where the log loss of one of its rows

    is missed by more than `_LEFT_OUT` when the run is left out, and
    is missed by more than `_FITTED` and `_TIMES` the median miss when all rows are fitted,

or where the medians over all of its rows and targets are above `_LEFT_OUT` and `_RUN_FITTED`. Its rows that are missed
by more than `_LEFT_OUT` when it is left out get no weight, the members are fitted again, and all rows are judged anew
by that fit, until nothing changes.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bimixjax.auto.grids import Cells
from bimixjax.auto.member_fits import Stack
from bimixjax.fitting.outliers import listed
from bimixjax.observations import Observations, Unit

# Log losses. Set so that no row of the public tables is outlying, such as the first rows of a run at the edge of the
# simplex, which laws miss most. `benchmarks/few_runs.py` counts the rows left out there.
_LEFT_OUT, _FITTED, _RUN_FITTED, _TIMES = 0.3, 0.35, 0.05, 4.0

# Fewer runs cannot tell which of them is odd, and a larger share of a target's rows is not odd.
_LEAST_RUNS, _MOST_ROWS = 4, 0.25

# Fits until nothing changes.
ROUNDS = 4


def outlying(stacks: Sequence[Stack], cells: Cells) -> np.ndarray:
    """Which rows of the cells are outlying, as fits to all or some of their rows judge them: 1 or 0 [G, m, t, T].

    Args:
        stacks: what was fitted.
        cells: all rows, also those that these fits left out.
    """
    fitted, left = np.full((2, *cells.mask.shape), np.nan)
    usual = np.full((len(cells.size), len(cells.own)), np.inf)
    for stack in stacks:
        cell, target, _ = stack.lanes.T
        mask, kept = cells.mask[cell, :, :, target] > 0, stack.cells.mask[cell, :, :, target] > 0
        loss = np.asarray(cells.rows(stack.lanes).loss) + (cells.center - stack.cells.center)[cell, target]
        for into, reading in ((fitted, "mean"), (left, "left_mean")):
            means = np.stack([getattr(fit, reading) for fit in stack.fits])
            missed = np.abs(stack.average.mixed(means, np.zeros(means.shape))[0] - loss)
            into[cell, :, :, target] = np.where(mask, np.moveaxis(missed, -1, 0), np.nan)
        usual[cell, target] = [
            np.median(miss[rows]) for miss, rows in zip(fitted[cell, :, :, target], kept, strict=True)
        ]
    apart = left > _LEFT_OUT
    odd = apart & (fitted > np.maximum(_FITTED, _TIMES * usual)[:, None, None])
    whole = (_median(left) > _LEFT_OUT) & (_median(fitted) > _RUN_FITTED)
    found = apart & (odd.any((2, 3)) | whole)[:, :, None, None]
    runs, rows = cells.mask.any(2).sum(1), cells.mask.sum((1, 2))
    told = (runs >= _LEAST_RUNS) & (found.sum((1, 2)) <= _MOST_ROWS * rows)
    return (found & told[:, None, None]).astype(float)


def _median(missed: np.ndarray) -> np.ndarray:
    """The median of each run over its rows and targets [G, m], 0 where it has none."""
    of_runs = missed.reshape(*missed.shape[:2], -1)
    there = np.isfinite(of_runs).any(axis=2, keepdims=True)
    return np.nanmedian(np.where(there, of_runs, 0.0), axis=2)


def without(cells: Cells, odd: np.ndarray) -> Cells:
    """The cells without some of their rows [G, m, t, T], and log losses less the means of those that are left."""
    mask = cells.mask * (1 - odd)
    moved = (cells.loss * mask).sum((1, 2)) / np.maximum(mask.sum((1, 2)), 1)
    loss = (cells.loss - moved[:, None, None]) * mask
    return replace(cells, mask=mask, loss=loss, center=cells.center + moved)


def note(cells: Cells, fitted: Sequence[Cells], observations: Observations, unit: Unit | None) -> tuple[str, ...]:
    """Name the runs with rows in the cells that none of the `fitted` ones has; nothing where there are none."""
    rows = np.zeros(len(observations), bool)
    rows[cells.row[(cells.mask > np.max([each.mask for each in fitted], axis=0)).any(3)]] = True
    if not rows.any():
        return ()
    volume = None if unit is None else observations.volumes(unit)
    return (
        f"losses far from what the other runs say, left out of the fit: {listed(rows, observations.run, volume, unit)}",
    )
