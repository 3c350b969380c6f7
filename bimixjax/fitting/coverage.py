"""Which mixtures and volumes a fit covers, and what it therefore leaves to the law and its priors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

# Losses that differ by less, relative to them, are equal, and so are shares.
_SAME = 1e-9

# Two shares are in one ratio where that leaves less than this part of the variance of either unexplained.
_UNEXPLAINED = 1e-4

# Domains that are held against all others at a time, so that memory grows as their number does.
_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The mixtures and volumes that each of L lanes was fitted on, over d domains.

    Attributes:
        shares: the lowest and the highest share of each domain, NaN for a lane without an observation.
        companion: the first domain to which a domain's share was always in one ratio, itself where there is none or
            the share never varied.
        volumes: how many distinct volumes.
        varies: whether losses differ between mixtures.
        own: the only domain on whose share a lane's loss depends, -1 where it depends on all.
    """

    shares: Float[np.ndarray, "L d 2"]
    companion: Int[np.ndarray, "L d"]
    volumes: Int[np.ndarray, " L"]
    varies: Bool[np.ndarray, " L"]
    own: Int[np.ndarray, " L"]

    @property
    def fixed(self) -> Bool[np.ndarray, "L d"]:
        """Whether a share never varied."""
        return self.shares[:, :, 1] - self.shares[:, :, 0] <= _SAME

    @property
    def distinguishes(self) -> Bool[np.ndarray, " L"]:
        """Whether the rows of a lane distinguish mixtures."""
        fixed = np.where(self.own >= 0, np.take_along_axis(self.fixed, self.own[:, None], 1)[:, 0], self.fixed.all(1))
        return self.varies & ~fixed

    def take(self, lanes: Sequence[int]) -> "Coverage":
        """Take some of the lanes."""
        index = np.array(lanes, int)
        return Coverage(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})

    def gaps(self) -> Iterator["Gap"]:
        """Find the shares that never varied, or were always in one ratio, in all lanes with an observation."""
        there = ~np.isnan(self.shares[:, 0, 0])
        if not there.any():
            return
        shares, companion = self.shares[there], self.companion[there]
        fixed, low = self.fixed[there], shares[:, :, 0]
        for domain in np.flatnonzero(fixed.all(0) & (np.ptp(low, axis=0) <= _SAME)).tolist():
            yield Gap(domain, None, float(low[0, domain]))
        for domain in range(shares.shape[1]):
            other = int(companion[0, domain])
            if other != domain and (companion[:, domain] == other).all():
                yield Gap(other, domain, float(shares[0, other, 1] / shares[0, domain, 1]))


class Gap(NamedTuple):
    """A domain whose share never varied, or was always in one ratio to that of another.

    Attributes:
        domain: its number.
        other: that of the other domain, None where the share never varied.
        value: the share, or the ratio.
    """

    domain: int
    other: int | None
    value: float

    def words(self, domains: Sequence[str]) -> str:
        """Say it, as a sentence without its end."""
        if self.other is None:
            return f"the share of {domains[self.domain]} is {self.value:.3g} in all runs"
        return f"{domains[self.domain]} and {domains[self.other]} are in the ratio {self.value:.3g} : 1 in all runs"

    def left(self, mixture: np.ndarray) -> str:
        """Say what a mixture has instead, or nothing where it has the same."""
        if self.other is None:
            share = float(mixture[self.domain])
            return "" if abs(share - self.value) < 1e-6 else f"the share found, {share:.3g},"
        first, second = float(mixture[self.domain]), float(mixture[self.other])
        kept = abs(first - self.value * second) <= 1e-2 * max(first, self.value * second)
        return "" if kept else "the ratio found, " + (f"{first / second:.3g} : 1," if second > 0 else "1 : 0,")


def notes(coverage: Coverage, domains: Sequence[str]) -> Iterator[str]:
    """Say what the mixtures and losses of a fit do not determine."""
    there = ~np.isnan(coverage.shares[:, 0, 0])
    if not there.any():
        return
    if coverage.fixed[there].all():
        yield "nothing here tells mixtures apart: all runs have one mixture"
        return
    if not coverage.varies[there].any():
        yield "nothing here tells mixtures apart: their losses are the same"
        return
    for gap in coverage.gaps():
        what = "that share does" if gap.other is None else "each of them does"
        yield f"{gap.words(domains)}: what {what} rests on the law and its priors"


def companions(mixture: Float[np.ndarray, "d n"], used: Bool[np.ndarray, "n L"]) -> Int[np.ndarray, "L d"]:
    """Find the first domain to which each one's share is always in one ratio, over the rows that each lane used.

    Two shares x and y are, where the residual of y as a multiple of x, and of x as one of y, is small:

        <y^2> - <x y>^2 / <x^2>  <=  1e-4 var(y),    <> the mean over rows.
    """
    # Lanes that used the same rows share an answer.
    masks, lane = np.unique(np.packbits(used > 0, axis=0), axis=1, return_inverse=True)
    rows = np.unpackbits(masks, axis=0, count=len(used)).T.astype(bool)
    return np.stack([_first_tied(mixture[:, own]) for own in rows])[lane.reshape(-1)]


def _first_tied(shares: Float[np.ndarray, "d n"]) -> Int[np.ndarray, " d"]:
    """Find the first domain to which each one's share is in one ratio in all rows, a block of domains at a time."""
    count = max(shares.shape[1], 1)
    own = (shares**2).sum(1) / count
    variance = own - (shares.sum(1) / count) ** 2
    varies, first = variance > _SAME**2, np.empty(len(shares), int)
    for begin in range(0, len(shares), _BLOCK):
        mine = np.arange(begin, min(begin + _BLOCK, len(shares)))
        together = (shares[mine] @ shares.T / count) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            tied = own[mine, None] - together / own <= _UNEXPLAINED * variance[mine, None]
            tied &= own - together / own[mine, None] <= _UNEXPLAINED * variance
        tied &= varies[mine, None] & varies
        tied[np.arange(len(mine)), mine] = True
        first[mine] = tied.argmax(1)
    return first


def losses_differ(
    place: Int[np.ndarray, " n"], loss: Float[np.ndarray, "n L"], used: Bool[np.ndarray, "n L"]
) -> Bool[np.ndarray, " L"]:
    """Tell whether losses differ between rows at one place; where no place has two rows, between any.

    Args:
        place: the volume and model size of each row, as a number.
        loss: of each row and lane.
        used: which rows each lane was fitted to.
    """
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    low = np.minimum.reduceat(np.where(used, loss, np.inf)[order], starts, axis=0)
    high = np.maximum.reduceat(np.where(used, loss, -np.inf)[order], starts, axis=0)
    several = np.add.reduceat((used > 0).astype(int)[order], starts, axis=0) > 1
    with np.errstate(invalid="ignore"):
        within = (several & (high - low > _SAME * np.abs(high))).any(0)
        between = high.max(0) - low.min(0) > _SAME * np.abs(high.max(0))
    return np.where(several.any(0), within, between)


def share_range(values: np.ndarray, used: np.ndarray) -> Float[np.ndarray, "*d L 2"]:
    """Return the lowest and the highest of values [..., n, L or 1] that each lane used [n, L]; NaN where none."""
    wide, there = np.broadcast_to(values, (*values.shape[:-2], *used.shape)), used > 0
    low, high = wide.min(-2, where=there, initial=np.inf), wide.max(-2, where=there, initial=-np.inf)
    return np.where(there.any(axis=0, keepdims=True).T, np.stack([low, high], axis=-1), np.nan)
