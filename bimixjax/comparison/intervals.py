"""Intervals of a law's predictions, from its errors on rows that it was not fitted to."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bimixjax.comparison.rows import Mask, Rows

Floats = NDArray[np.float64]

# What is added to the Hellinger distance from the nearest fitted mixture, to which the width is proportional.
_NEAR = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Errors:
    """Predictions of rows that were left out inside one fold.

    Args:
        size: N of each row [m].
        distance: of its mixture from the nearest fitted one [m].
        log: log(measured / predicted), NaN where either is missing [m, t].
    """

    size: Floats
    distance: Floats
    log: Floats

    @classmethod
    def concat(cls, parts: Sequence["Errors"]) -> "Errors":
        """Those of several fits."""
        fields = ("size", "distance", "log")
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in fields})


def nearest(rows: Rows, proportions: Floats, fitted: Mask) -> Floats:
    """The Hellinger distance of each row's mixture from the nearest mixture fitted at its model size [n].

    Where none of that size was fitted, those of all sizes count.
    """
    numbers, first = np.unique(rows.mixture, return_index=True)
    root = np.sqrt(proportions[first])
    affinity = np.clip(root @ root.T, 0.0, 1.0)
    distance = np.sqrt(1.0 - affinity)[np.searchsorted(numbers, rows.mixture)]
    found = np.empty(len(rows.run))
    for size in rows.sizes:
        own = rows.model_size == size
        there = fitted & own if (fitted & own).any() else fitted
        found[own] = distance[np.ix_(own, np.searchsorted(numbers, np.unique(rows.mixture[there])))].min(axis=1)
    return found


def half_widths(errors: Errors, level: float, size: Floats, distance: Floats) -> Floats:
    """Half the width of the intervals of rows, in log loss [c, t].

    A width is q (.05 + distance), where q is the ceil((m + 1) level)-th smallest of the m values |log error| /
    (.05 + distance) of the target at the row's model size (at all sizes, where none was left out at that one). Where m
    is too small for that, the values of all targets are pooled, and if they are too few as well, q is the largest.

    Args:
        errors: on rows left out inside the fold.
        level: share to cover.
        size: N of the rows to predict [c].
        distance: of their mixtures from the nearest fitted one [c].

    Source: split conformal prediction with scaled scores, Lei et al., JASA 113 (2018).
    """
    scores = np.abs(errors.log) / (_NEAR + errors.distance)[:, None]
    widths = np.full((len(size), scores.shape[1]), np.nan)
    for each in np.unique(size):
        same = errors.size == each
        quantiles = _quantiles(scores[same] if same.any() else scores, level)
        widths[size == each] = quantiles * (_NEAR + distance[size == each])[:, None]
    return widths


def _quantiles(scores: Floats, level: float) -> Floats:
    """One for each target [t]; NaN where there is no score at all."""
    pooled = np.sort(scores[np.isfinite(scores)])
    if not pooled.size:
        return np.full(scores.shape[1], np.nan)
    shared = pooled[min(_place(pooled.size, level), pooled.size) - 1]
    columns = [np.sort(column[np.isfinite(column)]) for column in scores.T]
    places = [_place(column.size, level) for column in columns]
    return np.array([c[p - 1] if p <= c.size else shared for c, p in zip(columns, places, strict=True)])


def _place(count: int, level: float) -> int:
    # Without the small number, 10 x .9 would be rounded up to 10.
    return math.ceil((count + 1) * level - 1e-9)
