"""Fit the members of `auto` to many cells of rows, judge them on runs left out, and average them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax import Array

from bimixjax import _devices
from bimixjax._auto_cells import Cells
from bimixjax._auto_kernel import Ends, Fitted, Points, Prior, fit_lanes, read_grid, read_lanes
from bimixjax._auto_left import leave_out
from bimixjax._members import Member, coordinates
from bimixjax._noise import Noise, Whitener, factored, of_lane, of_lanes

# Noise of log losses that every member shares: of a row, of a step over all runs, of a run over all its steps.
# Set on draws 0-4 of a table of 26 runs x 4 sizes (arXiv 2403.16952, `data/5Mix`); scores of other draws
# choose anew from the same runs.
WHITE, STEP, RUN = 0.006, 0.006, 0.003

# With so many runs, parts are left out in closed form: a sixteenth of the runs hardly bends the law.
_MANY_RUNS = 32

# Lanes that are solved side by side. Numbers of one chunk then stay in the cache of a core, and folds, targets and
# parts of any count share one compiled program.
_LANES = 16
_CACHED_NUMBERS = 200_000

# From so many lanes on, one more program for those of few runs takes less time than it saves.
_MANY_LANES = 256

# Numbers of the matrices that are factored together, times the number of targets that share them.
_FACTORED_NUMBERS = 1 << 22

# The spread of errors on held-out runs, in standard deviations of the members, on the same draws: the noise is stated
# generously. And how many runs that counts as beside the runs at hand.
SPREAD, _SPREAD_RUNS = 0.58, 10.0

# A member's error on one target counts as that of all targets where there are few runs beside these.
_POOLED_RUNS = 8.0

# From the mean of absolute values of normal numbers to their standard deviation.
_MEAN_TO_DEVIATION = (np.pi / 2) ** 0.5


@dataclass(frozen=True, kw_only=True)
class MemberFit:
    """One member on L lanes.

    Args:
        fitted: what is read of it, lanes last.
        left_mean, left_variance: of the log loss of each run at each volume when its part is left out [L, m, t].
    """

    fitted: Fitted
    left_mean: np.ndarray
    left_variance: np.ndarray

    def take(self, index: np.ndarray) -> "MemberFit":
        """The same of some lanes."""
        fitted = jax.tree.map(lambda leaf: leaf[..., index], self.fitted)
        return MemberFit(fitted=fitted, left_mean=self.left_mean[index], left_variance=self.left_variance[index])

    def wide(self, runs: int) -> "MemberFit":
        """The same on a grid of more runs, which pull at nothing."""

        def filled(leaf: Any, *axes: int) -> np.ndarray:
            more = runs - leaf.shape[axes[0]]
            return np.pad(leaf, [(0, more if axis in axes else 0) for axis in range(leaf.ndim)])

        fitted = self.fitted
        return MemberFit(
            fitted=replace(
                fitted,
                pull=filled(fitted.pull, 0),
                pull_slope=filled(fitted.pull_slope, 1),
                known=filled(fitted.known, 0, 1),
            ),
            left_mean=filled(self.left_mean, 1),
            left_variance=filled(self.left_variance, 1),
        )

    @classmethod
    def joined(cls, parts: "Sequence[MemberFit]") -> "MemberFit":
        """The lanes of all parts, one part after the other."""
        return cls(
            fitted=_joined([part.fitted for part in parts]),
            left_mean=np.concatenate([part.left_mean for part in parts]),
            left_variance=np.concatenate([part.left_variance for part in parts]),
        )


@dataclass(frozen=True, kw_only=True)
class Average:
    """How members are averaged in each lane.

    Args:
        weights: of each member [M, L].
        spread: by what standard deviations are multiplied, from runs left out [L].
        left_out_error: mean absolute error of the average's log losses on runs left out [L].
    """

    weights: np.ndarray
    spread: np.ndarray
    left_out_error: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Members that were fitted to lanes [L, 3] of some cells, and averaged."""

    members: tuple[Member, ...]
    cells: Cells
    lanes: np.ndarray
    fits: tuple[MemberFit, ...]
    average: Average

    def take(self, index: np.ndarray) -> "Stack":
        """The same with some of the lanes."""
        chosen = Average(
            weights=self.average.weights[:, index],
            spread=self.average.spread[index],
            left_out_error=self.average.left_out_error[index],
        )
        return Stack(
            members=self.members,
            cells=self.cells,
            lanes=self.lanes[index],
            fits=tuple(fit.take(index) for fit in self.fits),
            average=chosen,
        )

    @property
    def donated_weight(self) -> np.ndarray:
        """The weight of the members that read a donor [L]."""
        return self.average.weights[[member.law.sized for member in self.members]].sum(0)

    def read(self, points: Points, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log losses and their standard deviations [L, Q] at points [..., P], each lane at its `column` of them [L]."""
        found = [_read(m, fit, self, points, column) for m, fit in zip(self.members, self.fits, strict=True)]
        means, variances = (np.stack(one) for one in zip(*found, strict=True))
        mean, deviation = _mixed(self.average.weights, means, variances)
        return mean + self.cells.center[self.lanes[:, 0], self.lanes[:, 1], None], (
            deviation * self.average.spread[:, None]
        )


def noise_of(member: Member) -> Noise:
    """The noise about a member."""
    return Noise(white=WHITE, step=STEP, run=RUN, process=member.process, length=member.length)


def prior_of(member: Member, domains: int, level: np.ndarray | Array) -> Prior:
    """The priors of a member's coefficients in lanes whose mean log losses are `level` [B]."""
    found = coordinates(member, domains)
    center = found.center[:, None] - found.nats[:, None] * level
    return Prior(center=center, root=found.root, logarithmic=found.logarithmic)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Lanes [L, 3] that are fitted on grids of one size, and which of all lanes they are."""

    cells: Cells
    lanes: np.ndarray
    index: np.ndarray


def fit_members(members: Sequence[Member], cells: Cells, lanes: np.ndarray) -> tuple[MemberFit, ...]:
    """Fit all members to lanes [L, 3] of the cells, those of the same rows once, as many at a time as there are cores.

    Where lanes are many, those of few runs are fitted on smaller grids.
    """
    first, which = cells.distinct(lanes)
    parts = _by_grid(cells, lanes[first])

    def one(job: tuple[Member, _Part]) -> MemberFit:
        member, part = job
        # The switch to float64 holds for the thread that makes it only.
        with jax.enable_x64(True):
            return _fit_member(member, part.cells, part.lanes)

    with ThreadPoolExecutor(_devices.cores()) as pool:
        # The longest first.
        order = sorted(range(len(members)), key=lambda i: -len(members[i].law.coefficients))
        found = list(pool.map(one, [(members[i], part) for i in order for part in parts]))
    runs, back = cells.mask.shape[1], np.argsort(np.concatenate([part.index for part in parts]))
    of_member = [
        MemberFit.joined([fit.wide(runs) for fit in found[k : k + len(parts)]]).take(back[which])
        for k in range(0, len(found), len(parts))
    ]
    return tuple(of_member[k] for k in np.argsort(order))


def _by_grid(cells: Cells, lanes: np.ndarray) -> list[_Part]:
    """Lanes [L, 3] by the least grid of runs that has room for them, if they are worth more than one program."""
    worth = len(lanes) >= _MANY_LANES
    runs = cells.least_runs[lanes[:, 0]] if worth else np.full(len(lanes), cells.mask.shape[1])
    indices = {count: np.flatnonzero(runs == count) for count in np.unique(runs)}
    return [_Part(cells=cells.narrow(count), lanes=lanes[index], index=index) for count, index in indices.items()]


def _fit_member(member: Member, cells: Cells, lanes: np.ndarray) -> MemberFit:
    """Fit a member to lanes [L, 3] of the cells, and from there to each with parts of its runs left out."""
    domains, (_, runs, volumes, _) = cells.mixture.shape[1], cells.mask.shape
    unknowns = len(coordinates(member, domains).center)
    whole = _joined([ends for ends, _ in _fit(member, cells, lanes, np.zeros((unknowns, len(lanes))))])
    placed = np.zeros((2, len(lanes), runs, volumes))
    many = cells.runs[lanes[:, 0]] >= _MANY_RUNS
    for place, ends, whitener in _by_places(member, cells, lanes, whole, np.flatnonzero(many)):
        cell, target, _ = lanes[place].T
        placed[:, place] = leave_out(whitener, cells.part[cell[0]], cells.loss[cell, :, :, target], ends)
    _refit(member, cells, lanes, whole.fitted.z, np.flatnonzero(~many), placed)
    return MemberFit(fitted=whole.fitted, left_mean=placed[0], left_variance=placed[1])


def _by_places(
    member: Member, cells: Cells, lanes: np.ndarray, ends: Ends, index: np.ndarray
) -> Iterator[tuple[np.ndarray, Ends, Whitener]]:
    """Some of the lanes, by where their rows are: which lanes, their ends and their one factored noise."""
    if not len(index):
        return
    whitener, place = _whitener(noise_of(member), cells, lanes[index])
    for number in range(place.max() + 1):
        chosen = index[place == number]
        yield (
            chosen,
            jax.tree.map(lambda leaf, chosen=chosen: leaf[..., chosen], ends),
            of_lane(whitener, number),
        )


def _refit(
    member: Member, cells: Cells, lanes: np.ndarray, z: np.ndarray, index: np.ndarray, placed: np.ndarray
) -> None:
    """Fit some of the lanes without each part of their runs, and place what is read there [2, L, m, t]."""
    left = cells.left_out(lanes[index])
    if not len(left):
        return
    lane = index[left[:, 0]]
    moments = _joined([moments for _, moments in _fit(member, cells, left[:, 1:], z[:, lane], read=True)])
    out, run = np.nonzero(cells.part[left[:, 1]] == left[:, 3, None])
    for values, moment in zip(placed, moments, strict=True):
        values[lane[out], run] = moment[run, :, out]


def _fit(
    member: Member, cells: Cells, lanes: np.ndarray, starts: np.ndarray, *, read: bool = False
) -> list[tuple[Ends, Any]]:
    """Fit lanes [L, 3] from `starts` [q, L], in chunks that all have one shape, and if asked, read their grids."""
    width, found = _width(len(starts), cells), []
    for block in _blocks(lanes, cells, width):
        whitener, place = _whitener(noise_of(member), cells, lanes[block])
        for index in _chunks(len(block), width):
            chosen, count = lanes[block[index]], len(set(index))
            rows, noise, prior = cells.rows(chosen), of_lanes(whitener, place[index]), _prior(member, cells, chosen)
            ends = fit_lanes(member.law, rows, noise, prior, starts[:, block[index]])
            found.append((_first(ends, count), _first(read_grid(ends, noise), count) if read else None))
    return found


def _prior(member: Member, cells: Cells, lanes: np.ndarray) -> Prior:
    return prior_of(member, cells.mixture.shape[1], cells.center[lanes[:, 0], lanes[:, 1]])


def _blocks(lanes: np.ndarray, cells: Cells, width: int) -> Iterator[np.ndarray]:
    """Lanes whose noise is factored together: as many chunks as memory allows."""
    square = cells.mask.shape[1] ** 2
    size = width * max(1, len(cells.own) * (_FACTORED_NUMBERS // square) // width)
    for start in range(0, len(lanes), size):
        yield np.arange(start, min(start + size, len(lanes)))


def _whitener(noise: Noise, cells: Cells, lanes: np.ndarray) -> tuple[Whitener, np.ndarray]:
    """The factored noise of lanes [L, 3], once for all that have rows at the same places, and which is each one's."""
    mask = cells.masks(lanes)
    bits = np.packbits(mask.reshape(len(lanes), -1).astype(bool), axis=1)
    _, first, place = np.unique(np.column_stack([lanes[:, 0], bits]), axis=0, return_index=True, return_inverse=True)
    return factored(noise, cells.mixture[lanes[first, 0]], mask[first]), place.reshape(-1)


def _first(ends: Any, count: int) -> Any:
    """The first lanes, without what filled a chunk."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[..., :count], ends)


def _width(unknowns: int, cells: Cells) -> int:
    """How many lanes to solve side by side."""
    runs, volumes = cells.mask.shape[1:3]
    numbers = max((runs * volumes + runs) * unknowns, runs**2)
    return int(np.clip(1 << int(_CACHED_NUMBERS // numbers).bit_length() >> 1, 1, _LANES))


def _chunks(count: int, width: int) -> Iterator[np.ndarray]:
    for start in range(0, count, width):
        yield np.minimum(np.arange(start, start + width), count - 1)


def _joined(parts: Sequence[Any]) -> Any:
    """Chunks of lanes put together."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)


def average(members: Sequence[Member], fits: Sequence[MemberFit], cells: Cells, lanes: np.ndarray) -> Average:
    """Weigh members by their errors on runs left out, and scale their spread by what these errors measured.

    A member's weight is its prior weight times error^(-8 K / (K + 8)) for K runs. Its error is the mean absolute error
    of log losses on runs left out, drawn towards its geometric mean over targets by the share 8 / (8 + K).
    """
    cell, target, _ = lanes.T
    loss, mask = cells.loss[cell, :, :, target], cells.mask[cell, :, :, target]
    runs, rows = mask.any(2).sum(1), mask.sum((1, 2))
    means = np.stack([fit.left_mean for fit in fits])
    error = (np.abs(means - loss) * mask).sum((2, 3)) / rows
    raw = np.log([_prior_weights(m, runs, cells.mixture.shape[1]) for m in members])
    raw -= 8 * runs / (runs + 8) * _drawn_together(np.log(np.maximum(error, 1e-9)), cell, runs)
    weights = np.exp(raw - raw.max(0))
    weights /= weights.sum(0)
    mean, deviation = _mixed(weights, means, np.stack([fit.left_variance for fit in fits]))
    missed = np.abs(mean - loss) * mask
    standard = (missed / np.where(mask > 0, deviation, 1.0)).sum((1, 2))
    same = cell[:, None] == cell
    measured = _MEAN_TO_DEVIATION * (same @ standard) / (same @ rows)
    spread = (_SPREAD_RUNS * SPREAD + runs * measured) / (_SPREAD_RUNS + runs)
    return Average(weights=weights, spread=spread, left_out_error=missed.sum((1, 2)) / rows)


def _drawn_together(errors: np.ndarray, cell: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Log errors [M, L], each drawn towards its mean over the targets of a cell, the more the fewer runs there are."""
    same = cell[:, None] == cell
    mean = errors @ (same / same.sum(0))
    return errors + _POOLED_RUNS / (_POOLED_RUNS + runs) * (mean - errors)


def _prior_weights(member: Member, runs: np.ndarray, domains: int) -> np.ndarray:
    grown = np.minimum(1.0, runs / (2 * (domains + 1))) ** 2 if member.rich else np.ones(len(runs))
    return member.weight * grown


def _mixed(weights: np.ndarray, means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of a mixture of members [M, L, ...] with weights [M, L]."""
    w = weights.reshape(*weights.shape, *[1] * (means.ndim - 2))
    mean = (w * means).sum(0)
    return mean, np.sqrt((w * (variances + (means - mean) ** 2)).sum(0))


def _read(
    member: Member, fit: MemberFit, stack: Stack, points: Points, column: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances [L, Q] of one member."""
    cells, lanes, fitted = stack.cells, stack.lanes, fit.fitted
    noise, parts = noise_of(member), []
    for index in _chunks(len(lanes), _width(len(fitted.z), cells)):
        some = jax.tree.map(lambda leaf, index=index: leaf[..., index], fitted)
        at = jax.tree.map(lambda leaf, place=column[index]: leaf[..., place], points)
        prior = _prior(member, cells, lanes[index])
        found = read_lanes(member.law, some, cells.rows(lanes[index]), noise, prior, at)
        parts.append(_first(found, len(set(index))))
    mean, variance = _joined(parts)
    return mean.T, variance.T
