"""The noise of a swarm's log losses: white, shared by a step, shared by a run, and a smooth process over mixtures.

The covariance of two rows with mixtures r and r' is

    white^2 [same row] + step^2 [same volume] + run^2 [same run] + process^2 exp(-|sqrt r - sqrt r'|^2 / (2 length^2))

so that checkpoints of one run, which share its data and its law's misfit, do not count as independent. Rows lie on a
grid of runs x volumes, m x t. Nothing of the size of rows^2 is ever made, see `NoiseCovariance`.

Source: generalized least squares with random effects (Henderson, 1975) and kriging; the Hellinger distance of mixtures.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from bimixjax._base.arrays import Stored
from bimixjax._base.records import record

# Added to proportions, so that slopes of their square roots are finite at 0.
_SHIFT = 1e-6

# With more runs than this, batched products of matrices are faster than sums over lanes side by side. No script here
# chose it; `benchmarks/auto.py` times 26 runs.
_FEW_RUNS = 24


@record
class Noise:
    """Standard deviations of log losses, and the length of the process over mixtures.

    Attributes:
        white: of each row.
        step: of what all runs share at a volume.
        run: of what the rows of one run share.
        process: of a Gaussian process over mixtures.
        length: its length in Hellinger distance |sqrt r - sqrt r'|, which is at most sqrt 2.
    """

    white: float
    step: float
    run: float
    process: float
    length: float


@record
class NoiseCovariance:
    """The covariance S of the rows of B lanes, factored once by LAPACK: it depends on where rows are, not on losses.

    A row with weight w has white noise of variance white^2 / w; a mask is weights of 0 and 1. With W = diag(w), U from
    volumes to rows, Z from runs to rows, and the covariance G = process + run^2 I of the run effects,

        S = A + Z G Z',    A = white^2 W^-1 + step^2 U U'

    Woodbury's identity, applied twice, gives the inverse; n sums weights over the runs of a volume:

        A^-1 = (W - W U share U' W) / white^2,          share = diag(step^2 / (white^2 + n step^2))
        S^-1 = A^-1 - A^-1 Z posterior Z' A^-1,         posterior = (G^-1 + M)^-1,  M = Z' A^-1 Z

    Lanes are last in every array. Arrays are NumPy's until a compiled function reads them, and so is what NumPy's
    residuals x [..., m, t, B] give. Residuals of rows without weight have no effect.

    Attributes:
        noise: standard deviations.
        weight: of each row, 0 where there is none.
        share: which share of a weighted sum over runs is the step's effect.
        process: covariance of the process between runs.
        gain: F^-1 posterior, for the Cholesky factor F of G.
        posterior: covariance of the run effects, given the rows.
        precision: Z' S^-1 Z; at a mixture with kernel k to the runs, the rows explain k' precision k of the process's
            variance.
    """

    noise: Noise
    weight: Float[Array, "m t B"]
    share: Float[Array, "t B"]
    process: Float[Array, "m m B"]
    gain: Float[Array, "m m B"]
    posterior: Float[Array, "m m B"]
    precision: Float[Array, "m m B"]

    @classmethod
    def of(
        cls, noise: Noise, mixture: Float[np.ndarray, "d m B"], weight: Float[np.ndarray, "m t B"]
    ) -> "NoiseCovariance":
        """Factor the noise of rows with weights; one lane of mixtures may stand for those of all weights."""
        # LAPACK and BLAS work on lanes first; moving an axis copies nothing.
        place, w = np.sqrt(np.moveaxis(mixture, -1, 0) + _SHIFT), np.moveaxis(weight, -1, 0)
        square, eye = (place**2).sum(1), np.eye(len(weight))
        distance = square[:, :, None] + square[:, None] - 2 * np.swapaxes(place, 1, 2) @ place
        process = noise.process**2 * np.exp(-np.maximum(distance, 0.0) / (2 * noise.length**2))
        share = noise.step**2 / (noise.white**2 + w.sum(1) * noise.step**2)
        measured = (eye * w.sum(2)[:, None] - (w * share[:, None]) @ np.swapaxes(w, 1, 2)) / noise.white**2
        # posterior = F (I + F' M F)^-1 F', whose inverse is never singular.
        factor = np.linalg.cholesky(process + (noise.run**2 + 1e-12) * eye)
        upper = np.swapaxes(factor, 1, 2)
        gain = np.linalg.solve(eye + upper @ measured @ factor, upper)
        posterior = factor @ gain
        arrays: dict[str, Any] = {
            "weight": w,
            "share": share,
            "process": process,
            "gain": gain,
            "posterior": posterior,
            "precision": measured - measured @ posterior @ measured,
        }
        return cls(noise=noise, **{name: np.moveaxis(array, 0, -1) for name, array in arrays.items()})

    def lanes(self, index: np.ndarray) -> "NoiseCovariance":
        """Take some of the lanes, held by NumPy."""
        names = ("weight", "share", "process", "gain", "posterior", "precision")
        arrays: dict[str, Any] = {
            name: np.moveaxis(np.moveaxis(getattr(self, name), -1, 0)[index], 0, -1) for name in names
        }
        return replace(self, **arrays)

    def inverse(self, x: Stored) -> Array:
        """Compute S^-1 x [..., m, t, B], 0 for rows without weight."""
        return self._without_steps(x - _times(self.posterior, self._by_run(x))[..., None, :])

    def effects(self, x: Stored) -> tuple[Array, Array]:
        """Compute alpha = Z' S^-1 x [..., m, B] and the expected step effects step^2 U' S^-1 x [..., t, B].

        At a mixture, the process is expected to be the kernel to the runs times alpha.
        """
        inverse = self.inverse(x)
        return inverse.sum(-2), self.noise.step**2 * inverse.sum(-3)

    def step_variance(self) -> Array:
        """Compute the variance of the step effects, given the rows and the run effects [t, B]."""
        return self.noise.white**2 * self.share

    def whiten(self, x: Array) -> Array:
        """Make residuals [..., m, t, B] independent with unit variance [..., m t + m, B].

        With standardized run effects e = gain Z' A^-1 x, the whitened residual is A^-1/2 (x - Z F e), followed by e:
        its squares sum to x' S^-1 x. In y = W^1/2 x, A^-1/2 shrinks the sum of each volume:

            A^-1/2 x = (y - W^1/2 U share / (1 + ratio) U' W^1/2 y) / white,    ratio = (1 - n share)^1/2
        """
        by_run = self._by_run(x)
        root = jnp.sqrt(self.weight)
        y = root * (x - _times(self.posterior, by_run)[..., None, :])
        ratio = jnp.sqrt(1 - self.share * self.weight.sum(0))
        shared = self.share / (1 + ratio) * jnp.sum(root * y, axis=-3)
        white = (y - root * shared[..., None, :, :]) / self.noise.white
        effects = _times(self.gain, by_run)
        return jnp.concatenate([white.reshape(*x.shape[:-3], -1, x.shape[-1]), effects], axis=-2)

    def block(self, runs: np.ndarray) -> Float[np.ndarray, "kt kt"]:
        """Compute the block of S^-1 that belongs to the rows of k runs, of the only lane."""
        weight, share = np.asarray(self.weight)[..., 0], np.asarray(self.share)[:, 0]
        # A^-1 between these runs and all runs at one volume; it is 0 between volumes.
        own = (runs[:, None] == np.arange(len(weight)))[..., None] * weight
        tied = (own - weight[runs][:, None] * share * weight) / self.noise.white**2
        rows = len(runs) * len(share)
        block = np.einsum("kjt,tu->ktju", tied[:, runs], np.eye(len(share))).reshape(rows, rows)
        to_runs = np.swapaxes(tied, 1, 2).reshape(rows, -1)
        return block - to_runs @ np.asarray(self.posterior)[..., 0] @ to_runs.T

    def _without_steps(self, x: Stored) -> Array:
        """Compute A^-1 x."""
        weighted = self.weight * x
        shared = self.share * weighted.sum(-3)
        return (weighted - self.weight * shared[..., None, :, :]) / self.noise.white**2

    def _by_run(self, x: Stored) -> Array:
        """Compute Z' A^-1 x [..., m, B]."""
        return self._without_steps(x).sum(-2)


def places(mixture: Stored) -> Array:
    """Map mixtures [d, ...] to where their distance is that of the process."""
    return jnp.sqrt(mixture + _SHIFT)


def correlation(length: Stored | float, left: Array, right: Array) -> Array:
    """Correlate the process between mixtures at places [d, a, B] and [d, b, B]: [a, b, B]."""
    distance = sum((x[:, None] - y[None]) ** 2 for x, y in zip(left, right, strict=True))
    return jnp.exp(-distance / (2 * length**2))


def kernel(noise: Noise, left: Array, right: Array) -> Array:
    """Compute the covariance of the process between mixtures at places [d, a, B] and [d, b, B]: [a, b, B]."""
    return noise.process**2 * correlation(noise.length, left, right)


def _times(matrix: Array, x: Array) -> Array:
    """Multiply matrices [a, b, B], or [a, b, 1] for all lanes, with vectors [..., b, B]: [..., a, B]."""
    if isinstance(x, Array) and len(matrix) <= _FEW_RUNS:
        return jnp.sum(matrix * x[..., None, :, :], axis=-2)
    # Products of matrices have lanes first.
    space = x.__array_namespace__()
    vectors = space.moveaxis(x, -1, 0)
    found = vectors.reshape(len(vectors), -1, vectors.shape[-1]) @ space.transpose(matrix, (2, 1, 0))
    return space.moveaxis(found.reshape(vectors.shape), 0, -1)
