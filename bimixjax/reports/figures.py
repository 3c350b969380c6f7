"""Figures of fits and mixtures: small multiples on matplotlib `Figure` objects, without pyplot's global state."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter
from numpy.typing import ArrayLike

from bimixjax._checks import choice
from bimixjax._files import replacing
from bimixjax.evidence import Proof
from bimixjax.optimization import OptimalMixture, OptimalResamples
from bimixjax.reports.lanes import FittedLosses, Floats, Lane, short
from bimixjax.reports.predictions import Predictions
from bimixjax.reports.spread import LEVEL, WITHIN

# Okabe and Ito's colors, told apart in every common form of color blindness; viridis does so for a scale.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("o", "s", "D", "^", "v", "P")
SCALE = "viridis"
PALE = "#D0D0D0"
FORMATS = (".png", ".pdf", ".svg")
MAX_COLUMNS = 6

# Draws one lane, given a color for each of its rows.
Panel = Callable[[Axes, Lane, Floats], None]


def loss_curves(losses: FittedLosses) -> Figure:
    """Draw measured losses (dots) and the law (lines) over the volume: one panel per lane, one line per run."""

    def panel(axes: Axes, lane: Lane, colors: Floats) -> None:
        for rows in lane.curves():
            axes.plot(lane.volume[rows], lane.predicted[rows], color=colors[rows[0]], linewidth=0.8)
        _dots(axes, lane, colors, lane.volume, lane.measured)
        _volume_axis(axes)

    title = f"Loss: measured (dots) and {losses.law} (lines)"
    return _multiples(losses, panel, title, _volume_label(losses), "Loss (nats per token)")


def residuals(losses: FittedLosses) -> Figure:
    """Draw relative residuals, (predicted - measured) / measured, over the volume (or the loss): one panel per lane."""

    def panel(axes: Axes, lane: Lane, colors: Floats) -> None:
        axes.axhline(0, color="black", linewidth=0.6)
        _dots(
            axes, lane, colors, lane.volume if losses.has_curves else lane.measured, lane.predicted / lane.measured - 1
        )
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        if losses.has_curves:
            _volume_axis(axes)

    label = _volume_label(losses) if losses.has_curves else "Measured loss (nats per token)"
    return _multiples(losses, panel, f"Residuals of {losses.law}", label, "(predicted - measured) / measured")


def agreement(losses: FittedLosses, rows: str = "") -> Figure:
    """Draw predicted against measured losses: one panel per lane; the diagonal is a perfect prediction.

    `rows` says in words which ones these are.
    """

    def panel(axes: Axes, lane: Lane, colors: Floats) -> None:
        _dots(axes, lane, colors, lane.measured, lane.predicted)
        if lane.usable.any():
            start = float(lane.measured[lane.usable].min())
            axes.axline((start, start), slope=1, color="black", linewidth=0.6)
        axes.set_aspect("equal", adjustable="datalim")

    title = f"Loss: {losses.law} against measurement{rows and f', {rows}'}"
    return _multiples(losses, panel, title, "Measured loss (nats per token)", "Predicted loss (nats per token)")


def optimum(best: OptimalMixture, baselines: Predictions, draws: OptimalResamples | None = None) -> Figure:
    """Draw the mixture found, with its limits over draws, beside the baselines."""
    limits = {WITHIN: draws.interval(level=LEVEL)} if draws else None
    return proportions(best.domains, {"optimized": best.proportions, **baselines.mixtures}, limits)


def proportions(
    domains: Sequence[str], mixtures: Mapping[str, ArrayLike], limits: Mapping[str, tuple[Floats, Floats]] | None = None
) -> Figure:
    """Draw mixtures side by side: one row per domain, one marker per mixture, the first mixture's largest on top.

    `limits` are of the first mixture, under the name that the legend gives them: a bar from the lower to the upper one.
    """
    values = np.stack([np.asarray(mixture, float) for mixture in mixtures.values()])
    order = np.argsort(values[0], kind="stable")
    rows = np.arange(len(domains))
    figure = Figure(figsize=(7.0, 1.3 + 0.28 * len(domains)), layout="constrained")
    axes = figure.add_subplot()
    axes.hlines(rows, values[:, order].min(0), values[:, order].max(0), color=PALE, linewidth=1.5)
    for i, name in enumerate(mixtures):
        style = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)], "markersize": 7}
        axes.plot(values[i, order], rows, linestyle="none", label=name, zorder=3 - i / 100, clip_on=False, **style)
    for name, (lower, upper) in (limits or {}).items():
        bars = {"color": PALETTE[0], "linewidth": 5.0, "alpha": 0.35, "capstyle": "butt"}
        axes.hlines(rows, lower[order], upper[order], label=name, zorder=1.9, **bars)
    axes.set_yticks(rows, [str(domains[i]) for i in order.tolist()])
    axes.set_xlim(left=0.0)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("Share of the training tokens")
    axes.grid(axis="x", color=PALE, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(mixtures) + len(limits or {}), frameon=False)
    return figure


def proof(found: Proof) -> Figure:
    """Draw the mean losses of mixtures trained afresh: a dot per seed, a bar at their mean, a ring where predicted."""
    order = [found.mixtures.index(name) for name in reversed(found.ranked)]
    means, rows = found.losses.mean(axis=2), np.arange(len(order))
    figure = Figure(figsize=(7.0, 1.5 + 0.35 * len(order)), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(means[order], rows, linestyle="none", marker="o", markersize=4, color=PALETTE[0])
    axes.plot(found.means[order], rows, linestyle="none", marker="|", markersize=16, color="black", label="mean")
    ring = {"marker": "o", "markersize": 9, "fillstyle": "none", "color": PALETTE[5]}
    axes.plot(found.predicted.mean(axis=1)[order], rows, linestyle="none", label="predicted by the law", **ring)
    axes.lines[0].set_label("measured, one run")
    axes.set_yticks(rows, [found.mixtures[i] for i in order])
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel(f"Mean validation loss at {found.steps:.0f} steps (nats per token)")
    axes.grid(axis="x", color=PALE, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as `.png`, `.pdf` or `.svg` in one step."""
    choice(f"{path}: the figure's suffix", Path(path).suffix, FORMATS)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def save_fit(losses: FittedLosses, *, curves: Path | None, residual: Path | None) -> None:
    """Write the figures asked for: curves (or, of a single volume, predicted against measured) and residuals."""
    if curves:
        save(loss_curves(losses) if losses.has_curves else agreement(losses), curves)
    if residual:
        save(residuals(losses), residual)


def _multiples(losses: FittedLosses, panel: Panel, title: str, x_label: str, y_label: str) -> Figure:
    """One panel per lane in a grid that stays readable from 1 to some 90 lanes, with one color scale for all."""
    per_size = len({lane.target for lane in losses.lanes})
    columns = min(MAX_COLUMNS, per_size if per_size < len(losses.lanes) else math.ceil(math.sqrt(per_size)))
    rows = math.ceil(len(losses.lanes) / columns)
    figure = Figure(figsize=(1.8 + 2.5 * columns, 1.2 + 2.0 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    shades = _shades(losses)
    for axes, lane in zip(grid, losses.lanes, strict=False):
        panel(axes, lane, shades.to_rgba(lane.own))
        axes.set_title(_title(lane), fontsize=9)
        axes.tick_params(labelsize=7, which="both")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(losses.lanes) :]:
        axes.remove()
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(x_label, fontsize=9)
    figure.supylabel(y_label, fontsize=9)
    if any(np.isfinite(lane.own).any() for lane in losses.lanes):
        bar = figure.colorbar(shades, ax=figure.axes, fraction=0.03, pad=0.01, aspect=30, format=PercentFormatter(1.0))
        bar.set_label("Share of the target's own domain in training", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return figure


def _shades(losses: FittedLosses) -> ScalarMappable:
    """A scale of the own proportion that tells small ones apart, and ends before it gets too light for white."""
    own = np.concatenate([lane.own[np.isfinite(lane.own)] for lane in losses.lanes])
    colors = ListedColormap(colormaps[SCALE](np.linspace(0, 0.88, 256))).with_extremes(bad=PALETTE[0])
    return ScalarMappable(PowerNorm(0.5, 0.0, own.max() if own.size else 1.0), colors)


def _dots(axes: Axes, lane: Lane, colors: Floats, x: Floats, y: Floats) -> None:
    kept = lane.usable
    axes.scatter(x[kept], y[kept], s=6, c=colors[kept], linewidths=0, zorder=2.5)


def _title(lane: Lane) -> str:
    return lane.target if lane.model_size is None else f"{lane.target}, {short(lane.model_size)}"


def _volume_label(losses: FittedLosses) -> str:
    return f"Training volume ({losses.volume_unit})" if losses.volume_unit else "Training volume"


def _volume_axis(axes: Axes) -> None:
    """A log axis labeled at 1, 2 and 5 of each decade, so that less than a decade has labels too."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.xaxis.set_minor_formatter(NullFormatter())
