"""Which run to train next by draws of what a fit leaves open: that which improves on all runs before it most.

In each draw every mixture has a mean loss. The runs fitted, and those of the plan so far, have a least one in each; a
run is expected to improve by the mean over draws of how far it is below that. Chosen one after the other, the runs of a
batch do not repeat each other: what one of them gains in a draw, the next cannot gain again.
"""

import numpy as np
from jaxtyping import Float

from bimixjax.planning.space import Chosen


def batch(
    pool: Float[np.ndarray, "m d"], losses: Float[np.ndarray, "R m"], least: Float[np.ndarray, " R"], count: int
) -> Chosen:
    """Choose runs of a pool.

    Args:
        pool: mixtures.
        losses: the mean loss of each in each draw, inf where it is not finite.
        least: the least mean loss of the runs fitted in each draw.
        count: how many.
    """
    chosen, left = Chosen(), np.ones(len(pool), bool)
    for _ in range(count):
        gains = np.maximum(least[:, None] - losses, 0.0)
        mean = np.where(left, gains.mean(axis=0), -1.0)
        # Where no draw gains anything, the mixture of least mean loss.
        row = int(mean.argmax()) if mean.max() > 0 else int(np.where(left, losses.mean(axis=0), np.inf).argmin())
        share = float((gains[:, row] > 0).mean())
        chosen.add(pool[row], row, f"better than all before in {share:.0%} of draws", float(gains[:, row].mean()))
        least, left[row] = np.minimum(least, losses[:, row]), False
    return chosen
