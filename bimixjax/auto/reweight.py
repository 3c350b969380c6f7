"""The members of `auto` under other weights of the runs: where their fits go, without fitting them again.

A run with weight w has the white noise of its rows divided by sqrt w. With slopes J of the log law at the fitted z and
S the noise's covariance under the weights, the criterion of the kernel has its minimum, were the law linear, at

    z' = (I + J' S^-1 J)^-1 J' S^-1 (log loss - log law(z) + J z)

One such step is taken, and two more from where the law truly stands after it, with the same slopes: with a fresh
gradient but the old curvature, laws with many coefficients leave their valley. What the noise explains follows from the
residuals that are left.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bimixjax._base.records import Leaf, record
from bimixjax.auto.averaging import MemberFit, average
from bimixjax.auto.member import Prior, Rows, log_law
from bimixjax.auto.member_fits import Stack, noise_of, prior_of
from bimixjax.auto.members import Member
from bimixjax.auto.noise import Noise, factored
from bimixjax.auto.one_size import Path
from bimixjax.fitting import devices
from bimixjax.laws import Law

# Resamples that go through each product together. Products are many small ones rather than few large ones, which BLAS
# would spread over threads that wait for each other: the blocks have threads of their own.
_RESAMPLES = 32

# Steps after the first.
_CORRECTIONS = 2

# No step moves a coefficient by more standard deviations of its prior, as in a fit.
_LONGEST = 3.0


@record
class Reweighted:
    """Where the members of one model size go in R resamples of its runs.

    Args:
        z, pull, step: of each member as in `Fitted`, resamples first and targets last [R, q, T], [R, m, T], [R, t, T].
        weights: of the members in the average [R, M, T].
        path: what the process adds in each, where they are draws of what a fit leaves open.
    """

    z: tuple[Leaf, ...]
    pull: tuple[Leaf, ...]
    step: tuple[Leaf, ...]
    weights: Leaf
    path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """The noise of rows with weights, factored, for B weightings of the same m runs and t volumes.

    Args:
        noise: what was factored.
        weight: of each row, 0 where there is none [B, m, t].
        share: what share of a weighted sum over runs is the step's effect [B, t].
        middle: from sums over volumes to run effects [B, m, m].
        pulling: from sums over volumes to what each run pulls the process by [B, m, m].
    """

    noise: Noise
    weight: np.ndarray
    share: np.ndarray
    middle: np.ndarray
    pulling: np.ndarray

    @classmethod
    def of(cls, noise: Noise, mixture: np.ndarray, weight: np.ndarray) -> "Weighed":
        """Factor the noise of runs with mixtures [d, m] for weights of their rows [B, m, t]."""
        # The formulas of a mask hold for weights: both enter as the precision of a row over that of white noise.
        found = factored(noise, np.broadcast_to(mixture, (len(weight), *mixture.shape)), weight)
        share = noise.step**2 / (noise.white**2 + weight.sum(1) * noise.step**2)
        return cls(noise=noise, weight=weight, share=share, middle=found.factor @ found.gain, pulling=found.pulling)

    def products(self, columns: np.ndarray, squares: np.ndarray, run_weight: np.ndarray) -> np.ndarray:
        """X' S^-1 X [B, p, p] of columns X, 0 outside the mask [t, m, p], whose own products are `squares` [p, m, p].

        The weights are those of the runs [B, m].
        """
        sums = np.swapaxes(run_weight @ columns, 0, 1)
        shared = self.share[..., None] * sums
        whole = np.swapaxes(run_weight @ squares, 0, 1) - np.swapaxes(sums, 1, 2) @ shared
        by_run = run_weight[..., None] * columns.sum(0) - self.weight @ shared
        return (whole - np.swapaxes(by_run, 1, 2) @ (self.middle @ by_run)) / self.noise.white**2

    def precise(self, x: np.ndarray) -> np.ndarray:
        """S^-1 x for residuals x [B, m, t]."""
        weighted = x * self.weight
        effects = self._times(self.middle, self._sums(weighted))
        return self._without_steps(weighted - effects[..., None] * self.weight) / self.noise.white**2

    def effects(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What runs pull the process by [B, m], and step effects [B, t], in residuals x [B, m, t]."""
        weighted = x * self.weight
        sums = self._sums(weighted)
        left = weighted - self._times(self.middle, sums)[..., None] * self.weight
        return self._times(self.pulling, sums), self.share * left.sum(1)

    def _sums(self, weighted: np.ndarray) -> np.ndarray:
        """Sums over volumes, step effects removed [B, m]."""
        return self._without_steps(weighted).sum(2)

    def _without_steps(self, weighted: np.ndarray) -> np.ndarray:
        return weighted - self.weight * (self.share * weighted.sum(1))[:, None]

    def _times(self, matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
        return (matrix @ vector[..., None])[..., 0]


@dataclass(frozen=True, kw_only=True)
class _Linear:
    """One member about its fit in one lane.

    Args:
        member: which.
        rows, prior: of the lane.
        z: the fit [q].
        columns: slopes of the log law with z, 0 outside the mask, and beside them log loss - log law + slopes z
            [t, m, q + 1].
        squares: products of these columns, summed over volumes [q + 1, m, q + 1].
    """

    member: Member
    rows: Rows
    prior: Prior
    z: np.ndarray
    columns: np.ndarray
    squares: np.ndarray

    def moved(self, noise: Weighed, run_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coefficients z [B, q], pull [B, m] and step effects [B, t] under weights of the runs [B, m]."""
        unknowns, slopes = len(self.z), self.columns[..., :-1]
        products = noise.products(self.columns, self.squares, run_weight)
        covariance = np.linalg.inv(products[:, :unknowns, :unknowns] + np.eye(unknowns))
        z = self.z + _clipped((covariance @ products[:, :unknowns, unknowns:])[..., 0] - self.z)
        for _ in range(_CORRECTIONS):
            gradient = (noise.precise(self._missed(z)).transpose(2, 0, 1) @ slopes).sum(0) - z
            z = z + _clipped((covariance @ gradient[..., None])[..., 0])
        return z, *noise.effects(self._missed(z))

    def _missed(self, z: np.ndarray) -> np.ndarray:
        return np.asarray(_residuals(self.member.law, self.rows, self.prior, z))


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Lanes that have their rows at the same places: their numbers, the mask [m, t] and the runs' mixtures [d, m]."""

    lanes: np.ndarray
    mask: np.ndarray
    mixture: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Moved:
    """One member in B resamples on L lanes: z [B, q, L], pull [B, m, L] and step effects [B, t, L]."""

    z: np.ndarray
    pull: np.ndarray
    step: np.ndarray


def reweigh(stack: Stack, run_weights: np.ndarray) -> Reweighted:
    """Where the members of a stack with one cell go under weights of its runs [R, m], lanes last.

    Members that read a donor read it as it was fitted.
    """
    linear = [_linear(member, fit, stack) for member, fit in zip(stack.members, stack.fits, strict=True)]
    places = _places(stack)

    def one(block: np.ndarray) -> list[_Moved]:
        # The switch to float64 holds for the thread that makes it only.
        with jax.enable_x64(True):
            return _moved(places, linear, run_weights[block])

    count = len(run_weights)
    blocks = [np.minimum(np.arange(i, i + _RESAMPLES), count - 1) for i in range(0, count, _RESAMPLES)]
    with ThreadPoolExecutor(devices.cores()) as pool:
        found = list(zip(*pool.map(one, blocks), strict=True))
    return Reweighted(
        z=tuple(_together([part.z for part in parts], count) for parts in found),
        pull=tuple(_together([part.pull for part in parts], count) for parts in found),
        step=tuple(_together([part.step for part in parts], count) for parts in found),
        weights=_weights(stack, run_weights),
    )


def _together(parts: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Blocks of resamples in a row, without what filled the last one."""
    return np.concatenate(parts)[:count]


def _linear(member: Member, fit: MemberFit, stack: Stack) -> list[_Linear]:
    """A member's log law and its slopes at the rows of each lane."""
    cells, (cell, target, _) = stack.cells, stack.lanes.T
    rows = cells.rows(stack.lanes)
    prior = prior_of(member, cells.mixture.shape[1], cells.center[cell, target])
    value, slopes = (np.asarray(found) for found in _at_rows(member.law, rows, prior, fit.fitted.z))
    z, missed = np.asarray(fit.fitted.z), (rows.loss - value) * rows.mask
    slopes = slopes * rows.mask
    columns = np.concatenate([slopes, missed[None] + np.einsum("qmtL,qL->mtL", slopes, z)[None]])
    return [
        _Linear(
            member=member,
            rows=cells.rows(stack.lanes[lane : lane + 1]),
            prior=replace(prior, center=prior.center[:, lane : lane + 1]),
            z=z[:, lane],
            columns=np.ascontiguousarray(columns[..., lane].T),
            squares=np.einsum("imt,jmt->imj", columns[..., lane], columns[..., lane]),
        )
        for lane in range(len(stack.lanes))
    ]


def _moved(places: Sequence[_Place], linear: Sequence[Sequence[_Linear]], run_weight: np.ndarray) -> list[_Moved]:
    """All members in B resamples."""
    noises = {_key(lanes[0].member): noise_of(lanes[0].member) for lanes in linear}
    found: list[list[Any]] = [[None] * len(lanes) for lanes in linear]
    for place in places:
        weight = run_weight[:, :, None] * place.mask
        weighed = {key: Weighed.of(noise, place.mixture, weight) for key, noise in noises.items()}
        for lanes, into in zip(linear, found, strict=True):
            for lane in place.lanes:
                into[lane] = lanes[lane].moved(weighed[_key(lanes[lane].member)], run_weight)
    stacked = [[np.stack(values, axis=-1) for values in zip(*lanes, strict=True)] for lanes in found]
    return [_Moved(z=z, pull=pull, step=step) for z, pull, step in stacked]


def _key(member: Member) -> tuple[float, float]:
    """What members' noises differ in."""
    return member.process, member.length


def _places(stack: Stack) -> list[_Place]:
    """The lanes, by where their rows are."""
    masks, mixture = stack.cells.masks(stack.lanes), stack.cells.mixture[0]
    _, first, place = np.unique(masks.reshape(len(masks), -1), axis=0, return_index=True, return_inverse=True)
    return [
        _Place(lanes=np.flatnonzero(place.reshape(-1) == number), mask=masks[lane], mixture=mixture)
        for number, lane in enumerate(first)
    ]


def _clipped(step: np.ndarray) -> np.ndarray:
    return step / np.maximum(1.0, np.abs(step).max(1, keepdims=True) / _LONGEST)


@partial(jax.jit, static_argnames=("law",))
def _at_rows(law: Law, rows: Rows, prior: Prior, z: Array) -> tuple[Array, Array]:
    """Log law [m, t, L] at the rows of lanes with z [q, L], and its slopes [q, m, t, L]."""
    value, push = jax.linearize(lambda at: _log_laws(law, rows, prior, at), z)
    directions = jnp.broadcast_to(jnp.eye(len(z))[..., None], (len(z), *z.shape))
    return value, jax.vmap(push)(directions)


@partial(jax.jit, static_argnames=("law",))
def _residuals(law: Law, rows: Rows, prior: Prior, z: Array) -> Array:
    """Log loss - log law [B, m, t] on the rows of one lane at z [B, q], 0 outside the mask."""
    return jnp.moveaxis((rows.loss - _log_laws(law, rows, prior, z.T)) * rows.mask, -1, 0)


def _log_laws(law: Law, rows: Rows, prior: Prior, z: Array) -> Array:
    """Log law [m, t, B] at z [q, B], on the rows of as many lanes or of one."""
    mixture, volume = rows.mixture[:, :, None], rows.volume[None]
    return log_law(law, prior.coefficients(z), mixture, volume, rows.own, rows.donor)


def _weights(stack: Stack, run_weights: np.ndarray) -> np.ndarray:
    """The members' weights [R, M, L] by their errors on runs left out, each run counting by its weight [R, m]."""
    cell, target, _ = stack.lanes.T
    loss, mask = (values[cell, :, :, target] for values in (stack.cells.loss, stack.cells.mask))
    rows = mask.sum(2, keepdims=True)
    # The formula of `average`, with a single volume at which each run misses by the mean over its own.
    missed = [(np.abs(fit.left_mean - loss) * mask).sum(2, keepdims=True) / np.maximum(rows, 1) for fit in stack.fits]
    fits = [
        MemberFit(fitted=fit.fitted, mean=each, left_mean=each, left_variance=np.ones(each.shape))
        for fit, each in zip(stack.fits, missed, strict=True)
    ]
    count = stack.cells.mask.sum(2, keepdims=True)
    cells = replace(stack.cells, loss=np.zeros(count.shape), mask=count)
    weighted = (replace(cells, mask=count * w[:, None, None]) for w in run_weights)
    return np.stack([average(stack.members, fits, each, stack.lanes).weights for each in weighted])
