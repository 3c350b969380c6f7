"""Which runs to train first, from no run at all: the zero-run order and mixtures far from each other, by turns.

Where targets are domains, every other run is the next in the zero-run order, the mean over targets of -log(r_o + .001)
ascending; those between lie as far as they can from all runs before, in the Hellinger distance. Where targets are no
domains there is no such order: the first run is the mixture nearest to uniform, the others far from those before.

Source: Kennard and Stone (1969) for runs far from each other.
"""

import numpy as np
from jaxtyping import Float

from bimixjax.optimization.baselines import SMALL_SHARE, zero_run_values
from bimixjax.planning.space import Chosen, Space

# A run of the zero-run order is at least this far, in the Hellinger distance, from those before: nearer runs lose the
# same within the noise of a run. In two domains it is the step from .50 to .57.
_APART = 0.05


def begin(space: Space, weights: Float[np.ndarray, " d"] | None, count: int, natural: np.ndarray | None) -> Chosen:
    """Choose the first runs.

    Args:
        space: what to choose among.
        weights: of the target that is domain i, 0 where none is; None where no target is a domain.
        count: how many.
        natural: a mixture to train as the last run.
    """
    chosen, pool = Chosen(), space.pool()
    if space.candidates is None:
        center = np.full((1, pool.shape[1]), 1 / pool.shape[1])
        first = space.within(center) if weights is None else zero_run_within(weights, space.lower, space.upper)[None]
        pool = np.concatenate([first, pool])
    roots = np.sqrt(pool)
    order = -roots.sum(axis=1) if weights is None else zero_run_values(pool, weights)
    ranks = np.argsort(np.argsort(order, kind="stable"), kind="stable")
    # Of each mixture, the distance to the nearest run.
    apart = np.full(len(pool), np.inf) if natural is None else _hellinger(roots, np.sqrt(natural))
    left = np.ones(len(pool), bool)
    for turn in range(count - (natural is not None)):
        if turn == 0 or (turn % 2 == 0 and weights is not None):
            new = left & (apart >= _APART)
            row = int(np.where(new if new.any() else left, order, np.inf).argmin())
            of = "the zero-run order" if weights is not None else "nearness to uniform"
            reason = f"number {ranks[row] + 1} of {len(pool)} in {of}"
        else:
            row = int(np.where(left, apart, -1.0).argmax())
            reason = f"far from all runs before: Hellinger distance {apart[row]:.2f}"
        chosen.add(pool[row], row, reason)
        apart, left[row] = np.minimum(apart, _hellinger(roots, roots[row])), False
    if natural is not None:
        chosen.add(natural, -1, "the natural mixture, the baseline of every report")
    return chosen


def zero_run_within(
    weights: Float[np.ndarray, " d"], lower: Float[np.ndarray, " d"], upper: Float[np.ndarray, " d"]
) -> Float[np.ndarray, " d"]:
    """Return the mixture within limits of least sum_i -w_i log(r_i + .001), by water filling.

    At the minimum r_i = clip(c w_i - .001, lower_i, upper_i), with c such that the shares sum to 1. Where domains with
    weight are all at their upper limits, what is left goes to the others in proportion to their room.

    Example:
        >>> import numpy as np
        >>> zero_run_within(np.ones(3) / 3, np.zeros(3), np.array([0.2, 1.0, 1.0])).round(6).tolist()
        [0.2, 0.4, 0.4]
    """
    low, high = 0.0, 2 / weights[weights > 0].min()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if _water(weights, middle, lower, upper).sum() > 1 else (middle, high)
    found = _water(weights, low, lower, upper)
    room = upper - found
    return found + (1 - found.sum()) * room / max(room.sum(), 1e-300)


def _water(weights: np.ndarray, scale: float, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    return np.clip(scale * weights - SMALL_SHARE, lower, upper)


def _hellinger(roots: Float[np.ndarray, "m d"], other: Float[np.ndarray, " d"]) -> Float[np.ndarray, " m"]:
    return np.sqrt(np.maximum(1 - roots @ other, 0.0))
