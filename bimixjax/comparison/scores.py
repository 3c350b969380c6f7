"""Scores of laws on held-out rows: by block of folds, model size and volume, and their summary by group of folds."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from bimixjax import metrics
from bimixjax.optimization.baselines import BEST_RUN

if TYPE_CHECKING:
    from bimixjax.comparison.table import Comparison

Losses = Float[np.ndarray, "n t"]

# A rank correlation of fewer mixtures says nothing.
FEWEST_RANKED = 5
_AVERAGED = ["r2", "spearman", "spearman_target", "regret", "regret_normalized", "top3", "coverage", "width"]
_WITH_ERRORS = ["regret", "regret_normalized"]


def failures(found: "Comparison") -> Bool[np.ndarray, "L C t"]:
    """Return which measured losses lack a finite prediction, though the law does not diverge at a share of zero."""
    diverges = found.absent & np.isposinf(found.predicted)
    return np.isfinite(found.measured) & ~np.isfinite(found.predicted) & ~diverges


def cells(found: "Comparison") -> pd.DataFrame:
    """Return one row per law, held-out row and measured target; the columns `row` and `failed` are for this module."""
    law, row, target = (axis.ravel() for axis in np.indices(found.predicted.shape))
    fold, predicted = found.fold[row], found.predicted.ravel()
    measured = found.measured[row, target]
    columns = {"law": np.array(found.laws, object)[law], "group": found.group[fold], "block": found.block[fold]}
    columns |= {"fold": fold, "unit": _units(found)[row]}
    columns |= {name: getattr(found, name)[row] for name in ("run", "model_size", "volume")}
    columns |= {"target": np.array(found.targets, object)[target], "measured": measured, "predicted": predicted}
    columns |= {"lower": found.lower.ravel(), "upper": found.upper.ravel()}
    columns["relative"] = np.where(np.isfinite(predicted), predicted, np.nan) / measured - 1
    # Any: the types of pandas hide what a frame holds.
    frame: Any = pd.DataFrame({**columns, "row": row, "failed": failures(found).ravel()})
    frame = frame[np.isfinite(frame["measured"])].reset_index(drop=True)
    # A cell is common if all laws predict it; a law that fails anywhere in the group must not take cells from others.
    failing = frame.groupby(["group", "law"])["failed"].transform("any")
    predicts = frame["relative"].notna() | failing
    return frame.assign(common=predicts.groupby([frame["row"], frame["target"]]).transform("all"))


def _units(found: "Comparison") -> Int[np.ndarray, " C"]:
    """Number what counts as independent in a group: blocks; within one block, folds; within one fold, mixtures."""
    units, groups = found.block[found.fold], found.group[found.fold]
    for finer in (found.fold, found.mixture):
        single = [group for group in np.unique(groups) if len(np.unique(units[groups == group])) < 2]
        units = np.where(np.isin(groups, single), finer, units)
    return np.unique(np.column_stack([groups, units]), axis=0, return_inverse=True)[1].reshape(-1)


def scores(found: "Comparison") -> pd.DataFrame:
    """Return one row per law, block, model size and volume; the same of baselines, with decision scores only."""
    failed, of_fold = failures(found), {"group": found.group[found.fold], "block": found.block[found.fold]}
    places = pd.DataFrame({**of_fold, "model_size": found.model_size, "volume": found.volume})
    rows = []
    for _, place in places.groupby(["block", "group", "model_size", "volume"]):
        at = place.index
        for i, law in enumerate(found.laws):
            one = [array[i, at] for array in (found.predicted, found.lower, found.upper, failed)]
            rows.append({"law": law, "baseline": False, **place.iloc[0], **_score(found.measured[at], *one)})
        measured = found.measured[at].mean(axis=1)
        without = {name: _decision(order[at], measured) for name, order in found.orders.items()}
        if found.best_run is not None:
            without[BEST_RUN] = _of_best_run(found.best_run[at], measured)
        of_all = {"mixtures": len(at), "cells": int(np.isfinite(found.measured[at]).sum()), "silent": 0, "failed": 0}
        rows += [{"law": name, "baseline": True, **place.iloc[0], **of_all, **one} for name, one in without.items()]
    return pd.DataFrame(rows).astype({"block": int})


def _score(
    measured: Losses, predicted: Losses, lower: Losses, upper: Losses, failed: Bool[np.ndarray, "n t"]
) -> dict[str, float]:
    """Score the predictions of one law for n mixtures."""
    there, finite = np.isfinite(measured), np.isfinite(predicted)
    # A failed prediction stays NaN, and so does the error; one that diverges at a share of zero is left out.
    asked, given = np.where(finite | failed, measured, np.nan), np.where(finite, predicted, np.nan)
    # A mixture without a finite prediction ranks last, since the law would not choose it.
    ranked = np.where(finite, predicted, np.inf)
    mean_ranked, mean_measured = ranked.mean(axis=1), measured.mean(axis=1)
    enough = np.isfinite(mean_measured).sum() >= FEWEST_RANKED
    # The interval of a failed prediction does not hold the loss, if the law has intervals at all.
    bounded = np.isfinite(lower) & np.isfinite(upper)
    covered, wide = (np.where(of, measured, np.nan) for of in (bounded | (failed & bounded.any()), bounded))
    return {
        "mixtures": len(measured),
        "cells": int(there.sum()),
        "silent": int((there & ~finite).sum()),
        "failed": int(failed.sum()),
        "error": float(metrics.mean_relative_error(given, asked)),
        "bias": float(metrics.bias(given, asked)),
        "r2": _mean(metrics.r2(given, asked, axis=0)) if enough and not failed.any() else np.nan,
        **_decision(mean_ranked, mean_measured),
        "spearman_target": _mean(metrics.spearman(ranked, measured, axis=0)) if enough else np.nan,
        "coverage": float(metrics.coverage(lower, upper, covered)),
        "width": float(metrics.width(lower, upper, wide)),
    }


def _decision(ranked: Float[np.ndarray, " n"], measured: Float[np.ndarray, " n"]) -> dict[str, float]:
    """Score an order of n mixtures, the least first, by their measured mean losses."""
    enough = np.isfinite(measured).sum() >= FEWEST_RANKED
    return {
        "spearman": float(metrics.spearman(ranked, measured)) if enough else np.nan,
        "top3": float(metrics.top_recall(ranked, measured)) if enough else np.nan,
        "regret": float(metrics.regret(ranked, measured)),
        "regret_normalized": float(metrics.normalized_regret(ranked, measured)),
    }


def _of_best_run(trained: Float[np.ndarray, " n"], measured: Float[np.ndarray, " n"]) -> dict[str, float]:
    """Score the best run trained beside n held-out mixtures; in the mean over folds, where several are ranked together.

    It orders no mixtures, so it has regrets only.
    """
    known = measured[np.isfinite(measured)]
    regret = float(np.mean(trained) - known.min()) if len(known) else np.nan
    spread = float(known.mean() - known.min()) if len(known) else 0.0
    return {"regret": regret, "regret_normalized": regret / spread if spread > 0 else np.nan}


def _mean(values: Float[np.ndarray, " t"] | float) -> float:
    return float(pd.Series(values).mean())


def summary(found: "Comparison", scored: pd.DataFrame) -> pd.DataFrame:
    """Return one row per law and group, least error on the common cells first, laws without one last; then baselines.

    Args:
        found: the comparison.
        scored: its `scores`.
    """
    frame: Any = cells(found)
    failing = frame.groupby(["group", "law"])["failed"].transform("any")
    frame["silent"] = frame["relative"].isna()
    # A mean over the other predictions would flatter a law that fails.
    frame["bias"] = frame["relative"].mask(failing)
    frame["error"] = frame["bias"].abs()
    frame["common"] = frame["error"].where(frame["common"])
    by_block: Any = scored.groupby(["group", "law", "block"])[_AVERAGED].mean()
    of_group = by_block.groupby(level=["group", "law"])
    averaged = of_group.mean().join(of_group[_WITH_ERRORS].sem().add_suffix("_se"))
    baselines = list(dict.fromkeys(scored["law"][scored["baseline"]]))
    parts = []
    for group, part in frame.groupby("group"):
        errors, common = _by_unit(part, "error"), _by_unit(part, "common")
        best = common.mean().reindex(list(found.laws)).fillna(np.inf).idxmin()
        gaps = common.sub(common[best], axis=0)
        by_target = part.pivot_table("error", "law", "target", dropna=False)
        by_target = by_target.reindex(columns=list(found.targets)).fillna(-np.inf)
        worst, counts = by_target.max(axis=1), part.groupby("law")[["silent", "failed"]].sum()
        means: Any = averaged.loc[group]
        of_laws = means.loc[list(found.laws)]
        columns = {
            "group": group,
            "cells": part.groupby("law").size(),
            **counts,
            "error": errors.mean(),
            "error_se": errors.sem(),
            "worst": worst.where(worst >= 0),
            "worst_target": by_target.idxmax(axis=1).where(worst >= 0, ""),
            "bias": _by_unit(part, "bias").mean(),
            **of_laws.assign(r2=of_laws["r2"].mask(counts["failed"] > 0)),
            "common": common.mean(),
            "difference": gaps.mean(),
            "difference_se": gaps.sem(),
        }
        laws = pd.DataFrame(columns, index=pd.Index(found.laws, name="law")).sort_values("common", kind="stable")
        without = means.loc[baselines].assign(group=group, cells=columns["cells"].max(), silent=0, failed=0)
        both = [part.assign(baseline=baseline) for part, baseline in ((laws, False), (without, True)) if len(part)]
        parts.append(pd.concat(both).fillna({"worst_target": ""}))
    return pd.concat(parts).rename_axis("law").reset_index()


def _by_unit(frame: Any, column: str) -> Any:
    """Return a column's means by unit and law: over rows and targets of a model size, then over model sizes."""
    return frame.pivot_table(column, ["unit", "model_size"], "law", dropna=False).groupby(level="unit").mean()


def difference(found: "Comparison", laws: tuple[str, str], group: float | None) -> tuple[float, float]:
    """Return the mean over units of one law's error minus another's where both predict, and its standard error.

    NaN where a prediction of either failed.
    """
    frame: Any = cells(found)
    own = frame["law"].isin(laws) & (frame["group"].eq(group) if group is not None else True)
    if frame["failed"][own].any():
        return np.nan, np.nan
    # Means over the same cells, so that the difference of means is the mean of paired differences.
    both = frame[own].assign(error=frame["relative"].abs())
    shared = both.groupby(["row", "target"])["error"].transform("count") == len(set(laws))
    errors = _by_unit(both[shared], "error")
    gaps = errors[laws[0]] - errors[laws[1]]
    return float(gaps.mean()), float(gaps.sem())
