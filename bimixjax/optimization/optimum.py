"""The mixture of least predicted loss within limits, with a certificate."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from numpy.typing import ArrayLike

from bimixjax._base import checks
from bimixjax._base.checks import InputError
from bimixjax.auto.result import AutoFit
from bimixjax.fitting.base import Fit
from bimixjax.observations import Budget, Inventory
from bimixjax.optimization import in_hull, search
from bimixjax.optimization.answer import OptimalMixture
from bimixjax.optimization.chosen import chosen_interval
from bimixjax.optimization.composed import Asked, composed
from bimixjax.optimization.evaluation import flat_domains, goal_is_convex
from bimixjax.optimization.goals import Goal, WeightedMean
from bimixjax.optimization.idle import idle_domains, reference_shares, shared_out
from bimixjax.optimization.limits import Limits
from bimixjax.optimization.objectives import (
    Objective,
    Weights,
    check_constrained,
    objective as build_objective,
    unconstrained,
)
from bimixjax.optimization.search import Found
from bimixjax.solve import LBFGS, NEAR, Hull, Region

Method = Literal["auto", "dual", "softmax"]

# A solution of the linear program that asks for the hull of more numbers than this takes seconds.
_MOST_NUMBERS = 1_000_000


def optimize(
    fit: Fit,
    *,
    budget: Budget | Sequence[Budget] | None = None,
    weights: Weights | None = None,
    objective: Goal | None = None,
    limits: Limits | None = None,
    inventory: Inventory | Mapping[str, float] | None = None,
    method: Method = "auto",
    reference: Mapping[str, float] | ArrayLike | None = None,
    solver: LBFGS | None = None,
    starts: int = 12,
) -> OptimalMixture:
    """Find the mixture with the least weighted mean of predicted losses at a budget.

    minimize sum_t w_t L_t(r, s) over r with sum r = 1 and lower <= r <= upper.

    Args:
        fit: a fitted law.
        budget: volume s in the fit's unit, and the model size where several were fitted; may be left out where a single
            volume was fitted. Of several budgets the mean counts; the answer is described at the first.
        weights: w by target, those not named get 0, or in the order of `fit.targets`; by default all count the same.
        objective: what the mixture should be best for, see `optimization.goals`: `WorstTarget`, `Excess`, `Guarded`,
            `RiskAverse`, `NearOptimal`; by default `WeightedMean`.
        limits: of domains, groups of them, epochs, and how far from another mixture or from averages of fitted ones.
        inventory: unique tokens by domain, unlimited where one is not named; for limits of epochs, and laws that read
            them.
        method: "dual", exact, for laws that are a power of the own proportion; "softmax", L-BFGS and Newton steps, for
            every law; "auto" takes the dual where it can.
        reference: a mixture, by domain or in the order of `fit.domains`, as `mixtures.natural` gives it: domains on
            which no weighted target depends share in its proportions what falls to them; by default all alike.
        solver: settings of the L-BFGS.
        starts: how many points the L-BFGS starts from: the middle of the limits, the best vertices, and the best of
            2560 random mixtures, those near the vertices and those that were measured; where the objective is not known
            to be convex, from as many again on faces of the simplex.

    Returns:
        The mixture with its certificate; where `converged` is false, none was found, and this is where the search
        stopped.

    Raises:
        InputError: for limits that no mixture meets, an unknown domain or target, a budget in another unit or at a
            volume that no observation constrains, a target with weight whose fit has no usable observation, losses that
            do not depend on the mixture, or an objective that is not finite.

    Example:
        >>> import pandas as pd
        >>> import bimixjax
        >>> table = {"run": ["a"] * 3 + ["b"] * 3, "step": [1, 4, 16] * 2}
        >>> table |= {"mixture/x": [0.25] * 3 + [0.5] * 3, "mixture/y": [0.75] * 3 + [0.5] * 3}
        >>> table |= {f"loss/{d}": (np.tile([6.0, 4.0, 3.0], 2) * (0.25 / r) ** 0.5) for d, r in
        ...           (("x", np.repeat([0.25, 0.5], 3)), ("y", np.repeat([0.75, 0.5], 3)))}
        >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)), priors=False)
        >>> best = bimixjax.optimize(fit, budget=bimixjax.Budget(volume=16, unit="steps"))
        >>> {domain: round(share, 4) for domain, share in best.as_dict().items()}
        {'x': 0.5, 'y': 0.5}

    Source: arXiv 2405.14908, Eq. 15-16 (there an unweighted sum).
    """
    budgets = (budget,) if isinstance(budget, Budget) else tuple(budget or (Budget(),))
    budget, limits = budgets[0], limits or Limits()
    checks.choice("method", method, ("auto", "dual", "softmax"))
    starts = checks.starts(starts)
    stock = Inventory(inventory) if isinstance(inventory, Mapping) else inventory
    parts = tuple(build_objective(fit, budget=each, weights=weights, inventory=stock) for each in budgets)
    goal = parts[0]
    for part, each in zip(parts, budgets, strict=True):
        check_constrained(fit, part, each)
    measured = fit.at_size(budget.model_size).fitted_mixtures
    longest = max(parts, key=lambda part: float(part.volume))
    region = limits.region(fit.domains, **available(fit, longest, limits, stock), measured=measured)
    plain = isinstance(objective, WeightedMean | None) and len(parts) == 1
    exact = plain and goal.separable and region.ball is None and method != "softmax"
    exact &= region.hull is None or method == "auto"
    if method == "dual" and not exact:
        if not goal.separable:
            raise InputError(f"the dual needs a law that is a power of the own proportion; {fit.name} is not one")
        raise InputError(
            "the dual knows no mixture that others keep near to, no hull of runs, no other objective than the weighted "
            "mean, and one budget; leave method out"
        )
    shares = reference_shares(reference, fit.domains)
    settings: dict[str, Any] = {"solver": solver or LBFGS(), "starts": starts}
    with jax.enable_x64(True):
        flat = np.all([flat_domains(part, len(fit.domains)) for part in parts], axis=0)
        if plain:
            outcome, found = None, _of_mean(goal, region, flat, shares, measured, exact, settings)
        else:
            asked = Asked(fit=fit, budgets=budgets, parts=parts, region=region, **settings)
            outcome = composed(objective or WeightedMean(), asked)
            found = None if outcome is None else _shared(outcome.found, flat, shares, region)
    if found is None:
        at = region.nearest(shares), budget, stock
        raise InputError(_not_finite(fit, goal, *at, "no mixture that was looked at"))
    method = "dual" if exact and not found.in_hull else "softmax"
    best = _describe(fit, budget, stock, goal, found, flat, method, limits, region)
    if outcome is None:
        return best
    said = {"goal": outcome.words, "value": outcome.value, "active": outcome.active}
    return dataclasses.replace(best, **said, convex=best.convex and outcome.convex)


def _of_mean(
    goal: Objective,
    region: Region,
    flat: np.ndarray,
    shares: np.ndarray,
    measured: np.ndarray,
    exact: bool,
    settings: dict[str, Any],
) -> Found | None:
    """Find the mixture of least weighted mean, first without a hull of runs; None where it is finite nowhere."""
    free = dataclasses.replace(region, hull=None)
    if flat.all():
        found = search.at_mixture(goal, free.nearest(free.lower), free)
    elif exact:
        groups = (free.group, free.least, free.most) if free.grouped else None
        found = search.at_mixture(goal, np.asarray(goal.optimal_proportions(free.lower, free.upper, groups)), free)
    else:
        found = search.best_mixture(goal, free, measured, **settings)
    if found is not None and flat.any():
        r = shared_out(found.mixture, flat, shares, free)
        found = dataclasses.replace(found, mixture=r, certificate=search.certificate(goal, r, free))
    return in_hull.kept(goal, found, region, measured, **settings)


def _shared(found: Found, flat: np.ndarray, shares: np.ndarray, region: Region) -> Found:
    """Share out what falls to domains on which nothing depends, unless that leaves the hull of the runs."""
    r = shared_out(found.mixture, flat, shares, dataclasses.replace(region, hull=None))
    if region.hull is not None and region.hull.missed(r) > NEAR:
        return found
    return dataclasses.replace(found, mixture=r)


def available(fit: Fit, goal: Objective, limits: Limits, stock: Inventory | None) -> dict[str, Any]:
    """Return the unique tokens of the domains [d] and how many are trained on, where limits ask for them."""
    if limits.max_epochs is None:
        return {}
    tokens = float(goal.volume) if fit.volume_unit == "tokens" else None
    return {"unique": None if stock is None else stock.array(fit.domains), "tokens": tokens}


def _not_finite(fit: Fit, goal: Objective, r: np.ndarray, budget: Budget, stock: Inventory | None, where: str) -> str:
    """Say which targets have no finite loss at a mixture."""
    one = fit.at_size(budget.model_size)
    losses = np.asarray(one.predict(r, goal.volume, budget.model_size, inventory=stock, from_prior=True))
    bad = [f"{one.targets[t]} ({losses[t]:g})" for t in goal.chosen if not np.isfinite(losses[t])]
    at = ", ".join(f"{domain}={share:.3g}" for domain, share in zip(fit.domains, r, strict=True))
    return f"the objective is finite at {where} within the limits; at {at} these losses are not: {', '.join(bad)}"


def _describe(
    fit: Fit,
    budget: Budget,
    stock: Inventory | None,
    goal: Objective,
    found: Found,
    flat: np.ndarray,
    method: str,
    limits: Limits,
    region: Region,
) -> OptimalMixture:
    one, r, known = fit.at_size(budget.model_size), found.mixture, found.certificate
    names, (lower, upper) = np.array(fit.domains), (region.lower, region.upper)
    asked = r, goal.volume, budget.model_size
    outside = one.extrapolates(*asked, inventory=stock)
    reasons = one.extrapolations(*asked, inventory=stock)[0]
    losses, weights = np.asarray(one.predict(*asked, inventory=stock, from_prior=True)), np.zeros(len(one.targets))
    weights[list(goal.chosen)] = goal.weights
    objective = float(weights[weights > 0] @ losses[weights > 0])
    if not np.isfinite(objective):
        raise InputError(_not_finite(fit, goal, r, budget, stock, "no mixture"))
    return OptimalMixture(
        domains=fit.domains,
        proportions=r,
        targets=one.targets,
        losses=losses,
        weights=weights,
        objective=objective,
        budget=dataclasses.replace(budget, volume=float(goal.volume), unit=one.volume_unit),
        method=method,
        kkt_residual=float(known.kkt_residual),
        gap=float(known.gap),
        multiplier=float(known.multiplier),
        converged=search.settled(known),
        convex=goal_is_convex(goal, len(r)),
        starts=found.starts,
        agreed=found.agreed,
        second=found.second,
        groups=limits.group_totals(),
        near=limits.nearby(fit.domains),
        held=(*_held(limits, region, r), *(["hull"] if found.in_hull else [])),
        beyond_hull=_beyond_hull(r, one.fitted_mixtures),
        hull=limits.reach,
        averaged=None if region.hull is None else region.hull.mixtures,
        at_lower=tuple(names[r <= lower + NEAR].tolist()),
        at_upper=tuple(names[(r >= upper - NEAR) & (upper < 1)].tolist()),
        lower=lower,
        upper=upper,
        idle=tuple(names[idle_domains(goal, flat)].tolist()),
        extrapolated=tuple(np.array(one.targets)[outside].tolist()),
        outside=reasons,
        untold=unconstrained(fit, goal, budget, r),
        objective_interval=chosen_interval(one, *asked, weights, stock) if isinstance(one, AutoFit) else None,
    )


def _held(limits: Limits, region: Region, r: np.ndarray) -> tuple[str, ...]:
    """Name the groups that stand at a limit, and the ball where the mixture is at its edge."""
    totals = region.totals(r)
    ends = zip(limits.groups, totals, region.least, region.most, strict=False)
    at = [name for name, total, least, most in ends if min(total - least, most - total) <= NEAR]
    ball = region.ball
    return (*at, *(["near"] if ball is not None and ball.radius - ball.of(r) <= NEAR * max(1.0, ball.radius) else []))


def _beyond_hull(r: np.ndarray, measured: np.ndarray) -> float | None:
    """Compute how far a mixture is from the nearest average of measured ones; None where that takes too long."""
    if not measured.size or measured.size > _MOST_NUMBERS:
        return None
    return Hull(mixtures=measured, reach=0.0, center=measured[0]).beyond(r)
