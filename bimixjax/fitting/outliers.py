"""Rows whose losses lie far outside what a fit says of them: which they are, and a sentence that names their runs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
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


@dataclass(frozen=True, kw_only=True)
class Outliers:
    """The rows that lie far outside, and what to say of them.

    Args:
        rows: whether each row does [n].
        runs: the runs of these rows.
        sentence: names runs and rows; "" where there is none.
    """

    rows: NDArray[np.bool_]
    runs: tuple[str, ...]
    sentence: str


def outliers(
    predicted: ArrayLike,
    measured: ArrayLike,
    runs: Sequence[str] | NDArray[np.object_],
    *,
    volume: ArrayLike | None = None,
    unit: Unit | None = None,
) -> Outliers:
    """Find the rows whose measured losses lie far outside what a fit predicts for them.

    The deviation of a loss is d = log(measured / predicted), less the median of its target. That of a row is the median
    of d over its targets: a diverged run is off in all of them, the misfit of a law in some. Where at least three rows
    share a volume, their median is taken away too, and the smaller of both deviations counts, since what all runs share
    is the law's misfit. A row lies far outside where its deviation is above 8 robust standard deviations (1.4826 times
    the median absolute deviation) and the loss off by a factor of 1.25 or more in the median of two targets at least,
    or of 2 in one. Tables of fewer than 8 rows have none.

    Args:
        predicted: losses [n, t]; one that is not finite is passed over.
        measured: losses [n, t], NaN where missing.
        runs: the run of each row [n].
        volume: the training volume of each row [n].
        unit: of the volume, for the sentence; without it, rows are counted only.

    Example:
        >>> measured = [[3.0, 2.0]] * 9 + [[9.0, 9.0]]
        >>> outliers([[3.0, 2.0]] * 10, measured, list("abcdefghij")).sentence
        'losses far outside what the fit says: run j (all its rows: 1)'
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(np.asarray(measured, float) / np.asarray(predicted, float))
    apart = np.where(np.isfinite(found), found, np.nan)
    if len(apart) < _FEWEST_ROWS or not _apart(apart):
        return _named(np.zeros(len(apart), bool), runs, volume, unit)
    single = apart - _median(apart, axis=0)
    whole = _median(single, axis=1)[:, None]
    several = np.isfinite(single).sum(1) >= _FEWEST_TARGETS
    rows = several & _far(whole, volume, ROW_FACTOR).any(1) | _far(single, volume, LOSS_FACTOR).any(1)
    return _named(rows, runs, volume, unit)


def _apart(values: np.ndarray) -> bool:
    """Whether any two deviations of a target are as far apart as an outlier is from the median: cheap, mostly not."""
    ends = np.fmax.reduce(values, axis=0) - np.fmin.reduce(values, axis=0)
    return bool((ends >= np.log(ROW_FACTOR)).any())


def outliers_of_all(predictions: Sequence[ArrayLike], measured: ArrayLike, observations: Observations) -> Outliers:
    """Find the rows that lie far outside what every one of several laws says.

    Args:
        predictions: losses by each law in each of its folds [F, n, t]; the median over folds counts.
        measured: losses [n, t], NaN where missing.
        observations: the table of these rows.
    """
    unit = observations.volume_unit()
    place = {"volume": observations.volumes(unit), "unit": unit}
    typical = [_median(np.where(np.isfinite(each), each, np.nan), axis=0) for each in map(np.asarray, predictions)]
    every = [outliers(each, measured, observations.run, **place).rows for each in typical]
    return _named(np.all(every, axis=0), observations.run, **place)


def _far(deviation: np.ndarray, volume: ArrayLike | None, factor: float) -> np.ndarray:
    """Which deviations [n, t] are large, from the median of their column and from that of their volume."""
    return _large(deviation, factor) & _large(_beside_volume(deviation, volume), factor)


def _large(deviation: np.ndarray, factor: float) -> np.ndarray:
    size = np.abs(deviation - _median(deviation, axis=0))
    return (size >= np.log(factor)) & (size > DEVIATIONS * _TO_DEVIATION * _median(size, axis=0))


def _beside_volume(deviation: np.ndarray, volume: ArrayLike | None) -> np.ndarray:
    """Deviations less their median at each volume that three rows share."""
    left = deviation.copy()
    if volume is None:
        return left
    number = np.unique(np.asarray(volume, float), return_inverse=True)[1].reshape(-1)
    for rows in np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1]):
        if len(rows) >= 3:
            left[rows] -= _median(left[rows], axis=0)
    return left


def _median(values: np.ndarray, axis: int) -> np.ndarray:
    """The median of what is not NaN; NaN where there is nothing."""
    ordered, count = np.sort(values, axis=axis), np.expand_dims((~np.isnan(values)).sum(axis), axis)
    middle = [np.take_along_axis(ordered, np.maximum(place, 0), axis) for place in ((count - 1) // 2, count // 2)]
    return np.squeeze(middle[0] + middle[1], axis) / 2


def _named(
    rows: NDArray[np.bool_], runs: Sequence[str] | NDArray[np.object_], volume: ArrayLike | None, unit: Unit | None
) -> Outliers:
    names = tuple(dict.fromkeys(str(run) for run in np.asarray(runs, object)[rows]))
    sentence = f"losses far outside what the fit says: {listed(rows, runs, volume, unit)}" if names else ""
    return Outliers(rows=rows, runs=names, sentence=sentence)


def listed(
    rows: NDArray[np.bool_], runs: Sequence[str] | NDArray[np.object_], volume: ArrayLike | None, unit: Unit | None
) -> str:
    """Name the runs of some rows [n] of a table, and which of their rows these are."""
    run = np.array([str(name) for name in runs], object)
    names = tuple(dict.fromkeys(run[rows].tolist()))
    said = [_of_run(name, np.flatnonzero(rows & (run == name)), run, volume, unit) for name in names[:_NAMED]]
    more = [f"and {len(names) - _NAMED} more runs"] if len(names) > _NAMED else []
    return ", ".join(said + more)


def _of_run(
    name: str, rows: NDArray[np.intp], run: NDArray[np.object_], volume: ArrayLike | None, unit: Unit | None
) -> str:
    """One run, and which of its rows."""
    every = int((run == name).sum())
    if len(rows) == every:
        return f"run {name} (all its rows: {every})"
    said = f"run {name} ({len(rows)} of its {every} rows"
    if volume is None or unit is None:
        return said + ")"
    at = np.asarray(volume, float)[rows]
    shown = ", ".join(f"{value:.15g}" for value in at[:_NAMED]) + (", ..." if len(at) > _NAMED else "")
    return f"{said}, at {shown} {unit})"
