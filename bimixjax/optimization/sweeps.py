"""The best mixture as a function of something: of the volume, of the model size, or of what two targets count.

Laws that are powers of the own proportion are solved by their dual, all points in one batched call. Else one point is
searched as `optimize` does, and the others follow from it, each from the mixture of its neighbour and of whatever
point has one that is better for it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from bimixjax._base import checks
from bimixjax._base.checks import InputError
from bimixjax.fitting.base import Fit
from bimixjax.observations import Budget, Inventory
from bimixjax.optimization import in_hull, search
from bimixjax.optimization.limits import Limits
from bimixjax.optimization.losses import Losses
from bimixjax.optimization.objectives import Objective, Weights, check_constrained, objective
from bimixjax.optimization.optimum import available
from bimixjax.solve import LBFGS, Region

# A mixture of another point is taken over if it is better by more than this part of the objective.
_BETTER = 1e-9

# Points of a front, and how far the weight of one target goes: to 1 / (1 + e^6), a four hundredth of that of the other.
_POINTS, _FARTHEST = 33, 6.0

Found = tuple[Float[np.ndarray, "k d"], Bool[np.ndarray, " k"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """The best mixture at each of k points.

    Attributes:
        of: what differs between points: "volume", "model size", or the "weight of" a target.
        unit: of the values, where they are volumes; else None.
        values: at each point [k].
        domains, proportions: the mixtures [k, d].
        targets, losses: predicted losses of the targets that count, in nats per token [k, t].
        objective: the weighted mean of losses [k].
        converged: whether each is a stationary point, as in `OptimalMixture` [k].
        epochs: how often the tokens of each domain are gone through [k, d]; None without an inventory and a length.

    Example:
        >>> import bimixjax
        >>> import pandas as pd
        >>> table = {"run": ["a"] * 3 + ["b"] * 3, "step": [1, 4, 16] * 2}
        >>> table |= {"mixture/x": [0.25] * 3 + [0.5] * 3, "mixture/y": [0.75] * 3 + [0.5] * 3}
        >>> table |= {"loss/x": [6.0, 4.0, 3.0, 4.2, 2.8, 2.1], "loss/y": [3.0, 2.5, 2.2, 3.2, 2.7, 2.4]}
        >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)))
        >>> found = bimixjax.sweep(fit, volume=[4, 8, 16])
        >>> found.proportions.shape, bool(found.converged.all())
        ((3, 2), True)
    """

    of: str
    unit: str | None
    values: Float[np.ndarray, " k"]
    domains: tuple[str, ...]
    proportions: Float[np.ndarray, "k d"]
    targets: tuple[str, ...]
    losses: Float[np.ndarray, "k t"]
    objective: Float[np.ndarray, " k"]
    converged: Bool[np.ndarray, " k"]
    epochs: Float[np.ndarray, "k d"] | None = None


def sweep(
    fit: Fit,
    *,
    volume: Sequence[float] | Float[np.ndarray, " k"] | None = None,
    model_size: Sequence[float] | Float[np.ndarray, " k"] | None = None,
    budget: Budget | None = None,
    weights: Weights | None = None,
    limits: Limits | None = None,
    inventory: Inventory | Mapping[str, float] | None = None,
) -> Sweep:
    """Find the best mixture at many volumes, or at many model sizes.

    Args:
        fit: a fitted law.
        volume: volumes s in the fit's unit; with limits of epochs, each has those of its own length.
        model_size: sizes N in parameters, in place of volumes.
        budget: what is the same at all points.
        weights: as in `optimize`.
        limits: as in `optimize`.
        inventory: as in `optimize`.

    Returns:
        The mixtures, in the order of the values.

    Raises:
        InputError: as `optimize`; unless either volumes or sizes are given.

    Example:
        >>> import bimixjax
        >>> import pandas as pd
        >>> table = {"run": ["a"] * 3 + ["b"] * 3, "step": [1, 4, 16] * 2}
        >>> table |= {"mixture/x": [0.25] * 3 + [0.5] * 3, "mixture/y": [0.75] * 3 + [0.5] * 3}
        >>> table |= {"loss/x": [6.0, 4.0, 3.0, 4.2, 2.8, 2.1], "loss/y": [3.0, 2.5, 2.2, 3.2, 2.7, 2.4]}
        >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)))
        >>> bimixjax.sweep(fit, volume=[4, 16]).objective.round(1).tolist()
        [2.7, 2.2]
    """
    budget = budget or Budget()
    if (volume is None) == (model_size is None):
        raise InputError("a sweep is of volumes or of model sizes; give one of them")
    name = "volume" if volume is not None else "model_size"
    values = np.atleast_1d(np.asarray(volume if volume is not None else model_size, float))
    checks.all_positive(name, values)
    if not len(values):
        raise InputError(f"{name} has no value; allowed: at least one")
    budgets = [dataclasses.replace(budget, **{name: float(value)}) for value in values]
    stock = Inventory(inventory) if isinstance(inventory, Mapping) else inventory
    goals = [objective(fit, budget=each, weights=weights, inventory=stock) for each in budgets]
    found = _searched(fit, goals, budgets, limits or Limits(), stock)
    of, unit = ("volume", fit.volume_unit) if volume is not None else ("model size", None)
    return _described(fit, goals, found, stock, of=of, unit=unit, values=values)


def pareto(
    fit: Fit,
    first: str,
    second: str,
    *,
    points: int = _POINTS,
    budget: Budget | None = None,
    limits: Limits | None = None,
    inventory: Inventory | Mapping[str, float] | None = None,
) -> Sweep:
    """Find the mixtures that are best for two targets together: lower either loss, and the other is higher.

    Each minimizes w L_first + (1 - w) L_second, for weights w from 1/400 to 399/400. Of losses that are convex in the
    mixture, and reach so far, this is the whole Pareto front; else the part of it that lies on its convex hull.

    Args:
        fit: a fitted law.
        first: a target.
        second: another.
        points: how many weights.
        budget: as in `optimize`.
        limits: as in `optimize`.
        inventory: as in `optimize`.

    Returns:
        The mixtures; `values` are the weights of the first target.

    Raises:
        InputError: as `optimize`; for one target twice, or fewer than 2 points.

    Example:
        >>> import bimixjax
        >>> import pandas as pd
        >>> table = {"run": ["a", "b"], "mixture/x": [0.25, 0.5], "mixture/y": [0.75, 0.5]}
        >>> table |= {"loss/x": [4.0, 8.0**0.5], "loss/y": [4 / 3**0.5, 8.0**0.5]}
        >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)), priors=False)
        >>> found = bimixjax.pareto(fit, "x", "y", points=5)
        >>> bool((np.diff(found.losses[:, 0]) < 0).all() and (np.diff(found.losses[:, 1]) > 0).all())
        True
    """
    checks.known("target", (first, second), fit.targets, "the fit")
    if first == second or points < 2:
        raise InputError(f"a front is of two targets, in 2 or more points; got {first!r}, {second!r} and {points}")
    budget = budget or Budget()
    stock = Inventory(inventory) if isinstance(inventory, Mapping) else inventory
    values = 1 / (1 + np.exp(-np.linspace(-_FARTHEST, _FARTHEST, points)))
    base = objective(fit, budget=budget, weights={first: 1.0, second: 1.0}, inventory=stock)
    leading = [fit.targets[t] == first for t in base.chosen]
    goals = [dataclasses.replace(base, weights=np.where(leading, w, 1 - w)) for w in values.tolist()]
    found = _searched(fit, goals, [budget] * points, limits or Limits(), stock)
    return _described(fit, goals, found, stock, of=f"weight of {first}", unit=None, values=values)


def _searched(
    fit: Fit, goals: Sequence[Objective], budgets: Sequence[Budget], limits: Limits, stock: Inventory | None
) -> Found:
    """Find the best mixture of each objective [k, d], and whether it is a stationary point [k]."""
    for goal, budget in zip(goals, budgets, strict=True):
        check_constrained(fit, goal, budget)
    measured = [fit.at_size(each.model_size).fitted_mixtures for each in budgets]
    bounded = [
        limits.region(fit.domains, **available(fit, goal, limits, stock), measured=runs)
        for goal, runs in zip(goals, measured, strict=True)
    ]
    regions = [dataclasses.replace(region, hull=None) for region in bounded]
    with jax.enable_x64(True):
        exact = all(goal.separable for goal in goals) and regions[0].ball is None
        mixtures = _by_dual(goals, regions) if exact else _by_neighbours(fit, goals, budgets, regions)
        found = [search.at_mixture(*each) for each in zip(goals, mixtures, regions, strict=True)]
        for k, (goal, region, runs) in enumerate(zip(goals, bounded, measured, strict=True)):
            kept = in_hull.kept(goal, found[k], region, runs, solver=LBFGS(), starts=12)
            if kept is None:
                raise InputError("the objective is finite at no mixture that was looked at within the hull of the runs")
            found[k] = kept
    return np.stack([one.mixture for one in found]), np.array([search.settled(one.certificate) for one in found])


def _by_dual(goals: Sequence[Objective], regions: Sequence[Region]) -> Float[np.ndarray, "k d"]:
    """Solve all duals in one call."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf, float) for leaf in leaves]), *goals)
    lower, upper = (jnp.stack([getattr(region, end) for region in regions]) for end in ("lower", "upper"))
    one = regions[0]
    groups = (one.group, one.least, one.most) if one.grouped else None
    return np.asarray(_duals(stacked, lower, upper, groups))


@jax.jit
def _duals(goals: Objective, lower: Any, upper: Any, groups: Any) -> Any:
    return jax.vmap(lambda goal, low, high: goal.optimal_proportions(low, high, groups))(goals, lower, upper)


def _by_neighbours(
    fit: Fit, goals: Sequence[Objective], budgets: Sequence[Budget], regions: Sequence[Region]
) -> Float[np.ndarray, "k d"]:
    """Search the middle point, and follow it to both ends; then try every mixture found at every point."""
    count, middle = len(goals), len(goals) // 2
    measured = fit.at_size(budgets[middle].model_size).fitted_mixtures
    first = search.best_mixture(goals[middle], regions[middle], measured, solver=LBFGS(), starts=12)
    if first is None:
        raise InputError("the objective is not finite at any mixture that was looked at")
    found = np.tile(first.mixture, (count, 1))
    for side in (range(middle + 1, count), range(middle - 1, -1, -1)):
        r = first.mixture
        for k in side:
            r, known = search.polished(goals[k], regions[k].nearest(r), regions[k])
            if not search.settled(known):
                again = search.best_mixture(goals[k], regions[k], measured, solver=LBFGS(), starts=12)
                r = r if again is None else again.mixture
            found[k] = r
    ends = found.copy()
    for k in range(count):
        tried = regions[k].nearest(np.concatenate([ends[k][None], ends, measured]))
        values = search.values_at(goals[k], tried)
        best = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
        if values[best] < values[0] - _BETTER * abs(values[0]):
            found[k] = search.polished(goals[k], tried[best], regions[k])[0]
    return found


def _described(
    fit: Fit,
    goals: Sequence[Objective],
    found: Found,
    stock: Inventory | None,
    *,
    of: str,
    unit: str | None,
    values: np.ndarray,
) -> Sweep:
    proportions, converged = found
    losses = np.concatenate([Losses((goal,)).values(r[None]) for goal, r in zip(goals, proportions, strict=True)])
    weights = np.stack([np.asarray(goal.weights) for goal in goals])
    tokens = np.array([float(goal.volume) for goal in goals])
    return Sweep(
        of=of,
        unit=unit,
        values=values,
        domains=fit.domains,
        proportions=proportions,
        targets=tuple(fit.targets[t] for t in goals[0].chosen),
        losses=losses,
        objective=(weights * losses).sum(1),
        converged=converged,
        epochs=stock.epochs(proportions, tokens, fit.domains) if stock and fit.volume_unit == "tokens" else None,
    )
