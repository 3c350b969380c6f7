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
from jaxtyping import Float, Int

from bimixjax._base.arrays import Stored
from bimixjax._base.records import record

# Added to proportions, so that slopes of their square roots are finite at 0.
_SHIFT = 1e-6


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

    Lanes are last in every array; lanes of the same rows may share one. Residuals of rows without weight have no
    effect.

    Attributes:
        noise: standard deviations.
        weight: of each row, 0 where there is none.
        share: which share of a weighted sum over runs is the step's effect.
        process: covariance of the process between runs.
        posterior: covariance of the run effects, given the rows.
        precision: Z' S^-1 Z; at a mixture with kernel k to the runs, the rows explain k' precision k of the process's
            variance.
    """

    noise: Noise
    weight: Float[np.ndarray, "m t B"]
    share: Float[np.ndarray, "t B"]
    process: Float[np.ndarray, "m m B"]
    posterior: Float[np.ndarray, "m m B"]
    precision: Float[np.ndarray, "m m B"]

    @classmethod
    def of(
        cls, noise: Noise, mixture: Float[np.ndarray, "d m B"], weight: Float[np.ndarray, "m t B"]
    ) -> "NoiseCovariance":
        """Factor the noise of rows with weights; one lane of mixtures may stand for those of all weights."""
        w, eye, process = _first(weight), np.eye(len(weight)), _first(kernel(noise, mixture, mixture))
        share = noise.step**2 / (noise.white**2 + w.sum(1) * noise.step**2)
        measured = (eye * w.sum(2)[:, None] - (w * share[:, None]) @ np.swapaxes(w, 1, 2)) / noise.white**2
        # posterior = F (I + F' M F)^-1 F', whose inverse is never singular.
        factor = np.linalg.cholesky(process + (noise.run**2 + 1e-12) * eye)
        upper = np.swapaxes(factor, 1, 2)
        posterior = factor @ np.linalg.solve(eye + upper @ measured @ factor, upper)
        arrays: dict[str, Any] = {
            "weight": w,
            "share": share,
            "process": process,
            "posterior": posterior,
            "precision": measured - measured @ posterior @ measured,
        }
        return cls(noise=noise, **{name: _last(array) for name, array in arrays.items()})

    def lanes(self, index: np.ndarray) -> "NoiseCovariance":
        """Take some of the lanes."""
        if self.weight.shape[-1] == 1:
            return self
        names = ("weight", "share", "process", "posterior", "precision")
        return replace(self, **{name: _last(_first(getattr(self, name))[index]) for name in names})

    def inverse(self, x: Float[np.ndarray, "*k m t B"]) -> Float[np.ndarray, "*k m t B"]:
        """Compute S^-1 x, 0 for rows without weight."""
        return self._without_steps(x - times(self.posterior, self._by_run(x))[..., None, :])

    def effects(
        self, x: Float[np.ndarray, "*k m t B"]
    ) -> tuple[Float[np.ndarray, "*k m B"], Float[np.ndarray, "*k t B"]]:
        """Compute alpha = Z' S^-1 x and the expected step effects step^2 U' S^-1 x.

        At a mixture, the process is expected to be the kernel to the runs times alpha.
        """
        inverse = self.inverse(x)
        return inverse.sum(-2), self.noise.step**2 * inverse.sum(-3)

    def step_variance(self) -> Float[np.ndarray, "t B"]:
        """Compute the variance of the step effects, given the rows and the run effects."""
        return self.noise.white**2 * self.share

    def products(self, columns: Float[np.ndarray, "p m t B"]) -> Float[np.ndarray, "p p B"]:
        """Compute X' S^-1 X for the columns X of each lane, term by term as S^-1 stands above."""
        weight, share, posterior = _first(self.weight), _first(self.share)[:, None], _first(self.posterior)
        x = _first(columns)
        weighted = x * weight[:, None]
        by_step = weighted.sum(2)
        rows = (*x.shape[:2], -1)
        without_steps = x.reshape(rows) @ np.swapaxes(weighted.reshape(rows), 1, 2)
        without_steps -= (by_step * share) @ np.swapaxes(by_step, 1, 2)
        by_run = (weighted.sum(3) - (by_step * share) @ np.swapaxes(weight, 1, 2)) / self.noise.white
        found = without_steps - by_run @ posterior @ np.swapaxes(by_run, 1, 2)
        return _last(found / self.noise.white**2)

    def block(self, runs: Int[np.ndarray, " k"]) -> Float[np.ndarray, "B kt kt"]:
        """Compute the block of S^-1 that belongs to the rows of k runs, lanes first."""
        own = (runs[:, None] == np.arange(len(self.weight)))[..., None, None] * self.weight
        # A^-1 between these runs and all runs at one volume; it is 0 between volumes.
        tied = (own - self.weight[runs][:, None] * self.share * self.weight) / self.noise.white**2
        rows, lanes = len(runs) * len(self.share), self.weight.shape[-1]
        alone = np.einsum("kjtB,tu->Bktju", tied[:, runs], np.eye(len(self.share))).reshape(lanes, rows, rows)
        to_runs = _first(np.swapaxes(tied, 1, 2).reshape(rows, -1, lanes))
        return alone - to_runs @ _first(self.posterior) @ np.swapaxes(to_runs, 1, 2)

    def _without_steps(self, x: np.ndarray) -> np.ndarray:
        """Compute A^-1 x."""
        weighted = self.weight * x
        shared = self.share * weighted.sum(-3)
        return (weighted - self.weight * shared[..., None, :, :]) / self.noise.white**2

    def _by_run(self, x: np.ndarray) -> np.ndarray:
        """Compute Z' A^-1 x [..., m, B]."""
        return self._without_steps(x).sum(-2)


def places(mixture: Stored) -> Array:
    """Map mixtures [d, ...] to where their distance is that of the process."""
    return jnp.sqrt(mixture + _SHIFT)


def shifted_root(mixture: np.ndarray) -> np.ndarray:
    """Map mixtures as `places` does, with NumPy."""
    return np.sqrt(mixture + _SHIFT)


def correlation(length: Stored | float, left: Stored, right: Stored) -> Array:
    """Correlate the process between mixtures at places [d, ...] that are broadcast against each other: [...]."""
    return jnp.exp(-jnp.sum((left - right) ** 2, axis=0) / (2 * length**2))


def kernel(noise: Noise, left: Float[np.ndarray, "d a B"], right: Float[np.ndarray, "d b B"]) -> np.ndarray:
    """Compute the covariance of the process between mixtures [a, b, B]."""
    x, y = shifted_root(_first(left)), shifted_root(_first(right))
    distance = (x**2).sum(1)[:, :, None] + (y**2).sum(1)[:, None] - 2 * np.swapaxes(x, 1, 2) @ y
    return _last(noise.process**2 * np.exp(-np.maximum(distance, 0.0) / (2 * noise.length**2)))


def times(matrix: Stored, x: Stored) -> np.ndarray:
    """Multiply matrices [a, b, B], or [a, b, 1] for all lanes, with vectors [..., b, B]: [..., a, B]."""
    vectors = _first(np.asarray(x))
    found = vectors.reshape(len(vectors), -1, vectors.shape[-1]) @ np.swapaxes(_first(np.asarray(matrix)), 1, 2)
    return _last(found.reshape(len(found), *vectors.shape[1:-1], -1))


def _first(array: np.ndarray) -> np.ndarray:
    """Move lanes to the front, as LAPACK and BLAS want them; this copies nothing."""
    return np.moveaxis(array, -1, 0)


def _last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 0, -1)
