"""How well least squares know their unknowns: rank, covariance and condition from the information matrix."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# Directions whose share of the scaled information is below this are rounding: their unknowns are not identified.
_NULL = 1e-12


@dataclass(frozen=True, kw_only=True)
class Inference:
    """What the information matrix of one lane says of its k unknowns, or those of many lanes along leading axes.

    Attributes:
        identified: whether the rows determine each unknown [..., k].
        covariance: Gauss-Newton covariance [..., k, k]; NaN for unknowns that are fixed or not identified.
        condition: ratio of the largest to the smallest singular value of the scaled Jacobian, over what is identified.
        rank: how many combinations of unknowns the rows determine.
    """

    identified: np.ndarray
    covariance: np.ndarray
    condition: Any
    rank: Any

    @property
    def standard_errors(self) -> np.ndarray:
        """Return the square roots of the variances [..., k]."""
        return np.sqrt(np.diagonal(self.covariance, axis1=-2, axis2=-1))


def infer(information: np.ndarray, variance: ArrayLike, fixed: np.ndarray) -> Inference:
    """Read rank and covariance off J'J [..., k, k], for a residual variance and with some unknowns `fixed` [..., k]."""
    free = ~fixed & np.all(np.isfinite(information), axis=(-2, -1), keepdims=True)[..., 0]
    pairs = free[..., :, None] & free[..., None, :]
    norms = np.sqrt(np.where(free, np.diagonal(information, axis1=-2, axis2=-1), 1.0))
    norms = np.where(norms > 0, norms, 1.0)
    scale = norms[..., :, None] * norms[..., None, :]
    # An unknown that is not free gets an eigenvalue that no information matrix has, and so a direction of its own.
    own = -np.eye(information.shape[-1])
    values, vectors = np.linalg.eigh(np.where(pairs, np.where(pairs, information, 0.0) / scale, own))
    kept = values > _NULL * np.maximum(values[..., -1:], 0.0)
    null = ~kept & (values > -0.5)
    identified = fixed | (free & np.all((np.abs(vectors) < 1e-3) | ~null[..., None, :], axis=-1))
    inverse = (vectors * np.where(kept, 1 / np.where(kept, values, 1.0), 0.0)[..., None, :]) @ vectors.swapaxes(-2, -1)
    known = pairs & identified[..., :, None] & identified[..., None, :]
    covariance = np.where(known, inverse * np.asarray(variance)[..., None, None] / scale, np.nan)
    smallest = np.min(values, axis=-1, where=kept, initial=np.inf)
    condition = np.sqrt(np.divide(values[..., -1], smallest, where=kept.any(-1), out=np.full(smallest.shape, np.nan)))
    return Inference(identified=identified, covariance=covariance, condition=condition, rank=kept.sum(-1))
