"""Search for the mixture that is best by any of the objectives of `goals`."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from bimixjax._base import checks
from bimixjax._base.checks import InputError
from bimixjax.auto.result import AutoFit
from bimixjax.fitting.base import Fit
from bimixjax.fitting.resampling import Resamples
from bimixjax.observations import Budget
from bimixjax.optimization import in_hull, search
from bimixjax.optimization.epigraph import Epigraph, Smoothed
from bimixjax.optimization.goals import (
    Excess,
    Goal,
    Guarded,
    Mixture,
    NearOptimal,
    RiskAverse,
    WeightedMean,
    WorstTarget,
)
from bimixjax.optimization.idle import reference_shares
from bimixjax.optimization.losses import Losses
from bimixjax.optimization.near_optimal import middle_of, walked
from bimixjax.optimization.objectives import Objective
from bimixjax.optimization.quantile import DrawnMeans, least_quantile
from bimixjax.optimization.risk import DrawnRisk, StatedRisk
from bimixjax.solve import LBFGS, Region

# Guardrails broken by more than this, in nats per token, cannot be kept.
_BROKEN = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a search for a composed objective found.

    Attributes:
        found: the mixture, with its certificate.
        words: what was minimized.
        value: what it is there, in nats per token.
        active: the losses that are the worst, or at their guardrail.
        convex: whether what was minimized is convex where the losses are.
    """

    found: search.Found
    words: str
    value: float
    active: tuple[str, ...] = ()
    convex: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """A fit, and where it is asked.

    Attributes:
        fit: what was fitted.
        budgets: one or several.
        parts: the weighted mean at each of them.
        region: the limits.
        solver, starts: settings of the search.
    """

    fit: Fit
    budgets: Sequence[Budget]
    parts: tuple[Objective, ...]
    region: Region
    solver: LBFGS
    starts: int

    @property
    def measured(self) -> Float[np.ndarray, "m d"]:
        """The mixtures that were fitted."""
        return self.fit.at_size(self.budgets[0].model_size).fitted_mixtures

    @property
    def names(self) -> list[str]:
        """The losses: targets, and where there are several budgets, at which."""
        several = len(self.parts) > 1
        return [
            self.fit.targets[t] + (f" at {part.volume:g}" if several else "")
            for part in self.parts
            for t in part.chosen
        ]

    def mixture(self, given: Mixture | None, where: str) -> Float[np.ndarray, " d"]:
        """Return a mixture in the order of the domains."""
        try:
            return reference_shares(given, self.fit.domains)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error


def composed(goal: Goal, asked: Asked) -> Outcome | None:
    """Find the best mixture by an objective; None where it is finite at no mixture that was looked at.

    Raises:
        InputError: for guardrails that no mixture keeps to, an unknown target, or a risk that nothing tells.
    """
    if isinstance(goal, RiskAverse):
        return _risk_averse(goal, asked)
    if isinstance(goal, NearOptimal):
        return _near_optimal(goal, asked)
    problem, begin = _epigraph(goal, asked)
    at = {"solver": asked.solver, "starts": asked.starts}
    if not problem.worst and not np.isfinite(problem.caps).any():
        smooth: Any = Smoothed(problem)
        found = in_hull.best_mixture(smooth, asked.region, asked.measured, **at)
        if found is None:
            return None
        return Outcome(
            found=found, words=_words(goal, asked), value=float(search.values_at(smooth, found.mixture[None])[0])
        )
    solved = in_hull.solve(problem, asked.region, asked.measured, begin, **at)
    if solved is None:
        return None
    if solved.beyond > _BROKEN:
        values = problem.losses.values(solved.found.mixture[None])[0]
        broken = [
            f"{name} by {over:.3g}"
            for name, over in zip(asked.names, values - problem.caps, strict=True)
            if over > _BROKEN
        ]
        raise InputError(
            f"no mixture that was found keeps to the guardrails; the nearest breaks {', '.join(broken)} nats"
        )
    active = tuple(name for name, at_edge in zip(asked.names, solved.active, strict=True) if at_edge)
    return Outcome(found=solved.found, words=_words(goal, asked), value=solved.value, active=active)


def _epigraph(goal: Goal, asked: Asked) -> tuple[Epigraph, list[np.ndarray]]:
    """State an objective over losses as a problem, with mixtures to begin from."""
    losses, count = Losses(asked.parts), len(asked.parts)
    weights = np.concatenate([np.asarray(part.weights) for part in asked.parts])
    caps, shifts, begin = np.full(len(weights), np.inf), np.zeros(len(weights)), []
    of = goal.of if isinstance(goal, Guarded) else goal
    if isinstance(goal, Guarded):
        reference = asked.mixture(goal.reference, "the reference of guardrails")
        begin.append(reference)
        targets = [asked.fit.targets[t] for part in asked.parts for t in part.chosen]
        checks.known("target", tuple(goal.allowed), tuple(targets), "guardrails; allowed are targets with weight")
        there = losses.values(reference[None])[0]
        given = np.array([goal.allowed.get(target, np.inf) for target in targets])
        caps = there + given
        if not np.isfinite(there[np.isfinite(given)]).all():
            raise InputError("a guarded loss is not finite at the reference; name another reference")
    if isinstance(of, Excess):
        reference = asked.mixture(of.reference, "the reference of an excess")
        begin.append(reference)
        shifts = losses.values(reference[None])[0]
        if not np.isfinite(shifts).all():
            raise InputError("a loss is not finite at the reference of an excess; name another reference")
    worst = isinstance(of, WorstTarget | Excess)
    scales = weights / weights.max() if worst else np.zeros(len(weights))
    return Epigraph(losses=losses, weights=weights / count, scales=scales, shifts=shifts, caps=caps, worst=worst), begin


def _words(goal: Goal, asked: Asked) -> str:
    """Say what is minimized."""
    if isinstance(goal, Guarded):
        rails = ", ".join(f"{target} at most {most:g} above" for target, most in goal.allowed.items())
        where = "uniform" if goal.reference is None else "the reference"
        return f"{_words(goal.of, asked)}, with {rails} its loss at {where}"
    if isinstance(goal, Excess):
        said = "worst excess over the reference"
    else:
        said = "worst weighted loss" if isinstance(goal, WorstTarget) else "weighted mean"
    return said + (f" of {len(asked.parts)} budgets" if len(asked.parts) > 1 else "")


def _risk_averse(goal: RiskAverse, asked: Asked) -> Outcome | None:
    if len(asked.parts) > 1:
        raise InputError(f"risk is of one budget; got {len(asked.parts)}")
    part, size = next(iter(asked.parts)), asked.budgets[0].model_size
    if goal.quantile is not None and goal.draws is not None:
        return _drawn_quantile(goal.quantile, goal.draws, asked)
    risk: Any
    if goal.draws is not None:
        risk = DrawnRisk(part, goal.draws, goal.kappa, size)
    elif isinstance(one := asked.fit.at_size(size), AutoFit):
        risk = StatedRisk(one, part, goal.kappa, goal.quantile)
    else:
        raise InputError(
            f"a fit of {asked.fit.name} alone does not say how sure it is; give draws=bimixjax.bootstrap(...)"
        )
    found = in_hull.best_mixture(risk, asked.region, asked.measured, solver=asked.solver, starts=asked.starts)
    if found is None:
        return None
    value = float(search.values_at(risk, found.mixture[None])[0])
    words = f"weighted mean + {goal.kappa:g} standard deviations"
    words = words if goal.quantile is None else f"{100 * goal.quantile:g} % quantile of the weighted mean"
    return Outcome(found=found, words=words, value=value, convex=False)


def _drawn_quantile(quantile: float, draws: Resamples, asked: Asked) -> Outcome | None:
    if asked.region.hull is not None:
        raise InputError("a quantile of draws is not searched for within a hull of runs; leave one of them out")
    (part,), size = asked.parts, asked.budgets[0].model_size
    means = DrawnMeans(part, draws, size, np.arange(len(draws)))
    at = {"solver": asked.solver, "starts": asked.starts}
    solved = least_quantile(means, quantile, asked.region, asked.measured, **at)
    if solved is None:
        return None
    words = f"{100 * quantile:g} % quantile of the weighted mean in {len(draws)} draws"
    return Outcome(found=solved.found, words=words, value=solved.value, convex=False)


def _near_optimal(goal: NearOptimal, asked: Asked) -> Outcome | None:
    if asked.region.hull is not None:
        raise InputError("the average of what is nearly best is not known within a hull of runs; leave one of them out")
    problem, _ = _epigraph(WeightedMean(), asked)
    smooth: Any = Smoothed(problem)
    values_at = partial(search.values_at, smooth)
    found = search.best_mixture(smooth, asked.region, asked.measured, solver=asked.solver, starts=asked.starts)
    if found is None:
        return None
    least = float(values_at(found.mixture[None])[0])
    most = least + goal.tolerance * abs(least)
    mixtures = walked(values_at, found.mixture, most, asked.region, goal.seed)
    r = asked.region.nearest(middle_of(mixtures, values_at, most))
    value = float(values_at(r[None])[0])
    words = f"average of the mixtures within {100 * goal.tolerance:g} % of the least weighted mean"
    return Outcome(found=dataclasses.replace(found, mixture=r), words=words, value=value)
