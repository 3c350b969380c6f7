"""Laws on the same held-out runs: a table for a terminal, a document for machines, and figures."""

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from rich.console import Group
from rich.text import Text

from bimixjax.comparison import Comparison
from bimixjax.reports.figures import MARKERS, PALE, PALETTE, log_ticks, loss_axis
from bimixjax.reports.lanes import short
from bimixjax.reports.layout import framed, table

_GLOSS = {
    "error %": "mean relative error, ± standard error",
    "gap %": "error minus the best law's, paired, on the held-out losses that all laws predict",
    "rank": "Spearman correlation of the mean loss",
    "regret": "of the mixture that the law would choose, nats per token",
    "inside %": "share of losses in the interval",
}
_MORE = "Worst target, bias, R2 and width of the intervals: --json, --out"
_PANEL_COLUMNS = 4
# More dots than these in a panel hide their intervals.
_MOST_BARS = 300


def summary(found: Comparison) -> Group:
    """One row per law and group of folds, the best of each group first."""
    frame = found.to_frame()
    grouped = _lines(frame)
    columns = [name for name in _GLOSS if name != "inside %" or found.level is not None]
    shown = table(["law", *([found.grouped_by] if grouped else []), *columns], keys=1 + grouped)
    for number, (_, group) in enumerate(frame.groupby("group", sort=False)):
        if number:
            shown.add_section()
        for row in group.to_dict("records"):
            cells = _cells(row)[: len(columns)]
            shown.add_row(row["law"], *([_group(found, row["group"])] if grouped else []), *cells)
    gloss = [f"{name}: {_GLOSS[name]}" for name in columns]
    return framed(_title(found, frame), shown, "\n".join([*gloss, _MORE]))


def trust(found: Comparison) -> list[Text]:
    """What holds for the table, and each reason not to believe a row, once, with the laws and groups that it is of."""
    frame = found.to_frame()
    reasons: dict[str, list[tuple[float, str]]] = {}
    for law, group, words in zip(frame["law"], frame["group"], frame["trust"], strict=True):
        for reason in filter(None, words.split("; ")):
            reasons.setdefault(reason, []).append((group, str(law)))
    said = [Text(f"Caution: {note}; --exclude-run leaves a run out.") for note in found.notes]
    return said + [Text(f"Caution, {_who(found, frame, rows)}: {reason}.") for reason, rows in reasons.items()]


def document(found: Comparison) -> dict[str, Any]:
    """The setting, and one object for each law and group."""
    return {
        "targets": found.targets,
        "level": found.level,
        "grouped_by": found.grouped_by,
        "notes": found.notes,
        "laws": found.to_frame().to_dict("records"),
    }


def errors(found: Comparison) -> Figure:
    """Draw each law's error and rank correlation by group of folds, with standard errors over folds."""
    frame = found.to_frame()
    figure, (left, right) = _two_panels(frame)
    _by_group(left, found, frame, "error", "error_se")
    _by_group(right, found, frame, "spearman")
    _percents(left, "Mean relative error of held-out losses", log=_lines(frame))
    _value_label(right, frame, "Spearman of the mean loss")
    _legend(figure, left, frame)
    return figure


def calibration(found: Comparison) -> Figure:
    """Draw how many held-out losses lie inside each law's intervals, and how wide these are."""
    frame = found.to_frame()
    figure, (left, right) = _two_panels(frame)
    _by_group(left, found, frame, "coverage")
    _by_group(right, found, frame, "width")
    _percents(left, "Share of held-out losses inside the interval")
    (left.set_ylim if _lines(frame) else left.set_xlim)(float(np.fmin(0.5, np.min(frame["coverage"]))), 1.01)
    _percents(right, "Width of the interval, relative to the loss", log=_lines(frame))
    if found.level is not None:
        (left.axhline if _lines(frame) else left.axvline)(found.level, color="black", linewidth=0.8, linestyle=":")
    _legend(figure, left, frame)
    return figure


def agreement(found: Comparison) -> Figure:
    """Draw predicted against measured held-out losses, and below them what they miss, with intervals.

    One panel per law, one color per target. Of several groups of folds the last one is shown, such as that of the most
    runs.
    """
    cells = found.cells()
    last = found.group.max()
    cells = cells[(cells["group"] == last) & np.isfinite(cells["predicted"])]
    columns = min(len(found.laws), _PANEL_COLUMNS)
    rows = math.ceil(len(found.laws) / columns)
    figure = Figure(figsize=(1.6 + 2.9 * columns, 0.9 + 4.2 * rows), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False, sharex=True, sharey="row", height_ratios=[3, 2] * rows)
    places = [(upper, lower) for i in range(rows) for upper, lower in zip(grid[2 * i], grid[2 * i + 1], strict=True)]
    for (upper, lower), law in zip(places, found.laws, strict=False):
        own = pd.DataFrame(cells[cells["law"] == law])
        _losses_panel(upper, own, found.targets)
        _misses_panel(lower, own, found.targets)
        upper.set_title(law, fontsize=10)
    for axes in (axes for pair in places[len(found.laws) :] for axes in pair):
        axes.remove()
    for upper, lower in places[::columns]:
        upper.set_ylabel("Predicted (nats per token)", fontsize=9)
        lower.set_ylabel("(predicted - measured) / measured", fontsize=9)
    what = f", {_group(found, last)} {found.grouped_by} fitted" if _several(found) else ""
    figure.suptitle(f"Held-out losses{what}")
    figure.supxlabel("Measured loss (nats per token)", fontsize=9)
    if len(found.targets) <= len(PALETTE):
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=8, markerscale=2)
    return figure


def _several(found: Comparison) -> bool:
    return len(np.unique(found.group)) > 1


def _losses_panel(axes: Axes, cells: pd.DataFrame, targets: tuple[str, ...]) -> None:
    for i, target in enumerate(targets):
        own = cells[cells["target"] == target]
        color = PALETTE[i % len(PALETTE)]
        axes.plot(own["measured"], own["predicted"], ".", color=color, markersize=4, label=target)
    if len(cells):
        start = float(np.min(cells["measured"]))
        axes.axline((start, start), slope=1, color="black", linewidth=0.6)
    loss_axis(axes.xaxis)
    loss_axis(axes.yaxis)
    axes.spines[["top", "right"]].set_visible(False)


def _misses_panel(axes: Axes, cells: pd.DataFrame, targets: tuple[str, ...]) -> None:
    for i, target in enumerate(targets):
        own = cells[cells["target"] == target]
        measured, color = own["measured"], PALETTE[i % len(PALETTE)]
        if len(cells) <= _MOST_BARS:
            ends = own["lower"] / measured - 1, own["upper"] / measured - 1
            axes.vlines(measured, *ends, color=color, linewidth=0.6, alpha=0.5)
        axes.plot(measured, own["relative"], ".", color=color, markersize=4)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:+.3g} %" if value else "0 %")
    axes.spines[["top", "right"]].set_visible(False)


def _lines(frame: pd.DataFrame) -> bool:
    """Whether laws are lines over groups, or points of one group."""
    return len(set(frame["group"])) > 1


def _two_panels(frame: pd.DataFrame) -> tuple[Figure, tuple[Axes, Axes]]:
    height = 4.2 if _lines(frame) else 1.4 + 0.3 * len(frame)
    figure = Figure(figsize=(10.0, height), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=not _lines(frame))
    return figure, (left, right)


def _by_group(axes: Axes, found: Comparison, frame: pd.DataFrame, column: str, error: str | None = None) -> None:
    """A line for each law over the groups, or a point for each where there is one group."""
    if not _lines(frame):
        axes.errorbar(
            frame[column], frame["law"], xerr=frame[error] if error else None, fmt="o", color=PALETTE[0], capsize=2
        )
        axes.set_ylim(len(frame) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    for i, law in enumerate(found.laws if _lines(frame) else ()):
        rows = pd.DataFrame(frame[frame["law"] == law])
        axes.errorbar(
            rows["group"], rows[column], yerr=rows[error] if error else None, label=law, **style(i, law), linewidth=1.2
        )
    if _lines(frame):
        _group_axis(axes, found, frame)
    axes.grid(axis="y" if _lines(frame) else "x", color=PALE, linewidth=0.4)
    axes.spines[["top", "right"]].set_visible(False)


def style(number: int, law: str) -> dict[str, Any]:
    """Color, marker and dashes of a law: `auto` is black, the others differ in two of the three."""
    if law == "auto":
        return {"color": "black", "marker": "o", "markersize": 5, "zorder": 3}
    turn = number // len(PALETTE)
    return {
        "color": PALETTE[number % len(PALETTE)],
        "marker": MARKERS[(number + turn) % len(MARKERS)],
        "markersize": 4,
        "linestyle": ("-", "--", ":")[turn % 3],
    }


def _group_axis(axes: Axes, found: Comparison, frame: pd.DataFrame) -> None:
    groups = sorted(frame["group"].unique())
    place = np.log(groups) if found.grouped_by == "runs" else np.array(groups)
    margin = 0.05 * (place[-1] - place[0])
    ends = np.array([place[0] - margin, place[-1] + margin])
    if found.grouped_by == "runs":
        axes.set_xscale("log")
        ends = np.exp(ends)
    axes.set_xlim(*ends.tolist())
    labeled = [0]
    for i in range(1, len(groups)):
        if place[i] - place[labeled[-1]] > margin:
            labeled.append(i)
    axes.xaxis.set_major_locator(FixedLocator([groups[i] for i in labeled]))
    axes.xaxis.set_major_formatter(lambda value, _: _group(found, value))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"{found.grouped_by.capitalize()} fitted")


def _percents(axes: Axes, label: str, *, log: bool = False) -> None:
    axis = axes.yaxis if log or axes.get_xlabel() else axes.xaxis
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator(log_ticks(*axes.get_ylim(), most=6)))
        axes.yaxis.set_minor_locator(NullLocator())
    elif axis is axes.xaxis:
        axes.set_xlim(left=0.0)
    axis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    (axes.set_ylabel if axis is axes.yaxis else axes.set_xlabel)(label)


def _value_label(axes: Axes, frame: pd.DataFrame, label: str) -> None:
    (axes.set_ylabel if _lines(frame) else axes.set_xlabel)(label)


def _legend(figure: Figure, axes: Axes, frame: pd.DataFrame) -> None:
    if _lines(frame):
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5), frameon=False, fontsize=8)


def _title(found: Comparison, frame: pd.DataFrame) -> str:
    folds = len(found.group)
    groups = "" if _lines(frame) else f" ({_group(found, found.group[0])} {found.grouped_by} fitted)"
    targets = ", ".join([*found.targets[:6], *(["..."] if len(found.targets) > 6 else [])])
    return f"Held-out losses of {targets}; {folds} fold{'s' if folds > 1 else ''}{groups}"


def _group(found: Comparison, group: float) -> str:
    return f"{group:.0%}" if found.grouped_by.startswith("share") else short(float(group))


def _cells(row: dict[str, Any]) -> list[str]:
    """In the order of `_GLOSS`; the last one is that of the intervals, which are not always there."""
    return [
        _error(row),
        "best" if row["difference"] == 0 else _percents_with_error(row["difference"], row["difference_se"]),
        _number(row["spearman"], 3),
        _number(row["regret"], 4),
        _number(100 * row["coverage"], 0),
    ]


def _error(row: dict[str, Any]) -> str:
    """The error, or how many predictions leave none."""
    if 0 < row["failed"] < row["cells"]:
        return f"{row['failed']} not finite"
    return _percents_with_error(row["error"], row["error_se"])


def _percents_with_error(value: float, error: float) -> str:
    if not np.isfinite(value):
        return "-"
    return f"{100 * value:.2f} ± {100 * error:.2f}" if np.isfinite(error) else f"{100 * value:.2f}"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"


def _who(found: Comparison, frame: pd.DataFrame, rows: list[tuple[float, str]]) -> str:
    """Rows of the table by law and group, or `all` of a group or of the table."""
    if len(rows) == len(frame):
        return "all"
    if not _lines(frame):
        return ", ".join(law for _, law in rows)
    said = []
    for group in dict.fromkeys(group for group, _ in rows):
        laws = [law for other, law in rows if other == group]
        whole = len(laws) == len(found.laws)
        said += [f"{law} ({_group(found, group)})" for law in (["all"] if whole else laws)]
    return ", ".join(said)
