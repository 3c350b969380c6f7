"""Average the members of `auto`: by their errors on runs left out, and each only where what it says is sane."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from bimixjax._base.records import Leaf
from bimixjax.auto.grids import Cells
from bimixjax.auto.member import Fitted
from bimixjax.auto.members import MEAN, Member

# The spread of errors on held-out runs, in standard deviations of the members, on the same draws: the noise is stated
# generously. And how many runs that counts as beside the runs at hand.
SPREAD, _SPREAD_RUNS = 0.58, 10.0

# A member's error on one target counts as that of all targets where there are few runs beside these.
_POOLED_RUNS = 8.0

# A member counts where its log loss lies no further than this outside of the fitted ones, a factor of two; beyond, its
# weight falls as a normal density with this standard deviation.
_SANE, _SANE_DEVIATION = 0.7, 0.2

# Log losses this much further off are cut: no weight, however small, is that of a number that is not finite.
_FARTHEST = 5.0
MOST_VARIANCE = _FARTHEST**2
_FAR_OFF, _TINY = 1e9, 1e-300

# What laws must earn beside the mean of the runs. What that is worth where losses do not depend on the mixture is
# measured in `tests/auto/test_averaging.py`, what it costs where they do in `experiments/prediction`.
_MEAN_POWER, _LAWS_ODDS = 8.0, 2.0

# From the mean of absolute values of normal numbers to their standard deviation.
_MEAN_TO_DEVIATION = (np.pi / 2) ** 0.5


@dataclass(frozen=True, kw_only=True)
class MemberFit:
    """One member on L lanes.

    Args:
        fitted: what is read of it, lanes last.
        mean: of the log loss of each run at each volume [L, m, t].
        left_mean, left_variance: of the log loss of each run at each volume when its part is left out [L, m, t].
    """

    fitted: Fitted
    mean: np.ndarray
    left_mean: np.ndarray
    left_variance: np.ndarray

    def take(self, index: np.ndarray) -> "MemberFit":
        """The same of some lanes."""
        fitted = jax.tree.map(lambda leaf: leaf[..., index], self.fitted)
        return MemberFit(
            fitted=fitted,
            mean=self.mean[index],
            left_mean=self.left_mean[index],
            left_variance=self.left_variance[index],
        )

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
            mean=filled(self.mean, 1),
            left_mean=filled(self.left_mean, 1),
            left_variance=filled(self.left_variance, 1),
        )

    @classmethod
    def joined(cls, parts: "Sequence[MemberFit]") -> "MemberFit":
        """The lanes of all parts, one part after the other."""
        return cls(
            fitted=joined([part.fitted for part in parts]),
            mean=np.concatenate([part.mean for part in parts]),
            left_mean=np.concatenate([part.left_mean for part in parts]),
            left_variance=np.concatenate([part.left_variance for part in parts]),
        )


@dataclass(frozen=True, kw_only=True)
class Average:
    """How members are averaged in each lane.

    Args:
        names: of the members.
        weights: of each member [M, L].
        spread: by what standard deviations are multiplied, from runs left out [L].
        left_out_error: mean absolute error of the average's log losses on runs left out [L].
        log_range: the lowest and the highest log loss that was fitted, less the lane's mean [2, L].
    """

    names: tuple[str, ...]
    weights: np.ndarray
    spread: np.ndarray
    left_out_error: np.ndarray
    log_range: np.ndarray

    def take(self, index: np.ndarray) -> "Average":
        """The same of some lanes."""
        return Average(
            names=self.names,
            weights=self.weights[:, index],
            spread=self.spread[index],
            left_out_error=self.left_out_error[index],
            log_range=self.log_range[:, index],
        )

    def mixed(self, means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of what members say, by their log losses and variances [M, L, ...]."""
        more = (1,) * (means.ndim - 2)
        weights, ends = self.weights.reshape(*self.weights.shape, *more), self.log_range.reshape(2, -1, *more)
        found = sane(self.names, weights, means, ends)
        mean = (found.weights * found.means).sum(0)
        apart = (found.means - mean) ** 2
        return mean, np.sqrt((found.weights * (variances.clip(0, MOST_VARIANCE) + apart)).sum(0) + found.doubt)


class Sane(NamedTuple):
    """What members say at some points, once those that left all sense do not count.

    Args:
        weights: of each member [M, ...], summing to 1.
        means: their log losses [M, ...].
        gate: which share of its own weight each member keeps [M, ...].
        doubt: the variance that stands for the weight that was lost [...].
    """

    weights: Leaf
    means: Leaf
    gate: Leaf
    doubt: Leaf


def sane(names: Sequence[str], weights: Leaf, means: Leaf, fitted: Leaf) -> Sane:
    """Take the weight of members that leave all sense at a point, and give it to the mean of the runs.

    A law that is carried far from its rows may fall to zero or grow without end. With e the distance of a member's log
    loss from the fitted range, made wider by `_SANE` at both ends, it keeps the share

        g = exp(-e^2 / (2 _SANE_DEVIATION^2))

    of its weight: all of it wherever it is sane, and smoothly less beyond, so that a search can follow. What is lost
    goes to the member "mean", with the variance of losses that are anywhere in the range; without that member, to
    those that are nearest to it.

    Args:
        names: of the members.
        weights: of each member [M, ...], summing to 1; all 0 where a target has no rows.
        means: log losses of each member [M, ...].
        fitted: the lowest and the highest log loss that was fitted [2, ...].
    """
    space = means.__array_namespace__()
    low, high = fitted[0] - _SANE, fitted[1] + _SANE
    means = means.clip(low - _FARTHEST, high + _FARTHEST)
    off = (((low - means).clip(0) + (means - high).clip(0)) / _SANE_DEVIATION) ** 2 / 2
    gate = space.exp(-off)
    lost = (weights * (1 - gate)).sum(0)
    if MEAN in names:
        rest = space.eye(len(names))[names.index(MEAN)].reshape(-1, *[1] * (means.ndim - 1))
    else:
        rest = weights * space.exp(-(off - off.min(0, where=weights > 0, initial=_FAR_OFF)).clip(0))
        rest = rest / rest.sum(0).clip(_TINY)
    doubt = lost * ((fitted[1] - fitted[0]) / 2 + _SANE_DEVIATION) ** 2
    return Sane(weights * gate + lost * rest, means, gate, doubt)


def average(members: Sequence[Member], fits: Sequence[MemberFit], cells: Cells, lanes: np.ndarray) -> Average:
    """Weigh members by their errors on runs left out, and scale their spread by what these errors measured.

    A member's weight is its prior weight times error^(-8 K / (K + 8)) for K > 1 runs. Its error is the mean absolute
    error of log losses on runs left out, drawn towards its geometric mean over targets by the share 8 / (8 + K). What
    laws earn beside the mean of the runs is told in `_beside_mean`.
    """
    cell, target, _ = lanes.T
    loss, mask = cells.loss[cell, :, :, target], cells.mask[cell, :, :, target]
    runs, rows = mask.any(2).sum(1), mask.sum((1, 2))
    means = np.stack([fit.left_mean for fit in fits])
    error = (np.abs(means - loss) * mask).sum((2, 3)) / rows
    raw = np.log([_prior_weights(m, runs, cells.mixture.shape[1]) for m in members])
    log_error = np.log(np.maximum(error, 1e-9))
    # One run leaves nothing to judge by.
    raw -= np.where(runs > 1, 8 * runs / (runs + 8), 0.0) * _drawn_together(log_error, cell, runs)
    weights = np.exp(raw - raw.max(0))
    weights /= weights.sum(0)
    names = tuple(member.name for member in members)
    if len(names) > 1 and MEAN in names:
        weights = _beside_mean(weights, log_error, names.index(MEAN), 2 * cell + (cells.own[target] >= 0), runs)
    there = mask > 0
    ends = loss.min((1, 2), where=there, initial=np.inf), loss.max((1, 2), where=there, initial=-np.inf)
    found = Average(names=names, weights=weights, spread=rows, left_out_error=rows, log_range=np.stack(ends))
    mean, deviation = found.mixed(means, np.stack([fit.left_variance for fit in fits]))
    missed = np.abs(mean - loss) * mask
    standard = (missed / np.where(mask > 0, deviation, 1.0)).sum((1, 2))
    same = cell[:, None] == cell
    measured = _MEAN_TO_DEVIATION * (same @ standard) / (same @ rows)
    spread = (_SPREAD_RUNS * SPREAD + runs * measured) / (_SPREAD_RUNS + runs)
    return replace(found, spread=spread, left_out_error=missed.sum((1, 2)) / rows)


def _beside_mean(
    weights: np.ndarray, log_error: np.ndarray, mean: int, kind: np.ndarray, runs: np.ndarray
) -> np.ndarray:
    """Weights [M, L] with those of the laws times the share that they earn beside the mean of the runs.

    Where laws miss runs left out by rho times what the mean misses, their weighted geometric mean over it, the share is
    1 / (1 + rho^8 / 2) from 3 runs on; rho is drawn towards its geometric mean over targets of one kind in a cell [L].
    """
    laws = np.arange(len(weights)) != mean
    of_laws = (weights[laws] * log_error[laws]).sum(0) / weights[laws].sum(0)
    log_rho = _drawn_together((of_laws - log_error[mean])[None], kind, runs)[0]
    # Of two runs, each would be judged by the other alone.
    share = np.where(runs > 2, 1 / (1 + np.exp(_MEAN_POWER * log_rho) / _LAWS_ODDS), 1.0)
    beside = weights * share
    beside[mean] += 1 - share
    return beside


def _drawn_together(errors: np.ndarray, group: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Log errors [M, L], each drawn towards its mean over the lanes of a group, the more the fewer runs there are."""
    same = group[:, None] == group
    mean = errors @ (same / same.sum(0))
    return errors + _POOLED_RUNS / (_POOLED_RUNS + runs) * (mean - errors)


def _prior_weights(member: Member, runs: np.ndarray, domains: int) -> np.ndarray:
    grown = np.minimum(1.0, runs / (2 * (domains + 1))) ** 2 if member.rich else np.ones(len(runs))
    return member.weight * grown


def joined(parts: Sequence[Any]) -> Any:
    """Chunks of lanes put together."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)
