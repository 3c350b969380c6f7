"""The objective of a search over mixtures: the weighted mean of a fit's losses at a budget."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from bimixjax._base import checks
from bimixjax._base.checks import InputError
from bimixjax._base.float64 import in_float64
from bimixjax._base.records import Leaf, record, static
from bimixjax.auto.resampling import AutoResampled
from bimixjax.auto.result import AutoFit
from bimixjax.fitting.coverage import Coverage
from bimixjax.fitting.resampling import Resampled
from bimixjax.fitting.result import FitResult, target_loss
from bimixjax.laws import Law, Point, power
from bimixjax.observations import Budget
from bimixjax.solve import power_dual

# Objective weights: by target, or in the order of a fit's targets.
Weights = Mapping[str, float] | ArrayLike


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
        model_size: N in parameters; 1 where the law does not read it.
    """

    law: Law = static()
    chosen: tuple[int, ...] = static()
    own: tuple[int, ...] = static()
    values: Leaf
    weights: Leaf
    volume: Leaf
    model_size: Leaf

    def __call__(self, r: ArrayLike) -> Array:
        """The objective at a mixture r [d], in the floating dtype of r."""
        r = r if isinstance(r, jax.Array) else np.asarray(r, float)
        with jax.enable_x64(True):
            return _value(self, jnp.asarray(r, jnp.float64)).astype(r.dtype)

    def at_volume(self, volume: ArrayLike) -> "Objective":
        """The same objective at another volume, which may be traced."""
        return dataclasses.replace(self, volume=volume)

    def optimal_proportions(self, lower: ArrayLike, upper: ArrayLike) -> Array:
        """The exact minimizer r [d] within limits [d], for laws that are a power of the own proportion.

        Differentiable to first order in the limits and in the leaves of the objective.

        Raises:
            InputError: if the law is not such a power.

        Source: arXiv 2405.14908, Eq. 15-16, solved through its dual.
        """
        if not self.separable:
            raise InputError(f"the dual needs a law that is a power of the own proportion; {self.law.name} is not one")
        with jax.enable_x64(True):
            return _optimum(self, jnp.asarray(lower, jnp.float64), jnp.asarray(upper, jnp.float64))

    @property
    def separable(self) -> bool:
        """Whether the law is a power of the own proportion, so that `optimal_proportions` applies."""
        return type(self.law).own_power is not Law.own_power


@record
class AutoObjective:
    """J(r) = sum_t w_t L_t(r, s) of a fit of `auto` at one budget; used as `Objective` is.

    Args:
        fit: the fit, of one model size.
        chosen: the targets that have weight.
        weights: w [t], summing to 1.
        volume: s in the fit's unit.
    """

    fit: AutoFit
    chosen: tuple[int, ...] = static()
    weights: Leaf
    volume: Leaf

    def __call__(self, r: ArrayLike) -> Array:
        """The objective at a mixture r [d], in the floating dtype of r."""
        r = r if isinstance(r, jax.Array) else np.asarray(r, float)
        with jax.enable_x64(True):
            return _auto_value(self, jnp.asarray(r, jnp.float64)).astype(r.dtype)

    def at_volume(self, volume: ArrayLike) -> "AutoObjective":
        """The same objective at another volume, which may be traced."""
        return dataclasses.replace(self, volume=volume)

    @property
    def separable(self) -> bool:
        """Never: an average of laws has no exact minimizer."""
        return False

    def optimal_proportions(self, lower: ArrayLike, upper: ArrayLike) -> Array:
        """Not to be had: see `separable`."""
        raise InputError("the dual needs a law that is a power of the own proportion; auto is not one")


def objective(
    fit: FitResult | AutoFit, *, budget: Budget | None = None, weights: Weights | None = None
) -> Objective | AutoObjective:
    """The objective that `optimize` minimizes: the weighted mean of predicted losses, as a function of the mixture.

    J(r) = sum_t w_t L_t(r, s), with the weights divided by their sum.

    Args:
        fit: a fitted law.
        budget: volume s in the fit's unit, and the model size where several were fitted.
        weights: w by target, those not named get 0, or in the order of `fit.targets`; by default all count the same.

    Returns:
        A callable of a mixture r [d]; a pytree.

    Raises:
        InputError: for an unknown target, a negative weight, a budget in another unit or at a volume of which nothing
            fitted tells, or a target with weight whose fit has no usable observation.

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
    w = _normalized(one, weights)
    chosen = np.flatnonzero(w > 0)
    known = np.isfinite(one.sizes[0].center if isinstance(one, AutoFit) else one.values.sum(-1))
    blank = [one.targets[t] for t in chosen if not known[t]]
    if blank:
        raise InputError(f"no usable observation of {', '.join(blank)}: give it weight 0 or fit it on other data")
    s = one.allowed_volume(budget.volume, from_prior=budget.from_prior, lanes=chosen.tolist())
    volume = np.asarray(s, float)
    if isinstance(one, AutoFit):
        return AutoObjective(fit=one, chosen=tuple(chosen.tolist()), weights=w[chosen], volume=volume)
    return Objective(
        law=one.law,
        chosen=tuple(chosen.tolist()),
        own=tuple(one.own[t] for t in chosen),
        values=np.asarray(one.values)[chosen],
        weights=w[chosen],
        volume=volume,
        model_size=np.asarray(one.size_or_only(budget.model_size), float),
    )


def check_told(fit: FitResult | AutoFit, goal: Objective | AutoObjective, budget: Budget) -> None:
    """Raise an `InputError` where no weighted target's rows tell mixtures apart, unless priors are asked for."""
    weighted = fit.at_size(budget.model_size).coverage.take(goal.chosen)
    if not weighted.tells.any() and not budget.from_prior:
        raise InputError(
            f"{_alike(weighted)}; fit runs of other mixtures; --from-prior (in Python Budget(from_prior=True)) "
            "searches by the priors"
        )


def untold(
    fit: FitResult | AutoFit, goal: Objective | AutoObjective, budget: Budget, mixture: np.ndarray
) -> tuple[str, ...]:
    """What of a mixture follows from no run: shares that never varied, and those that were always in one ratio."""
    one = fit.at_size(budget.model_size)
    weighted = one.coverage.take(goal.chosen)
    if not weighted.tells.any():
        return (f"{_alike(weighted)}; the mixture found rests on the law and its priors",)
    own, said = set(weighted.own.tolist()), []
    for gap in weighted.gaps():
        read = {gap.domain, gap.domain if gap.other is None else gap.other} <= own or -1 in own
        if read and (left := gap.left(mixture)):
            said.append(f"{gap.words(one.domains)}; {left} rests on the law and its priors")
    return tuple(said)


def _alike(weighted: Coverage) -> str:
    """Why runs do not tell mixtures apart."""
    same = weighted.varies.any() or weighted.fixed.all()
    why = "the runs do not differ in their shares" if same else "losses are the same in all runs"
    return f"nothing here tells mixtures apart: {why}"


def of_resample(
    goal: Objective | AutoObjective, found: Resampled | AutoResampled, index: int | Array, model_size: float | None
) -> Objective | AutoObjective:
    """The objective of a fit, with the coefficients of one of its resamples."""
    fit = found.resample(index).at_size(model_size)
    if isinstance(fit, AutoFit):
        return dataclasses.replace(goal, fit=fit)
    return dataclasses.replace(goal, values=fit.values[np.array(goal.chosen)])


def _normalized(fit: FitResult | AutoFit, weights: Weights | None) -> np.ndarray:
    """Weights in the order of the fit's targets, summing to 1."""
    count = len(fit.targets)
    if weights is None:
        return np.full(count, 1 / count)
    if isinstance(weights, Mapping):
        checks.known("target", tuple(weights), fit.targets, "weights")
        weights = [float(weights.get(target, 0.0)) for target in fit.targets]
    w = np.asarray(weights, float)
    if w.shape != (count,):
        raise InputError(f"weights have shape {w.shape}; allowed: [{count}], for {', '.join(fit.targets)}")
    checks.every(np.isfinite(w) & (w >= 0), lambda i: f"weight of {fit.targets[i]!r} is {w[i]}; allowed: >= 0")
    if w.max() == 0:
        raise InputError("all weights are 0; allowed: at least one above 0")
    # By the largest first: the sum of large weights is beyond floating point.
    return w / w.max() / (w / w.max()).sum()


@jax.jit
def _value(goal: Objective, mixture: Array) -> Array:
    values, weights, volume, size = _leaves(goal)
    losses = jax.vmap(target_loss(goal.law), in_axes=(0, 0, None, None, None))
    return jnp.sum(weights * losses(values, jnp.array(goal.own), mixture, volume, size))


@jax.jit
def _auto_value(goal: AutoObjective, mixture: Array) -> Array:
    fit, weights, volume = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float64), (goal.fit, goal.weights, goal.volume)
    )
    losses = fit.losses_at(mixture, volume)
    return jnp.sum(weights * jnp.stack([losses[t] for t in goal.chosen]))


@jax.jit
def _optimum(goal: Objective, lower: Array, upper: Array) -> Array:
    values, weights, volume, size = _leaves(goal)
    powers = jax.vmap(_own_power(goal.law, lower.shape[0]), in_axes=(0, None, None), out_axes=1)
    scale, exponent, offset = powers(values, volume, size)
    domain = jnp.array(goal.own)[:, None] == jnp.arange(lower.shape[0])
    scale = jnp.sum(jnp.where(domain, (weights * scale)[:, None], 0.0), axis=0)
    exponent = jnp.sum(jnp.where(domain, exponent[:, None], 0.0), axis=0)
    offset = jnp.sum(jnp.where(domain, offset[:, None], 0.0), axis=0)
    # The shifted shares r + e, over their sum, are a mixture again.
    total = 1 + jnp.sum(offset)
    shifted = in_float64(power_dual)(
        scale * power(total, -exponent), exponent, (lower + offset) / total, (upper + offset) / total
    )
    return jnp.clip(shifted * total - offset, lower, upper)


def _leaves(goal: Objective) -> list[Array]:
    return [jnp.asarray(leaf, jnp.float64) for leaf in (goal.values, goal.weights, goal.volume, goal.model_size)]


def _own_power(law: Law, domains: int) -> Callable[[Array, Array, Array], Array]:
    """Scale, exponent and offset [3] of one target's power, from packed coefficients [k], volume s and size N."""

    def found(vector: Array, volume: Array, size: Array) -> Array:
        named, one = law.unpack(vector, law.ordered(), domains), jnp.ones_like(volume)
        point = Point(mixture=jnp.full(domains, one), own=one, volume=volume, model_size=size)
        return jnp.stack(law.own_power(named, point))

    return in_float64(found)
