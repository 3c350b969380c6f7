"""Whole numbers in the place of shares: how one who counts in blocks or decimals comes nearest to a mixture."""

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from bimixjax._base.checks import InputError, every

# Beyond it, a whole number times a share is no longer exact enough in float64 to tell remainders apart.
_MOST = 10**12


def largest_remainder(shares: ArrayLike, total: int) -> Int[np.ndarray, " d"]:
    """Return the whole numbers k_i with sum N that are nearest to N r_i.

    Each k_i is N r_i rounded down, and one more for those with the largest remainders, as many as lack to N (Hamilton's
    method). Of all whole numbers with that sum these have the least sum_i |k_i - N r_i|, and the least greatest one.

    Args:
        shares: r, [d], not negative; they are divided by their sum.
        total: N.

    Raises:
        InputError: where a share is negative or not finite, all are 0, or N is not from 1 to 1e12.

    Example:
        >>> largest_remainder([0.5, 0.3, 0.2], 2048).tolist()
        [1024, 614, 410]
    """
    r = np.asarray(shares, float)
    every(np.isfinite(r) & (r >= 0), lambda i: f"share {i + 1} is {r[i]}; allowed: finite, >= 0")
    if not r.sum() > 0 or not 1 <= total <= _MOST:
        raise InputError(f"shares sum to {r.sum():g}, in {total} parts; allowed: above 0, in 1 to {_MOST:g} parts")
    ideal = r / r.sum() * total
    counts = np.floor(ideal).astype(np.int64)
    # Among equal remainders the larger share gets more, so that no small one is raised at the cost of a large one.
    order = np.lexsort((-r, counts - ideal))
    counts[order[: total - counts.sum()]] += 1
    return counts


def decimals(shares: ArrayLike, digits: int) -> Float[np.ndarray, " d"]:
    """Round shares to so many decimals such that they still sum to 1.

    Example:
        >>> decimals([1, 1, 1], 4).tolist()
        [0.3334, 0.3333, 0.3333]
    """
    return largest_remainder(shares, 10**digits) / 10**digits
