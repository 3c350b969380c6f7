"""How well least squares know their unknowns: rank, covariance and condition from the information matrix."""

from dataclasses import dataclass

import numpy as np

# Directions whose share of the scaled information is below this are rounding: their unknowns are not identified.
_NULL = 1e-12


@dataclass(frozen=True, kw_only=True)
class Inference:
    """What the information matrix of one lane says of its k unknowns.

    Args:
        identified: whether the rows determine each unknown [k].
        covariance: Gauss-Newton covariance [k, k]; NaN for unknowns that are held or not identified.
        condition: ratio of the largest to the smallest singular value of the scaled Jacobian, over what is identified.
        rank: how many combinations of unknowns the rows determine.
    """

    identified: np.ndarray
    covariance: np.ndarray
    condition: float
    rank: int

    @property
    def standard_errors(self) -> np.ndarray:
        """Square roots of the variances [k]."""
        return np.sqrt(np.diag(self.covariance))


def infer(information: np.ndarray, variance: float, held: np.ndarray) -> Inference:
    """Read rank and covariance off J'J [k, k], for a residual variance and with some unknowns `held` at a bound [k]."""
    free = np.flatnonzero(~held)
    covariance = np.full(information.shape, np.nan)
    identified = held.copy()
    if not free.size or not np.isfinite(information).all():
        return Inference(identified=identified, covariance=covariance, condition=np.nan, rank=0)
    norms = np.sqrt(np.diag(information)[free])
    scale = np.where(norms > 0, norms, 1.0)
    values, vectors = np.linalg.eigh(information[np.ix_(free, free)] / np.outer(scale, scale))
    null = values <= _NULL * max(values[-1], 0.0)
    identified[free] = np.all(np.abs(vectors[:, null]) < 1e-3, axis=1)
    kept = vectors[:, ~null] / np.sqrt(values[~null])
    spread = (kept @ kept.T) * variance / np.outer(scale, scale)
    known = identified[free]
    covariance[np.ix_(free[known], free[known])] = spread[np.ix_(known, known)]
    condition = float(np.sqrt(values[-1] / values[~null][0])) if (~null).any() else np.nan
    return Inference(identified=identified, covariance=covariance, condition=condition, rank=int((~null).sum()))
