"""Two figures: signed errors of predicted later losses, and errors and rank correlations of unseen mixtures."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, ScalarFormatter

from bimixjax.reports.figures import MARKERS, PALE, PALETTE, save
from bimixjax.reports.lanes import short
from experiments.public_observations.protocol import Row
from experiments.public_observations.summary import groups, over_sizes

TABLES = {"pile_5groups": "5 groups of the Pile", "pile_17domains_train": "17 domains of the Pile, 1M"}
FITS = {False: "all runs together", True: "each run alone"}


def write(cells: list[Row], scores: list[Row], folder: Path) -> None:
    chosen = [row for row in cells if row["table"] == "pile_5groups" and not row["priors"]]
    save(extrapolation(chosen), folder / "extrapolation.png")
    save(generalization(scores), folder / "generalization.png")


def extrapolation(cells: list[Row]) -> Figure:
    """One panel per way of fitting; a dot per run, a column of dots per target and size."""
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    for axes, (alone, name) in zip(figure.subplots(1, 2, sharey=True), FITS.items(), strict=True):
        _dots(axes, [row for row in cells if row["alone"] == alone and np.isfinite(row["relative"])])
        axes.set_title(f"Fitted: {name}", fontsize=10)
    first = figure.axes[0]
    first.set_ylabel("(predicted - measured) / measured")
    first.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.suptitle("Loss at 30K steps predicted from the first 15K, without priors")
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _dots(axes: Axes, cells: list[Row]) -> None:
    targets = sorted({row["target"] for row in cells})
    sizes = groups(cells, "model_size")
    axes.axhline(0, color="black", linewidth=0.6)
    for i, (key, rows) in enumerate(sizes):
        x = [targets.index(row["target"]) + 0.18 * (i - (len(sizes) - 1) / 2) for row in rows]
        label = short(key["model_size"])
        axes.plot(x, [row["relative"] for row in rows], ".", color=PALETTE[i], markersize=4, label=label)
    axes.set_xticks(range(len(targets)), targets)
    axes.spines[["top", "right"]].set_visible(False)


def generalization(scores: list[Row]) -> Figure:
    """One row per table: the error of unseen mixtures, and the rank correlation, over the number of runs fitted."""
    figure = Figure(figsize=(10.0, 7.0), layout="constrained")
    for panels, (table, name) in zip(figure.subplots(2, 2), TABLES.items(), strict=True):
        chosen = [row for row in scores if row["table"] == table]
        _errors(panels[0], chosen)
        _ranks(panels[1], _overall(chosen, priors=True))
        for axes in panels:
            axes.set_title(name, fontsize=10)
            _axis_of_runs(axes, sorted({row["runs"] for row in chosen}))
            axes.legend(frameon=False, fontsize=8)
    figure.suptitle("BiMix on unseen mixtures (with priors; median error and mean rank correlation over draws)")
    return figure


def _errors(axes: Axes, scores: list[Row]) -> None:
    sizes = [row for row in scores if row["priors"] and np.isfinite(row["model_size"])]
    for i, (key, rows) in enumerate(groups(sizes, "model_size")):
        axes.plot(*_line(rows, "error_median"), color=PALETTE[i], marker=MARKERS[i], label=short(key["model_size"]))
    without = _overall(scores, priors=False)
    if without:
        axes.plot(
            *_line(without, "error_median"), "--", color="black", label="without priors, where two shares were fitted"
        )
    axes.plot(*_line(_overall(scores, priors=True), "no_law"), ":", color="gray", label="mean of the K runs, no law")
    axes.set_yscale("log")
    axes.set_ylim(0.005, 0.3)
    axes.yaxis.set_major_locator(FixedLocator([0.005, 0.01, 0.02, 0.05, 0.1, 0.2]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color=PALE, linewidth=0.4)
    axes.set_ylabel("Mean relative error where r > 0")


def _ranks(axes: Axes, scores: list[Row]) -> None:
    axes.plot(*_line(scores, "spearman"), color=PALETTE[0], marker="o", label="all mixtures, infinite losses last")
    label = "mixtures with a finite predicted loss"
    axes.plot(*_line(scores, "spearman_finite"), color=PALETTE[1], marker="s", label=label)
    axes.set_ylim(0, 1)
    axes.grid(axis="y", color=PALE, linewidth=0.4)
    axes.set_ylabel("Spearman of predicted and measured")


def _axis_of_runs(axes: Axes, runs: list[int]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(runs))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("K, runs fitted")
    axes.spines[["top", "right"]].set_visible(False)


def _line(rows: list[Row], name: str) -> tuple[list[int], list[float]]:
    return [row["runs"] for row in rows], [row[name] for row in rows]


def _overall(scores: list[Row], *, priors: bool) -> list[Row]:
    return over_sizes([row for row in scores if row["priors"] == priors])
