"""Find outlying rows by their residuals, also with their run left out, and fit without them.

A run that diverged, or an evaluation that went wrong, is so far off that squared residuals would bend every law towards
it. A run at the edge of the simplex is badly predicted by the other runs as well, but a law can pass through it. So a
run is outlying only where for one of its rows, |residual| of the log loss

    is above `_LEFT_OUT` when the run is left out, and
    is above `_FITTED` and `_TIMES` the median when all rows are fitted,

or where the medians over all of its rows and targets are above `_LEFT_OUT` and `_RUN_FITTED`. Its rows above
`_LEFT_OUT` get no weight, the members are fitted again, and all rows are judged anew, until nothing changes.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from bimixjax.auto.grids import Cells
from bimixjax.auto.member_fits import Stack
from bimixjax.fitting.outliers import listed
from bimixjax.observations import Observations, Unit

# Log losses. Set so that no row of the public tables is outlying, not even the first rows of a run at the edge of the
# simplex, which laws fit worst. `benchmarks/few_runs.py` counts the rows left out there.
_LEFT_OUT, _FITTED, _RUN_FITTED, _TIMES = 0.3, 0.35, 0.05, 4.0

# Fewer runs do not show which of them is outlying, and a larger share of a target's rows is not outlying.
_LEAST_RUNS, _MOST_ROWS = 4, 0.25

# The most fits until nothing changes.
ROUNDS = 4


def outlying(stacks: Sequence[Stack], cells: Cells) -> Float[np.ndarray, "G m t T"]:
    """Find the outlying rows of the cells, by fits to all or some of these rows: 1 or 0.

    Args:
        stacks: the fits.
        cells: all rows, also those without weight in these fits.
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
    far = left > _LEFT_OUT
    odd = far & (fitted > np.maximum(_FITTED, _TIMES * usual)[:, None, None])
    whole = (_median(left) > _LEFT_OUT) & (_median(fitted) > _RUN_FITTED)
    found = far & (odd.any((2, 3)) | whole)[:, :, None, None]
    runs, rows = cells.mask.any(2).sum(1), cells.mask.sum((1, 2))
    few = (runs >= _LEAST_RUNS) & (found.sum((1, 2)) <= _MOST_ROWS * rows)
    return (found & few[:, None, None]).astype(float)


def _median(missed: Float[np.ndarray, "G m t T"]) -> Float[np.ndarray, "G m"]:
    """Take the median of each run over its rows and targets, 0 where it has none."""
    of_runs = missed.reshape(*missed.shape[:2], -1)
    there = np.isfinite(of_runs).any(axis=2, keepdims=True)
    return np.nanmedian(np.where(there, of_runs, 0.0), axis=2)


def without(cells: Cells, odd: Float[np.ndarray, "G m t T"]) -> Cells:
    """Mask odd rows of the cells, and center log losses at the means of the others."""
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
