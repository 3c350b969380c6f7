"""The weak priors of coefficients: one kind for single laws and for the members of `auto`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Prior:
    """The prior of a coefficient: log-normal where it must be positive, else normal.

    Of n values, one per domain, the common mean has the standard deviation `deviation`, and each has the standard
    deviation `spread` about it: a covariance with the symmetric root

        spread (I - M) + n^1/2 deviation M,    M = 1 1' / n

    Without a `spread` they are independent.

    Attributes:
        median: median, or mean.
        deviation: standard deviation of the logarithm, or of itself.
        spread: standard deviation of single values about their common mean; None for independent ones.

    Example:
        >>> from bimixjax.laws.prior import Prior
        >>> Prior(0.1, 2.0).root(2).tolist()
        [[2.0, 0.0], [0.0, 2.0]]
    """

    median: float
    deviation: float
    spread: float | None = None

    def root(self, size: int, power: int = 1) -> Float[np.ndarray, "n n"]:
        """Return the root of the covariance of so many values, or with power -1 its inverse."""
        mean = np.full((size, size), 1 / size)
        if size == 1 or self.spread is None:
            return self.deviation**power * np.eye(size)
        return self.spread**power * (np.eye(size) - mean) + (size**0.5 * self.deviation) ** power * mean


def packed_root(priors: Sequence[Prior], sizes: Sequence[int], power: int = 1) -> Float[np.ndarray, "q q"]:
    """Return the block-diagonal root of coefficients that are packed one after another, or its inverse."""
    root, start = np.zeros((sum(sizes), sum(sizes))), 0
    for prior, size in zip(priors, sizes, strict=True):
        root[start : start + size, start : start + size] = prior.root(size, power)
        start += size
    return root
