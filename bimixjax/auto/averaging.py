"""Average the members of `auto`: by their errors on runs left out, and each only where its prediction is sane."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Float, Int

from bimixjax._base.arrays import Stored
from bimixjax._base.records import record, static
from bimixjax.auto.grids import Cells
from bimixjax.auto.member import Fitted
from bimixjax.auto.members import IN_EPOCHS, MEAN, Member

# Prior of the spread, as how many left-out losses it counts, and as how many runs the spread of all targets of a cell
# counts beside that of one. On held-out runs errors have .4 to .5 of the members' standard deviations on one of the two
# tables below, .9 to 1.0 on the other, and .5 to 1.6 for single targets with 32 runs; runs left out show both. These
# and the next two were chosen by interval scores and coverage on draws 0-4 of `data/5Mix` (arXiv 2403.16952) and of the
# 512 training runs of 17 domains (arXiv 2407.01492, `data/`), judged on other runs of the 512.
SPREAD, _SPREAD_LOSSES, _SPREAD_RUNS = 0.5, 20.0, 20.0

# Errors further off than this count as this: from 2 to 4 runs of which one diverged, limits else reach over many orders
# of magnitude. Set by hand; tests/auto/test_intervals.py has such a table.
_MOST_STANDARD = 5.0

# How much variance d / K - 1 adds for K runs of d > K domains: some directions of the mixture were never varied, and
# errors on runs left out do not tell what they hide.
_UNVARIED = 0.35

# Degrees of freedom of Student's t, for errors on held-out runs in units of their standard deviations.
_DEGREES = 8.0

# Correlation between the errors of two targets, and as how many runs it counts: of the same draws, where it was .1 to
# .4 on held-out runs.
CORRELATION, _CORRELATION_RUNS = 0.25, 16.0

# As how many runs the mean over all targets of a cell counts beside the runs of one; also the power of an error in a
# weight where runs are many. No script here chose it; `experiments/prediction: groups` scores the whole rule.
_POOLED_RUNS = 8.0

# How far in log loss outside of the fitted range, a factor of two, a member keeps its weight, and the standard
# deviation of the normal density by which it falls beyond. `benchmarks/few_runs.py` counts predictions out of range.
_SANE, _SANE_DEVIATION = 0.7, 0.2

# How much further log losses are clipped, so that no weight multiplies a number that is not finite.
_FARTHEST = 5.0
MOST_VARIANCE = _FARTHEST**2
_FAR_OFF, _TINY = 1e9, 1e-300

_IN_EPOCHS = tuple(member.name for member in IN_EPOCHS)

# What laws must earn beside the mean of the runs: tests/auto/test_averaging.py measures what that is worth where losses
# do not depend on the mixture, experiments/prediction what it costs where they do.
_MEAN_POWER, _LAWS_ODDS = 8.0, 2.0

# By what the prior weight of a law of the own share is multiplied where the target is no domain: there it says no more
# than "mean", and is left for averages that have nothing else. Weights of .001 to 1 were no better on draws 0-4 of 8
# tasks of `topics_24`.
_NO_SHARE = 1e-6

T = TypeVar("T")

# From the mean of absolute values of normal numbers to their standard deviation.
_MEAN_TO_DEVIATION = (np.pi / 2) ** 0.5


@record
class MemberFit:
    """One member on L lanes.

    Attributes:
        fitted: its coefficients and effects.
        mean: expected log loss of each run at each volume.
        left_mean, left_variance: of these log losses when the run's part is left out.
    """

    fitted: Fitted
    mean: Float[np.ndarray, "m t L"]
    left_mean: Float[np.ndarray, "m t L"]
    left_variance: Float[np.ndarray, "m t L"]

    def wide(self, runs: int) -> "MemberFit":
        """Pad to a grid of more runs, whose alpha is 0."""

        def padded(leaf: Stored, *axes: int) -> np.ndarray:
            more = runs - leaf.shape[axes[0]]
            return np.pad(leaf, [(0, more if axis in axes else 0) for axis in range(leaf.ndim)])

        return MemberFit(
            fitted=replace(self.fitted, alpha=padded(self.fitted.alpha, 0)),
            mean=padded(self.mean, 0),
            left_mean=padded(self.left_mean, 0),
            left_variance=padded(self.left_variance, 0),
        )


@record
class Average:
    """How members are averaged in each lane.

    Attributes:
        names: of the members.
        weights: of each member.
        spread: by what standard deviations are multiplied, from runs left out.
        correlation: between the errors of two targets of the lane's cell, from runs left out.
        left_out_error: mean absolute error of the average's log losses on runs left out.
        log_range: the lowest and the highest log loss that was fitted, less the lane's mean.
    """

    names: tuple[str, ...] = static()
    weights: Float[np.ndarray, "M L"]
    spread: Float[np.ndarray, " L"]
    correlation: Float[np.ndarray, " L"]
    left_out_error: Float[np.ndarray, " L"]
    log_range: Float[np.ndarray, "2 L"]

    def mixed(
        self, means: Float[np.ndarray, "M *points L"], variances: Float[np.ndarray, "M *points L"]
    ) -> tuple[Float[np.ndarray, "*points L"], Float[np.ndarray, "*points L"]]:
        """Compute mean and standard deviation of the mixture of the members' normal distributions."""
        points = (1,) * (means.ndim - 2)
        weights, ends = self.weights.reshape(-1, *points, means.shape[-1]), self.log_range.reshape(2, *points, -1)
        found = sane(self.names, weights, means, ends)
        mean = (found.weights * found.means).sum(0)
        variance = found.weights * (variances.clip(0, MOST_VARIANCE) + (found.means - mean) ** 2)
        return mean, np.sqrt(variance.sum(0) + found.doubt)


class Sane(NamedTuple):
    """Predictions of members at some points, without those far outside the fitted range.

    Attributes:
        weights: of each member, summing to 1.
        means: their log losses.
        gate: the share g of its own weight that each member keeps.
        doubt: the variance that goes with the rest of the weights.
    """

    weights: Float[Any, "M ..."]
    means: Float[Any, "M ..."]
    gate: Float[Any, "M ..."]
    doubt: Float[Any, "..."]


def sane(
    names: Sequence[str], weights: Float[Any, "M ..."], means: Float[Any, "M ..."], fitted: Float[Any, "2 ..."]
) -> Sane:
    """Move the weight of members that predict far outside the fitted range to the mean of the runs.

    A law may fall to zero or grow without bound far from its rows. With e the distance of a member's log loss from the
    fitted range, made wider by `_SANE` at both ends, it keeps the share

        g = exp(-e^2 / (2 _SANE_DEVIATION^2))

    of its weight, which is smooth, as a search needs. The rest goes to the member "mean", with the variance of losses
    anywhere in the range; without that member, to those nearest to the range.

    Members in epochs that predict too high keep their weight: harm grows with repetition, and the mean of runs that
    repeat less would hide it. Of what they predict above the wider range, by e, .2 log(1 + e / .2) counts, since how
    fast harm grows is known least. `experiments/open_questions` has runs of up to 61 epochs.

    Args:
        names: of the members.
        weights: of each member, summing to 1; all 0 where a target has no rows.
        means: log losses of each member; NumPy or JAX, as all arrays here.
        fitted: the lowest and the highest log loss that was fitted.
    """
    space = means.__array_namespace__()
    low, high = fitted[0] - _SANE, fitted[1] + _SANE
    means = means.clip(low - _FARTHEST, high + _FARTHEST)
    below, above = (low - means).clip(0), (means - high).clip(0)
    harmed = np.isin(names, _IN_EPOCHS).reshape(-1, *[1] * (means.ndim - 1))
    slowed = _SANE_DEVIATION * space.log1p(above / _SANE_DEVIATION)
    means = means + space.where(harmed, slowed - above, 0.0)
    off = ((below + space.where(harmed, 0.0, above)) / _SANE_DEVIATION) ** 2 / 2
    gate = space.exp(-off)
    lost = (weights * (1 - gate)).sum(0)
    if MEAN in names:
        rest = space.eye(len(names))[names.index(MEAN)].reshape(-1, *[1] * (means.ndim - 1))
    else:
        rest = weights * space.exp(-(off - off.min(0, where=weights > 0, initial=_FAR_OFF)).clip(0))
        rest = rest / rest.sum(0).clip(_TINY)
    doubt = lost * ((fitted[1] - fitted[0]) / 2 + _SANE_DEVIATION) ** 2
    return Sane(weights * gate + lost * rest, means, gate, doubt)


def widest(fitted: Float[np.ndarray, "2 L"]) -> Float[np.ndarray, " L"]:
    """Return the largest standard deviation that is believed: half the range of sane log losses, see `sane`."""
    return (fitted[1] - fitted[0]) / 2 + _SANE


def average(members: Sequence[Member], fits: Sequence[MemberFit], cells: Cells, lanes: np.ndarray) -> Average:
    """Weigh members by their errors on runs left out, and scale their spread by what these errors measured.

    With |z| the mean absolute error of the average in its own standard deviations, of K runs left out and T targets of
    d domains, a target's spread is

        pooled = (20 * .5 + K T c |z|) / (20 + K T),    c = (pi / 2)^(1/2)
        spread = (20 pooled + K c |z of the target|) / (20 + K) (1 + .35 max(0, d / K - 1))^(1/2)

    without the last factor where members read a donor. A single |z| counts as 5 at most.
    """
    cell, rows = lanes[:, 0], cells.rows(lanes)
    loss, mask = np.asarray(rows.loss), np.asarray(rows.mask)
    there, count, runs = mask > 0, mask.sum((0, 1)), mask.any(1).sum(0)
    means = np.stack([fit.left_mean for fit in fits])
    weights = weigh(members, (np.abs(means - loss) * mask).sum((1, 2)) / count, cells, lanes)
    ends = [loss.min((0, 1), where=there, initial=np.inf), loss.max((0, 1), where=there, initial=-np.inf)]
    found = Average(
        names=tuple(member.name for member in members),
        weights=weights,
        spread=np.ones(len(lanes)),
        correlation=np.full(len(lanes), CORRELATION),
        left_out_error=count,
        log_range=np.stack(ends),
    )
    mean, deviation = found.mixed(means, np.stack([fit.left_variance for fit in fits]))
    missed = (loss - mean) * mask
    group = np.unique(cell, return_inverse=True)[1]
    standard = (missed / np.where(there, deviation, 1.0)).clip(-_MOST_STANDARD, _MOST_STANDARD)
    absolute, losses = _MEAN_TO_DEVIATION * np.abs(standard).sum((0, 1)), _by_group(runs, group)[group]
    measured = _by_group(absolute, group)[group] / _by_group(count, group)[group]
    pooled = (_SPREAD_LOSSES * SPREAD + losses * measured) / (_SPREAD_LOSSES + losses)
    # What these runs did not vary, a donor's have.
    donated = any(member.law.sized for member in members)
    unvaried = np.maximum(cells.mixture.shape[1] / runs - 1, 0.0) * (not donated)
    return replace(
        found,
        spread=(_SPREAD_RUNS * pooled + runs * absolute / count)
        / (_SPREAD_RUNS + runs)
        * (1 + _UNVARIED * unvaried) ** 0.5,
        correlation=_correlation(standard, mask, runs, group),
        left_out_error=np.abs(missed).sum((0, 1)) / count,
    )


def _correlation(
    standard: np.ndarray, mask: np.ndarray, runs: np.ndarray, group: np.ndarray
) -> Float[np.ndarray, " L"]:
    """Correlate standardized errors z [m, t, L] of the targets of each group, shrunk towards `CORRELATION`.

    Over all rows, and all pairs i != j of the n targets that a row has, it is sum z_i z_j / sum (n - 1) z_i^2.
    """
    squares = _by_group(standard**2, group)
    pairs = (_by_group(standard, group) ** 2 - squares).sum((0, 1))
    most = (squares * (_by_group(mask, group) - 1).clip(0)).sum((0, 1))
    measured = np.divide(pairs, most, out=np.full(len(most), CORRELATION), where=most > 0)[group]
    return ((_CORRELATION_RUNS * CORRELATION + runs * measured) / (_CORRELATION_RUNS + runs)).clip(0, 1)


def _by_group(values: Float[np.ndarray, "*rows L"], group: Int[np.ndarray, " L"]) -> Float[np.ndarray, "*rows G"]:
    """Sum over the lanes of each group."""
    found = np.zeros((group.max(initial=-1) + 1, *values.shape[:-1]))
    np.add.at(found, group, np.moveaxis(values, -1, 0))
    return np.moveaxis(found, 0, -1)


def reach(level: float) -> float:
    """Return how many standard deviations an interval of a level reaches to either side: a quantile of Student's t.

    Source: Abramowitz and Stegun (1964), Eq. 26.7.5, to 1 % of itself up to a level of .999.
    """
    x, n = NormalDist().inv_cdf((1 + level) / 2), 4 * _DEGREES
    second, third = 5 * x**5 + 16 * x**3 + 3 * x, 3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x
    return x + (x**3 + x) / n + second / (6 * n**2) + third / (6 * n**3)


def weigh(
    members: Sequence[Member], error: Float[np.ndarray, "M L"], cells: Cells, lanes: Int[np.ndarray, "L 3"]
) -> Float[np.ndarray, "M L"]:
    """Weigh members by their mean absolute errors of log losses on runs left out.

    For K > 1 runs, a member's weight is

        prior weight * error^(-8 K / (K + 8))

    times min(1, K / (2 d + 2))^2 for a rich one and times `_NO_SHARE` for one of the own share of a target that is no
    domain, where error is shrunk towards its geometric mean over the targets of a cell, see `_pooled`. The laws of the
    mixture then share what they earn beside the mean of the runs, see `_beside_mean`.
    """
    (cell, target, _), domains = lanes.T, cells.mixture.shape[1]
    runs = cells.masks(lanes).any(2).sum(1)
    grown = np.minimum(1.0, runs / (2 * (domains + 1))) ** 2
    is_domain = cells.own[target] >= 0
    rich, own = (np.array([[getattr(member, name)] for member in members]) for name in ("rich", "own"))
    prior = np.array([[member.weight] for member in members]) * np.where(rich, grown, 1.0)
    prior = prior * np.where(own & ~is_domain, _NO_SHARE, 1.0)
    log_error = np.log(np.maximum(error, 1e-9))
    # One run leaves nothing to judge by.
    power = np.where(runs > 1, _POOLED_RUNS * runs / (runs + _POOLED_RUNS), 0.0)
    raw = np.log(prior) - power * _pooled(log_error, cell, runs)
    weights = np.exp(raw - raw.max(0))
    weights /= weights.sum(0)
    names = [member.name for member in members]
    if len(names) > 1 and MEAN in names:
        weights = _beside_mean(weights, log_error, names.index(MEAN), 2 * cell + is_domain, runs)
    return weights


def _beside_mean(
    weights: np.ndarray, log_error: np.ndarray, mean: int, kind: np.ndarray, runs: np.ndarray
) -> np.ndarray:
    """Weights [M, L] with those of the laws times the share that they earn beside the mean of the runs.

    With rho the weighted geometric mean of the laws' errors on runs left out over the error of the mean, shrunk towards
    its geometric mean over targets of one kind in a cell, the share is 1 / (1 + rho^8 / 2) from 3 runs on.
    """
    laws = np.arange(len(weights)) != mean
    of_laws = (weights[laws] * log_error[laws]).sum(0) / weights[laws].sum(0)
    log_rho = _pooled((of_laws - log_error[mean])[None], kind, runs)[0]
    # Of two runs, each would be judged by the other alone.
    share = np.where(runs > 2, 1 / (1 + np.exp(_MEAN_POWER * log_rho) / _LAWS_ODDS), 1.0)
    beside = weights * share
    beside[mean] += 1 - share
    return beside


def _pooled(errors: np.ndarray, group: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Shrink log errors [M, L] towards their mean over the lanes of a group, by the share 8 / (8 + runs)."""
    same = group[:, None] == group
    mean = errors @ (same / same.sum(0))
    return errors + _POOLED_RUNS / (_POOLED_RUNS + runs) * (mean - errors)


def take_lanes(tree: T, index: np.ndarray) -> T:
    """Take some lanes of arrays that have them last."""
    return jax.tree.map(lambda leaf: leaf[..., index], tree)


def join_lanes(parts: Sequence[T]) -> T:
    """Put lanes of all parts one after the other, as NumPy arrays."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)
