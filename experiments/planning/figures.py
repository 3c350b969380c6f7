"""Regret by the number of runs, one curve per method."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd

TITLES = {"best_run": "Best of the runs trained", "auto": "Mixture that auto chooses from the runs trained"}


def curves(found: pd.DataFrame, path: Path, part: str) -> None:
    """Draw the mean over tables with its standard error."""
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    methods = list(dict.fromkeys(found["method"]))
    for i, method in enumerate(methods):
        of_method: Any = found[found["method"] == method]
        of_method = of_method.sort_values("runs")
        # Side by side, so that bars of one number of runs do not cover each other.
        at = of_method["runs"] * (1 + 0.012 * (i - len(methods) / 2))
        fewer = "" if (tables := of_method["count"].max()) == found["count"].max() else f" ({tables} tables)"
        axes.errorbar(
            at, of_method["mean"], of_method["sem"], label=method + fewer, marker="o", markersize=4, capsize=2
        )
    axes.set_xscale("log", base=2)
    ticks = sorted(set(found["runs"]))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("runs trained")
    axes.set_ylabel("normalized regret: 0 best run, 1 average")
    axes.set_title(f"{TITLES[part]}\nmean over {found['count'].max()} public tables, with its standard error")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)
