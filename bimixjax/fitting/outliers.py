"""Find rows whose losses lie far outside what a fit predicts, and name their runs in a sentence."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike, NDArray

from bimixjax.observations import Observations, Unit

# How far a row must be off: in robust standard deviations of all rows, and as a factor of the loss, in the median of
# its targets or in one of them. Misfits of laws on public tables reach 1.2 in the median, and 1.6 in one target.
DEVIATIONS = 8.0
ROW_FACTOR, LOSS_FACTOR = 1.25, 2.0

# With fewer rows, or of fewer targets, a median says nothing.
_FEWEST_ROWS, _FEWEST_TARGETS = 8, 2

# From the median of absolute values of normal numbers to their standard deviation.
_TO_DEVIATION = 1.4826

# How many runs a sentence names.
_NAMED = 5

_Runs = Sequence[str] | NDArray[np.object_]


def outliers(predicted: ArrayLike, measured: ArrayLike, volume: ArrayLike | None = None) -> Bool[np.ndarray, " n"]:
    """Find the rows whose measured losses lie far outside what a fit predicts for them.

    The deviation of a loss is that of its logarithm from its target's median; that of a row is their median:

        d_it = log(measured_it / predicted_it) - median_i,    D_i = median_t d_it.

    A diverged run is off in all targets, the misfit of a law in some. A row lies far outside where |D_i - median| is
    above 8 robust standard deviations (1.4826 times the median absolute deviation) and the loss off by a factor of 1.25
    or more, for two targets at least; or where that holds for one d_it, by a factor of 2. Where at least three rows
    share a volume, it must also hold of deviations from their median, since what all runs share is the law's misfit.
    Tables of fewer than 8 rows have none.

    Args:
        predicted: losses [n, t]; one that is not finite is passed over.
        measured: losses [n, t], NaN where missing.
        volume: the training volume of each row [n].

    Example:
        >>> measured = [[3.0, 2.0]] * 9 + [[9.0, 9.0]]
        >>> outliers([[3.0, 2.0]] * 10, measured).nonzero()[0].tolist()
        [9]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(np.asarray(measured, float) / np.asarray(predicted, float))
    logs = np.where(np.isfinite(found), found, np.nan)
    rows = np.zeros(len(logs), bool)
    # Mostly no two logarithms of a target differ by as much as an outlier does from the median: that is cheap to see.
    if len(logs) >= _FEWEST_ROWS:
        widest = np.fmax.reduce(logs, axis=0) - np.fmin.reduce(logs, axis=0)
        if (widest >= np.log(ROW_FACTOR)).any():
            single = logs - _median(logs, axis=0)
            whole = _median(single, axis=1)[:, None]
            several = np.isfinite(single).sum(1) >= _FEWEST_TARGETS
            rows = several & _far(whole, volume, ROW_FACTOR).any(1) | _far(single, volume, LOSS_FACTOR).any(1)
    return rows


def name_outliers_of_all(predictions: Sequence[ArrayLike], measured: ArrayLike, observations: Observations) -> str:
    """Name the rows that lie far outside what every one of several laws predicts.

    Args:
        predictions: losses by each law in each of its folds [F, n, t]; the median over folds counts.
        measured: losses [n, t], NaN where missing.
        observations: the table of these rows.
    """
    unit = observations.volume_unit()
    volume = observations.volumes(unit)
    typical = [_median(np.where(np.isfinite(each), each, np.nan), axis=0) for each in map(np.asarray, predictions)]
    every = [outliers(each, measured, volume) for each in typical]
    return name_outliers(np.all(every, axis=0), observations.run, volume, unit)


def _far(deviation: Float[np.ndarray, "n t"], volume: ArrayLike | None, factor: float) -> Bool[np.ndarray, "n t"]:
    """Find large deviations, from the median of their column and also from that of their volume."""
    beside = deviation.copy()
    if volume is not None:
        number = np.unique(np.asarray(volume, float), return_inverse=True)[1].reshape(-1)
        for rows in np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1]):
            if len(rows) >= 3:
                beside[rows] -= _median(beside[rows], axis=0)
    far = np.ones(deviation.shape, bool)
    for values in (deviation, beside):
        size = np.abs(values - _median(values, axis=0))
        far &= (size >= np.log(factor)) & (size > DEVIATIONS * _TO_DEVIATION * _median(size, axis=0))
    return far


def _median(values: np.ndarray, axis: int) -> np.ndarray:
    """Take the median of what is not NaN; NaN where there is nothing, without the warning of `np.nanmedian`."""
    ordered, count = np.sort(values, axis=axis), np.expand_dims((~np.isnan(values)).sum(axis), axis)
    middle = [np.take_along_axis(ordered, np.maximum(place, 0), axis) for place in ((count - 1) // 2, count // 2)]
    return np.squeeze(middle[0] + middle[1], axis) / 2


def name_outliers(
    rows: Bool[np.ndarray, " n"], runs: _Runs, volume: ArrayLike | None = None, unit: Unit | None = None
) -> str:
    """Say that these rows lie far outside; nothing where there is none."""
    return f"losses far outside what the fit says: {listed(rows, runs, volume, unit)}" if rows.any() else ""


def listed(rows: Bool[np.ndarray, " n"], runs: _Runs, volume: ArrayLike | None, unit: Unit | None) -> str:
    """Name the runs of some rows of a table, and which of their rows these are."""
    run = np.array([str(name) for name in runs], object)
    names, words = tuple(dict.fromkeys(run[rows].tolist())), []
    for name in names[:_NAMED]:
        own, every = np.flatnonzero(rows & (run == name)), int((run == name).sum())
        if len(own) == every:
            words.append(f"run {name} (all its rows: {every})")
            continue
        where = ""
        if volume is not None and unit is not None:
            at = [f"{value:.15g}" for value in np.asarray(volume, float)[own]]
            where = f", at {', '.join(at[:_NAMED])}{', ...' if len(at) > _NAMED else ''} {unit}"
        words.append(f"run {name} ({len(own)} of its {every} rows{where})")
    more = [f"and {len(names) - _NAMED} more runs"] if len(names) > _NAMED else []
    return ", ".join(words + more)
