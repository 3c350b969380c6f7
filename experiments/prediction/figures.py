"""Error by number of runs for each law, extrapolation by cut, and what the intervals of auto cover."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from bimixjax.comparison import Comparison
from bimixjax.reports import comparisons
from bimixjax.reports.figures import PALE, save
from experiments.prediction import config, summary
from experiments.prediction.cases import Case
from experiments.public_observations.protocol import Floats, Row
from experiments.public_observations.summary import column, groups, mean


def write(found: list[tuple[Case, Comparison]], folder: Path) -> None:
    """A figure of errors for each case of measured losses that has several groups; calibration of the main one."""
    for case, comparison in found:
        if case.part in _QUESTION and len(np.unique(comparison.group)) > 1:
            drawn = later(comparison) if case.part == "later" else comparisons.errors(comparison)
            drawn.suptitle(f"{case.name}: {_QUESTION[case.part]}", fontsize=11)
            save(drawn, folder / f"{case.part}_{case.name.replace(' ', '_')}.png")
        covered = summary.intervals(comparison) if case.part == "groups" else []
        if covered:
            save(calibration(covered), folder / "intervals.png")


_QUESTION = {
    "groups": "K runs of each size fitted, all others predicted at 30K steps",
    "domains": "K of 512 runs fitted, 256 others predicted",
    "small": "K runs fitted, all others predicted",
    "later": "last volume predicted from the first ones",
    "donor": "and K runs of each larger size fitted, all others predicted",
}


def later(found: Comparison) -> Figure:
    """Error and bias over the cuts."""
    figure = Figure(figsize=(10.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    by_law = {key["law"]: rows for key, rows in groups(summary.records(found.to_frame()), "law")}
    for i, law in enumerate(found.laws):
        look = comparisons.style(i, law)
        cuts, error, deviation, bias = (_column(by_law[law], name) for name in ("group", "error", "error_se", "bias"))
        left.errorbar(cuts, error, yerr=deviation, label=law, **look)
        right.plot(cuts, bias, **look)
    right.axhline(0, color="black", linewidth=0.6)
    for axes, label in ((left, "Mean relative error"), (right, "Mean of (predicted - measured) / measured")):
        _percents(axes)
        axes.set_ylabel(label)
        axes.set_xlabel("Share of the volume fitted")
        axes.xaxis.set_major_locator(FixedLocator(np.unique(found.group).tolist()))
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return figure


def _column(rows: list[Row], name: str) -> Floats:
    """One column by group, NaN where there is no number."""
    return np.array([row[name] for row in sorted(rows, key=lambda row: row["group"])], float)


def calibration(rows: list[Row]) -> Figure:
    """Coverage of auto's intervals by number of runs, a dot per model size and target, and their widths."""
    figure = Figure(figsize=(10.0, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, name, label in (
        (left, "coverage", "Share of losses inside"),
        (right, "width", "Width relative to the loss"),
    ):
        by_count = [(key["group"], own) for key, own in groups(rows, "group")]
        counts = [count for count, _ in by_count]
        axes.plot(
            column(rows, "group"), column(rows, name), ".", color="gray", markersize=4, label="one size and group"
        )
        axes.plot(counts, [mean(own, name) for _, own in by_count], "o-", color="black", label="mean")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(counts))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("K, runs fitted")
        axes.set_ylabel(label)
        _percents(axes)
    left.axhline(config.LEVEL, color="black", linewidth=0.6, linestyle=":", label="as stated")
    right.axhline(rows[0]["noise_width"], color="black", linewidth=0.6, linestyle="--", label="noise alone")
    right.set_ylim(bottom=0.0)
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"Intervals of auto on {config.GROUPS.name}, meant to cover {config.LEVEL:.0%}", fontsize=11)
    return figure


def _percents(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", color=PALE, linewidth=0.4)
    axes.spines[["top", "right"]].set_visible(False)
