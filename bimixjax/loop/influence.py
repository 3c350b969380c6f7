"""What a mixture hangs on: the runs that were fitted, and how much a share may move before it costs something."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bimixjax._base.checks import InputError
from bimixjax._base.stages import counted
from bimixjax._base.summaries import listed
from bimixjax.estimation import AutoFit, fit as fit_law
from bimixjax.fitting import FitResult, refit
from bimixjax.fitting.base import Fit
from bimixjax.observations import Inventory, Observations
from bimixjax.optimization import Limits, OptimalMixture, differentiable_optimum, objective, optimize
from bimixjax.optimization.search import values_at

# By how much a share is moved from one domain to another to see what that costs.
STEP = 0.05

# The best mixture of a fit without one run is near that of all: fewer points to start from than a first search takes.
_STARTS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Influence:
    """How the decision would change, had a run been left out.

    Attributes:
        runs: ids, those of most influence first.
        shift: how far the best mixture moves, in total variation [n]: the share of the tokens that would go elsewhere.
        gain: what would be added to the predicted gain of the mixture found over the reference, nats per token [n].
        reference: the name of that one.
        of: how many runs there are in all; those that are not named were not left out.
        method: how it was computed, in words.
    """

    runs: tuple[str, ...]
    shift: Float[np.ndarray, " n"]
    gain: Float[np.ndarray, " n"]
    reference: str
    of: int
    method: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moves:
    """What it costs to move a part of the tokens from one domain to another, the cheapest move first.

    Attributes:
        giver, taker: domains.
        size: the share that is moved [m]: `STEP`, or all that the giver has.
        cost: by how much the weighted mean of losses rises, in nats per token [m].
    """

    giver: tuple[str, ...]
    taker: tuple[str, ...]
    size: Float[np.ndarray, " m"]
    cost: Float[np.ndarray, " m"]


def moves(fit: Fit, best: OptimalMixture, inventory: Inventory | None = None) -> Moves:
    """Say what it costs to move shares, one domain for one other, among mixtures that the limits allow.

    Example:
        >>> import bimixjax
        >>> import pandas as pd
        >>> table = {"run": ["a", "b"], "mixture/x": [0.25, 0.6], "mixture/y": [0.75, 0.4]}
        >>> table |= {"loss/x": [4.0, 2.6], "loss/y": [2.3, 3.2]}
        >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)))
        >>> found = moves(fit, bimixjax.optimize(fit))
        >>> sorted(found.giver), bool((found.cost > 0).all())
        (['x', 'y'], True)
    """
    r, weights = best.proportions, dict(zip(best.targets, best.weights.tolist(), strict=True))
    goal = objective(fit, budget=best.budget, weights=weights, inventory=inventory)
    d, rows = len(r), []
    for giver, taker in ((i, j) for i in range(d) for j in range(d) if i != j):
        size = min(STEP, float(r[giver]))
        moved = r.copy()
        moved[giver], moved[taker] = moved[giver] - size, moved[taker] + size
        if size > 0 and best.allows(moved):
            rows.append((giver, taker, size, moved))
    with jax.enable_x64(True):
        values = values_at(goal, np.stack([r, *(moved for *_, moved in rows)]))
    cost = values[1:] - values[0]
    order = [i for i in np.argsort(cost, kind="stable").tolist() if np.isfinite(cost[i])]
    return Moves(
        giver=tuple(best.domains[rows[i][0]] for i in order),
        taker=tuple(best.domains[rows[i][1]] for i in order),
        size=np.array([rows[i][2] for i in order]),
        cost=cost[order],
    )


def influence_of_runs(
    fit: FitResult | AutoFit,
    best: OptimalMixture,
    observations: Observations,
    reference: tuple[str, Float[np.ndarray, " d"]],
    count: int,
    inventory: Inventory | None = None,
) -> Influence:
    """Say which runs a mixture hangs on: `jackknife` of all for a single law, `left_out` of the nearest for `auto`."""
    if isinstance(fit, FitResult):
        return jackknife(fit, best, observations, reference, inventory)
    return left_out(fit, best, observations, reference, count, inventory)


def jackknife(
    fit: FitResult,
    best: OptimalMixture,
    observations: Observations,
    reference: tuple[str, Float[np.ndarray, " d"]],
    inventory: Inventory | None = None,
) -> Influence:
    """Estimate, for a single law, how the mixture would change without each run, to first order in its weight.

    See `Refit.influence`, and `differentiable_optimum` for the mixture.

    Raises:
        InputError: where the mixture stands at the hull of the runs.
    """
    weights = dict(zip(best.targets, best.weights.tolist(), strict=True))
    of_goal = {"budget": best.budget, "weights": weights, "inventory": inventory}
    name, other = reference

    if "hull" in best.held:
        raise InputError("the mixture stands at the hull of the runs, and what it hangs on is known inside of it only")
    region = dataclasses.replace(best.region, hull=None)

    def quantity(moved: FitResult) -> jax.Array:
        goal = objective(moved, **of_goal)
        mixture = differentiable_optimum(goal, region, best.proportions)
        gain = goal(jnp.asarray(other)) - goal(jnp.asarray(best.proportions))
        return jnp.concatenate([mixture, gain[None]])

    again = refit(fit.law, observations, volume=fit.volume_unit, targets=fit.targets)
    with jax.enable_x64(True):
        changes = again.influence(quantity)
    runs, values = tuple(changes), np.stack(list(changes.values()))
    method = "estimated for each run from the slopes of the fit (infinitesimal jackknife)"
    return _ordered(runs, np.abs(values[:, :-1]).sum(1) / 2, values[:, -1], name, len(runs), method)


def left_out(
    fit: AutoFit,
    best: OptimalMixture,
    observations: Observations,
    reference: tuple[str, Float[np.ndarray, " d"]],
    count: int,
    inventory: Inventory | None = None,
) -> Influence:
    """Fit `auto` again without each of the runs that are nearest to the mixture, and look for the best one again.

    Args:
        fit: of all runs.
        best: the mixture found with it.
        observations: the table that was fitted.
        reference: a name and a mixture, over which the gain is.
        count: how many runs, each of which takes a fit; near is what has a small Hellinger distance.
        inventory: unique tokens, as for the search.
    """
    weights = dict(zip(best.targets, best.weights.tolist(), strict=True))
    of_goal = {"budget": best.budget, "weights": weights, "inventory": inventory}
    name, other = reference
    place = [observations.domains.index(domain) for domain in best.domains]
    near = -np.sqrt(observations.proportions[:, place] * best.proportions).sum(1)
    runs = tuple(dict.fromkeys(observations.run[np.argsort(near, kind="stable")].tolist()))
    chosen, rows = runs[:count], []
    both = np.stack([best.proportions, other])
    with jax.enable_x64(True):
        before = values_at(objective(fit, **of_goal), both)
    for run in counted("runs left out", len(chosen), chosen):
        rest = observations.select(without_runs=[run])
        try:
            again = fit_law("auto", rest, volume=fit.volume_unit, targets=fit.targets)
            found = optimize(again, limits=_limits(best), starts=_STARTS, **of_goal)
        except InputError:
            # Without it the rows left say too little: that is a row without numbers.
            rows.append((np.nan, np.nan))
            continue
        with jax.enable_x64(True):
            after = values_at(objective(again, **of_goal), both)
        shift = float(np.abs(found.proportions - best.proportions).sum() / 2)
        rows.append((shift, float((after[1] - after[0]) - (before[1] - before[0]))))
    method = "fitted and searched again without each of them"
    if len(chosen) < len(runs):
        method += f"; only the {len(chosen)} runs whose mixtures are nearest to the one found, of {len(runs)}"
    shifts, gains = np.array(rows).reshape(-1, 2).T
    return _ordered(chosen, shifts, gains, name, len(runs), method)


def _limits(best: OptimalMixture) -> Limits:
    """Return the limits that a mixture was found within."""
    lower, upper = (dict(zip(best.domains, ends.tolist(), strict=True)) for ends in (best.lower, best.upper))
    groups = {one.name: (one.domains, one.least, one.most) for one in best.groups}
    near = None if best.near is None else (best.near.mixture, best.near.radius, best.near.divergence)
    return Limits(lower=lower, upper=upper, groups=groups, near=near, hull=best.hull)


def _ordered(
    runs: tuple[str, ...], shift: np.ndarray, gain: np.ndarray, reference: str, of: int, method: str
) -> Influence:
    known = np.isfinite(shift) & np.isfinite(gain)
    order = [i for i in np.argsort(-shift, kind="stable").tolist() if known[i]]
    names = tuple(runs[i] for i in order)
    if lost := [run for run, found in zip(runs, known.tolist(), strict=True) if not found]:
        method += f"; without {listed(lost)} it cannot be said"
    return Influence(runs=names, shift=shift[order], gain=gain[order], reference=reference, of=of, method=method)
