"""Intervals of a law's predictions, from its errors on rows that it was not fitted to."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from bimixjax.comparison.rows import Mask, Rows

# What is added to the Hellinger distance from the nearest fitted mixture, to which the width is proportional.
_NEAR = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Errors:
    """Predictions of rows that were left out inside one fold.

    Attributes:
        size: N of each row.
        distance: of its mixture from the nearest fitted one.
        log: log(measured / predicted), NaN where either is missing.
    """

    size: Float[np.ndarray, " m"]
    distance: Float[np.ndarray, " m"]
    log: Float[np.ndarray, "m t"]


def nearest(rows: Rows, proportions: Float[np.ndarray, "n d"], fitted: Mask) -> Float[np.ndarray, " n"]:
    """Return the Hellinger distance of each row's mixture from the nearest mixture fitted at its model size.

    Where none of that size was fitted, those of all sizes count.
    """
    numbers, first = np.unique(rows.mixture, return_index=True)
    root = np.sqrt(proportions[first])
    affinity = np.clip(root @ root.T, 0.0, 1.0)
    distance = np.sqrt(1.0 - affinity)[np.searchsorted(numbers, rows.mixture)]
    found = np.empty(len(rows.run))
    for own, there in rows.fitted_by_size(fitted):
        found[own] = distance[np.ix_(own, np.searchsorted(numbers, np.unique(rows.mixture[there])))].min(axis=1)
    return found


def half_widths(
    errors: Errors, level: float, size: Float[np.ndarray, " c"], distance: Float[np.ndarray, " c"]
) -> Float[np.ndarray, "c t"]:
    """Return half the width of the intervals of rows, in log loss; NaN where there is no error at all.

    A width is q (.05 + distance), where q is the ceil((m + 1) level)-th smallest of the m values |log error| /
    (.05 + distance) of the target at the row's model size (at all sizes, where none was left out at that one). Where m
    is too small for that, the values of all targets are pooled, and if they are too few as well, q is the largest.

    Args:
        errors: on rows left out inside the fold.
        level: share to cover.
        size: N of the rows to predict.
        distance: of their mixtures from the nearest fitted one.

    Source: split conformal prediction with scaled scores, Lei et al., JASA 113 (2018).
    """
    scores = np.abs(errors.log) / (_NEAR + errors.distance)[:, None]
    widths = np.full((len(size), scores.shape[1]), np.nan)
    for each in np.unique(size):
        same, own = errors.size == each, size == each
        there = scores[same] if same.any() else scores
        finite = there[np.isfinite(there)]
        pooled = _quantile(finite, level, otherwise=finite.max() if finite.size else np.nan)
        quantiles = np.array([_quantile(column, level, otherwise=pooled) for column in there.T])
        widths[own] = quantiles * (_NEAR + distance[own])[:, None]
    return widths


def _quantile(scores: Float[np.ndarray, " m"], level: float, *, otherwise: float) -> float:
    """Return the ceil((m + 1) level)-th smallest of the m finite scores; `otherwise` where m is too small for that."""
    finite = np.sort(scores[np.isfinite(scores)])
    # Without the small number, 10 x .9 would be rounded up to 10.
    place = math.ceil((finite.size + 1) * level - 1e-9)
    return float(finite[place - 1]) if place <= finite.size else otherwise
