"""The objective of a search over mixtures: the weighted mean of a fit's losses at a budget."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import Float
from numpy.typing import ArrayLike

from bimixjax._base import checks
from bimixjax._base.arrays import Stored
from bimixjax._base.checks import InputError
from bimixjax._base.float64 import in_float64
from bimixjax._base.records import record, static
from bimixjax.fitting.base import Fit
from bimixjax.fitting.coverage import Coverage
from bimixjax.fitting.resampling import Resamples
from bimixjax.observations import Budget, Unique
from bimixjax.solve import group_totals, power_dual, power_dual_on_host

# Objective weights: by target, or in the order of a fit's targets.
Weights = Mapping[str, float] | ArrayLike


# Values [n], and what computes their gradients [n, d].
HostValues = tuple[Float[np.ndarray, " n"], Callable[[], Float[np.ndarray, "n d"]]]


@record
class Objective:
    """J(r) = sum_t w_t L_t(r, s) of one fit at one budget: a pytree, callable on a mixture.

    Under jit, vmap and grad it can be called as it is; its leaves can be differentiated too.

    Attributes:
        predictor: the losses L_t of the targets that have weight, see `Fit.predictor`.
        chosen: which of the fit's targets these are.
        weights: w, summing to 1.
        volume: s in the fit's unit.
    """

    predictor: Any
    chosen: tuple[int, ...] = static()
    weights: Float[Stored, " t"]
    volume: Float[Stored, ""]

    def __call__(self, r: ArrayLike) -> Array:
        """Evaluate the objective at a mixture r [d], in the floating dtype of r."""
        r = r if isinstance(r, jax.Array) else np.asarray(r, float)
        with jax.enable_x64(True):
            return _value(self, jnp.asarray(r, jnp.float64)).astype(r.dtype)

    def at_volume(self, volume: ArrayLike) -> "Objective":
        """Return the same objective at another volume, which may be traced."""
        return dataclasses.replace(self, volume=volume)

    def on_host(self, mixtures: Float[np.ndarray, "n d"]) -> HostValues | None:
        """Evaluate the objective at many mixtures without compiling it, where the predictor can.

        Returns:
            Its values [n], and a function that computes its gradients [n, d]; None where it has to be compiled.
        """
        if (predictor := getattr(self.predictor, "on_host", None)) is None:
            return None
        losses, pull = predictor.with_pull(mixtures, np.broadcast_to(self.volume, len(mixtures)))
        weights = np.asarray(self.weights)
        return losses @ weights, lambda: pull(np.broadcast_to(weights, losses.shape))

    @property
    def separable(self) -> bool:
        """Whether each loss is a power of the own proportion, so that `optimal_proportions` applies."""
        return self.predictor.separable

    def optimal_proportions(
        self, lower: ArrayLike, upper: ArrayLike, groups: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None
    ) -> Array:
        """Compute the exact minimizer r [d] within limits [d], for laws that are a power of the own proportion.

        Differentiable to first order in the limits and in the leaves of the objective.

        Args:
            lower: the least share of each domain [d].
            upper: the greatest [d].
            groups: the group of each domain [d], and the least and greatest total of each group [G]; None for none.

        Raises:
            InputError: if the losses are no such powers; those of `auto` never are.

        Source: arXiv 2405.14908, Eq. 15-16, solved through its dual.
        """
        if not self.separable:
            name = self.predictor.name
            raise InputError(f"the dual needs a law that is a power of the own proportion; {name} is not one")
        traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((self, lower, upper, groups)))
        with jax.enable_x64(True):
            if not traced:
                parts = np.asarray(own_powers(self, np.shape(lower)[0]))
                ends = np.asarray(lower, float), np.asarray(upper, float)
                if groups is not None:
                    group, least, most = groups
                    groups = np.asarray(group), np.asarray(least, float), np.asarray(most, float)
                return jnp.asarray(_shifted(power_dual_on_host, parts, *ends, groups))
            if groups is not None:
                group, least, most = groups
                groups = jnp.asarray(group), jnp.asarray(least, jnp.float64), jnp.asarray(most, jnp.float64)
            return _optimum(self, jnp.asarray(lower, jnp.float64), jnp.asarray(upper, jnp.float64), groups)


def objective(
    fit: Fit, *, budget: Budget | None = None, weights: Weights | None = None, inventory: Unique | None = None
) -> Objective:
    """Build the objective that `optimize` minimizes: the weighted mean of predicted losses, by the mixture.

    J(r) = sum_t w_t L_t(r, s), with the weights divided by their sum.

    Args:
        fit: a fitted law.
        budget: volume s in the fit's unit, and the model size where several were fitted.
        weights: w by target, those not named get 0, or in the order of `fit.targets`; by default all count the same.
        inventory: unique tokens of the domains, for a law that reads epochs; by default there is no limit.

    Returns:
        A callable of a mixture r [d]; a pytree.

    Raises:
        InputError: for an unknown target, a negative weight, a budget in another unit or at a volume that no
            observation constrains, or a target with weight whose fit has no usable observation.

    Example:
        >>> import bimixjax, jax
        >>> import pandas as pd
        >>> table = {"run": ["a"] * 3 + ["b"] * 3, "step": [1, 4, 16] * 2}
        >>> table |= {"mixture/x": [0.25] * 3 + [0.5] * 3, "mixture/y": [0.75] * 3 + [0.5] * 3}
        >>> table |= {"loss/x": [6.0, 4.0, 3.0, 3 * 2**0.5, 2 * 2**0.5, 1.5 * 2**0.5]}
        >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)), priors=False)
        >>> goal = bimixjax.objective(fit, budget=bimixjax.Budget(volume=16, unit="steps"))
        >>> mixture = jax.numpy.array([0.25, 0.75])
        >>> round(float(goal(mixture)), 4), round(float(jax.grad(goal)(mixture)[0]), 4)
        (3.0, -6.0)
    """
    budget = budget or Budget()
    if budget.unit is not None and budget.unit != fit.volume_unit:
        raise InputError(f"the budget is in {budget.unit}; the fit's volume is in {fit.volume_unit}")
    one = fit.at_size(budget.model_size)
    w = checks.target_weights(weights, one.targets)
    chosen = tuple(np.flatnonzero(w > 0).tolist())
    blank = [one.targets[t] for t in chosen if not one.usable[t]]
    if blank:
        raise InputError(f"no usable observation of {', '.join(blank)}: give it weight 0 or fit it on other data")
    s = one.allowed_volume(budget.volume, from_prior=budget.from_prior, lanes=chosen)
    predictor = one.predictor(budget.model_size, chosen, inventory)
    return Objective(predictor=predictor, chosen=chosen, weights=w[list(chosen)], volume=np.asarray(s, float))


def check_constrained(fit: Fit, goal: Objective, budget: Budget) -> None:
    """Raise an `InputError` where the rows of no weighted target depend on the mixture, unless priors are asked for."""
    weighted = fit.at_size(budget.model_size).coverage.take(goal.chosen)
    if not weighted.distinguishes.any() and not budget.from_prior:
        raise InputError(
            f"{_alike(weighted)}; fit runs of other mixtures; --from-prior (in Python Budget(from_prior=True)) "
            "searches by the priors"
        )


def unconstrained(fit: Fit, goal: Objective, budget: Budget, mixture: np.ndarray) -> tuple[str, ...]:
    """Say what of a mixture no run constrains: shares that never varied, and those that were always in one ratio."""
    one = fit.at_size(budget.model_size)
    weighted = one.coverage.take(goal.chosen)
    if not weighted.distinguishes.any():
        return (f"{_alike(weighted)}; the mixture found rests on the law and its priors",)
    own, said = set(weighted.own.tolist()), []
    for gap in weighted.gaps():
        read = {gap.domain, gap.domain if gap.other is None else gap.other} <= own or -1 in own
        if read and (left := gap.left(mixture)):
            said.append(f"{gap.words(one.domains)}; {left} rests on the law and its priors")
    return tuple(said)


def _alike(weighted: Coverage) -> str:
    """Say why losses do not depend on the mixture."""
    same = weighted.varies.any() or weighted.fixed.all()
    why = "the runs do not differ in their shares" if same else "losses are the same in all runs"
    return f"nothing here tells mixtures apart: {why}"


def of_resample(goal: Objective, found: Resamples, index: int | Array, model_size: float | None) -> Objective:
    """Build the objective of one resample of a fit."""
    fit = found.resample(index).at_size(model_size)
    return dataclasses.replace(goal, predictor=fit.predictor(model_size, goal.chosen, goal.predictor.unique))


@jax.jit
def _value(goal: Objective, mixture: Array) -> Array:
    goal = jax.tree.map(_wide, goal)
    return jnp.sum(goal.weights * goal.predictor(mixture, goal.volume))


@partial(jax.jit, static_argnames=("domains",))
def own_powers(goal: Objective, domains: int) -> Float[Array, "3 d"]:
    """Return (c, a, e) of each domain's part c (r_i + e)^-a of a separable objective; 0 where it has none."""
    goal = jax.tree.map(_wide, goal)
    scale, exponent, offset = goal.predictor.powers(domains, goal.volume)
    own = np.array(goal.predictor.own)
    parts = jnp.stack([goal.weights * scale, exponent, offset])
    return parts if np.array_equal(own, np.arange(domains)) else jnp.zeros((3, domains)).at[:, own].add(parts)


@jax.jit
def _optimum(goal: Objective, lower: Array, upper: Array, groups: tuple[Array, Array, Array] | None = None) -> Array:
    return _shifted(in_float64(power_dual), own_powers(goal, lower.shape[0]), lower, upper, groups)


def _shifted(
    dual: Callable[..., Any],
    parts: Float[Stored, "3 d"],
    lower: Float[Stored, " d"],
    upper: Float[Stored, " d"],
    groups: tuple[Any, Any, Any] | None,
) -> Any:
    """Minimize sum_i c_i (r_i + e_i)^-a_i, by the dual of powers of the shifted shares over their sum: a mixture."""
    scale, exponent, offset = parts
    space, total = parts.__array_namespace__(), 1 + offset.sum()
    lower_shifted, upper_shifted = (lower + offset) / total, (upper + offset) / total
    if groups is not None:
        group, least, most = groups
        shift = group_totals(offset, group, least.shape[0])
        groups = group, (least + shift) / total, (most + shift) / total
    scale = scale * space.exp(-exponent * space.log(total))
    return space.clip(
        dual(scale, exponent, lower_shifted, upper_shifted, *(groups or ())) * total - offset, lower, upper
    )


def _wide(leaf: ArrayLike) -> Array:
    return jnp.asarray(leaf, jnp.float64)
