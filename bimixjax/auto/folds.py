"""Fit `auto` in many folds of a table at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from bimixjax._base import checks
from bimixjax.auto.averaging import reach
from bimixjax.auto.donor import Auto, fit_stacks
from bimixjax.auto.estimate import checked_targets, fit_auto
from bimixjax.auto.grids import build_cells
from bimixjax.fitting.lanes import row_sizes
from bimixjax.observations import Observations, Unit

# Predicted points come in multiples of this, so that tables of many lengths share a compiled program.
_POINTS = 32


@dataclass(frozen=True, kw_only=True)
class AutoFolds:
    """Predictions of `auto` for every row of a table, by what was fitted in each fold.

    Attributes:
        targets: which losses.
        predicted, lower, upper: losses and their limits; NaN where a fold fitted nothing of the row's size.
    """

    targets: tuple[str, ...]
    predicted: Float[np.ndarray, "F n T"]
    lower: Float[np.ndarray, "F n T"]
    upper: Float[np.ndarray, "F n T"]


def auto_folds(
    observations: Observations,
    weights: np.ndarray,
    *,
    volume: Unit | None = None,
    targets: Sequence[str] | None = None,
    settings: Auto | None = None,
    level: float = 0.9,
) -> AutoFolds:
    """Fit `auto` in many folds of a table at once, and predict every row in each.

    Args:
        observations: measured losses.
        weights: 1 for rows that a fold is fitted on, 0 for others [F, n].
        volume: "tokens" or "steps"; by default tokens where the table has them, else steps.
        targets: which losses to fit; by default all.
        settings: of `auto`.
        level: how often the limits should contain a measured loss.

    Returns:
        Predictions with limits.

    Raises:
        InputError: for weights of another shape or other than 0 and 1, or an unknown target or unit.
    """
    names = checked_targets(observations, targets)
    unit = observations.volume_unit(volume)
    weights = np.asarray(weights, float)
    _check_weights(weights, len(observations))
    width = reach(level)
    empty = np.full((len(weights), len(observations), len(names)), np.nan)
    found = AutoFolds(targets=names, predicted=empty, lower=empty.copy(), upper=empty.copy())
    with jax.enable_x64(True):
        for donated in fit_stacks(build_cells(observations, weights, unit, names), settings or Auto()):
            cells, (cell, target, _) = donated.stack.cells, donated.stack.lanes.T
            rows = [np.flatnonzero(row_sizes(observations) == size) for size in cells.size]
            # Repeated up to one count for all cells.
            count = -(-max(map(len, rows)) // _POINTS) * _POINTS
            row = np.array([np.resize(each, count) for each in rows])
            unique = None if cells.unique is None or observations.unique is None else observations.unique[row]
            mean, deviation = donated.read(observations.proportions[row], observations.volumes(unit)[row], unique)
            place = (cells.fold[cell, None], row[cell], target[:, None])
            found.predicted[place] = np.exp(mean)
            found.lower[place] = np.exp(mean - width * deviation)
            found.upper[place] = np.exp(mean + width * deviation)
    if settings and settings.beyond:
        _extrapolate(found, observations, weights, unit, settings, level)
    return found


def _extrapolate(
    found: AutoFolds, observations: Observations, weights: np.ndarray, unit: Unit | None, settings: Auto, level: float
) -> None:
    """Predict the model sizes that a fold does not fit, in place."""
    size = row_sizes(observations)
    for fold, weight in enumerate(weights):
        kept, absent = observations.take(np.flatnonzero(weight)), np.setdiff1d(size, size[weight > 0])
        if not len(absent):
            continue
        one = fit_auto(settings, kept, volume=unit, targets=found.targets)[0]
        for each in absent:
            row = np.flatnonzero(size == each)
            where = (observations.proportions[row], observations.volumes(unit)[row], float(each))
            stock = None if observations.unique is None else observations.unique[row]
            found.predicted[fold, row] = one.predict(*where, inventory=stock)
            found.lower[fold, row], found.upper[fold, row] = one.interval(*where, level=level, inventory=stock)


def _check_weights(weights: np.ndarray, rows: int) -> None:
    if weights.ndim != 2 or weights.shape[1] != rows:
        raise checks.InputError(f"weights have shape {weights.shape}; allowed: [folds, {rows}], one for each row")
    checks.every(
        np.isin(weights, (0, 1)), lambda f, i: f"fold {f} has weight {weights[f, i]} of row {i}; allowed: 0 or 1"
    )
