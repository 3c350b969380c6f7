"""Fit the members of `auto` to many cells of rows, and judge them on runs left out."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax import Array

from bimixjax._base import stages
from bimixjax.auto.averaging import Average, MemberFit, joined
from bimixjax.auto.grids import Cells
from bimixjax.auto.left_out import leave_out
from bimixjax.auto.member import Ends, Points, Prior, fit_lanes, read_grid, read_lanes
from bimixjax.auto.members import Member, coordinates
from bimixjax.auto.noise import Noise, NoiseCovariance
from bimixjax.fitting import devices

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
        return Stack(
            members=self.members,
            cells=self.cells,
            lanes=self.lanes[index],
            fits=tuple(fit.take(index) for fit in self.fits),
            average=self.average.take(index),
        )

    @property
    def donated_weight(self) -> np.ndarray:
        """The weight of the members that read a donor [L]."""
        return self.average.weights[[member.law.sized for member in self.members]].sum(0)

    def read(self, points: Points, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log losses and their standard deviations [L, Q] at points [..., P], each lane at its `column` of them [L]."""
        found = [_read(m, fit, self, points, column) for m, fit in zip(self.members, self.fits, strict=True)]
        means, variances = (np.stack(one) for one in zip(*found, strict=True))
        mean, deviation = self.average.mixed(means, variances)
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

    with ThreadPoolExecutor(devices.cores()) as pool:
        # The longest first.
        order = sorted(range(len(members)), key=lambda i: -len(members[i].law.coefficients))
        jobs = [pool.submit(one, (members[i], part)) for i in order for part in parts]
        for _ in stages.counted("fits of laws for auto", len(jobs), as_completed(jobs)):
            pass
        found = [job.result() for job in jobs]
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
    return [
        _Part(cells=cells.cut(runs=slice(count)), lanes=lanes[index], index=index) for count, index in indices.items()
    ]


def _fit_member(member: Member, cells: Cells, lanes: np.ndarray) -> MemberFit:
    """Fit a member to lanes [L, 3] of the cells, and from there to each with parts of its runs left out."""
    domains, (_, runs, volumes, _) = cells.mixture.shape[1], cells.mask.shape
    unknowns = len(coordinates(member, domains).center)
    found = _fit(member, cells, lanes, np.zeros((unknowns, len(lanes))), read=True)
    whole, moments = joined([ends for ends, _ in found]), joined([moments for _, moments in found])
    placed = np.zeros((2, len(lanes), runs, volumes))
    many = cells.runs[lanes[:, 0]] >= _MANY_RUNS
    if many.any():
        index = np.flatnonzero(many)
        covariance, place = _covariance(member, cells, lanes[index])
        for number in range(place.max() + 1):
            chosen = index[place == number]
            ends = jax.tree.map(lambda leaf, chosen=chosen: leaf[..., chosen], whole)
            part, loss = cells.part[lanes[chosen[0], 0]], cells.rows(lanes[chosen]).loss
            left = leave_out(covariance.lanes(np.array([number])), part, loss, ends)
            placed[:, chosen] = np.moveaxis(left, -1, 1)
    _refit(member, cells, lanes, whole.fitted.z, np.flatnonzero(~many), placed)
    mean = np.moveaxis(moments[0], -1, 0)
    return MemberFit(fitted=whole.fitted, mean=mean, left_mean=placed[0], left_variance=placed[1])


def _refit(
    member: Member, cells: Cells, lanes: np.ndarray, z: np.ndarray, index: np.ndarray, placed: np.ndarray
) -> None:
    """Fit some of the lanes without each part of their runs, and place what is read there [2, L, m, t]."""
    left = cells.left_out(lanes[index])
    if not len(left):
        return
    lane = index[left[:, 0]]
    moments = joined([moments for _, moments in _fit(member, cells, left[:, 1:], z[:, lane], read=True)])
    out, run = np.nonzero(cells.part[left[:, 1]] == left[:, 3, None])
    for values, moment in zip(placed, moments, strict=True):
        values[lane[out], run] = moment[run, :, out]


def _fit(
    member: Member, cells: Cells, lanes: np.ndarray, starts: np.ndarray, *, read: bool = False
) -> list[tuple[Ends, Any]]:
    """Fit lanes [L, 3] from `starts` [q, L], in chunks that all have one shape, and if asked, read their grids."""
    width, found = _width(len(starts), cells), []
    for block in _blocks(lanes, cells, width):
        covariance, place = _covariance(member, cells, lanes[block])
        for index in _chunks(len(block), width):
            chosen, count = lanes[block[index]], len(set(index))
            rows, noise, prior = cells.rows(chosen), covariance.lanes(place[index]), _prior(member, cells, chosen)
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


def _covariance(member: Member, cells: Cells, lanes: np.ndarray) -> tuple[NoiseCovariance, np.ndarray]:
    """Factor the noise of lanes [L, 3], once for all with the same rows; and which factored one is each lane's."""
    first, place = same_rows(cells, lanes)
    mixture, mask = cells.mixture[lanes[first, 0]], cells.masks(lanes[first])
    return NoiseCovariance.of(noise_of(member), np.moveaxis(mixture, 0, -1), np.moveaxis(mask, 0, -1)), place


def same_rows(cells: Cells, lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the first of all lanes [L, 3] that have the same rows, and which of these each lane is like."""
    bits = np.packbits(cells.masks(lanes).reshape(len(lanes), -1).astype(bool), axis=1)
    _, first, place = np.unique(np.column_stack([lanes[:, 0], bits]), axis=0, return_index=True, return_inverse=True)
    return first, place.reshape(-1)


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
    mean, variance = joined(parts)
    return mean.T, variance.T
