"""How well predicted losses meet measured ones: arrays in, numbers out; where `measured` is NaN it is left out."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import ArrayLike

from bimixjax._base.checks import InputError

# One number for each lane: the axes that remain.
Scores = Float[np.ndarray, "..."]
Lane = Float[np.ndarray, " n"]


def mean_relative_error(predicted: ArrayLike, measured: ArrayLike, *, axis: int | None = None) -> float | Scores:
    """Return the mean of |predicted - measured| / measured.

    Args:
        predicted: predicted losses.
        measured: measured losses, of the same shape.
        axis: the axis to average over; None for all.

    Raises:
        InputError: where the shapes differ.

    Example:
        >>> mean_relative_error([1.1, 5.0], [1.0, float("nan")])
        0.10000000000000009
    """
    return _over(axis, lambda measured, p: np.mean(np.abs(p - measured) / measured), measured, predicted)


def bias(predicted: ArrayLike, measured: ArrayLike, *, axis: int | None = None) -> float | Scores:
    """Return the mean of (predicted - measured) / measured: above zero where predictions are too high.

    Args:
        predicted: predicted losses.
        measured: measured losses, of the same shape.
        axis: the axis to average over; None for all.

    Raises:
        InputError: where the shapes differ.

    Example:
        >>> bias([1.5, 1.0], [1.0, 2.0])
        0.0
    """
    return _over(axis, lambda measured, p: np.mean((p - measured) / measured), measured, predicted)


def r2(predicted: ArrayLike, measured: ArrayLike, *, log: bool = False, axis: int | None = None) -> float | Scores:
    """Return R^2 = 1 - sum (predicted - measured)^2 / sum (measured - mean)^2; NaN where all measured are equal.

    Args:
        predicted: predicted losses.
        measured: measured losses, of the same shape.
        log: whether to compare logarithms.
        axis: the axis to sum over; None for all.

    Raises:
        InputError: where the shapes differ.

    Example:
        >>> r2([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
        1.0
    """

    def of_lane(m: Lane, p: Lane) -> float:
        m, p = (np.log(m), np.log(p)) if log else (m, p)
        total = np.sum((m - m.mean()) ** 2)
        return 1 - np.sum((p - m) ** 2) / total if total > 0 else np.nan

    return _over(axis, of_lane, measured, predicted)


def spearman(predicted: ArrayLike, measured: ArrayLike, *, axis: int | None = None) -> float | Scores:
    """Return Spearman's rank correlation, ties at their average rank; NaN where one side is constant.

    Args:
        predicted: predicted losses.
        measured: measured losses, of the same shape.
        axis: the axis along which to rank; None for all.

    Raises:
        InputError: where the shapes differ.

    Example:
        >>> round(spearman([1.0, 2.0, 3.0], [10.0, 20.0, 15.0]), 12)
        0.5
    """

    def of_lane(m: Lane, p: Lane) -> float:
        if np.isnan(p).any():
            return np.nan
        # Ranks minus their mean; pandas', since the import of scipy.stats takes as long as that of JAX.
        a, b = (pd.Series(values).rank().to_numpy() - (len(values) + 1) / 2 for values in (m, p))
        return float((a @ b) / np.sqrt((a @ a) * (b @ b)))

    return _over(axis, of_lane, measured, predicted)


def regret(predicted: ArrayLike, measured: ArrayLike, *, axis: int | None = None) -> float | Scores:
    """Return measured[argmin predicted] - min measured: what choosing by the prediction costs.

    A candidate whose predicted loss is infinite is not chosen.

    Args:
        predicted: predicted losses of the candidates.
        measured: measured losses, of the same shape.
        axis: the axis of the candidates; None for all.

    Raises:
        InputError: where the shapes differ.

    Example:
        >>> regret([1.0, 2.0, 3.0], [2.5, 2.0, 4.0])
        0.5
    """
    return _over(axis, lambda m, p: m[np.argmin(p)] - m.min() if np.isfinite(p.min()) else np.nan, measured, predicted)


def normalized_regret(predicted: ArrayLike, measured: ArrayLike, *, axis: int | None = None) -> float | Scores:
    """Return `regret` / (mean measured - min measured): 0 for the best candidate, 1 for as good as an average one.

    NaN where all measured losses are equal.

    Args:
        predicted: predicted losses of the candidates.
        measured: measured losses, of the same shape.
        axis: the axis of the candidates; None for all.

    Raises:
        InputError: where the shapes differ.

    Example:
        >>> normalized_regret([1.0, 2.0, 3.0], [2.5, 2.0, 4.5])
        0.5
    """

    def of_lane(m: Lane, p: Lane) -> float:
        spread = m.mean() - m.min()
        return (m[np.argmin(p)] - m.min()) / spread if np.isfinite(p.min()) and spread > 0 else np.nan

    return _over(axis, of_lane, measured, predicted)


def top_recall(predicted: ArrayLike, measured: ArrayLike, *, count: int = 3, axis: int | None = None) -> float | Scores:
    """Return the share of the `count` best measured candidates that are among the `count` best predicted ones.

    A candidate whose predicted loss is infinite is not among these.

    Args:
        predicted: predicted losses of the candidates.
        measured: measured losses, of the same shape.
        count: how many are the best.
        axis: the axis of the candidates; None for all.

    Raises:
        InputError: where the shapes differ.

    Example:
        >>> round(top_recall([1.0, 2.0, 3.0, 9.0, 8.0], [1.1, 2.1, 9.0, 3.0, 8.0]), 4)
        0.6667
    """

    def of_lane(m: Lane, p: Lane) -> float:
        if np.isnan(p).any():
            return np.nan
        liked, best = (np.argsort(values, kind="stable")[:count] for values in (p, m))
        return float(np.isin(best, liked[np.isfinite(p[liked])]).mean())

    return _over(axis, of_lane, measured, predicted)


def coverage(lower: ArrayLike, upper: ArrayLike, measured: ArrayLike, *, axis: int | None = None) -> float | Scores:
    """Return the share of measured losses with lower <= measured <= upper.

    Args:
        lower: lower ends of the intervals.
        upper: upper ends, of the same shape.
        measured: measured losses, of the same shape.
        axis: the axis to count over; None for all.

    Raises:
        InputError: where the shapes differ.

    Example:
        >>> coverage([1.0, 1.0], [2.0, 2.0], [1.5, 3.0])
        0.5
    """
    return _over(axis, lambda m, low, high: np.mean((low <= m) & (m <= high)), measured, lower, upper)


def width(lower: ArrayLike, upper: ArrayLike, measured: ArrayLike, *, axis: int | None = None) -> float | Scores:
    """Return the mean of (upper - lower) / measured: how wide the intervals are relative to the loss.

    Args:
        lower: lower ends of the intervals.
        upper: upper ends, of the same shape.
        measured: measured losses, of the same shape.
        axis: the axis to average over; None for all.

    Raises:
        InputError: where the shapes differ.

    Example:
        >>> width([1.0, 1.0], [2.0, 3.0], [2.0, 2.0])
        0.75
    """
    return _over(axis, lambda m, low, high: np.mean((high - low) / m), measured, lower, upper)


def _over(axis: int | None, metric: Callable[..., float], measured: ArrayLike, *others: ArrayLike) -> float | Scores:
    """Apply a metric of one lane along `axis`, to the rows with a measured loss only; NaN for a lane without any."""
    arrays = [np.asarray(array, np.float64) for array in (measured, *others)]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1:
        raise InputError(
            f"arrays have shapes {', '.join(map(str, shapes[1:]))}, measured {shapes[0]}; allowed: one shape"
        )
    lanes = [array.reshape(1, -1) if axis is None else np.moveaxis(array, axis, -1) for array in arrays]
    shape = lanes[0].shape[:-1]
    found = np.full(shape, np.nan)
    for index in np.ndindex(shape):
        there = ~np.isnan(lanes[0][index])
        if there.any():
            with np.errstate(divide="ignore", invalid="ignore"):
                found[index] = metric(*(lane[index][there] for lane in lanes))
    return float(found[0]) if axis is None else found
