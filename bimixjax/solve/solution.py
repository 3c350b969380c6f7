"""What every solver returns, and the words for how it ended."""

from enum import IntEnum

from jax import Array

from bimixjax._records import record


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

    @property
    def sentence(self) -> str:
        """The status in words."""
        return _SENTENCES[self]


_SENTENCES = {
    Status.CONVERGED: "converged",
    Status.STEP_LIMIT: "stopped at the step limit before it converged",
    Status.NOT_FINITE: "no finite cost at any start",
    Status.NO_OBSERVATIONS: "no usable observation",
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
