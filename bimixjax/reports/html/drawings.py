"""Figures of a page: small enough that a phone shows their text as it is, and explained by their axes and legends."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bimixjax.comparison import Comparison
from bimixjax.loop.influence import Influence
from bimixjax.loop.proof import Proof
from bimixjax.observations import Observations
from bimixjax.optimization import OptimalMixture, Worth
from bimixjax.reports.figures import MARKERS, PALETTE, loss_axes, mixture_colors
from bimixjax.reports.html.elements import INK, LINE, SOFT
from bimixjax.reports.lanes import FittedLosses, short

FOUND = PALETTE[0]
# Inches: a drawing with rows, and one of several panels. At 96 dots per inch the first is as wide as a large phone.
_WIDE, _PANEL = 4.7, 3.2
_SMALL, _TEXT = 8, 9
# Letters of a name beside a row, and lines of it.
_NAME, _NAMES_LINES = 20, 2
# More dots than these in all panels are drawn as a picture, since each takes some 80 bytes of text.
MOST_DOTS = 4000
# More panels than these are not looked at one by one.
MOST_PANELS = 24
# Rows of a drawing of runs.
MOST_ROWS = 12

Shares = Float[np.ndarray, " d"]
Limits = tuple[Shares, Shares]


def mixtures(best: OptimalMixture, others: Mapping[str, Shares], limits: Limits | None, within: str) -> Figure:
    """Draw the mixture found beside others: a row per domain, the largest share of the mixture found on top.

    Args:
        best: the mixture found.
        others: proportions by name.
        limits: of the mixture found, lower and upper ones.
        within: what the limits are, in words.
    """
    every = {"optimized" if best.converged else "not found": best.proportions, **others}
    colors = mixture_colors(every)
    alike = {name: [n for n, r in every.items() if np.allclose(r, every[name], atol=1e-3)] for name in every}
    every = {name: r for name, r in every.items() if alike[name][0] == name}
    order = np.argsort(best.proportions, kind="stable")
    figure, axes, rows = _rows([best.domains[i] for i in order.tolist()], "Share of the training tokens", 0.3, 1.35)
    values = np.stack(list(every.values()))[:, order]
    axes.hlines(rows, values.min(0), values.max(0), color=LINE, linewidth=1.2, zorder=1)
    for i, name in enumerate(every):
        style = {"color": colors[name], "marker": MARKERS[i % len(MARKERS)], "markersize": 5 + 2 * (i == 0)}
        style |= {"linestyle": "none", "zorder": 4 - i / 100, "clip_on": False}
        axes.plot(values[i], rows, label=_literal(" = ".join(alike[name])), **style)
    if limits is not None:
        bars = {"color": FOUND, "linewidth": 5.0, "alpha": 0.35, "capstyle": "butt"}
        axes.hlines(rows, limits[0][order], limits[1][order], label=within, zorder=1.9, **bars)
    axes.set_xlim(left=0.0)
    axes.xaxis.set_major_formatter(_percents)
    _legend(figure, len(every) + (limits is not None))
    return figure


def gains(found: Worth) -> Figure:
    """Draw how much better the mixture is predicted to be than each baseline, with limits over draws."""
    order = np.argsort(found.gains, kind="stable")[::-1]
    # At a share of zero a law may diverge.
    order = order[np.isfinite(found.gains[order])]
    names = [found.baselines[i] for i in order.tolist()]
    label = "Predicted gain in the weighted mean (nats per token)"
    figure, axes, rows = _rows(names, label, 0.32, 0.75)
    axes.axvline(0, color=INK, linewidth=0.8)
    if found.draws:
        axes.hlines(rows, found.lower[order], found.upper[order], color=FOUND, linewidth=5.0, alpha=0.35)
    axes.plot(found.gains[order], rows, "o", color=FOUND, markersize=6, clip_on=False)
    return figure


def tried(observations: Observations, best: OptimalMixture) -> Figure:
    """Draw the shares of all runs, a stroke for each, and the mixture found among them."""
    order = np.argsort(best.proportions, kind="stable").tolist()
    label = "Share of the training tokens"
    figure, axes, rows = _rows([best.domains[i] for i in order], label, 0.3, 1.0)
    runs = np.unique(observations.proportions, axis=0)
    shares = np.column_stack([runs[:, observations.domains.index(best.domains[i])] for i in order])
    style: dict[str, Any] = {"marker": "|", "markersize": 11, "markeredgewidth": 0.9, "alpha": 0.55, "color": SOFT}
    style |= {"linestyle": "none", "rasterized": shares.size > MOST_DOTS}
    axes.plot(shares.ravel(), np.tile(rows, len(runs)), label="a run", **style)
    axes.plot(best.proportions[order], rows, "o", color=FOUND, markersize=7, label="the mixture found", clip_on=False)
    axes.set_xlim(left=-0.01)
    axes.xaxis.set_major_formatter(_percents)
    _legend(figure, 2)
    return figure


def errors(found: Comparison) -> Figure:
    """Draw the error of each law on held-out runs, the least on top."""
    frame = _last_group(found)
    of_laws = pd.DataFrame(frame[~frame["baseline"].astype(bool)])
    return _scores(of_laws, "error", "Mean relative error on held-out losses", rate=True)


def regrets(found: Comparison) -> Figure:
    """Draw what choosing by each law or baseline costs, the least on top."""
    return _scores(_last_group(found), "regret", "Cost of its choice (nats per token)", rate=False)


def held_out(found: Comparison, law: str) -> list[Figure]:
    """Draw predicted against measured losses of held-out runs with their intervals, a panel per target."""
    cells = found.cells()
    cells = cells[(cells["law"] == law) & (cells["group"] == found.group.max())]
    cells = pd.DataFrame(cells[np.isfinite(cells["predicted"]) & np.isfinite(cells["measured"])])
    many = len(cells) > MOST_DOTS

    def draw(target: str) -> Callable[[Axes], np.ndarray]:
        own = pd.DataFrame(cells[cells["target"] == target])

        def panel(axes: Axes) -> np.ndarray:
            measured, lower, upper = (own[name].to_numpy() for name in ("measured", "lower", "upper"))
            style = {"color": FOUND, "linewidth": 0.8, "alpha": 0.4, "rasterized": many}
            known = np.isfinite(upper)
            axes.vlines(measured[known], lower[known], upper[known], **style)
            axes.plot(measured, own["predicted"], "o", color=FOUND, markersize=3, rasterized=many)
            return measured

        return panel

    return [_agreement(target, draw(target)) for target in found.targets[:MOST_PANELS]]


def fitted(losses: FittedLosses) -> list[Figure]:
    """Draw the losses of a fit against those that were measured, a panel per target and model size."""
    many = sum(int(lane.usable.sum()) for lane in losses.lanes) > MOST_DOTS
    panels = []
    for lane in losses.lanes[:MOST_PANELS]:
        measured, predicted = lane.measured[lane.usable], lane.predicted[lane.usable]

        def panel(axes: Axes, measured: np.ndarray = measured, predicted: np.ndarray = predicted) -> np.ndarray:
            axes.plot(measured, predicted, "o", color=FOUND, markersize=3, alpha=0.6, rasterized=many)
            return measured

        name = lane.target if lane.model_size is None else f"{lane.target}, {short(lane.model_size)}"
        panels.append(_agreement(name, panel))
    return panels


def room(found: Worth, tolerance: str) -> Figure:
    """Draw how far each share may move until the weighted mean is worse by a tolerance."""
    order = np.argsort(found.proportions, kind="stable")
    label = "Share of the training tokens"
    figure, axes, rows = _rows([found.domains[i] for i in order.tolist()], label, 0.3, 1.0)
    bars = {"color": FOUND, "linewidth": 6.0, "alpha": 0.35}
    axes.hlines(rows, found.least[order], found.most[order], label=f"costs up to {tolerance}", **bars)
    axes.plot(found.proportions[order], rows, "o", color=FOUND, markersize=6, label="the mixture found", clip_on=False)
    axes.set_xlim(left=0.0)
    axes.xaxis.set_major_formatter(_percents)
    _legend(figure, 2)
    return figure


def influence(found: Influence) -> Figure:
    """Draw how far the best mixture moves without each run, those of most influence on top."""
    names, shift = found.runs[:MOST_ROWS][::-1], found.shift[:MOST_ROWS][::-1]
    figure, axes, rows = _rows(names, "Tokens that would go to other domains", 0.27, 0.75)
    axes.hlines(rows, 0, shift, color=LINE, linewidth=1.5)
    axes.plot(shift, rows, "o", color=FOUND, markersize=6, clip_on=False)
    axes.set_xlim(left=0.0)
    axes.xaxis.set_major_formatter(_percents)
    return figure


def proof(found: Proof) -> Figure:
    """Draw the measured mean losses of mixtures trained afresh, the best on top, beside those promised."""
    order = [found.mixtures.index(name) for name in reversed(found.ranked)]
    label = f"Mean validation loss at {found.steps:.0f} steps (nats per token)"
    figure, axes, rows = _rows([found.mixtures[i] for i in order], label, 0.36, 1.15)
    means, colors = found.runs, mixture_colors(found.mixtures)
    for row, i in enumerate(order):
        color = colors[found.mixtures[i]]
        axes.plot(means[i], np.full(means.shape[1], row), "o", color=color, markersize=4)
        axes.plot(found.promised[i], row, "o", color=color, markersize=9, fillstyle="none")
    axes.plot(found.means[order], rows, "|", markersize=16, color=INK, label="mean")
    axes.plot([], [], "o", color=SOFT, markersize=4, label="measured, one run")
    axes.plot([], [], "o", color=SOFT, markersize=9, fillstyle="none", label="promised")
    axes.set_ylim(-0.6, len(order) - 0.4)
    _legend(figure, 3)
    return figure


def _last_group(found: Comparison) -> pd.DataFrame:
    frame = found.to_frame()
    return pd.DataFrame(frame[frame["group"] == frame["group"].max()])


def _scores(frame: pd.DataFrame, column: str, label: str, *, rate: bool) -> Figure:
    """Draw a score of laws with its standard error, those without one left out, the least on top."""
    frame = pd.DataFrame(frame[np.isfinite(frame[column])]).sort_values(column, ascending=False, kind="stable")
    figure, axes, rows = _rows(frame["law"].tolist(), label, 0.3, 0.75)
    values, error = frame[column].to_numpy(), np.nan_to_num(frame[f"{column}_se"].to_numpy(dtype=float))
    colors = [SOFT if baseline else FOUND for baseline in frame["baseline"]]
    axes.hlines(rows, values - error, values + error, colors=colors, linewidth=2.0, alpha=0.5)
    axes.scatter(values, rows, c=colors, s=34, zorder=3, clip_on=False)
    low, high = float(np.min(values - error, initial=0.0)), float(np.max(values + error, initial=0.0))
    # A little room, so that a mark at 0 does not touch its name.
    axes.set_xlim(left=low - 0.025 * (high - low))
    if low < 0:
        axes.axvline(0, color=INK, linewidth=0.8)
    if rate:
        axes.xaxis.set_major_formatter(_percents)
    return figure


def _agreement(title: str, draw: Callable[[Axes], np.ndarray]) -> Figure:
    figure = Figure(figsize=(_PANEL, _PANEL), layout="constrained")
    axes = figure.add_subplot()
    loss_axes(axes, draw(axes))
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title("\n".join(_lines(title, 34)), fontsize=_TEXT, fontweight="bold", loc="left")
    axes.set_xlabel("Measured loss (nats per token)", fontsize=_SMALL)
    axes.set_ylabel("Predicted loss (nats per token)", fontsize=_SMALL)
    _plain(axes)
    return figure


def _rows(names: Sequence[str], label: str, height: float, rest: float) -> tuple[Figure, Axes, np.ndarray]:
    """Make a drawing with a row of some height for each name, and `rest` inches for all else."""
    figure = Figure(figsize=(_WIDE, rest + height * max(len(names), 1)), layout="constrained")
    axes, rows = figure.add_subplot(), np.arange(len(names))
    axes.set_yticks(rows, ["\n".join(_lines(name, _NAME)) for name in names])
    axes.set_ylim(-0.6, max(len(names), 1) - 0.4)
    axes.set_xlabel(label, fontsize=_SMALL)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    _plain(axes)
    axes.tick_params(axis="y", labelsize=_TEXT, length=0, pad=6)
    axes.spines["left"].set_visible(False)
    return figure, axes, rows


def _percents(value: float, _: object) -> str:
    """Label a share as the screen does, with no more digits than it takes."""
    return f"{100 * value:.3g} %"


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=_SMALL, color=SOFT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.set_axisbelow(True)


def _legend(figure: Figure, entries: int) -> None:
    columns = min(entries, 3)
    figure.legend(loc="outside upper left", ncols=columns, frameon=False, fontsize=_SMALL, handletextpad=0.3)


def _literal(name: str) -> str:
    """Keep what means something to matplotlib from doing so: formulas, and names that no legend shows."""
    return ("\u200b" * name.startswith("_") + name).replace("$", "\\$")


def _lines(name: str, width: int) -> list[str]:
    """Break a name into lines; what is more than fits is left out."""
    name = _literal(name)
    return textwrap.wrap(name, width, max_lines=_NAMES_LINES, placeholder=" …") or [""]
