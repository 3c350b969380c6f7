"""What every solver returns, and the words for how it ended."""

from enum import IntEnum

import jax
import jax.numpy as jnp
from jax import Array

from bimixjax._base.records import record


class Status(IntEnum):
    """How one lane of a solve ended; `sentence` says it in words.

    Example:
        >>> from bimixjax.solve import Status
        >>> Status.CONVERGED.sentence
        'converged'
    """

    CONVERGED = 0
    STEP_LIMIT = 1
    NOT_FINITE = 2
    NO_OBSERVATIONS = 3
    CONSTANT = 4

    @property
    def sentence(self) -> str:
        """The status in words."""
        return _SENTENCES[self]


_SENTENCES = {
    Status.CONVERGED: "converged",
    Status.STEP_LIMIT: "stopped at the step limit before it converged",
    Status.NOT_FINITE: "no finite cost at any start",
    Status.NO_OBSERVATIONS: "no usable observation",
    Status.CONSTANT: "no better than a constant: it tells no mixture from another",
}


@record
class Solution:
    """The end of one least-squares solve, or of a batch of them along leading axes.

    Args:
        nonlinear: non-linear coefficients [q].
        linear: linear coefficients [p].
        cost: the criterion at the end, the sum of squared residuals, priors included.
        steps: iterations taken.
        status: a `Status` as an integer.
    """

    nonlinear: Array
    linear: Array
    cost: Array
    steps: Array
    status: Array


def best_end(ends: Solution) -> Solution:
    """Of several ends per lane, stacked first, the one of least cost."""
    best = jnp.argmin(jnp.where(jnp.isfinite(ends.cost), ends.cost, jnp.inf), axis=0)
    return jax.tree.map(
        lambda leaf: jnp.take_along_axis(leaf, best.reshape(1, *[1] * (leaf.ndim - 2), -1), axis=0)[0], ends
    )
