"""What a team decides by: the mixture found, what it is worth, how sure that is, and what it hangs on."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bimixjax._base.checks import InputError
from bimixjax._base.stages import say
from bimixjax.comparison import Comparison, LeaveOneRunOut, RunParts, compare
from bimixjax.comparison.schemes import Scheme
from bimixjax.estimation import Auto, AutoFit, bootstrap, fit as fit_law, sample
from bimixjax.fitting import FitResult
from bimixjax.fitting.resampling import Resamples
from bimixjax.loop.influence import Influence, Moves, influence_of_runs, moves
from bimixjax.observations import Budget, Inventory, Observations, Unit
from bimixjax.optimization import (
    Baselines,
    Limits,
    OptimalMixture,
    OptimalResamples,
    Worth,
    optimize,
    optimize_resamples,
)
from bimixjax.optimization.baselines import NATURAL, UNIFORM
from bimixjax.planning import Plan, plan

# Parts of the runs that laws are judged on in turn: `auto` takes a fit for each.
PARTS = 8

# Of more domains, what it costs to move shares is a list that nobody reads, and d^2 predictions.
_MOST_DOMAINS = 50

_STAGE = "parts of the report"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """A mixture, and what speaks for it and against it.

    Attributes:
        fit, best: the fit, and the best mixture under it.
        baselines: mixtures that need no law.
        worth: gains over these, and how far each share may move.
        others: further mixtures to stand beside it, by name [d].
        inventory, train_tokens: what there is of each domain, and the length of the training, for epochs.
        observations: the table that was fitted, as far as it is known.
        comparison: laws on the same held-out runs.
        draws: the best mixture of each draw or resample.
        moves: what it costs to move shares.
        influence: which runs the mixture hangs on.
        plan: what to train next.
        missing: why a part is None, by its name.
    """

    fit: FitResult | AutoFit
    best: OptimalMixture
    baselines: Baselines
    worth: Worth
    others: Mapping[str, Float[np.ndarray, " d"]] = dataclasses.field(default_factory=dict)
    inventory: Inventory | None = None
    train_tokens: float | None = None
    observations: Observations | None = None
    comparison: Comparison | None = None
    draws: OptimalResamples | None = None
    moves: Moves | None = None
    influence: Influence | None = None
    plan: Plan | None = None
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def reference(self) -> str:
        """The baseline that a gain is over first of all: natural where it is known, else uniform."""
        return NATURAL if NATURAL in self.baselines.mixtures else UNIFORM


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be decided, and how much is computed for it.

    Attributes:
        budget: where mixtures are judged; by default at the largest volume and model size that were fitted.
        weights: of the targets; by default all the same.
        limits: what mixtures must keep to.
        inventory, train_tokens: as in `Worth.of`.
        laws: to compare on held-out runs; none for no comparison.
        draws: how many draws of auto, or resamples of the runs for a single law; 0 for none.
        left_out: how many runs are left out in turn where each takes a fit, as of auto; 0 for none of any law.
        runs: how many to plan; 0 for none.
        others: further mixtures to stand beside the one found, by name [d].
        seed: of draws and of the plan.
    """

    budget: Budget = dataclasses.field(default_factory=Budget)
    weights: Mapping[str, float] | None = None
    limits: Limits | None = None
    inventory: Inventory | None = None
    train_tokens: float | None = None
    laws: Sequence[str] = ()
    draws: int = 100
    left_out: int = 8
    runs: int = 4
    others: Mapping[str, Float[np.ndarray, " d"]] = dataclasses.field(default_factory=dict)
    seed: int = 0


def decide(
    law: str | Auto | FitResult | AutoFit,
    observations: Observations,
    question: Question | None = None,
    *,
    volume: Unit | None = None,
    targets: Sequence[str] | None = None,
) -> Decision:
    """Fit a law to a table, find the best mixture, and see what it is worth and what it hangs on.

    Args:
        law: a name, settings of auto, or a fit of this table.
        observations: measured losses.
        question: what is to be decided.
        volume: "tokens" or "steps", as in `bimixjax.fit`.
        targets: which losses, as in `bimixjax.fit`.

    Raises:
        InputError: as `fit`, `optimize`, `compare` and `plan`.

    Example:
        >>> import pandas as pd
        >>> from bimixjax import Observations
        >>> table = {"run": list("abcd"), "mixture/x": [0.25, 0.4, 0.6, 0.8], "mixture/y": [0.75, 0.6, 0.4, 0.2]}
        >>> table |= {"loss/x": [4.0, 3.3, 2.5, 2.3], "loss/y": [2.3, 2.6, 3.2, 4.3]}
        >>> observations = Observations.from_frame(pd.DataFrame(table))
        >>> found = decide("bimix", observations, Question(draws=0, left_out=0, runs=0))
        >>> found.worth.baselines, sorted(set(found.moves.giver))
        (('uniform', 'zero-run', 'best run'), ['x', 'y'])
    """
    asked = question or Question()
    say(_STAGE, 0, 5)
    fit = law if isinstance(law, FitResult | AutoFit) else fit_law(law, observations, volume=volume, targets=targets)
    if isinstance(law, FitResult):
        require_same(law, observations)
    at = _settled(fit, asked.budget)
    goal: dict[str, Any] = {"budget": at, "weights": asked.weights, "inventory": asked.inventory}
    baselines = Baselines.of(fit, observations=observations, **goal)
    of_search = goal | {"limits": asked.limits, "reference": baselines.mixtures.get(NATURAL)}
    best = optimize(fit, **of_search)
    say(_STAGE, 1, 5)
    drawn = _drawn(fit, observations, asked) if asked.draws else None
    # Draws are searched without a hull: their regret would not be that of this mixture.
    hulled = asked.limits is not None and asked.limits.reach is not None
    draws = optimize_resamples(drawn, **of_search) if drawn and not hulled else None
    of_worth = {"inventory": asked.inventory, "train_tokens": asked.train_tokens}
    worth = best.worth(fit, baselines=baselines, draws=drawn, **of_worth)
    say(_STAGE, 2, 5)
    found = Decision(fit=fit, best=best, baselines=baselines, worth=worth, observations=observations, draws=draws)
    missing: dict[str, str] = {}
    try:
        hangs_on = _influence(found, observations, asked)
        missing |= {} if hangs_on else {"influence": "no run was left out"}
    except InputError as error:
        hangs_on, missing["influence"] = None, str(error)
    say(_STAGE, 3, 5)
    comparison, planned = None, None
    if asked.laws:
        options = {"volume": fit.volume_unit, "targets": fit.targets, "inventory": asked.inventory}
        comparison = compare(asked.laws, observations, folds=_folds(observations), **options)
    say(_STAGE, 4, 5)
    if asked.runs:
        of_plan = {"targets": fit.targets, "limits": asked.limits, "inventory": asked.inventory, "key": asked.seed}
        try:
            planned = plan(observations, runs=asked.runs, budget=at, weights=asked.weights, **of_plan)
        except InputError as error:
            # Limits that a search can keep to may be none that runs can: all else stands.
            missing["plan"] = str(error)
    say(_STAGE, 5, 5)
    return dataclasses.replace(
        found,
        others=asked.others,
        comparison=comparison,
        influence=hangs_on,
        plan=planned,
        moves=moves(fit, best, asked.inventory) if len(fit.domains) <= _MOST_DOMAINS else None,
        missing=missing,
        **of_worth,
    )


def require_same(given: FitResult, observations: Observations) -> None:
    """Raise unless a fit is that of the table by default options: it is resampled and refitted by these."""
    again = fit_law(given.law, observations, volume=given.volume_unit, targets=given.targets)
    if given.values.shape != again.values.shape or not np.allclose(given.values, again.values, 1e-3, equal_nan=True):
        which = f"the fit of {given.name} is not that of {observations.source} with default options"
        raise InputError(f"{which}; give the table that was fitted, or leave the fit out")


def _settled(fit: FitResult | AutoFit, budget: Budget) -> Budget:
    """Name the largest volume and model size that were fitted where the budget names none."""
    size, volume = budget.model_size, budget.volume
    if size is None and len(fit.model_sizes) > 1:
        size = max(fit.model_sizes)
    if volume is None and fit.volume_unit is not None:
        volume = float(np.nanmax(np.asarray(fit.at_size(size).volume_range)))
    return dataclasses.replace(budget, volume=volume, model_size=size, unit=fit.volume_unit)


def _drawn(fit: FitResult | AutoFit, observations: Observations, asked: Question) -> Resamples:
    """Draw from a fit of `auto`, or fit a single law to resamples of the runs."""
    if isinstance(fit, AutoFit):
        return sample(fit, key=asked.seed, count=asked.draws)
    options = {"volume": fit.volume_unit, "targets": fit.targets}
    return bootstrap(fit.law, observations, key=asked.seed, count=asked.draws, **options)


def _influence(found: Decision, observations: Observations, asked: Question) -> Influence | None:
    """Leave runs out: all of them for a single law, where slopes say it; the nearest ones for `auto`."""
    reference = found.reference, found.baselines.mixtures[found.reference]
    if len(observations.runs) < 3 or not asked.left_out or not found.best.converged:
        return None
    return influence_of_runs(found.fit, found.best, observations, reference, asked.left_out, asked.inventory)


def _folds(observations: Observations) -> Scheme:
    """Hold each run out once: one by one where there are few, else in parts."""
    mixtures = len(np.unique(observations.proportions.round(9), axis=0))
    return LeaveOneRunOut() if mixtures <= PARTS else RunParts(parts=PARTS)
