"""Which runs to train first, from no run at all: the zero-run order and mixtures far from each other, by turns.

Where targets are domains, every other run is the next in the zero-run order, the mean over targets of -log(r_o + .001)
ascending; those between lie as far as they can from all runs before, in the Hellinger distance, within the better half
of that order: `auto` then chooses better from four public tables than with runs far from each other among all. Where
targets are no domains there is no such order: the first run is the mixture nearest to uniform, the others are far from
those before.

Source: Kennard and Stone (1969) for runs far from each other.
"""

import numpy as np
from jaxtyping import Float

from bimixjax import mixtures
from bimixjax.optimization.baselines import zero_run, zero_run_values
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
        natural: the natural mixture, or what limits make of it, to train as the last run.
    """
    chosen, pool = Chosen(), space.pool()
    if space.candidates is None:
        # Within limits, the best of the order is the zero-run mixture scaled until it meets them.
        wanted = mixtures.uniform(pool.shape[1]) if weights is None else zero_run(weights)
        pool = np.concatenate([space.region.nearest(space.region.in_proportion(wanted))[None], pool])
    roots = np.sqrt(pool)
    order = -roots.sum(axis=1) if weights is None else zero_run_values(pool, weights)
    ranks = np.argsort(np.argsort(order, kind="stable"), kind="stable")
    # Of each mixture, the distance to the nearest run.
    apart = np.full(len(pool), np.inf) if natural is None else _hellinger(roots, np.sqrt(natural))
    left = np.ones(len(pool), bool)
    better = left if weights is None else order <= np.median(order)
    for turn in range(count - (natural is not None)):
        if turn == 0 or (turn % 2 == 0 and weights is not None):
            new = left & (apart >= _APART)
            row = int(np.where(new if new.any() else left, order, np.inf).argmin())
            of = "the zero-run order" if weights is not None else "nearness to uniform"
            reason = f"number {ranks[row] + 1} of {len(pool)} in {of}"
        else:
            within = left & better if (left & better).any() else left
            row = int(np.where(within, apart, -1.0).argmax())
            reason = f"far from all runs before: Hellinger distance {apart[row]:.2f}"
        chosen.add(pool[row], row, reason)
        apart, left[row] = np.minimum(apart, _hellinger(roots, roots[row])), False
    if natural is not None:
        chosen.add(natural, -1, "natural, the baseline of every report")
    return chosen


def _hellinger(roots: Float[np.ndarray, "m d"], other: Float[np.ndarray, " d"]) -> Float[np.ndarray, " m"]:
    return np.sqrt(np.maximum(1 - roots @ other, 0.0))
