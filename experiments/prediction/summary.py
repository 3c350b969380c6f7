"""From comparisons to the figures that are read: auto beside the best single law, and what its intervals cover."""

from collections.abc import Iterable, Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd

from bimixjax import metrics
from bimixjax.comparison import Comparison
from bimixjax.reports.lanes import short
from experiments.prediction import config
from experiments.prediction.config import AUTO
from experiments.public_observations.protocol import Row
from experiments.public_observations.summary import column, groups, mean

# How many draws the reference figures are medians of.
REFERENCE_DRAWS = 10
_SCORES = ("error", "bias", "r2", "spearman", "spearman_target", "regret", "coverage", "width")


def records(frame: pd.DataFrame) -> list[Row]:
    """The rows of a frame by column names."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def laws(found: Comparison) -> list[Row]:
    """One row per law and group: the comparison's table, with medians over draws as the reference figures are."""
    scores = groups(records(found.scores()), "law", "group")
    medians = {(key["law"], key["group"]): _medians(rows) for key, rows in scores}
    return [row | medians[row["law"], row["group"]] for row in records(found.to_frame())]


def _medians(scores: Sequence[Row]) -> Row:
    """Median error over draws, all and the first ten, mean over model sizes; NaN where a prediction failed."""
    if any(row["failed"] for row in scores):
        return {"median": np.nan, "median_of_10": np.nan}
    errors = [column(rows, "error") for _, rows in groups(scores, "model_size")]
    spoken = [e for e in errors if e.size]
    return {
        "median": float(np.mean([np.median(e) for e in spoken])) if spoken else np.nan,
        "median_of_10": float(np.mean([np.median(e[:REFERENCE_DRAWS]) for e in spoken])) if spoken else np.nan,
    }


def by_size(found: Comparison) -> list[Row]:
    """One row per law, group and model size."""
    scores = records(found.scores())
    return [{**key, **_means(rows)} for key, rows in groups(scores, "law", "group", "model_size")]


def _means(scores: Sequence[Row]) -> Row:
    """Mean scores and how many predictions failed, with which there is no error to compare."""
    failed = sum(row["failed"] for row in scores)
    means = {name: mean(scores, name) for name in _SCORES}
    return {**means, **(dict.fromkeys(("error", "bias", "r2"), np.nan) if failed else {}), "failed": failed}


def verdicts(found: Comparison) -> list[Row]:
    """One row per group: auto, the best single law chosen afterwards, their paired difference and its error."""
    scores = records(found.scores())
    return [_verdict(found, scores, key["group"], rows) for key, rows in groups(records(found.to_frame()), "group")]


def _verdict(found: Comparison, scores: list[Row], group: float, rows: Sequence[Row]) -> Row:
    (own,) = (row for row in rows if row["law"] == AUTO)
    singles = [row for row in rows if row["law"] not in config.NOT_SINGLE]
    best = min(singles, key=lambda row: np.nan_to_num(row["common"], nan=np.inf))
    ranked = max(singles, key=lambda row: np.nan_to_num(row["spearman"], nan=-np.inf))
    gap, error = found.difference(AUTO, best["law"], group)
    rank_gap, rank_error = _rank_difference(scores, (AUTO, ranked["law"]), group)
    return {
        "group": group,
        "auto_failed": own["failed"],
        "best": best["law"],
        "best_error": best["common"],
        "auto_error": own["common"],
        "ratio": own["common"] / best["common"],
        "difference": gap,
        "difference_se": error,
        "best_bias": best["bias"],
        "auto_bias": own["bias"],
        "best_ranker": ranked["law"],
        "best_spearman": ranked["spearman"],
        "auto_spearman": own["spearman"],
        "spearman_difference": rank_gap,
        "spearman_difference_se": rank_error,
        "regret": own["regret"],
        "coverage": own["coverage"],
        "width": own["width"],
    }


def _rank_difference(scores: list[Row], pair: tuple[str, str], group: float) -> tuple[float, float]:
    """Spearman of one law minus another's: mean over blocks of means over sizes, and its standard error."""
    own = [row for row in scores if row["group"] == group]
    first, second = ([row for row in own if row["law"] == law] for law in pair)
    others = {key["block"]: mean(rows, "spearman") for key, rows in groups(second, "block")}
    gaps = np.array([mean(rows, "spearman") - others[key["block"]] for key, rows in groups(first, "block")])
    gaps = gaps[np.isfinite(gaps)]
    return (float(gaps.mean()), float(gaps.std(ddof=1) / len(gaps) ** 0.5)) if len(gaps) > 1 else (np.nan, np.nan)


def over_cuts(found: Comparison) -> list[Row]:
    """One row per law: error and bias, means over the cuts, the least error first."""
    rows = [
        {"law": key["law"], "error": _whole(rows, "common"), "bias": _whole(rows, "bias"), "cuts": len(rows)}
        for key, rows in groups(records(found.to_frame()), "law")
    ]
    return sorted(rows, key=lambda row: np.nan_to_num(row["error"], nan=np.inf))


def _whole(rows: Sequence[Row], name: str) -> float:
    """The mean of a column; NaN where a number is missing."""
    return float(np.mean([row[name] for row in rows]))


def target_ranks(found: Comparison) -> list[Row]:
    """Spearman of one target's loss, mean over folds."""
    target = config.RANKED_TARGET
    place = found.targets.index(target)
    rows = []
    for number, law in enumerate(found.laws):
        for group in np.unique(found.group).tolist():
            folds = [found.fold == fold for fold in np.flatnonzero(found.group == group)]
            # What is not finite ranks last.
            ranked = np.where(np.isfinite(found.predicted[number]), found.predicted[number], np.inf)
            losses = [(ranked[own, place], found.measured[own, place]) for own in folds]
            rank = float(np.mean([float(metrics.spearman(*pair)) for pair in losses]))
            rows.append({"law": law, "group": group, "target": target, "spearman": rank})
    return rows


def intervals(found: Comparison) -> list[Row]:
    """One row per group, model size and target: what auto's intervals cover, and their width beside the noise floor.

    The noise floor is the width of an interval of the same level about a prediction that is off by the noise alone.
    """
    cells = found.cells()
    own = records(cells.loc[(cells["law"] == AUTO) & np.isfinite(cells["lower"])])
    floor = 2 * NormalDist().inv_cdf((1 + config.LEVEL) / 2) * config.NOISE
    return [
        {**key, "cells": len(rows), **_covered(rows), "noise_width": floor}
        for key, rows in groups(own, "group", "model_size", "target")
    ]


def _covered(rows: Sequence[Row]) -> Row:
    lower, upper, measured = (column(rows, name) for name in ("lower", "upper", "measured"))
    return {"coverage": metrics.coverage(lower, upper, measured), "width": metrics.width(lower, upper, measured)}


def text(rows: Iterable[Row], names: Iterable[str]) -> str:
    """Some columns of rows as they are printed."""
    names = list(names)
    cells = [names, *([_cell(name, row.get(name)) for name in names] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in cells)


def _cell(name: str, value: object) -> str:
    if name == "model_size" and isinstance(value, float):
        return short(value)
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return "-"
    return f"{value:g}" if name == "group" else f"{value:.4f}"
