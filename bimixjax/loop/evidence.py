"""Evidence for a law and for a mixture: predictions of losses that were held out, and mixtures trained afresh."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from bimixjax.estimation import Auto, AutoFit, fit
from bimixjax.fitting import FitResult
from bimixjax.fitting.base import Fit
from bimixjax.loop.designs import run_id
from bimixjax.metrics import mean_relative_error
from bimixjax.observations import Observations, Unit

# A run that diverged has its own number of tokens, but shares the steps of all.
UNIT: Unit = "steps"
# Standard errors from which a difference counts: with 6 degrees of freedom, noise stays below in 19 of 20 cases.
CLEAR = 2.5


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proof:
    """Mixtures trained afresh with the same seeds each, and their validation losses at the last step.

    Attributes:
        mixtures, targets: names.
        steps: the last step.
        losses: measured, nats per token, for k seeds; NaN where a run did not reach the last step.
        predicted: by the law.
    """

    mixtures: tuple[str, ...]
    targets: tuple[str, ...]
    steps: float
    losses: Float[np.ndarray, "m k t"]
    predicted: Float[np.ndarray, "m t"]

    @property
    def means(self) -> Float[np.ndarray, " m"]:
        """Mean loss over targets and seeds of each mixture, nats per token."""
        return self.losses.mean(axis=(1, 2))

    @property
    def noise(self) -> float:
        """Standard deviation of a run's mean loss, pooled over the mixtures whose runs are all whole.

        Every mixture is trained with the same seeds, so what a seed does to all of them is taken out: with x_mk the
        mean over targets, sqrt(sum_mk (x_mk - x_m. - x_.k + x_..)^2 / ((m - 1)(k - 1))).
        """
        x = self.losses.mean(axis=2)
        x = x[np.isfinite(x).all(axis=1)]
        if len(x) < 2 or x.shape[1] < 2:
            return np.nan
        rest = x - x.mean(axis=1, keepdims=True) - x.mean(axis=0) + x.mean()
        return float(np.sqrt((rest**2).sum() / ((len(x) - 1) * (x.shape[1] - 1))))

    @property
    def standard_error(self) -> float:
        """Of the difference between two of the `means`."""
        return self.noise * (2 / self.losses.shape[1]) ** 0.5

    @property
    def ranked(self) -> tuple[str, ...]:
        """The mixtures whose runs are all whole, least mean loss first."""
        means = self.means
        return tuple(self.mixtures[i] for i in np.argsort(means, kind="stable") if np.isfinite(means[i]))

    def differences(self, name: str) -> dict[str, tuple[float, float]]:
        """Return, for each other mixture, its mean loss minus that of `name`: nats per token, and standard errors.

        Mixtures that lack a run are left out; where `name` does, so are all.
        """
        means = dict(zip(self.mixtures, self.means.tolist(), strict=True))
        others = [other for other in self.ranked if other != name] if name in self.ranked else []
        gaps = {other: means[other] - means[name] for other in others}
        return {other: (gap, gap / self.standard_error) for other, gap in gaps.items()}


def prove(law: Fit, measured: Observations, compared: Mapping[str, ArrayLike], seeds: Sequence[int]) -> Proof:
    """Put the losses of a swarm of `make_design(compared, ..., seeds)` at its last step beside what a law predicts.

    Raises:
        InputError: where the table has no steps, or not the law's targets.
    """
    steps = measured.volumes(UNIT)
    last = measured.select(volume=(steps.max(), None), unit=UNIT, targets=law.targets)
    losses = dict(zip(last.run.tolist(), last.losses, strict=True))
    missing = np.full(len(law.targets), np.nan)
    mixtures = np.array([np.asarray(mixture, np.float64) for mixture in compared.values()])
    return Proof(
        mixtures=tuple(compared),
        targets=law.targets,
        steps=float(steps.max()),
        losses=np.array([[losses.get(run_id(name, seed), missing) for seed in seeds] for name in compared]),
        predicted=np.asarray(law.predict(mixtures, steps.max(), from_prior=True)),
    )
