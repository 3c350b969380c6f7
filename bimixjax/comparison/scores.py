"""Scores of laws on held-out rows: by block of folds, model size and volume, and their summary by group of folds."""

import dataclasses

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bimixjax import metrics

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# A rank correlation of fewer mixtures says nothing.
FEWEST_RANKED = 5
_AVERAGED = ("r2", "spearman", "spearman_target", "regret", "coverage", "width")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """What L laws predict for the same C held-out rows and t targets, in F folds.

    Losses are in nats per token. A prediction is infinite where the law diverges at a share of zero, which is
    counted; any other that is not finite has failed, and a law with such a one has no error to compare.

    Args:
        laws, targets: names.
        level: what share of measurements the intervals should cover; None where there are none.
        grouped_by: what tells groups of folds apart, in words.
        beyond: what all held-out rows exceed of the fitted ones: "volume", "model size", or nothing.
        group, block: of each fold: its group, and which folds are ranked together [F].
        fold, run, mixture, model_size, volume: of each row held out in a fold [C].
        outside: whether a row's mixture lies outside the fitted proportions [C].
        absent: whether the target's own domain has a share of zero there [C, t].
        measured: losses, NaN where missing [C, t].
        predicted, lower, upper: losses and ends of the intervals [L, C, t].
        at_bound, unconverged: share of the fits of a fold that ended so, NaN for an average of laws [L, F].
    """

    laws: tuple[str, ...]
    targets: tuple[str, ...]
    level: float | None
    grouped_by: str
    beyond: str
    group: Floats
    block: NDArray[np.intp]
    fold: NDArray[np.intp]
    run: NDArray[np.object_]
    mixture: NDArray[np.intp]
    model_size: Floats
    volume: Floats
    outside: Mask
    absent: Mask
    measured: Floats
    predicted: Floats
    lower: Floats
    upper: Floats
    at_bound: Floats
    unconverged: Floats


def cells(found: HeldOut) -> pd.DataFrame:
    """One row per law, held-out row and measured target."""
    laws, targets, count = len(found.laws), len(found.targets), len(found.fold)
    each_row = {
        "group": found.group[found.fold],
        "block": found.block[found.fold],
        "fold": found.fold,
        "unit": _units(found),
        "run": found.run,
        "model_size": found.model_size,
        "volume": found.volume,
    }
    names = np.array(found.laws, object), np.array(found.targets, object)
    columns: dict[str, NDArray] = {"law": np.repeat(names[0], count * targets)}
    columns |= {name: np.tile(np.repeat(values, targets), laws) for name, values in each_row.items()}
    columns |= {"target": np.tile(names[1], laws * count), "measured": np.tile(found.measured.ravel(), laws)}
    columns |= {name: getattr(found, name).ravel() for name in ("predicted", "lower", "upper")}
    columns |= {"relative": _relative(found).ravel(), "common": np.tile(_common(found).ravel(), laws)}
    there = np.isfinite(columns["measured"])
    return pd.DataFrame({name: values[there] for name, values in columns.items()})


def _units(found: HeldOut) -> NDArray[np.intp]:
    """What counts as independent in a group: blocks; within one block, folds; within one fold, mixtures."""
    units, groups = found.block[found.fold], found.group[found.fold]
    for finer in (found.fold, found.mixture):
        single = [group for group in np.unique(groups) if len(np.unique(units[groups == group])) < 2]
        units = np.where(np.isin(groups, single), finer, units)
    return np.unique(np.column_stack([groups, units]), axis=0, return_inverse=True)[1].reshape(-1)


def _relative(found: HeldOut) -> Floats:
    """(predicted - measured) / measured, NaN where the prediction is not finite [L, C, t]."""
    return np.where(np.isfinite(found.predicted), found.predicted, np.nan) / found.measured - 1


def failures(found: HeldOut) -> Mask:
    """Measured losses whose prediction is not finite, though the law does not diverge at a share of zero [L, C, t]."""
    return np.isfinite(found.measured) & ~np.isfinite(found.predicted) & ~(found.absent & np.isposinf(found.predicted))


def _common(found: HeldOut) -> Mask:
    """Cells that every law predicts that fails nowhere in their group [C, t]."""
    finite, failed, groups = np.isfinite(_relative(found)), failures(found), found.group[found.fold]
    common = np.ones(found.measured.shape, bool)
    for group in np.unique(groups):
        own = groups == group
        whole = ~failed[:, own].any(axis=(1, 2))
        common[own] = finite[whole][:, own].all(axis=0)
    return common


def scores(found: HeldOut) -> pd.DataFrame:
    """One row per law, block, model size and volume."""
    failed = failures(found)
    rows = [
        {"law": name, **_place(found, part[0]), **_score(found, law, part, failed[law, part])}
        for part in _parts(found, np.full(len(found.fold), True))
        for law, name in enumerate(found.laws)
    ]
    return pd.DataFrame(rows)


def _parts(found: HeldOut, own: Mask) -> list[NDArray[np.intp]]:
    """The rows of each block, model size and volume, among some rows."""
    rows = np.flatnonzero(own)
    keys = np.column_stack([found.block[found.fold], found.model_size, found.volume])[rows]
    number = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(number, kind="stable")
    return np.split(rows[order], np.cumsum(np.bincount(number))[:-1])


def _place(found: HeldOut, row: int) -> dict[str, float]:
    fold = found.fold[row]
    block, size, volume = int(found.block[fold]), float(found.model_size[row]), float(found.volume[row])
    return {"group": float(found.group[fold]), "block": block, "model_size": size, "volume": volume}


def _score(found: HeldOut, law: int, rows: NDArray[np.intp], failed: Mask) -> dict[str, float]:
    predicted, measured = found.predicted[law, rows], found.measured[rows]
    there, spoken = np.isfinite(measured), np.isfinite(predicted)
    # What failed stays as it is, and leaves no error; what diverges at a share of zero is not asked for.
    asked = np.where(spoken | failed, measured, np.nan)
    given = np.where(spoken, predicted, np.nan)
    return {
        "mixtures": len(rows),
        "cells": int(there.sum()),
        "silent": int((there & ~spoken).sum()),
        "failed": int(failed.sum()),
        "error": float(metrics.mean_relative_error(given, asked)),
        "bias": float(metrics.bias(given, asked)),
        **_ranks(predicted, measured, given, asked),
        **_intervals(found.lower[law, rows], found.upper[law, rows], measured, failed),
    }


def _ranks(predicted: Floats, measured: Floats, given: Floats, asked: Floats) -> dict[str, float]:
    """Scores of the order of mixtures; a prediction that is not finite ranks last."""
    # A mixture of which the law says nothing is one that it would not choose.
    ranked = np.where(np.isfinite(predicted), predicted, np.inf)
    liked, truth = ranked.mean(axis=1), measured.mean(axis=1)
    if np.isfinite(truth).sum() < FEWEST_RANKED:
        return {
            "r2": np.nan,
            "spearman": np.nan,
            "spearman_target": np.nan,
            "regret": float(metrics.regret(liked, truth)),
        }
    failed = np.isfinite(asked) & np.isnan(given)
    return {
        "r2": np.nan if failed.any() else _mean(metrics.r2(given, asked, axis=0)),
        "spearman": float(metrics.spearman(liked, truth)),
        "spearman_target": _mean(metrics.spearman(ranked, measured, axis=0)),
        "regret": float(metrics.regret(liked, truth)),
    }


def _intervals(lower: Floats, upper: Floats, measured: Floats, failed: Mask) -> dict[str, float]:
    """Of a law with intervals, one of a prediction that failed does not hold the loss."""
    there = np.isfinite(lower) & np.isfinite(upper)
    known = np.where(there, measured, np.nan)
    return {
        "coverage": float(metrics.coverage(lower, upper, np.where(failed & there.any(), measured, known))),
        "width": float(metrics.width(lower, upper, known)),
    }


def _mean(values: Floats | float) -> float:
    there = np.asarray(values)[np.isfinite(values)]
    return float(there.mean()) if there.size else np.nan


def summary(found: HeldOut) -> pd.DataFrame:
    """One row per law and group, least error on the common cells first, laws without one last."""
    rows = [row for group in np.unique(found.group) for row in _group(found, group)]
    return pd.DataFrame(rows)


def _group(found: HeldOut, group: float) -> list[dict[str, object]]:
    """The rows of one group, best first."""
    own = found.group[found.fold] == group
    relative, units = _relative(found)[:, own], (_units(found)[own], found.model_size[own])
    failed, silent = failures(found)[:, own], np.isfinite(found.measured[own]) & np.isnan(relative)
    relative[failed.any((1, 2))] = np.nan
    absolute = np.abs(relative)
    errors, biases = _by_unit(absolute, *units), _mean_of(_by_unit(relative, *units))
    shared = _by_unit(np.where(_common(found)[own], absolute, np.nan), *units)
    common = _mean_of(shared)
    best = int(np.nanargmin(common)) if np.isfinite(common).any() else 0
    rows = [
        {
            "law": name,
            "group": group,
            "cells": int(np.isfinite(found.measured[own]).sum()),
            "silent": int(silent[law].sum()),
            "failed": int(failed[law].sum()),
            "error": float(_mean_of(errors)[law]),
            "error_se": float(_error_of(errors)[law]),
            **_worst(absolute[law], found.targets),
            "bias": float(biases[law]),
            **_mean_score(found, law, own, failures(found)[law]),
            "common": float(common[law]),
            "difference": float(_mean_of(shared - shared[best])[law]),
            "difference_se": float(_error_of(shared - shared[best])[law]),
        }
        for law, name in enumerate(found.laws)
    ]
    return [rows[law] for law in np.argsort(common, kind="stable")]


def _by_unit(values: Floats, unit: NDArray[np.intp], size: Floats) -> Floats:
    """Means [L, U] of values [L, C, t] by unit: over rows and targets of a model size, then over sizes."""
    places, number = np.unique(np.column_stack([unit, size]), axis=0, return_inverse=True)
    by_size = _means(values.reshape(len(values), -1), np.repeat(number.reshape(-1), values.shape[2]))
    return _means(by_size, np.unique(places[:, 0], return_inverse=True)[1].reshape(-1))


def _means(values: Floats, number: NDArray[np.intp]) -> Floats:
    """Means [L, K] of the values [L, m] that are not NaN, by their number."""
    there, shape = ~np.isnan(values), (len(values), int(number.max()) + 1)
    total, count = np.zeros(shape), np.zeros(shape)
    for law in range(len(values)):
        total[law] = np.bincount(number, np.where(there[law], values[law], 0.0), shape[1])
        count[law] = np.bincount(number, there[law], shape[1])
    return np.divide(total, count, out=np.full(shape, np.nan), where=count > 0)


def _mean_of(units: Floats) -> Floats:
    """Mean over units [L]; NaN where there is none."""
    return _means(units, np.zeros(units.shape[1], int))[:, 0]


def _error_of(units: Floats) -> Floats:
    """Standard error of that mean [L]; NaN of fewer than two units."""
    count = (~np.isnan(units)).sum(axis=1)
    variance = _mean_of((units - _mean_of(units)[:, None]) ** 2)
    return np.sqrt(np.divide(variance, count - 1, out=np.full(len(units), np.nan), where=count > 1))


def _worst(absolute: Floats, targets: tuple[str, ...]) -> dict[str, object]:
    """The largest error of a target, and its name."""
    errors = _mean_of(absolute.T)
    if np.isnan(errors).all():
        return {"worst": np.nan, "worst_target": ""}
    return {"worst": float(np.nanmax(errors)), "worst_target": targets[int(np.nanargmax(errors))]}


def _mean_score(found: HeldOut, law: int, own: Mask, failed: Mask) -> dict[str, float]:
    """Scores of a law by block, model size and volume; their means over sizes and volumes, then over blocks."""
    parts = _parts(found, own)
    scored = [_score(found, law, part, failed[part]) for part in parts]
    block = np.array([found.block[found.fold[part[0]]] for part in parts])
    by_block = np.unique(block, return_inverse=True)[1].reshape(-1)
    values = np.array([[score[name] for score in scored] for name in _AVERAGED])
    means = dict(zip(_AVERAGED, _mean_of(_means(values, by_block)).tolist(), strict=True))
    return means | ({"r2": np.nan} if failed[own].any() else {})


def difference(found: HeldOut, laws: tuple[str, str], group: float | None) -> tuple[float, float]:
    """Mean over units of the error of one law minus that of another where both speak, and its standard error.

    NaN where a prediction of either failed.
    """
    own = np.full(len(found.fold), True) if group is None else found.group[found.fold] == group
    places = [found.laws.index(law) for law in laws]
    if failures(found)[places][:, own].any():
        return np.nan, np.nan
    first, second = (np.abs(_relative(found)[place, own]) for place in places)
    gaps = _by_unit((first - second)[None], _units(found)[own], found.model_size[own])
    return float(_mean_of(gaps)[0]), float(_error_of(gaps)[0])
