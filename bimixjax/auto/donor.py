"""Multi-fidelity fits: a smaller model size, measured on more mixtures, is a covariate of larger ones.

The smaller size is fitted first; members that read it (`auto.members.DONATED`) get its predicted log losses, less their
mean over the fitted rows, as a covariate (co-kriging, autoregressive form).

Source: Kennedy and O'Hagan, Biometrika 87 (2000).
"""

from dataclasses import dataclass, replace

import numpy as np

from bimixjax._base import checks
from bimixjax.auto.averaging import SPREAD, average
from bimixjax.auto.beyond import check_beyond
from bimixjax.auto.block import noise_of
from bimixjax.auto.grids import Cells
from bimixjax.auto.law_values import Points
from bimixjax.auto.member_fits import Stack, fit_members
from bimixjax.auto.members import DONATED, IN_EPOCHS, MEMBERS, Member, named_members
from bimixjax.auto.outlying import ROUNDS, outlying, without

# As a part of the runs that a rich member wants, see `Member`: its weight falls with the square.
_LEAST_RUNS = 0.1
_ALL, _IN_EPOCHS = (tuple(member.name for member in members) for members in (MEMBERS, IN_EPOCHS))


@dataclass(frozen=True, kw_only=True)
class Auto:
    """Settings of `auto`.

    Attributes:
        members: names of the laws to average; by default all of them, and those in epochs where the table says how many
            unique tokens there were.
        donor: whether the losses of a smaller model size that was measured on more mixtures are a covariate of larger
            ones.
        beyond: name of a law with model size, such as "additive_sized", that is fitted to all sizes at once and
            extrapolates to a size that was not fitted; None for none, since that fit can take long.

    Raises:
        InputError: for no member, one that is unknown or there twice, or a law beyond that is unknown or does not
            read the model size.

    Example:
        >>> import bimixjax
        >>> bimixjax.Auto(donor=False).members[:2]
        ('transfer', 'transfer_loose')
    """

    members: tuple[str, ...] = _ALL
    donor: bool = True
    beyond: str | None = None

    def __post_init__(self) -> None:
        checks.known("member", self.members, (*_ALL, *_IN_EPOCHS), "auto")
        checks.distinct("member", self.members, "auto")
        if not self.members:
            raise checks.InputError("auto has no member; allowed: one or more")
        if self.beyond is not None:
            check_beyond(self.beyond)

    def chosen(self, *, in_epochs: bool = False) -> tuple[Member, ...]:
        """Return the members; `in_epochs` says whether the table has unique tokens."""
        return named_members((*_ALL, *_IN_EPOCHS) if in_epochs and self.members == _ALL else self.members)


@dataclass(frozen=True, kw_only=True)
class Donor:
    """The losses of a smaller model size, for each of L lanes of a larger one.

    Attributes:
        stack: what was fitted at the smaller size, one lane for each of the larger.
        center: mean of its log loss over the larger size's fitted rows [L].
    """

    stack: Stack
    center: np.ndarray

    def losses(
        self, mixture: np.ndarray, volume: np.ndarray, unique: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict the covariate [L, Q] at mixtures and unique tokens [L, Q, d] and volumes [L, Q], and its variance.

        The covariate is an expected log loss, whose variance is that of a measured one without the noise of a run and
        of a row.
        """
        cell, noise = self.stack.lanes[:, 0], noise_of(self.stack.members[0])
        points = _points(mixture, volume, self.stack.cells.scale[cell], unique)
        mean, deviation = self.stack.read(points, np.arange(len(cell)))
        of_noise = (noise.white**2 + noise.run**2) * self.stack.average.spread[:, None] ** 2
        return mean - self.center[:, None], np.maximum(deviation**2 - of_noise, 0.0) / SPREAD**2


@dataclass(frozen=True, kw_only=True)
class Donated:
    """A stack, and for each of its lanes a donor, if it has one."""

    stack: Stack
    donor: Donor | None = None

    def without_idle(self) -> "Donated":
        """Leave out the members that count for next to nothing."""
        donor = self.donor and replace(self.donor, stack=self.donor.stack.without_idle())
        return Donated(stack=self.stack.without_idle(), donor=donor)

    def read(
        self, mixture: np.ndarray, volume: np.ndarray, unique: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict log losses and standard deviations [L, Q].

        Args:
            mixture: of points of each cell [G, Q, d].
            volume: of these [G, Q].
            unique: their unique tokens [G, Q, d], if any are limited.
        """
        stack, cell = self.stack, self.stack.lanes[:, 0]
        if self.donor is None:
            return stack.read(_points(mixture, volume, stack.cells.scale, unique), cell)
        mixture, volume, scale = mixture[cell], volume[cell], stack.cells.scale[cell]
        unique = None if unique is None else unique[cell]
        lent, variance = self.donor.losses(mixture, volume, unique)
        points = replace(_points(mixture, volume, scale, unique), donor=lent.T)
        mean, deviation = stack.read(points, np.arange(len(cell)))
        added = stack.donated_weight[:, None] * variance * stack.average.spread[:, None] ** 2
        return mean, np.sqrt(deviation**2 + added)


def _points(mixture: np.ndarray, volume: np.ndarray, scale: np.ndarray, unique: np.ndarray | None) -> Points:
    """Return points at mixtures and unique tokens [P, Q, d] and volumes [P, Q] of scales [P], with no donor."""
    limits = None if unique is None else np.moveaxis(unique / scale[:, None, None], (0, 2), (2, 0))
    volume = (volume / scale[:, None]).T
    donor = np.zeros(volume.shape)
    return Points(mixture=np.moveaxis(mixture, (0, 2), (2, 0)), volume=volume, donor=donor, unique=limits)


def fit_stacks(cells: Cells, settings: Auto) -> list[Donated]:
    """Fit every lane of the cells, again without the rows that are outlying, where there are any."""
    found, odd = _fit_stacks(cells, settings), np.zeros(cells.mask.shape)
    for _ in range(ROUNDS):
        now = outlying([each.stack for each in found], cells)
        if (now == odd).all():
            break
        odd, found = now, _fit_stacks(without(cells, now), settings)
    return found


def _fit_stacks(cells: Cells, settings: Auto) -> list[Donated]:
    """Fit every lane of the cells: those without a donor together, then those with one."""
    lanes = cells.lanes()
    if not len(lanes):
        return []
    members = _worth_fitting(settings.chosen(in_epochs=cells.unique is not None), cells)
    fits = fit_members(members, cells, lanes)
    whole = Stack(members=members, cells=cells, lanes=lanes, fits=fits, average=average(members, fits, cells, lanes))
    link = _links(cells, lanes) if settings.donor else np.full(len(lanes), -1)
    alone, helped = np.flatnonzero(link < 0), np.flatnonzero(link >= 0)
    found = [Donated(stack=whole.take(alone))]
    return [*found, _help(whole, helped, link[helped])] if len(helped) else found


def _worth_fitting(members: tuple[Member, ...], cells: Cells) -> tuple[Member, ...]:
    """Leave out rich members where even the cell of most runs has so few that their weights fall below a hundredth.

    They take longest there: with 100 domains, one has 400 coefficients.
    """
    few = cells.runs.max() < _LEAST_RUNS * 2 * (cells.mixture.shape[1] + 1)
    return tuple(member for member in members if not (member.rich and few)) or members


def _links(cells: Cells, lanes: np.ndarray) -> np.ndarray:
    """Find the donor of each lane [L]: the lane of the same fold and target at the donor of its cell, or -1."""
    number = np.full((len(cells.size), len(cells.own)), -1)
    number[lanes[:, 0], lanes[:, 1]] = np.arange(len(lanes))
    there = zip(cells.mixture, cells.part >= 0, strict=True)
    mixtures = np.array([len(np.unique(r[:, at].round(6).T, axis=0)) for r, at in there])
    donor = np.full(len(cells.size), -1)
    for cell in range(len(donor)):
        # Of the smaller sizes with more mixtures that with the most, of these the largest.
        smaller = (cells.fold == cells.fold[cell]) & (cells.size < cells.size[cell]) & (mixtures > mixtures[cell])
        if len(found := np.flatnonzero(smaller)):
            donor[cell] = found[np.lexsort((cells.size[found], mixtures[found]))[-1]]
    link = np.where((donor >= 0)[:, None], number[donor], -1)
    # A size has a donor for all of its targets or for none, so that it has one set of members.
    link = np.where(((link >= 0) | (number < 0)).all(1, keepdims=True), link, -1)
    return link[lanes[:, 0], lanes[:, 1]]


def _help(whole: Stack, lanes: np.ndarray, link: np.ndarray) -> Donated:
    """Add the members that read a donor to lanes [L] of a stack, with others [L] as donors."""
    mine, theirs = whole.take(lanes), whole.take(link)
    cells, (cell, target, _) = whole.cells, mine.lanes.T
    mask = cells.mask[cell, :, :, target]
    donor = Donor(stack=theirs, center=np.zeros(len(lanes)))
    # Every run at every volume [L, m t].
    mixture = np.repeat(np.moveaxis(cells.mixture[cell], 1, -1), mask.shape[2], axis=1)
    volume = np.tile(cells.volume[cell] * cells.scale[cell, None], (1, mask.shape[1]))
    unique = None
    if cells.unique is not None:
        tokens = np.moveaxis(cells.unique[cell] * cells.scale[cell, None, None], 1, -1)
        unique = np.repeat(tokens, mask.shape[2], axis=1)
    lent = donor.losses(mixture, volume, unique)[0].reshape(mask.shape)
    center = (lent * mask).sum((1, 2)) / mask.sum((1, 2))
    covariate = np.zeros(cells.mask.shape)
    covariate[cell, :, :, target] = lent - center[:, None, None]
    helped = replace(cells, donor=covariate)
    members = (*whole.members, *DONATED)
    fits = (*mine.fits, *fit_members(DONATED, helped, mine.lanes))
    averaged = average(members, fits, helped, mine.lanes)
    stack = Stack(members=members, cells=helped, lanes=mine.lanes, fits=fits, average=averaged)
    return Donated(stack=stack, donor=replace(donor, center=center))
