"""What every solver returns, and the words for how it ended."""

from enum import IntEnum

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

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
        """Return the status in words."""
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
    """The ends of least-squares solves, lanes last; in a fit's answer lanes are first.

    Attributes:
        nonlinear: non-linear coefficients.
        linear: linear coefficients.
        cost: the criterion at the end, the sum of squared residuals, priors included.
        steps: iterations taken.
        status: a `Status` as an integer.
    """

    nonlinear: Float[Array, "q B"]
    linear: Float[Array, "p B"]
    cost: Float[Array, " B"]
    steps: Int[Array, " B"]
    status: Int[Array, " B"]


def best_end(ends: Solution) -> Solution:
    """Return, of several ends per lane, stacked first, the one of least cost."""
    best = jnp.argmin(jnp.where(jnp.isfinite(ends.cost), ends.cost, jnp.inf), axis=0)
    return jax.tree.map(
        lambda leaf: jnp.take_along_axis(leaf, best.reshape(1, *[1] * (leaf.ndim - 2), -1), axis=0)[0], ends
    )
