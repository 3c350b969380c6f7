"""What laws say of runs that they were not fitted to."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from bimixjax import AutoFit, Observations
from bimixjax.fitting.base import Fit
from experiments.open_questions.config import TOKENS

Losses = Float[np.ndarray, "n t"]


def without(table: Observations, runs: Sequence[str]) -> Observations:
    """The table less some runs."""
    return table.split(runs)[0]


def only(table: Observations, runs: Sequence[str]) -> Observations:
    """Some runs of the table."""
    return table.split([run for run in table.runs if run not in set(runs)])[0]


def last(table: Observations) -> Observations:
    """The rows at the end of training."""
    return table.select(volume=(TOKENS, None), unit="tokens")


def predicted(fit: Fit, table: Observations) -> Losses:
    """The loss that a fit predicts for each row, with the unique tokens that the row's run had."""
    where = (table.proportions, table.volumes("tokens"))
    return np.asarray(fit.predict(*where, inventory=table.unique, from_prior=True))


def interval(fit: AutoFit, table: Observations) -> tuple[Losses, Losses]:
    """The limits that hold 90 % of measured losses, lower and upper, as `predicted`."""
    where = (table.proportions, table.volumes("tokens"))
    lower, upper = fit.interval(*where, inventory=table.unique, from_prior=True)
    return np.asarray(lower), np.asarray(upper)
