"""The objective of a search over mixtures: the weighted mean of a fit's losses at a budget."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from bimixjax import _checks
from bimixjax._checks import InputError
from bimixjax._fit_result import FitResult
from bimixjax._records import Leaf, record, static
from bimixjax.laws import Law, Point
from bimixjax.observations import Budget
from bimixjax.solve import power_dual


@record
class Objective:
    """J(r) = sum_t w_t L_t(r, s) of one fit at one budget: a pytree, callable on a mixture.

    Under jit, vmap and grad it can be called as it is; its leaves (`values`, `weights`, `volume`) can be
    differentiated too.

    Args:
        law: the law; chosen: the fit's targets that have weight; own: for each, which domain it is, or -1.
        values: packed coefficients of the targets that have weight [t, k].
        weights: w [t], summing to 1.
        volume: s in the fit's unit.
    """

    law: Law = static()
    chosen: tuple[int, ...] = static()
    own: tuple[int, ...] = static()
    values: Leaf
    weights: Leaf
    volume: Leaf

    def __call__(self, r: ArrayLike) -> Array:
        """The objective at a mixture r [d], in the floating dtype of r."""
        r = r if isinstance(r, jax.Array) else np.asarray(r, float)
        with jax.enable_x64(True):
            losses = _losses(self, jnp.asarray(r, jnp.float64))
            return (jnp.asarray(self.weights, jnp.float64) @ losses).astype(r.dtype)

    def optimal_proportions(self, lower: ArrayLike, upper: ArrayLike) -> Array:
        """The exact minimizer r [d] within limits [d], for laws that are a power of the own proportion.

        Differentiable to first order in the limits and in the leaves of the objective.

        Raises:
            InputError: if the law is not such a power.

        Source: arXiv 2405.14908, Eq. 15-16, solved through its dual.
        """
        with jax.enable_x64(True):
            lower, upper = jnp.asarray(lower, jnp.float64), jnp.asarray(upper, jnp.float64)
            scale, exponent = _powers(self, lower)
            return power_dual(scale, exponent, lower, upper)

    @property
    def separable(self) -> bool:
        """Whether the law is a power of the own proportion, so that `optimal_proportions` applies."""
        return type(self.law).own_power is not Law.own_power


def objective(fit: FitResult, *, budget: Budget | None = None, weights: Mapping[str, float] | None = None) -> Objective:
    """The objective that `optimize` minimizes: the weighted mean of predicted losses, as a function of the mixture.

    J(r) = sum_t w_t L_t(r, s), with the weights divided by their sum.

    Args:
        fit: a fitted law.
        budget: volume s in the fit's unit, and the model size where several were fitted.
        weights: w per target; those not named get 0; by default all targets count the same.

    Returns:
        A callable of a mixture r [d]; a pytree.

    Raises:
        InputError: for an unknown target, a negative weight, a budget in another unit, or a target with weight whose
            fit has no usable observation.

    Example:
        >>> import bimixjax, jax, pandas as pd
        >>> table = {"run": ["a"] * 3 + ["b"] * 3, "step": [1, 4, 16] * 2}
        >>> table |= {"mixture/x": [0.25] * 3 + [0.5] * 3, "mixture/y": [0.75] * 3 + [0.5] * 3}
        >>> table |= {"loss/x": [6.0, 4.0, 3.0, 3 * 2**0.5, 2 * 2**0.5, 1.5 * 2**0.5]}
        >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)), priors=False)
        >>> goal = bimixjax.objective(fit, budget=bimixjax.Budget(volume=16, unit="steps"))
        >>> mixture = jax.numpy.array([0.25, 0.75])
        >>> round(float(goal(mixture)), 4), jax.grad(goal)(mixture).round(3).tolist()
        (3.0, [-6.0, 0.0])
    """
    budget = budget or Budget()
    if budget.unit is not None and budget.unit != fit.volume_unit:
        raise InputError(f"the budget is in {budget.unit}; the fit's volume is in {fit.volume_unit}")
    one = fit.one() if budget.model_size is None else fit.at(budget.model_size)
    w = _normalized(one, weights)
    chosen = np.flatnonzero(w > 0)
    blank = [one.targets[t] for t in chosen if not np.isfinite(one.values[t]).all()]
    if blank:
        raise InputError(f"no usable observation of {', '.join(blank)}: give it weight 0 or fit it on other data")
    return Objective(
        law=one.law,
        chosen=tuple(chosen.tolist()),
        own=tuple(one.own[t] for t in chosen),
        values=np.asarray(one.values)[chosen],
        weights=w[chosen],
        volume=np.asarray(one.volume_or_only(budget.volume), float),
    )


def _normalized(fit: FitResult, weights: Mapping[str, float] | None) -> np.ndarray:
    """Weights in the order of the fit's targets, summing to 1."""
    if weights is None:
        return np.full(len(fit.targets), 1 / len(fit.targets))
    _checks.known("target", tuple(weights), fit.targets, "weights")
    w = np.array([float(weights.get(t, 0.0)) for t in fit.targets])
    _checks.every(np.isfinite(w) & (w >= 0), lambda i: f"weight of {fit.targets[i]!r} is {w[i]}; allowed: >= 0")
    if w.sum() == 0:
        raise InputError("all weights are 0; allowed: at least one above 0")
    return w / w.sum()


@jax.jit
def _losses(goal: Objective, r: Array) -> Array:
    return jax.vmap(lambda vector, index: goal.law.loss(*_view(goal, vector, r[index], r)))(*_lanes(goal))


def _powers(goal: Objective, like: Array) -> tuple[Array, Array]:
    """Scale and exponent of each domain's power, zero where no target with weight depends on the domain."""

    def one(vector: Array) -> tuple[Array, Array]:
        power = goal.law.own_power(*_view(goal, vector, jnp.ones(()), like))
        if power is None:
            raise InputError(f"the dual needs a law that is a power of the own proportion; {goal.law.name} is not one")
        return power

    scale, exponent = jax.vmap(one)(_lanes(goal)[0])
    index = jnp.array(goal.own)
    weighted = jnp.asarray(goal.weights, like.dtype) * scale
    return jnp.zeros_like(like).at[index].add(weighted), jnp.zeros_like(like).at[index].add(exponent)


def _lanes(goal: Objective) -> tuple[Array, Array]:
    return jnp.asarray(goal.values, jnp.float64), jnp.array(goal.own)


def _view(goal: Objective, vector: Array, own: Array, mixture: Array) -> tuple[dict[str, Array], Point]:
    """What the law reads: one target's named coefficients, and the mixture at the budget's volume."""
    volume = jnp.asarray(goal.volume, jnp.float64)
    point = Point(mixture=mixture, own=own, volume=volume, model_size=jnp.ones_like(volume))
    return goal.law.unpack(vector, goal.law.ordered(), mixture.shape[-1]), point
