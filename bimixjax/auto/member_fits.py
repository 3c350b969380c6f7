"""Fit the members of `auto` to many cells of rows, and judge them on runs left out."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Float, Int

from bimixjax._base import stages
from bimixjax.auto.averaging import Average, MemberFit, join_lanes, take_lanes
from bimixjax.auto.grids import Cells
from bimixjax.auto.left_out import leave_out
from bimixjax.auto.member import Ends, PackedPrior, Points, fit_lanes, read_grid, read_lanes
from bimixjax.auto.members import Member, prior_of, relative_level
from bimixjax.auto.noise import Noise, NoiseCovariance
from bimixjax.fitting import devices

# Noise of log losses about every member: of a row, of a step over all runs, of a run over all its steps.
# Set on draws 0-4 of a table of 26 runs x 4 sizes (arXiv 2403.16952, `data/5Mix`); scores of other draws choose anew
# from the same runs.
WHITE, STEP, RUN = 0.006, 0.006, 0.003

# From so many runs on, parts are left out in closed form, since a sixteenth of the runs hardly changes the fit.
# `experiments/prediction: domains` scores it from 32 runs on.
_MANY_RUNS = 32

# Lanes that are solved side by side, as far as their numbers stay in the cache of a core. Chunks of one shape share a
# compiled program. No script here chose them; `benchmarks/auto.py` times fits with them.
_LANES, _CACHED_NUMBERS = 16, 200_000

# From so many lanes on, another program for those of few runs compiles in less time than it saves. Not measured by
# a script here.
_MANY_LANES = 256

# Numbers of the matrices that are factored together, for each target: 32 megabytes, to bound the memory.
_FACTORED_NUMBERS = 1 << 22

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Members that were fitted to lanes of some cells, and averaged.

    Attributes:
        members: the laws with their priors.
        cells: what they were fitted to.
        lanes: cell, target and part left out (-1 for none) of each lane.
        fits: of each member.
        average: of them.
    """

    members: tuple[Member, ...]
    cells: Cells
    lanes: Int[np.ndarray, "L 3"]
    fits: tuple[MemberFit, ...]
    average: Average

    def take(self, index: np.ndarray) -> "Stack":
        """Take some of the lanes."""
        fits, average = take_lanes((self.fits, self.average), index)
        return replace(self, lanes=self.lanes[index], fits=fits, average=average)

    @property
    def donated_weight(self) -> Float[np.ndarray, " L"]:
        """The weight of the members that read a donor."""
        return np.asarray(self.average.weights)[[member.law.sized for member in self.members]].sum(0)

    def read(
        self, points: Points, column: Int[np.ndarray, " L"]
    ) -> tuple[Float[np.ndarray, "L Q"], Float[np.ndarray, "L Q"]]:
        """Predict log losses and their standard deviations at points, each lane at its `column` of them."""
        cells, found = self.cells, []
        for member, fit in zip(self.members, self.fits, strict=True):
            parts = []
            for index in _chunks(len(self.lanes), _width(len(fit.fitted.z), cells)):
                lanes, at = self.lanes[index], take_lanes(points, column[index])
                prior, fitted = lane_priors(member, cells, lanes), take_lanes(fit.fitted, index)
                moments = read_lanes(member.law, fitted, cells.rows(lanes), noise_of(member), prior, at)
                parts.append(_first(moments, index))
            found.append(join_lanes(parts))
        means, variances = (np.stack(moments) for moments in zip(*found, strict=True))
        mean, deviation = self.average.mixed(means, variances)
        center = cells.center[self.lanes[:, 0], self.lanes[:, 1]]
        return (mean + center).T, (deviation * np.asarray(self.average.spread)).T


def noise_of(member: Member) -> Noise:
    """Return the noise of log losses about a member."""
    return Noise(white=WHITE, step=STEP, run=RUN, process=member.process, length=member.length)


def lane_priors(member: Member, cells: Cells, lanes: Int[np.ndarray, "L 3"]) -> PackedPrior:
    """Build the priors of a member in some lanes."""
    cell, target, _ = lanes.T
    center = np.where(cells.mask.any((1, 2)), cells.center, np.nan)
    return prior_of(member, cells.mixture.shape[1], relative_level(center, cells.own)[cell, target], cells.own[target])


def fit_members(members: Sequence[Member], cells: Cells, lanes: Int[np.ndarray, "L 3"]) -> tuple[MemberFit, ...]:
    """Fit all members to lanes of the cells, those of the same rows once, as many at a time as there are cores."""
    first, which = cells.distinct(lanes)
    lanes, runs = lanes[first], cells.mask.shape[1]
    # Where lanes are many, those of few runs are fitted on the smallest grids with room for them.
    least = cells.least_runs[lanes[:, 0]] if len(lanes) >= _MANY_LANES else np.full(len(lanes), runs)
    grids = [(cells.cut(runs=slice(count)), np.flatnonzero(least == count)) for count in np.unique(least)]

    def one(member: Member, grid: Cells, index: np.ndarray) -> MemberFit:
        # The switch to float64 holds for the thread that makes it only.
        with jax.enable_x64(True):
            return _fit_member(member, grid, lanes[index]).wide(runs)

    with ThreadPoolExecutor(devices.cores()) as pool:
        # Members with many coefficients take longest, and start first.
        order = sorted(members, key=lambda member: -len(member.law.coefficients))
        jobs = {member.name: [pool.submit(one, member, *grid) for grid in grids] for member in order}
        every = [job for of_member in jobs.values() for job in of_member]
        for _ in stages.counted("fits of laws for auto", len(every), as_completed(every)):
            pass
    back = np.argsort(np.concatenate([index for _, index in grids]))[which]
    return tuple(take_lanes(join_lanes([job.result() for job in jobs[member.name]]), back) for member in members)


def _fit_member(member: Member, cells: Cells, lanes: Int[np.ndarray, "L 3"]) -> MemberFit:
    """Fit a member to lanes of the cells, and predict each part of their runs from the others."""
    unknowns = sum(c.size(cells.mixture.shape[1]) for c in member.law.ordered())
    ends, (mean, _) = _fit(member, cells, lanes, np.zeros((unknowns, len(lanes))))
    left = np.zeros((2, *mean.shape))
    many = cells.runs[lanes[:, 0]] >= _MANY_RUNS
    in_closed_form = np.flatnonzero(many)
    place = same_rows(cells, lanes[in_closed_form])[1] if many.any() else in_closed_form
    for number in np.unique(place):
        index = in_closed_form[place == number]
        covariance, _ = _covariance(member, cells, lanes[index])
        part, loss = cells.part[lanes[index[0], 0]], np.asarray(cells.rows(lanes[index]).loss)
        left[..., index] = leave_out(covariance, part, loss, take_lanes(ends, index))
    # Few runs: fitted again without each part in turn.
    few = np.flatnonzero(~many)
    refits = cells.left_out(lanes[few])
    if len(refits):
        lane = few[refits[:, 0]]
        _, moments = _fit(member, cells, refits[:, 1:], np.asarray(ends.fitted.z)[:, lane])
        run, refit = np.nonzero((cells.part[refits[:, 1]] == refits[:, 3, None]).T)
        left[:, run, :, lane[refit]] = np.stack(moments)[:, run, :, refit]
    return MemberFit(fitted=ends.fitted, mean=mean, left_mean=left[0], left_variance=left[1])


def _fit(
    member: Member, cells: Cells, lanes: Int[np.ndarray, "L 3"], starts: Float[np.ndarray, "q L"]
) -> tuple[Ends, tuple[np.ndarray, np.ndarray]]:
    """Fit lanes in chunks that all have one shape, and read mean and variance of log losses on their grids."""
    runs, width, found = cells.mask.shape[1], _width(len(starts), cells), []
    # Noise is factored for as many chunks together as memory allows.
    together = width * max(1, len(cells.own) * (_FACTORED_NUMBERS // runs**2) // width)
    for start in range(0, len(lanes), together):
        block = np.arange(start, min(start + together, len(lanes)))
        covariance, place = _covariance(member, cells, lanes[block])
        for index in _chunks(len(block), width):
            chosen = lanes[block[index]]
            noise, prior = covariance.lanes(place[index]), lane_priors(member, cells, chosen)
            ends = fit_lanes(member.law, cells.rows(chosen), noise, prior, starts[:, block[index]])
            found.append(_first((ends, read_grid(ends, noise)), index))
    return join_lanes(found)


def _covariance(
    member: Member, cells: Cells, lanes: Int[np.ndarray, "L 3"]
) -> tuple[NoiseCovariance, Int[np.ndarray, " L"]]:
    """Factor the noise of lanes, once for all with the same rows; and which factored one is each lane's."""
    first, place = same_rows(cells, lanes)
    mixture, mask = cells.mixture[lanes[first, 0]], cells.masks(lanes[first])
    return NoiseCovariance.of(noise_of(member), np.moveaxis(mixture, 0, -1), np.moveaxis(mask, 0, -1)), place


def same_rows(cells: Cells, lanes: Int[np.ndarray, "L 3"]) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " L"]]:
    """Find the first of all lanes that have the same rows, and which of these each lane is like."""
    bits = np.packbits(cells.masks(lanes).reshape(len(lanes), -1).astype(bool), axis=1)
    _, first, place = np.unique(np.column_stack([lanes[:, 0], bits]), axis=0, return_index=True, return_inverse=True)
    return first, place.reshape(-1)


def _first(tree: T, index: np.ndarray) -> T:
    """Take the different lanes of a chunk, without those that filled it, as NumPy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[..., : len(set(index))], tree)


def _width(unknowns: int, cells: Cells) -> int:
    """Choose how many lanes to solve side by side: a power of two."""
    runs, volumes = cells.mask.shape[1:3]
    numbers = max((runs * volumes + runs) * unknowns, runs**2)
    return int(np.clip(1 << int(_CACHED_NUMBERS // numbers).bit_length() >> 1, 1, _LANES))


def _chunks(count: int, width: int) -> Iterator[np.ndarray]:
    """Number `count` lanes in chunks of one width, of which the last repeats its last lane."""
    for start in range(0, count, width):
        yield np.minimum(np.arange(start, start + width), count - 1)
