"""The noise of a swarm's log losses: white, shared by a step, shared by a run, and a smooth process over mixtures.

The covariance of two rows with proportions r and r' is

    white^2 [same row] + step^2 [same volume] + run^2 [same run] + process^2 exp(-|sqrt r - sqrt r'|^2 / (2 length^2))

so that checkpoints of one run, which share its data and its law's misfit, do not count as independent. Rows lie on a
grid of runs x volumes, m x t; a mask says which are there. Nothing of the size of rows^2 is ever made: step effects are
removed by means over runs, run effects by matrices over runs. These are factored by LAPACK before a fit, since they
depend on where the rows are and not on what was measured; lanes are first there, and last in the compiled part.

Source: generalized least squares with random effects (Henderson, 1975) and kriging; the Hellinger distance of mixtures.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from bimixjax._base.records import Leaf, record

_SHIFT = 1e-6

# With more runs than this, products of matrices are faster than sums over lanes side by side.
_FEW_RUNS = 24


@record
class Noise:
    """Standard deviations of log losses, and the length of the process over mixtures.

    Args:
        white: of each row.
        step: of what all runs share at a volume.
        run: of what the rows of one run share.
        process: of a Gaussian process over mixtures.
        length: its length in Hellinger distance |sqrt r - sqrt r'|, which is at most sqrt 2.
    """

    white: Leaf
    step: Leaf
    run: Leaf
    process: Leaf
    length: Leaf


@record
class Whitener:
    """The noise of some rows, factored: `whiten` makes their residuals independent with unit variance.

    A residual x is explained as white noise plus step effects plus run effects, standardized as e, and the whitened
    residual is what remains of it, over the white noise, followed by e. That is exact: its squares sum to x' S^-1 x.

    Args:
        noise: what was factored.
        mask: which rows are there, 1 or 0 [m, t, B].
        process: covariance of the process between runs [m, m, B].
        factor: Cholesky factor of the covariance of the run effects [m, m, B].
        gain: from sums over volumes to standardized effects [m, m, B].
        pulling: from sums over volumes to what each run pulls the process by [m, m, B].
        known: a matrix whose quadratic form in the kernel to the runs is the variance that the rows explain [m, m, B].
    """

    noise: Noise
    mask: Leaf
    process: Leaf
    factor: Leaf
    gain: Leaf
    pulling: Leaf
    known: Leaf

    def whiten(self, x: Array) -> Array:
        """Residuals [..., m, t, B] to independent ones of unit variance [..., m t + m, B]."""
        e = self.effects(x)
        left = (x - _times(self.factor, e)[..., None, :]) * self.mask
        size = jnp.sum(self.mask, axis=0)
        ratio = self.noise.white / jnp.sqrt(self.noise.white**2 + size * self.noise.step**2)
        mean = jnp.sum(left, axis=-3, keepdims=True) / jnp.maximum(size, 1.0)
        shrunk = (left - self.mask * (1 - ratio) * mean) / self.noise.white
        return jnp.concatenate([shrunk.reshape(*x.shape[:-3], -1, x.shape[-1]), e], axis=-2)

    def effects(self, x: Array) -> Array:
        """The standardized run effects e in residuals [..., m, t, B]: [..., m, B]."""
        return _times(self.gain, self._sums(x))

    def pull(self, x: Array) -> Array:
        """What each run pulls the process by [..., m, B]: at a mixture, it is the kernel to the runs times this."""
        return _times(self.pulling, self._sums(x))

    def step_effects(self, x: Array) -> Array:
        """What the runs share at each volume, shrunk to 0: [..., t, B]."""
        left = (x - _times(self.factor, self.effects(x))[..., None, :]) * self.mask
        return shrinkage(self.noise, self.mask) * jnp.sum(left, axis=-3)

    def step_variance(self) -> Array:
        """What the rows leave unknown of the step effects [t, B], run effects being known."""
        return self.noise.white**2 * shrinkage(self.noise, self.mask)

    def _sums(self, x: Array) -> Array:
        """Sums over volumes, step effects removed [..., m, B]."""
        kept = x * self.mask
        shared = shrinkage(self.noise, self.mask) * jnp.sum(kept, axis=-3)
        return jnp.sum(kept - self.mask * shared[..., None, :, :], axis=-2)


def factored(noise: Noise, mixture: np.ndarray, mask: np.ndarray) -> Whitener:
    """Factor the noise of rows with mixtures [B, d, m]; those outside the mask [B, m, t] do not count.

    Its arrays have lanes first; `of_lanes` puts those of some lanes last.
    """
    place = np.sqrt(mixture + _SHIFT)
    size, eye = mask.sum(1), np.eye(mask.shape[1])
    square = (place**2).sum(1)
    apart = square[:, :, None] + square[:, None] - 2 * np.swapaxes(place, 1, 2) @ place
    process = noise.process**2 * np.exp(-np.maximum(apart, 0.0) / (2 * noise.length**2))
    factor = np.linalg.cholesky(process + (noise.run**2 + 1e-12) * eye)
    share = noise.step**2 / (noise.white**2 + size * noise.step**2)
    shared = (mask * share[:, None]) @ np.swapaxes(mask, 1, 2)
    seen = (eye * mask.sum(2)[:, None] - shared) / noise.white**2
    upper = np.swapaxes(factor, 1, 2)
    gain = np.linalg.solve(eye + upper @ seen @ factor, upper)
    pulling = np.linalg.solve(upper, gain)
    scale = noise.white**-2
    return Whitener(
        noise=noise,
        mask=mask,
        process=process,
        factor=factor,
        gain=scale * gain,
        pulling=scale * pulling,
        known=pulling @ seen,
    )


def of_lanes(whitener: Whitener, index: np.ndarray) -> Whitener:
    """The factored noise of some lanes [B], lanes last."""

    def last(values: np.ndarray) -> np.ndarray:
        return np.moveaxis(values[index], 0, -1)

    return Whitener(
        noise=whitener.noise,
        mask=last(whitener.mask),
        process=last(whitener.process),
        factor=last(whitener.factor),
        gain=last(whitener.gain),
        pulling=last(whitener.pulling),
        known=last(whitener.known),
    )


def of_lane(whitener: Whitener, lane: int) -> Whitener:
    """The factored noise of one lane, without an axis for lanes."""
    arrays = {name: getattr(whitener, name)[lane] for name in ("mask", "process", "factor", "gain", "pulling", "known")}
    return Whitener(noise=whitener.noise, **arrays)


def places(mixture: Array) -> Array:
    """Where mixtures [d, ...] lie for the process: square roots, so little shifted that slopes at zero are finite."""
    return jnp.sqrt(mixture + _SHIFT)


def kernel(noise: Noise, left: Array, right: Array) -> Array:
    """The covariance of the process between mixtures at places [d, a, B] and [d, b, B]: [a, b, B]."""
    apart = sum((x[:, None] - y[None]) ** 2 for x, y in zip(left, right, strict=True))
    return noise.process**2 * jnp.exp(-apart / (2 * noise.length**2))


def shrinkage(noise: Noise, mask: Array) -> Array:
    """What share of a sum over runs is the step's effect [t, B]."""
    return noise.step**2 / (noise.white**2 + jnp.sum(mask, axis=0) * noise.step**2)


def _times(matrix: Array, vector: Array) -> Array:
    """A x for matrices [a, b, B] and x [..., b, B]: [..., a, B]."""
    if matrix.shape[0] <= _FEW_RUNS:
        return jnp.sum(matrix * vector[..., None, :, :], axis=-2)
    return jnp.einsum("abB,...bB->...aB", matrix, vector)
