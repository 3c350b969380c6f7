"""Choose the proportions that a fitted law likes best, within limits, with a certificate."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bimixjax import _checks
from bimixjax._auto_result import AutoFit
from bimixjax._checks import InputError
from bimixjax._fit_result import FitResult
from bimixjax._objective import AutoObjective as AutoObjective
from bimixjax._objective import Objective as Objective
from bimixjax._objective import Weights
from bimixjax._objective import objective as objective
from bimixjax._records import read_json, record, write_json
from bimixjax.observations import Budget
from bimixjax.solve import LBFGS, Certificate, certify, softmax_search

Method = Literal["auto", "dual", "softmax"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """The least and the most that domains may take; a domain not named may take anything from 0 to 1.

    Example:
        >>> from bimixjax import Limits
        >>> Limits(lower={"code": 0.05}, upper={"web": 0.6}).arrays(("web", "code"))[1].tolist()
        [0.6, 1.0]
    """

    lower: Mapping[str, float] = dataclasses.field(default_factory=dict)
    upper: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def arrays(self, domains: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper limits in the order of `domains`; an `InputError` where no mixture can meet them."""
        for side in (self.lower, self.upper):
            _checks.known("domain", tuple(side), domains, "limits")
        lower = np.array([float(self.lower.get(d, 0.0)) for d in domains])
        upper = np.array([float(self.upper.get(d, 1.0)) for d in domains])
        _checks.limits(lower, upper, domains)
        return lower, upper


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimalMixture:
    """The mixture found, what it is predicted to lose, and how sure the search is that nothing feasible is better.

    Args:
        domains, proportions: the mixture.
        targets, losses, weights: predicted losses in nats per token, and the objective's weights (they sum to 1).
        objective: the weighted mean of the losses.
        budget: where the mixture is judged.
        method: "dual" (exact) or "softmax" (L-BFGS from several starts).
        kkt_residual, gap, multiplier: the certificate, see `Certificate`.
        converged: whether the search ended by itself.
        at_lower, at_upper: domains that stand at a limit.
        idle: domains on which no weighted target depends; they get their lower limit.
        extrapolated: targets whose loss at this mixture and volume lies outside what was fitted.

    Example:
        >>> import pandas as pd
        >>> import bimixjax
        >>> table = {"run": ["a", "b"], "mixture/x": [0.25, 0.5], "mixture/y": [0.75, 0.5]}
        >>> table |= {"loss/x": [4.0, 8.0**0.5], "loss/y": [4 / 3**0.5, 8.0**0.5]}
        >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)), priors=False)
        >>> best = bimixjax.optimize(fit)
        >>> best.proportions.round(6).tolist(), best.method, best.kkt_residual < 1e-10
        ([0.5, 0.5], 'dual', True)
    """

    domains: tuple[str, ...]
    proportions: np.ndarray
    targets: tuple[str, ...]
    losses: np.ndarray
    weights: np.ndarray
    objective: float
    budget: Budget
    method: str
    kkt_residual: float
    gap: float
    multiplier: float
    converged: bool
    at_lower: tuple[str, ...]
    at_upper: tuple[str, ...]
    idle: tuple[str, ...]
    extrapolated: tuple[str, ...]

    def as_dict(self) -> dict[str, float]:
        """Proportions by domain."""
        return dict(zip(self.domains, self.proportions.tolist(), strict=True))

    def save(self, path: str | Path) -> None:
        """Write one strict JSON file."""
        write_json(path, self)

    @classmethod
    def load(cls, path: str | Path) -> "OptimalMixture":
        """Read a file written by `save`; an `InputError` if it is not one."""
        found = _checks.fields(read_json(path), [f.name for f in dataclasses.fields(cls)], path)
        tuples = {k: tuple(v) for k, v in found.items() if isinstance(v, list)}
        arrays = {k: np.array(found[k], float) for k in ("proportions", "losses", "weights")}
        return cls(**{**found, **tuples, **arrays, "budget": Budget(**found["budget"])})


def optimize(
    fit: FitResult | AutoFit,
    *,
    budget: Budget | None = None,
    weights: Weights | None = None,
    limits: Limits | None = None,
    method: Method = "auto",
    solver: LBFGS | None = None,
    starts: int = 8,
) -> OptimalMixture:
    """Find the mixture with the least weighted mean of predicted losses at a budget.

    minimize sum_t w_t L_t(r, s) over r with sum r = 1 and lower <= r <= upper.

    Args:
        fit: a fitted law.
        budget: volume s in the fit's unit, and the model size where several were fitted; may be left out where a single
            volume was fitted.
        weights: w by target, those not named get 0, or in the order of `fit.targets`; by default all count the same.
        limits: the least and the most of each domain.
        method: "dual", exact, for laws that are a power of the own proportion; "softmax", L-BFGS from the middle of the
            limits and random mixtures, for every law; "auto" takes the dual where it can.
        solver: settings of the L-BFGS.
        starts: how many points the L-BFGS starts from.

    Returns:
        The mixture with its certificate.

    Raises:
        InputError: for limits that no mixture meets, an unknown domain or target, a budget in another unit, or a target
            with weight whose fit has no usable observation.

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
    budget = budget or Budget()
    _checks.choice("method", method, ("auto", "dual", "softmax"))
    goal = objective(fit, budget=budget, weights=weights)
    lower, upper = (limits or Limits()).arrays(fit.domains)
    if method == "dual" and not goal.separable:
        raise InputError(f"the dual needs a law that is a power of the own proportion; {_law_name(fit)} is not one")
    exact = goal.separable and method != "softmax"
    with jax.enable_x64(True):
        idle = np.asarray(_idle(goal, jnp.asarray(lower)))
        if exact:
            found = _dual(goal, jnp.asarray(lower), jnp.asarray(upper))
        else:
            pinned = _pinned(lower, upper, idle)
            found = _softmax(
                goal, jnp.asarray(lower), jnp.asarray(upper), pinned, solver=solver or LBFGS(), starts=starts
            )
    return _describe(
        fit, budget, goal, jax.tree.map(np.asarray, found), idle, "dual" if exact else "softmax", (lower, upper)
    )


def _law_name(fit: FitResult | AutoFit) -> str:
    return "auto" if isinstance(fit, AutoFit) else fit.law.name


def _pinned(lower: np.ndarray, upper: np.ndarray, idle: np.ndarray) -> Array | None:
    """Upper limits for the search, with idle domains held at their lower ones where the rest can fill the mixture."""
    pinned = np.where(idle, lower, upper)
    used = pinned if pinned.sum() >= 1 else upper
    return jnp.asarray(used) if (used < 1).any() else None


@record
class _Found:
    """A mixture, its certificate, and whether the search ended by itself."""

    r: Array
    certificate: Certificate
    converged: Array


@jax.jit
def _dual(goal: Objective | AutoObjective, lower: Array, upper: Array) -> _Found:
    r = goal.optimal_proportions(lower, upper)
    return _Found(r=r, certificate=certify(jax.grad(goal)(r), r, lower, upper), converged=jnp.asarray(True))


@partial(jax.jit, static_argnames=("solver", "starts"))
def _softmax(
    goal: Objective | AutoObjective, lower: Array, upper: Array, searched: Array | None, *, solver: LBFGS, starts: int
) -> _Found:
    """L-BFGS from the middle of the limits and from random mixtures; `searched` are its upper limits, if any."""
    z = jax.random.normal(jax.random.key(0), (starts, lower.shape[0]), lower.dtype).at[0].set(0.0)
    ends, minima = softmax_search(goal, lower, searched, z, solver)
    best = jnp.argmin(jnp.where(jnp.isfinite(minima.value), minima.value, jnp.inf))
    r = ends[best]
    return _Found(r=r, certificate=certify(jax.grad(goal)(r), r, lower, upper), converged=minima.converged[best])


@jax.jit
def _idle(goal: Objective | AutoObjective, like: Array) -> Array:
    """Domains in which the objective has no slope, read at three random mixtures."""
    z = jax.random.normal(jax.random.key(1), (3, like.shape[0]), like.dtype)
    slopes = jax.vmap(lambda free: jax.grad(goal)(jax.nn.softmax(free)))(z)
    return jnp.all(slopes == 0, axis=0)


def _describe(
    fit: FitResult | AutoFit,
    budget: Budget,
    goal: Objective | AutoObjective,
    found: _Found,
    idle: np.ndarray,
    method: str,
    limits: tuple[np.ndarray, np.ndarray],
) -> OptimalMixture:
    one = fit.at_size(budget.model_size)
    names, (lower, upper) = np.array(fit.domains), limits
    near = 1e-9
    outside = one.extrapolates(found.r, goal.volume, budget.model_size)
    weights = np.zeros(len(one.targets))
    weights[list(goal.chosen)] = goal.weights
    return OptimalMixture(
        domains=fit.domains,
        proportions=np.asarray(found.r),
        targets=one.targets,
        losses=np.asarray(one.predict(found.r, goal.volume, budget.model_size)),
        weights=weights,
        objective=float(goal(found.r)),
        budget=Budget(volume=float(goal.volume), unit=one.volume_unit, model_size=budget.model_size),
        method=method,
        kkt_residual=float(found.certificate.kkt_residual),
        gap=float(found.certificate.gap),
        multiplier=float(found.certificate.multiplier),
        converged=bool(found.converged),
        at_lower=tuple(names[found.r <= lower + near].tolist()),
        at_upper=tuple(names[(found.r >= upper - near) & (upper < 1)].tolist()),
        idle=tuple(names[idle].tolist()),
        extrapolated=tuple(np.array(one.targets)[outside].tolist()),
    )
