"""What the rows of a fit tell of mixtures and volumes, and what they leave to the law and its priors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# Losses that differ by less are equal, and so are shares.
_SAME = 1e-9

# Two shares are in one ratio where that leaves less than this of the variance of either.
_LEFT = 1e-4


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What was fitted in each of L lanes, over d domains.

    Args:
        shares: the lowest and the highest share of each domain [L, d, 2], NaN for a lane without an observation.
        companion: the first domain to which a domain's share was always in one ratio, itself where there is none or
            the share never varied [L, d].
        volumes: how many distinct volumes [L].
        varies: whether losses differ between mixtures [L].
        own: the only domain on whose share a lane's loss depends, -1 where it depends on all [L].
    """

    shares: np.ndarray
    companion: np.ndarray
    volumes: np.ndarray
    varies: np.ndarray
    own: np.ndarray

    @property
    def fixed(self) -> np.ndarray:
        """Which shares never varied [L, d]."""
        return self.shares[:, :, 1] - self.shares[:, :, 0] <= _SAME

    @property
    def tells(self) -> np.ndarray:
        """Whether the rows of a lane tell mixtures apart [L]."""
        fixed = np.where(self.own >= 0, np.take_along_axis(self.fixed, self.own[:, None], 1)[:, 0], self.fixed.all(1))
        return self.varies & ~fixed

    def take(self, lanes: Sequence[int]) -> "Coverage":
        """Some of the lanes."""
        index = np.array(lanes, int)
        return Coverage(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})

    def gaps(self) -> Iterator["Gap"]:
        """The shares that never varied, and those that were always in one ratio, in all lanes with an observation."""
        there = ~np.isnan(self.shares[:, 0, 0])
        if not there.any():
            return
        shares, companion = self.shares[there], self.companion[there]
        fixed, low = self.fixed[there], shares[:, :, 0]
        for domain in np.flatnonzero(fixed.all(0) & (np.ptp(low, axis=0) <= _SAME)).tolist():
            yield Gap(domain, None, float(low[0, domain]))
        for domain in range(shares.shape[1]):
            other = int(companion[0, domain])
            if other == domain or not (companion[:, domain] == other).all():
                continue
            yield Gap(other, domain, float(shares[0, other, 1] / shares[0, domain, 1]))


class Gap(NamedTuple):
    """A domain whose share never varied, or that was always in one ratio to another."""

    domain: int
    other: int | None
    value: float

    def words(self, domains: Sequence[str]) -> str:
        """As a sentence without its end."""
        if self.other is None:
            return f"the share of {domains[self.domain]} is {self.value:.3g} in all runs"
        return f"{domains[self.domain]} and {domains[self.other]} are in the ratio {self.value:.3g} : 1 in all runs"

    def left(self, mixture: np.ndarray) -> str:
        """What a mixture makes of it, or nothing where it keeps to it."""
        if self.other is None:
            share = float(mixture[self.domain])
            return "" if abs(share - self.value) < 1e-6 else f"the share found, {share:.3g},"
        first, second = float(mixture[self.domain]), float(mixture[self.other])
        kept = abs(first - self.value * second) <= 1e-2 * max(first, self.value * second)
        return "" if kept else "the ratio found, " + (f"{first / second:.3g} : 1," if second > 0 else "1 : 0,")


def notes(coverage: Coverage, domains: Sequence[str]) -> Iterator[str]:
    """What a reader of a fit should know of the mixtures and losses that it was given."""
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


def companions(mixture: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The first domain to which each one's share is always in one ratio [L, d]; see `Coverage`.

    Args:
        mixture: shares [d, n].
        used: which of them each lane was fitted to [n, L].
    """
    masks, lane = np.unique(np.packbits(used > 0, axis=0), axis=1, return_inverse=True)
    weight = np.unpackbits(masks, axis=0, count=len(used)).T.astype(float)
    domains, count = len(mixture), np.maximum(weight.sum(1), 1)[:, None]
    products = (mixture[:, None] * mixture).reshape(domains * domains, -1)
    square = (weight @ products.T).reshape(-1, domains, domains) / count[:, :, None]
    own = np.diagonal(square, axis1=1, axis2=2)
    variance = own - (weight @ mixture.T / count) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        # What is left of a share [L, d, 1] once another one [L, 1, d], times a number, is taken off.
        rest = own[:, :, None] - square**2 / own[:, None, :]
        tied = rest <= _LEFT * variance[:, :, None]
    tied &= tied.swapaxes(1, 2) & (variance > _SAME**2)[:, :, None] & (variance > _SAME**2)[:, None, :]
    tied |= np.eye(domains, dtype=bool)
    return tied.argmax(2)[lane.reshape(-1)]


def losses_differ(place: np.ndarray, loss: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Whether losses differ between rows at one volume and model size [L]; where no place has two rows, between any.

    Args:
        place: the volume and model size of each row, as a number [n].
        loss: of each row and lane [n, L].
        used: which of them each lane was fitted to [n, L].
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


def share_range(values: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The lowest and the highest of the values [k] that each target used [k, T]: [T, 2]; NaN where there is none."""
    wide = np.broadcast_to(values[:, None], used.shape)
    there = used > 0
    low, high = wide.min(0, where=there, initial=np.inf), wide.max(0, where=there, initial=-np.inf)
    return np.where(there.any(0), [low, high], np.nan).T
