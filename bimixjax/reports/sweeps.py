"""The best mixture as a function of something, and fronts of two targets: tables, figures and documents."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator
from rich.console import Group

from bimixjax._base.records import to_plain
from bimixjax.optimization import Sweep
from bimixjax.reports.figures import PALE, PALETTE, log_ticks, loss_axis, percents
from bimixjax.reports.lanes import short
from bimixjax.reports.layout import decimal, framed, table

# Rows of a table on a screen; all points are in the document.
_ROWS = 9
_WEIGHT = "weight"


def swept(found: Sweep) -> Group:
    """Return one row per point, of many some: the value, the shares, and the objective."""
    chosen = np.unique(np.linspace(0, len(found.values) - 1, _ROWS).round().astype(int))
    front = found.of.startswith(_WEIGHT)
    last = [f"loss of {target}" for target in found.targets] if front else ["mean loss"]
    shown = table([found.unit or found.of, *found.domains, *last])
    for k in chosen.tolist():
        value = f"{found.values[k]:.3f}" if front else short(float(found.values[k]))
        losses = found.losses[k] if front else found.objective[k : k + 1]
        mark = "" if found.converged[k] else " not found"
        shown.add_row(value + mark, *(f"{share:.4f}" for share in found.proportions[k]), *map(decimal, losses))
    words = f"{len(found.values)} points" + (
        f", {len(chosen)} of them shown; all: --json" if len(chosen) < len(found.values) else ""
    )
    title = f"Front of {' and '.join(found.targets)}" if front else f"Best mixture by {found.unit or found.of}"
    return framed(title, shown, words)


def sweep_figure(found: Sweep) -> Figure:
    """Draw the shares over the values as areas on top of each other, and below them the mean loss, or epochs.

    Where an inventory tells epochs, those of each domain stand there.
    """
    figure = Figure(figsize=(7.0, 5.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    colors = [PALETTE[i % len(PALETTE)] for i in range(len(found.domains))]
    # Colors come again after six: what is on top of each other then differs in how strong it is.
    strength = [1.0 - 0.35 * (i // len(PALETTE) % 3) for i in range(len(found.domains))]
    for i, area in enumerate(upper.stackplot(found.values, found.proportions.T, labels=found.domains, colors=colors)):
        area.set_alpha(strength[i])
        area.set_edgecolor("white")
        area.set_linewidth(0.5)
    upper.set_ylim(0, 1)
    upper.yaxis.set_major_formatter(percents())
    upper.set_ylabel("Share of the training tokens")
    if found.epochs is None:
        lower.plot(found.values, found.objective, color="black", linewidth=1.2)
        lower.set_ylabel("Mean loss (nats per token)")
        loss_axis(lower.yaxis)
    else:
        for i in np.flatnonzero(found.epochs.max(0) > 0).tolist():
            lower.plot(found.values, found.epochs[:, i], color=colors[i], alpha=strength[i], linewidth=1.4)
        lower.set_yscale("log")
        lower.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        lower.axhline(1, color="black", linewidth=0.6)
        lower.set_ylabel("Epochs")
    lower.set_xlabel(
        {"volume": f"Training volume ({found.unit or 'one unit'})", "model size": "Model size (parameters)"}[found.of]
    )
    _value_axis(lower, found.values)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    lower.grid(color=PALE, linewidth=0.4)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8, reverse=True)
    return figure


def _value_axis(axes: Axes, values: np.ndarray) -> None:
    if len(values) < 2:
        return
    axes.set_xscale("log")
    axes.set_xlim(float(values.min()), float(values.max()))
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(float(values.min()), float(values.max()), most=6)))
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(NullLocator())


def front_figure(found: Sweep) -> Figure:
    """Draw one loss against the other along the front, and the shares beside it."""
    figure = Figure(figsize=(9.5, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(found.losses[:, 0], found.losses[:, 1], "o-", color=PALETTE[0], markersize=3, linewidth=1.0)
    middle = int(np.argmin(np.abs(found.values - 0.5)))
    left.plot(
        *found.losses[middle, :2], "D", color="black", markersize=6, label="both count the same", linestyle="none"
    )
    left.set_xlabel(f"Loss of {found.targets[0]} (nats per token)")
    left.set_ylabel(f"Loss of {found.targets[1]} (nats per token)")
    loss_axis(left.xaxis)
    loss_axis(left.yaxis)
    left.legend(frameon=False, fontsize=8)
    order = np.argsort(found.losses[:, 0], kind="stable")
    for i, domain in enumerate(found.domains):
        dashes = ("-", "--", ":")[i // len(PALETTE) % 3]
        color = PALETTE[i % len(PALETTE)]
        right.plot(
            found.losses[order, 0], found.proportions[order, i], dashes, color=color, linewidth=1.3, label=domain
        )
    right.set_ylim(bottom=0)
    right.yaxis.set_major_formatter(percents())
    right.set_xlabel(f"Loss of {found.targets[0]} (nats per token)")
    right.set_ylabel("Share of the training tokens")
    loss_axis(right.xaxis)
    for axes in (left, right):
        axes.grid(color=PALE, linewidth=0.4)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*right.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


def document(found: Sweep) -> list[dict[str, Any]]:
    """Describe each point for machines."""
    return [
        {
            _WEIGHT if found.of.startswith(_WEIGHT) else found.of.replace(" ", "_"): to_plain(found.values[k]),
            "mixture": dict(zip(found.domains, found.proportions[k].tolist(), strict=True)),
            "losses": dict(zip(found.targets, to_plain(found.losses[k]), strict=True)),
            "objective": to_plain(found.objective[k]),
            "converged": bool(found.converged[k]),
            **(
                {}
                if found.epochs is None
                else {"epochs": dict(zip(found.domains, found.epochs[k].tolist(), strict=True))}
            ),
        }
        for k in range(len(found.values))
    ]
