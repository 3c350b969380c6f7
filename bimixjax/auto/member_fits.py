"""Fit the members of `auto` to many cells of rows, and judge them on runs left out."""

from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Float, Int

from bimixjax._base import stages
from bimixjax.auto.averaging import Average, MemberFit, join_lanes, take_lanes, widest
from bimixjax.auto.block import Block, same_rows
from bimixjax.auto.grids import Cells
from bimixjax.auto.law_values import Points
from bimixjax.auto.member import Fitted
from bimixjax.auto.members import MEAN, Member
from bimixjax.auto.noise import times
from bimixjax.fitting import devices

# From so many runs on, parts are left out in closed form, since a sixteenth of the runs hardly changes the fit.
# `experiments/prediction: domains` scores it from 32 runs on.
_MANY_RUNS = 32

# Members of less weight in all lanes are left out of a fit. Set by hand.
_LEAST_WEIGHT, _TINY = 1e-3, 1e-300

# Steps of a fit without a part of the runs, which starts from the fit to all of them. Set by hand: `joint` and `dcpt`
# take more, which changes errors by less than these differ between draws.
_REFIT_STEPS = 12

# From so many runs on, lanes of the same rows are worked on together, and their products are those of large matrices.
# Set by hand.
_LARGE = 24

# Numbers that the lanes of a block hold in one array: 8 megabytes. Set by hand.
_NUMBERS = 1 << 20


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

    def without_idle(self) -> "Stack":
        """Leave out the members that count for next to nothing in all lanes, which would only have to be compiled."""
        weights, names = np.asarray(self.average.weights), self.average.names
        counts = np.flatnonzero((weights.max(1, initial=0.0) >= _LEAST_WEIGHT) | (np.array(names) == MEAN))
        kept = weights[counts] / np.maximum(weights[counts].sum(0), _TINY)
        return replace(
            self,
            members=tuple(self.members[k] for k in counts),
            fits=tuple(self.fits[k] for k in counts),
            average=replace(self.average, names=tuple(names[k] for k in counts), weights=kept),
        )

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
            order = blocks(cells, self.lanes, len(fit.fitted.z), len(points.volume))
            for index in order:
                block = Block.of(member, cells, self.lanes[index])
                parts.append(block.read(take_lanes(fit.fitted, index), take_lanes(points, column[index])))
            found.append(take_lanes(join_lanes(parts), np.argsort(np.concatenate(order))))
        means, variances = (np.stack(moments) for moments in zip(*found, strict=True))
        mean, deviation = self.average.mixed(means, variances)
        center = cells.center[self.lanes[:, 0], self.lanes[:, 1]]
        deviation = np.minimum(deviation * self.average.spread, widest(np.asarray(self.average.log_range)))
        return (mean + center).T, deviation.T


def fit_members(members: Sequence[Member], cells: Cells, lanes: Int[np.ndarray, "L 3"]) -> tuple[MemberFit, ...]:
    """Fit all members to lanes of the cells, those of the same rows once, as many at a time as there are cores."""
    first, which = cells.distinct(lanes)
    lanes, most = lanes[first], cells.mask.shape[1]
    # Lanes of few runs are fitted on smaller grids.
    runs = cells.runs[lanes[:, 0]]
    grids = [(cells.cut(runs=slice(count)), np.flatnonzero(runs == count)) for count in np.unique(runs)]

    def one(member: Member, grid: Cells, index: np.ndarray) -> MemberFit:
        # The switch to float64 holds for the thread that makes it only.
        with jax.enable_x64(True):
            return _fit_member(member, grid, lanes[index]).wide(most)

    with devices.threads() as pool:
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
    runs, volumes = cells.mask.shape[1:3]
    unknowns, count = unknowns_of(member, cells), len(lanes)
    z, alpha, step = (np.zeros((size, count)) for size in (unknowns, runs, volumes))
    mean, left = np.zeros((runs, volumes, count)), np.zeros((2, runs, volumes, count))
    many = runs >= _MANY_RUNS
    for index in blocks(cells, lanes, unknowns):
        block = Block.of(member, cells, lanes[index])
        fitted, about = block.fit(np.zeros((unknowns, len(index))))
        z[:, index], alpha[:, index], step[:, index] = fitted.z, fitted.alpha, fitted.step
        mean[..., index] = about.value + times(block.covariance.process, fitted.alpha)[:, None] + fitted.step
        if many:
            left[..., index] = block.left_out(about)
    if not many:
        refits = cells.left_out(lanes)
        for index in blocks(cells, refits[:, 1:], unknowns):
            lane, part = refits[index, 0], refits[index, 3]
            block = Block.of(member, cells, refits[index, 1:])
            fitted, about = block.fit(z[:, lane], _REFIT_STEPS)
            run, refit = np.nonzero((cells.part[refits[index, 1]] == part[:, None]).T)
            left[:, run, :, lane[refit]] = np.stack(block.grid(fitted, about))[:, run, :, refit]
    return MemberFit(fitted=Fitted(z=z, alpha=alpha, step=step), mean=mean, left_mean=left[0], left_variance=left[1])


def unknowns_of(member: Member, cells: Cells) -> int:
    """Count the coefficients of a member."""
    return sum(c.size(cells.mixture.shape[1]) for c in member.law.ordered())


def blocks(cells: Cells, lanes: Int[np.ndarray, "L 3"], unknowns: int, points: int = 0) -> list[Int[np.ndarray, " b"]]:
    """Number the lanes in blocks that are worked on together: as memory allows, of the same rows if those are many.

    Args:
        cells: of the lanes.
        lanes: cell, target and part left out.
        unknowns: coefficients of the law.
        points: where it is evaluated beside the rows.
    """
    _, domains, runs = cells.mixture.shape
    width = max(1, _NUMBERS // ((unknowns + domains + runs) * max(runs * cells.mask.shape[2], points)))
    groups = [np.arange(len(lanes))]
    if runs >= _LARGE and len(lanes):
        place = same_rows(cells, lanes)[1]
        groups = [np.flatnonzero(place == number) for number in range(place.max() + 1)]
    return [group[start : start + width] for group in groups for start in range(0, len(group), width)]
