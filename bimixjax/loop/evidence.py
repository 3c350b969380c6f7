"""Evidence for a law: predictions of losses that were held out of its fit."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from bimixjax.estimation import Auto, AutoFit, fit
from bimixjax.fitting import FitResult
from bimixjax.metrics import mean_relative_error
from bimixjax.observations import Observations, Unit

# A run that diverged has its own number of tokens, but shares the steps of all.
UNIT: Unit = "steps"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """A law fitted to a part of a table and asked about the rest; `extrapolate` and `generalize` make one.

    Attributes:
        fit, held_out: the law, and the rows that were held out of its fit.
        error: mean relative error on them by target of the fit.
        naive: the same of a guess without a law, which `guess` states in words.
    """

    fit: FitResult | AutoFit
    held_out: Observations
    error: Float[np.ndarray, " t"]
    naive: Float[np.ndarray, " t"]
    guess: str


def extrapolate(law: str | Auto, observations: Observations) -> Check:
    """Fit a law to all steps but the last, and predict the losses there.

    Raises:
        InputError: where the table has no steps, or `fit` finds something wrong.
    """
    steps = np.unique(observations.volumes(UNIT))
    known = observations.select(volume=(None, steps[-2]), unit=UNIT)
    last = observations.select(volume=(steps[-1], None), unit=UNIT)
    before = observations.select(volume=(steps[-2], steps[-2]), unit=UNIT)
    kept = dict(zip(before.run.tolist(), before.losses, strict=True))
    guess = np.stack([kept[run] for run in last.run.tolist()])
    return _check(law, known, last, guess, "the loss measured at the step before")


def generalize(law: str | Auto, observations: Observations, held_out: Iterable[str]) -> Check:
    """Fit a law to all runs but those held out, and predict their losses.

    Raises:
        InputError: where the table has no steps or not these runs, or `fit` finds something wrong.
    """
    known, rest = observations.split(held_out)
    steps = known.volumes(UNIT)
    guess = np.stack([np.nanmean(known.losses[steps == step], axis=0) for step in rest.volumes(UNIT)])
    return _check(law, known, rest, guess, "the mean loss of the other mixtures at that step")


def _check(
    law: str | Auto, known: Observations, rest: Observations, guess: Float[np.ndarray, "n t"], words: str
) -> Check:
    fitted = fit(law, known, volume=UNIT)
    columns = [rest.targets.index(target) for target in fitted.targets]
    predicted = np.asarray(fitted.predict(rest.proportions, rest.volumes(UNIT), from_prior=True))
    measured = rest.losses[:, columns]
    return Check(
        fit=fitted,
        held_out=rest,
        error=np.asarray(mean_relative_error(predicted, measured, axis=0)),
        naive=np.asarray(mean_relative_error(guess[:, columns], measured, axis=0)),
        guess=words,
    )
