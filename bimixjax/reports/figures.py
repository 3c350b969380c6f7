"""Figures of fits and mixtures: small multiples on matplotlib `Figure` objects, without pyplot's global state."""

import json
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, PercentFormatter, ScalarFormatter
from numpy.typing import ArrayLike

from bimixjax._base import provenance
from bimixjax._base.checks import choice
from bimixjax._base.files import replacing
from bimixjax.loop.proof import Proof
from bimixjax.optimization import OptimalMixture, OptimalResamples
from bimixjax.reports.lanes import FittedLosses, Lane, short
from bimixjax.reports.predictions import Predictions
from bimixjax.reports.spread import LEVEL, WITHIN

# Okabe and Ito's colors, distinct in every common form of color blindness; viridis does so for a scale.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("o", "s", "D", "^", "v", "P")
SCALE = "viridis"
PALE = "#D0D0D0"
FORMATS = (".png", ".pdf", ".svg")
# Where the metadata of each format say what it is of, and what else would hold the date.
_SAYS = {".png": "Description", ".pdf": "Subject", ".svg": "Description"}
_NO_DATE: dict[str, dict[str, None]] = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
MAX_COLUMNS = 6

# Letters of a panel's title that have room above it.
_TITLE = 28

# A color for each mixture that has a name of its own, in all figures; others take what is left, in their order.
_OF_ITS_OWN = ("optimized", "natural", "uniform", "conditional-entropy", "joint-entropy", "shannon-entropy")
MIXTURES: dict[str, str] = dict(zip(_OF_ITS_OWN, PALETTE, strict=True))
OTHERS = ("#332288", "#882255", "#44AA99", "#999933", "#661100", "#888888")

# RGBA of each row of a lane, and a lower and an upper limit of each domain's share.
Colors = Float[np.ndarray, "n 4"]
Limits = tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]

# Draws one lane, given a color for each of its rows.
Panel = Callable[[Axes, Lane, Colors], None]


def loss_curves(losses: FittedLosses) -> Figure:
    """Draw measured losses (dots) and the law (lines) over the volume: one panel per lane, one line per run."""
    shades = _shades(losses)

    def panel(axes: Axes, lane: Lane, colors: Colors) -> None:
        for curve in lane.curves:
            axes.plot(curve.volume, curve.loss, color=shades.to_rgba(np.array(curve.own)), linewidth=0.8)
        _dots(axes, lane, colors, lane.volume, lane.measured)
        _volume_axis(axes)

    title = f"Loss: measured (dots) and {losses.law} (lines)"
    return _multiples(losses, panel, title, _volume_label(losses), "Loss (nats per token)")


def residuals(losses: FittedLosses) -> Figure:
    """Draw relative residuals, (predicted - measured) / measured, over the volume (or the loss): one panel per lane."""

    def panel(axes: Axes, lane: Lane, colors: Colors) -> None:
        axes.axhline(0, color="black", linewidth=0.6)
        across = lane.volume if losses.has_curves else lane.measured
        _dots(axes, lane, colors, across, lane.predicted / lane.measured - 1)
        axes.yaxis.set_major_formatter(percents())
        if losses.has_curves:
            _volume_axis(axes)
        else:
            loss_axis(axes.xaxis)

    label = _volume_label(losses) if losses.has_curves else "Measured loss (nats per token)"
    return _multiples(losses, panel, f"Residuals of {losses.law}", label, "(predicted - measured) / measured")


def agreement(losses: FittedLosses, rows: str = "") -> Figure:
    """Draw predicted against measured losses: one panel per lane; the diagonal is a perfect prediction.

    `rows` says in words which ones these are.
    """

    def panel(axes: Axes, lane: Lane, colors: Colors) -> None:
        _dots(axes, lane, colors, lane.measured, lane.predicted)
        loss_axes(axes, lane.measured[lane.usable])
        axes.set_aspect("equal", adjustable="datalim")

    title = f"Loss: {losses.law} against measurement{rows and f', {rows}'}"
    return _multiples(losses, panel, title, "Measured loss (nats per token)", "Predicted loss (nats per token)")


def optimum(best: OptimalMixture, baselines: Predictions, draws: OptimalResamples | None = None) -> Figure:
    """Draw the mixture found, with its limits over draws, beside the baselines."""
    limits = {WITHIN: draws.interval(level=LEVEL)} if draws else None
    name = "optimized" if best.converged else "not found"
    return proportions(best.domains, {name: best.proportions, **baselines.mixtures}, limits)


def proportions(
    domains: Sequence[str], mixtures: Mapping[str, ArrayLike], limits: Mapping[str, Limits] | None = None
) -> Figure:
    """Draw mixtures side by side: one row per domain, one marker per mixture, the first mixture's largest on top.

    `limits` are of the first mixture, under the name that the legend gives them: a bar from the lower to the upper one.
    """
    values = np.stack([np.asarray(mixture, float) for mixture in mixtures.values()])
    order = np.argsort(values[0], kind="stable")
    figure, axes, rows = _rows([str(domains[i]) for i in order.tolist()], (1.3, 0.28), "Share of the training tokens")
    axes.hlines(rows, values[:, order].min(0), values[:, order].max(0), color=PALE, linewidth=1.5)
    colors = mixture_colors(mixtures)
    for i, (name, color) in enumerate(colors.items()):
        style = {"color": color, "marker": MARKERS[i % len(MARKERS)], "markersize": 7}
        axes.plot(values[i, order], rows, linestyle="none", label=name, zorder=3 - i / 100, clip_on=False, **style)
    for name, (lower, upper) in (limits or {}).items():
        bars = {"color": next(iter(colors.values())), "linewidth": 5.0, "alpha": 0.35, "capstyle": "butt"}
        axes.hlines(rows, lower[order], upper[order], label=name, zorder=1.9, **bars)
    axes.set_xlim(left=0.0)
    axes.xaxis.set_major_formatter(percents())
    figure.legend(loc="outside upper center", ncols=min(len(mixtures) + len(limits or {}), 4), frameon=False)
    return figure


def proof(found: Proof) -> Figure:
    """Draw the mean losses of mixtures trained afresh: a dot per seed, a bar at their mean, a ring where promised.

    Each mixture has the color that it has beside the others in `proportions`.
    """
    order = [found.mixtures.index(name) for name in reversed(found.ranked)]
    means = found.runs
    label = f"Mean validation loss at {found.steps:.0f} steps (nats per token)"
    figure, axes, rows = _rows([found.mixtures[i] for i in order], (1.5, 0.35), label)
    colors = mixture_colors(found.mixtures)
    for row, i in enumerate(order):
        color = colors[found.mixtures[i]]
        axes.plot(means[i], np.full(means.shape[1], row), "o", color=color, markersize=4)
        axes.plot(found.promised[i], row, "o", color=color, markersize=9, fillstyle="none")
    axes.plot(found.means[order], rows, linestyle="none", marker="|", markersize=16, color="black", label="mean")
    # Of every color, so gray in the legend.
    axes.plot([], [], "o", color="gray", markersize=4, label="measured, one run")
    axes.plot([], [], "o", color="gray", markersize=9, fillstyle="none", label="promised")
    axes.set_ylim(-0.6, len(order) - 0.4)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


def _rows(names: Sequence[str], inches: tuple[float, float], label: str) -> tuple[Figure, Axes, np.ndarray]:
    """Make a figure with a row for each name, and return the places of the rows.

    `inches` are its height without rows, and that of a row.
    """
    figure = Figure(figsize=(7.0, inches[0] + inches[1] * len(names)), layout="constrained")
    axes, rows = figure.add_subplot(), np.arange(len(names))
    axes.set_yticks(rows, names)
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.set_xlabel(label)
    axes.grid(axis="x", color=PALE, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes, rows


def mixture_colors(names: Iterable[str]) -> dict[str, str]:
    """Return the color of each mixture by name."""
    others = [name for name in names if name not in MIXTURES]
    return {name: MIXTURES.get(name) or OTHERS[others.index(name) % len(OTHERS)] for name in names}


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as `.png`, `.pdf` or `.svg` in one step; its metadata say what made it, and no date."""
    suffix = choice(f"{path}: the figure's suffix", Path(path).suffix, FORMATS)
    said = {_SAYS[suffix]: json.dumps(provenance.of(path)), **_NO_DATE[suffix]}
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, metadata=said)
    if work := provenance.under_way():
        work.inside.add(Path(path))


def save_fit(losses: FittedLosses, *, curves: Path | None, residual: Path | None) -> None:
    """Write the figures asked for: curves (or, of a single volume, predicted against measured) and residuals."""
    if curves:
        save(loss_curves(losses) if losses.has_curves else agreement(losses), curves)
    if residual:
        save(residuals(losses), residual)


def _multiples(losses: FittedLosses, panel: Panel, title: str, x_label: str, y_label: str) -> Figure:
    """Draw one panel per lane in a grid that stays readable from 1 to some 90 lanes, with one color scale for all."""
    per_size = len({lane.target for lane in losses.lanes})
    columns = min(MAX_COLUMNS, per_size if per_size < len(losses.lanes) else math.ceil(math.sqrt(per_size)))
    rows = math.ceil(len(losses.lanes) / columns)
    figure = Figure(figsize=(1.8 + 2.5 * columns, 1.2 + 2.0 * rows), layout="constrained")
    shades = _shades(losses)
    for number, lane in enumerate(losses.lanes, 1):
        axes = figure.add_subplot(rows, columns, number)
        panel(axes, lane, shades.to_rgba(lane.own))
        title_of_lane = lane.target if lane.model_size is None else f"{lane.target}, {short(lane.model_size)}"
        axes.set_title(textwrap.fill(title_of_lane, _TITLE), fontsize=9)
        axes.tick_params(labelsize=7, which="both")
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(x_label, fontsize=9)
    figure.supylabel(y_label, fontsize=9)
    if any(np.isfinite(lane.own).any() for lane in losses.lanes):
        bar = figure.colorbar(shades, ax=figure.axes, fraction=0.03, pad=0.01, aspect=30, format=percents())
        bar.set_label("Share of the target's own domain in training", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return figure


def _shades(losses: FittedLosses) -> ScalarMappable:
    """Make a scale of the own proportion that distinguishes small ones, and ends before it gets too light for white."""
    own = np.concatenate([lane.own[np.isfinite(lane.own)] for lane in losses.lanes])
    colors = ListedColormap(colormaps[SCALE](np.linspace(0, 0.88, 256))).with_extremes(bad=PALETTE[0])
    return ScalarMappable(PowerNorm(0.5, 0.0, own.max() if own.size else 1.0), colors)


def _dots(axes: Axes, lane: Lane, colors: Colors, x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> None:
    rows = lane.usable
    axes.scatter(x[rows], y[rows], s=6, c=colors[rows], linewidths=0, zorder=2.5)


def _volume_label(losses: FittedLosses) -> str:
    return f"Training volume ({losses.volume_unit})" if losses.volume_unit else "Training volume"


def _volume_axis(axes: Axes) -> None:
    """Label a log axis of volumes, `2M` or `30B`, at few round numbers."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(log_ticks(*axes.get_xlim(), most=4)))
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.xaxis.set_minor_formatter(NullFormatter())


def loss_axis(axis: Axis) -> None:
    """Label a linear axis of losses at few round numbers, none of them as a difference from another one."""
    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(ScalarFormatter(useOffset=False))


def loss_axes(axes: Axes, measured: Float[np.ndarray, " n"]) -> None:
    """Label both axes as losses, and draw the diagonal, where a prediction is what was measured."""
    if measured.size:
        axes.axline((measured.min(), measured.min()), slope=1, color="black", linewidth=0.6)
    loss_axis(axes.xaxis)
    loss_axis(axes.yaxis)


def percents() -> PercentFormatter:
    """Return what labels shares as the screen does, `10 %`."""
    return PercentFormatter(1.0, symbol=" %")


def log_ticks(low: float, high: float, *, most: int) -> list[float]:
    """Return at most so many round numbers within limits, for a log axis: the most that are there.

    Example:
        >>> log_ticks(900.0, 40_000.0, most=4)
        [1000.0, 3000.0, 10000.0, 30000.0]
        >>> log_ticks(3.1, 3.9, most=4)
        [3.2, 3.4, 3.6, 3.8]
    """
    if not (0 < low < high < math.inf):
        return []
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = [10.0**k for k in range(first, last + 1)]
    plans = [[round(m * d, 12) for d in decades for m in steps] for steps in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,))]
    plans += [decades[::stride] for stride in range(2, len(decades) + 1)]
    kept = [[tick for tick in plan if low <= tick <= high] for plan in plans]
    best = max((ticks for ticks in kept if len(ticks) <= most), key=len)
    if len(best) > 1:
        return best
    return [float(tick) for tick in MaxNLocator(most).tick_values(low, high) if low <= tick <= high]
