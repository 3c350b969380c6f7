"""Laws on the same held-out runs: a table for a terminal, a document for machines, and figures."""

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from rich.console import Group
from rich.text import Text

from bimixjax.comparison import Comparison
from bimixjax.optimization.baselines import BEST_RUN, NAMES, NATURAL, UNIFORM, ZERO_RUN
from bimixjax.reports.figures import MARKERS, PALE, PALETTE, log_ticks, loss_axes
from bimixjax.reports.lanes import short
from bimixjax.reports.layout import decimal, framed, table
from bimixjax.reports.sheet import Sheet

_GLOSS = {
    "error %": "mean relative error, ± standard error",
    "gap %": "error minus the best law's, paired, on the held-out losses that all laws predict",
    "inside %": "share of losses in their interval",
}
_DECIDED = {
    "regret": "of the held-out mixture that would be chosen, ± standard error: 0 the best of them, 1 an average one",
    "nats": "the same in nats per token",
    "top 3": "share of the best three among the three liked best",
    "rank": "Spearman correlation of the mean loss",
}
# The number of each of them, its unit, and how many digits are shown.
_SHOWN = {"error %": ("error", 100, 2), "gap %": ("difference", 100, 2), "inside %": ("coverage", 100, 0)}
_SHOWN |= {"regret": ("regret_normalized", 1, 3), "nats": ("regret", 1, 4), "top 3": ("top3", 1, 2)}
_SHOWN |= {"rank": ("spearman", 1, 3)}
# Standard errors are shown with these; that of nats would be the same again.
_ERRORS = ("error %", "gap %", "regret")
# What the baselines are.
NOTES = {
    NATURAL: "the held-out mixture nearest to that of the available tokens",
    UNIFORM: "the held-out mixture nearest to equal shares",
    ZERO_RUN: "the held-out mixture with the least mean of -log(own share + 0.001) over targets",
    BEST_RUN: "the best of the runs fitted, as it was measured",
}
_MORE = "Worst target, bias, R2 and width of the intervals: --json, --out"
_PANEL_COLUMNS = 4
# Below it the axis of regrets is linear.
_SMALL_REGRET = 0.05
# More dots than these in a panel hide their intervals.
_MOST_BARS = 300


def summary(found: Comparison, *, more: bool = True) -> Group:
    """Return one row per law and group of folds, the best of each group first: errors.

    With `more`, it says which options give the rest.
    """
    columns = [name for name in _GLOSS if name != "inside %" or found.level is not None]
    frame = _of_laws(found)
    kind = found.grouped_by.removesuffix("s") if found.group[0] == 1 else found.grouped_by
    groups = "" if _grouped(frame) else f" ({_group(found, found.group[0])} {kind} fitted)"
    folds = f"{len(found.group)} fold{'s' if len(found.group) > 1 else ''}"
    targets = ", ".join([*found.targets[:6], *(["..."] if len(found.targets) > 6 else [])])
    shown, gloss = _rows(found, frame, columns), [f"{name}: {_GLOSS[name]}" for name in columns]
    gloss[-1] += "" if found.level is None else f", {100 * found.level:.0f} % wanted"
    gloss += [_MORE] if more else []
    return framed(f"Held-out losses of {targets}; {folds}{groups}", shown, "\n".join(gloss))


def decisions(found: Comparison) -> Group:
    """Return one row per law or baseline and group of folds, the best choice first: what choosing by it would cost."""
    frame = found.to_frame().sort_values(["group", "regret_normalized"], kind="stable")
    gloss = [f"{name}: {NOTES[name]}" for name in dict.fromkeys(frame["law"][frame["baseline"]])]
    gloss += [f"no row {name}: {why}" for name, why in found.missing.items()]
    gloss += [f"{name}: {words}" for name, words in _DECIDED.items()]
    return framed(
        "Decisions: the mixture chosen among those held out", _rows(found, frame, [*_DECIDED]), "\n".join(gloss)
    )


def _rows(found: Comparison, frame: pd.DataFrame, columns: Sequence[str]) -> Sheet:
    """Lay rows of `Comparison.to_frame` out under columns of `_GLOSS` or `_DECIDED`, with gaps between groups."""
    grouped = _grouped(frame)
    shown = table(["law", *([found.grouped_by] if grouped else []), *columns], keys=1 + grouped)
    for number, (_, group) in enumerate(frame.groupby("group", sort=False)):
        if number:
            shown.add_section()
        for row in group.to_dict("records"):
            cells = [_cell(name, row) for name in columns]
            shown.add_row(row["law"], *([_group(found, row["group"])] if grouped else []), *cells)
    return shown


def _of_laws(found: Comparison) -> pd.DataFrame:
    """Return the rows of `Comparison.to_frame` that are of laws."""
    frame = found.to_frame()
    return pd.DataFrame(frame[~frame["baseline"].astype(bool)])


def _cell(column: str, row: dict[str, Any]) -> str:
    """Write a number of a row of `Comparison.to_frame` for one of the columns of `_SHOWN`."""
    if column == "error %" and 0 < row["failed"] < row["cells"]:
        return f"{row['failed']} not finite"
    if column == "gap %" and row["difference"] == 0:
        return "best"
    name, unit, digits = _SHOWN[column]
    error = decimal(unit * row.get(f"{name}_se", np.nan), digits, otherwise="") if column in _ERRORS else ""
    return decimal(unit * row[name], digits) + (f" ± {error}" if error and np.isfinite(row[name]) else "")


def trust(found: Comparison) -> list[Text]:
    """Say what holds for the table, and each reason not to believe a row, once, with its laws and groups."""
    frame = _of_laws(found)
    reasons: dict[str, list[tuple[float, str]]] = {}
    for law, group, words in zip(frame["law"], frame["group"], frame["trust"], strict=True):
        for reason in filter(None, words.split("; ")):
            reasons.setdefault(reason, []).append((group, str(law)))
    notes = [Text(f"Caution: {note}; --exclude-run leaves a run out.") for note in found.notes]
    return notes + [Text(f"Caution, {_who(found, frame, rows)}: {reason}.") for reason, rows in reasons.items()]


def document(found: Comparison) -> dict[str, Any]:
    """Return the setting, and one object for each law or baseline and group."""
    frame = found.to_frame()
    baseline = frame["baseline"].astype(bool)
    return {
        "targets": found.targets,
        "level": found.level,
        "grouped_by": found.grouped_by,
        "notes": found.notes,
        "missing": found.missing,
        "laws": pd.DataFrame(frame[~baseline]).to_dict("records"),
        "baselines": pd.DataFrame(frame[baseline]).to_dict("records"),
    }


def errors(found: Comparison) -> Figure:
    """Draw each law's error and rank correlation by group of folds, with standard errors over folds."""
    figure, left, right, grouped = _two_panels(found, "error", "spearman")
    _label_percents(left, "Mean relative error of held-out losses", grouped=grouped, log=True)
    (right.set_ylabel if grouped else right.set_xlabel)("Spearman of the mean loss")
    return figure


def choices(found: Comparison) -> Figure:
    """Draw what choosing by each law or baseline costs by group of folds, with standard errors, and top-3 recall."""
    frame = found.to_frame()
    figure, left, right, grouped = _two_panels(found, "regret_normalized", "top3", frame)
    words = "Regret of the choice (1: an average mixture)", "Share of the best three found"
    for axes, label in zip((left, right), words, strict=True):
        (axes.set_ylabel if grouped else axes.set_xlabel)(label)
    # Small regrets are what matters, and an order that is the wrong way round may have one of several units.
    (left.set_yscale if grouped else left.set_xscale)("symlog", linthresh=_SMALL_REGRET)
    axis = left.yaxis if grouped else left.xaxis
    axis.set_major_locator(FixedLocator([-0.5, -0.1, -_SMALL_REGRET, 0.0, _SMALL_REGRET, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    (left.axhline if grouped else left.axvline)(0, color="black", linewidth=0.6)
    return figure


def calibration(found: Comparison) -> Figure:
    """Draw how many held-out losses lie inside each law's intervals, and how wide these are."""
    figure, left, right, grouped = _two_panels(found, "coverage", "width")
    _label_percents(left, "Share of held-out losses inside the interval", grouped=grouped)
    least = float(np.fmin(0.5, np.min(_of_laws(found)["coverage"])))
    (left.set_ylim if grouped else left.set_xlim)(least, 1.01)
    _label_percents(right, "Width of the interval, relative to the loss", grouped=grouped, log=True)
    if found.level is not None:
        (left.axhline if grouped else left.axvline)(found.level, color="black", linewidth=0.8, linestyle=":")
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
    for law, upper, lower in zip_longest(found.laws, grid[::2].flat, grid[1::2].flat):
        if law is None:
            upper.remove()
            lower.remove()
            continue
        own = pd.DataFrame(cells[cells["law"] == law])
        _losses_panel(upper, own, found.targets)
        _misses_panel(lower, own, found.targets)
        upper.set_title(law, fontsize=10)
    for upper, lower in zip(grid[::2, 0], grid[1::2, 0], strict=True):
        upper.set_ylabel("Predicted (nats per token)", fontsize=9)
        lower.set_ylabel("(predicted - measured) / measured", fontsize=9)
    what = f", {_group(found, last)} {found.grouped_by} fitted" if len(np.unique(found.group)) > 1 else ""
    figure.suptitle(f"Held-out losses{what}")
    figure.supxlabel("Measured loss (nats per token)", fontsize=9)
    if len(found.targets) <= len(PALETTE):
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=8, markerscale=2)
    return figure


def _losses_panel(axes: Axes, cells: pd.DataFrame, targets: tuple[str, ...]) -> None:
    for i, target in enumerate(targets):
        own = cells[cells["target"] == target]
        color = PALETTE[i % len(PALETTE)]
        axes.plot(own["measured"], own["predicted"], ".", color=color, markersize=4, label=target)
    loss_axes(axes, cells["measured"].to_numpy())
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


def _grouped(frame: pd.DataFrame) -> bool:
    """Tell whether there are several groups: laws are then lines over them, else points side by side."""
    return len(set(frame["group"])) > 1


def _two_panels(
    found: Comparison, left: str, right: str, frame: pd.DataFrame | None = None
) -> tuple[Figure, Axes, Axes, bool]:
    """Draw two columns of a comparison side by side; also return whether laws are lines over groups."""
    frame = _of_laws(found) if frame is None else frame
    grouped = _grouped(frame)
    figure = Figure(figsize=(10.0, 4.2 if grouped else 1.4 + 0.3 * len(frame)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=not grouped)
    for axes, column in zip(panels, (left, right), strict=True):
        _draw_laws(axes, found, frame, column)
    if grouped:
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5), frameon=False, fontsize=8)
    return figure, *panels, grouped


def _draw_laws(axes: Axes, found: Comparison, frame: pd.DataFrame, column: str) -> None:
    """Draw a line for each law over the groups, or a point for each where there is one group."""
    if _grouped(frame):
        for i, law in enumerate(dict.fromkeys([*found.laws, *frame["law"]])):
            rows = frame.loc[frame["law"] == law]
            bars = {"yerr": rows.get(f"{column}_se"), "label": law, "linewidth": 1.2}
            axes.errorbar(rows["group"], rows[column], **bars, **style(i, law))
        _group_axis(axes, found)
    else:
        bars = {"fmt": "o", "color": PALETTE[0], "capsize": 2}
        axes.errorbar(frame[column], frame["law"], xerr=frame.get(f"{column}_se"), **bars)
        axes.set_ylim(len(frame) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y" if _grouped(frame) else "x", color=PALE, linewidth=0.4)
    axes.spines[["top", "right"]].set_visible(False)


def style(number: int, law: str) -> dict[str, Any]:
    """Color, marker and dashes of a law: `auto` is black, baselines gray, the others differ in two of the three."""
    if law == "auto":
        return {"color": "black", "marker": "o", "markersize": 5, "zorder": 3}
    if law in NAMES:
        dashes, markers = ("-", "--", "-.", ":"), ("o", "s", "D", "v")
        place = NAMES.index(law)
        return {
            "color": "#888888",
            "marker": markers[place],
            "markersize": 3,
            "linestyle": dashes[place],
            "zorder": 1.5,
        }
    turn = number // len(PALETTE)
    return {
        "color": PALETTE[number % len(PALETTE)],
        "marker": MARKERS[(number + turn) % len(MARKERS)],
        "markersize": 4,
        "linestyle": ("-", "--", ":")[turn % 3],
    }


def _group_axis(axes: Axes, found: Comparison) -> None:
    """Put the groups on the horizontal axis, numbers of runs on a log scale, with labels that do not overlap."""
    groups = np.unique(found.group)
    log = found.grouped_by == "runs"
    place = np.log(groups) if log else groups
    margin = 0.05 * (place[-1] - place[0])
    ends = place[[0, -1]] + [-margin, margin]
    if log:
        axes.set_xscale("log")
    axes.set_xlim(*(np.exp(ends) if log else ends).tolist())
    labeled = [0]
    for i in range(1, len(groups)):
        if place[i] - place[labeled[-1]] > margin:
            labeled.append(i)
    axes.xaxis.set_major_locator(FixedLocator([groups[i] for i in labeled]))
    axes.xaxis.set_major_formatter(lambda value, _: _group(found, value))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"{found.grouped_by.capitalize()} fitted")


def _label_percents(axes: Axes, label: str, *, grouped: bool, log: bool = False) -> None:
    """Label the axis of values, the vertical one over groups, as percentages; on a log scale there if asked for."""
    axis = axes.yaxis if grouped else axes.xaxis
    if grouped and log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator(log_ticks(*axes.get_ylim(), most=6)))
        axes.yaxis.set_minor_locator(NullLocator())
    elif not grouped:
        axes.set_xlim(left=0.0)
    axis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    axis.set_label_text(label)


def _group(found: Comparison, group: float) -> str:
    return f"{group:.0%}" if found.grouped_by.startswith("share") else short(float(group))


def _who(found: Comparison, frame: pd.DataFrame, rows: list[tuple[float, str]]) -> str:
    """Name rows of the table by law and group, or `all` of a group or of the table."""
    if len(rows) == len(frame):
        return "all"
    if not _grouped(frame):
        return ", ".join(law for _, law in rows)
    parts = []
    for group in dict.fromkeys(group for group, _ in rows):
        laws = [law for other, law in rows if other == group]
        whole = len(laws) == len(found.laws)
        parts += [f"{law} ({_group(found, group)})" for law in (["all"] if whole else laws)]
    return ", ".join(parts)
