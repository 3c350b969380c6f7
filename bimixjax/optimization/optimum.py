"""Choose the proportions that a fitted law likes best, within limits, with a certificate."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from bimixjax._base import checks, schema, summaries
from bimixjax._base.checks import InputError
from bimixjax._base.records import read_json, write_json
from bimixjax._base.stages import counted
from bimixjax.auto.resampling import AutoResampled
from bimixjax.auto.result import AutoFit
from bimixjax.fitting.base import Extrapolation
from bimixjax.fitting.resampling import Resampled
from bimixjax.fitting.result import FitResult
from bimixjax.mixtures import box_inverse, nearest, softmax_inverse
from bimixjax.observations import UNITS, Budget
from bimixjax.optimization import search as _search
from bimixjax.optimization.objectives import AutoObjective as AutoObjective
from bimixjax.optimization.objectives import Objective as Objective
from bimixjax.optimization.objectives import Weights, check_told, of_resample, untold
from bimixjax.optimization.objectives import objective as objective
from bimixjax.solve import LBFGS, Certificate, softmax_search

Method = Literal["auto", "dual", "softmax"]

# A search in a resample has a good start, and no certificate to meet.
_QUICK = LBFGS(max_steps=200, tolerance=1e-10, patience=3)

# Resamples that are searched side by side.
_TOGETHER = 50

# A share this near a limit stands there.
_NEAR = 1e-9


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
            checks.known("domain", tuple(side), domains, "limits")
        lower = np.array([float(self.lower.get(d, 0.0)) for d in domains])
        upper = np.array([float(self.upper.get(d, 1.0)) for d in domains])
        checks.limits(lower, upper, domains)
        return lower, upper


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimalMixture:
    """The mixture found, what it is predicted to lose, and how sure the search is.

    Args:
        domains, proportions: the mixture.
        targets, losses, weights: predicted losses in nats per token, and the objective's weights (they sum to 1).
        objective: the weighted mean of the losses.
        budget: where the mixture is judged.
        method: "dual" (exact) or "softmax" (L-BFGS from several starts).
        kkt_residual, gap, multiplier: the certificate, see `Certificate`; of a law that is not convex it says only that
            nothing nearby is better. The residual is over the multiplier, or over 1 % of the objective where that is
            larger.
        converged: whether this is a stationary point: a residual of at most 1e-5 and a gap of at most 1e-6.
        at_lower, at_upper: domains that stand at a limit.
        lower, upper: the limits of each domain.
        idle: domains on which no weighted target depends; they get their lower limit, or share what the others cannot
            take or do better without.
        extrapolated: targets whose loss at this mixture and volume lies outside what was fitted.
        outside: what lies outside, and by how much.
        untold: what of the mixture itself follows from no run, in words.

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
    lower: np.ndarray
    upper: np.ndarray
    idle: tuple[str, ...]
    extrapolated: tuple[str, ...]
    outside: tuple[Extrapolation, ...] = ()
    untold: tuple[str, ...] = ()

    @property
    def from_prior(self) -> tuple[str, ...]:
        """Targets whose loss here follows from no run, but from the law and its priors alone."""
        found = {target for one in self.outside if one.from_prior for target in one.targets}
        return tuple(target for target in self.targets if target in found)

    @property
    def fixed(self) -> tuple[str, ...]:
        """Domains whose limits leave one share only."""
        return tuple(d for d, low, high in zip(self.domains, self.lower, self.upper, strict=True) if low == high)

    def allows(self, mixture: ArrayLike) -> bool:
        """Whether another mixture [d] keeps to the limits."""
        r = np.asarray(mixture, float)
        return bool(np.all((r >= self.lower - _NEAR) & (r <= self.upper + _NEAR)))

    def nearest(self, mixture: ArrayLike) -> np.ndarray:
        """The mixture within the limits that is nearest to another one [d]."""
        return nearest(mixture, self.lower, self.upper)

    def __repr__(self) -> str:
        return f"OptimalMixture({summaries.largest(self)}; objective {self.objective:.4f} nats per token)"

    def summary(self) -> str:
        """Say in plain text what was found: shares, predicted losses, and how the search ended."""
        return summaries.optimum(self)

    def as_dict(self) -> dict[str, float]:
        """Proportions by domain."""
        return dict(zip(self.domains, self.proportions.tolist(), strict=True))

    def save(self, path: str | Path) -> None:
        """Write one strict JSON file."""
        write_json(path, self, hashed=True)

    @classmethod
    def load(cls, path: str | Path) -> "OptimalMixture":
        """Read a file written by `save`; an `InputError` if it is not one."""
        found = read_json(path)
        if isinstance(found, dict) and isinstance(domains := found.get("domains"), list):
            # Files of before told neither the limits nor what lies outside of what was fitted.
            before = {"lower": [0.0] * len(domains), "upper": [1.0] * len(domains), "outside": [], "untold": []}
            found = {**before, **found}
            if isinstance(found.get("budget"), dict):
                found["budget"] = {"from_prior": False, **found["budget"]}
        found = schema.read(found, _TABLE, path)
        spot = schema.Spot(file=str(path))
        for field, names in (
            ("at_lower", "domains"),
            ("at_upper", "domains"),
            ("idle", "domains"),
            ("extrapolated", "targets"),
        ):
            checks.known(names, found[field], found[names], f"{field} of {path}")
        if abs(found["weights"].sum() - 1) > 1e-6:
            raise spot.at("weights").wrong(found["weights"].tolist(), "numbers that sum to 1")
        outside = tuple(Extrapolation(**one) for one in found["outside"])
        return cls(**{**found, "outside": outside, "budget": Budget(**found["budget"])})


_TABLE: dict[str, schema.Kind] = {
    "domains": schema.texts("domains", names=True),
    "proportions": schema.shares("domains"),
    "targets": schema.texts("targets", names=True),
    "losses": schema.numbers("targets", null=True),
    "weights": schema.numbers("targets", low=0, high=1),
    "objective": schema.number(),
    "budget": schema.record(
        {
            "volume": schema.maybe(schema.number(low=1e-300)),
            "unit": schema.maybe(schema.text(tuple(UNITS))),
            "model_size": schema.maybe(schema.number(low=1e-300)),
            "from_prior": schema.flag,
        }
    ),
    "method": schema.text(("dual", "softmax")),
    "kkt_residual": schema.number(low=0, null=True),
    "gap": schema.number(null=True),
    "multiplier": schema.number(null=True),
    "converged": schema.flag,
    **dict.fromkeys(("at_lower", "at_upper", "idle", "extrapolated"), schema.texts(names=True)),
    **dict.fromkeys(("lower", "upper"), schema.numbers("domains", low=0, high=1)),
    "outside": schema.each(
        schema.record(
            {
                "kind": schema.text(("share", "volume", "model size")),
                "name": schema.text(),
                "asked": schema.number(low=0),
                "fitted": schema.number(low=0),
                "several": schema.flag,
                "targets": schema.texts(names=True),
                "from_prior": schema.flag,
            }
        )
    ),
    "untold": schema.texts(),
}


def optimize(
    fit: FitResult | AutoFit,
    *,
    budget: Budget | None = None,
    weights: Weights | None = None,
    limits: Limits | None = None,
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
            volume was fitted.
        weights: w by target, those not named get 0, or in the order of `fit.targets`; by default all count the same.
        limits: the least and the most of each domain.
        method: "dual", exact, for laws that are a power of the own proportion; "softmax", L-BFGS, for every law; "auto"
            takes the dual where it can.
        reference: a mixture, by domain or in the order of `fit.domains`, as `mixtures.natural` gives it: domains on
            which no weighted target depends share in its proportions what falls to them; by default all alike.
        solver: settings of the L-BFGS.
        starts: how many points the L-BFGS starts from: the middle of the limits, the best vertices, and the best, apart
            from each other, of 2048 random mixtures, those near the vertices and those that were measured.

    Returns:
        The mixture with its certificate; where `converged` is false, none was found, and this is where the search
        stopped.

    Raises:
        InputError: for limits that no mixture meets, an unknown domain or target, a budget in another unit or at a
            volume of which nothing fitted tells, a target with weight whose fit has no usable observation, runs that do
            not tell mixtures apart, or an objective that is not finite.

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
    checks.choice("method", method, ("auto", "dual", "softmax"))
    goal = objective(fit, budget=budget, weights=weights)
    check_told(fit, goal, budget)
    lower, upper = (limits or Limits()).arrays(fit.domains)
    if method == "dual" and not goal.separable:
        raise InputError(f"the dual needs a law that is a power of the own proportion; {_law_name(fit)} is not one")
    exact = goal.separable and method != "softmax"
    shares = _reference(reference, fit.domains)
    with jax.enable_x64(True):
        flat = _search.flat_domains(goal, len(lower))
        if flat.all():
            r = nearest(lower, lower, upper)
        elif exact:
            r = np.asarray(goal.optimal_proportions(lower, upper))
        else:
            at = {"solver": solver or LBFGS(), "starts": starts}
            r = _search.search(goal, lower, upper, _measured(fit.at_size(budget.model_size)), **at)
        r = None if r is None else _shared(r, flat, shares, lower, upper)
        found = None if r is None else _search.certificate(goal, r, lower, upper)
    if r is None or found is None:
        raise InputError(_not_finite(fit, goal, nearest(shares, lower, upper), budget, "no mixture that was looked at"))
    return _describe(fit, budget, goal, (r, found), flat, "dual" if exact else "softmax", (lower, upper))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimalResamples:
    """The mixture chosen, and the one that each resample of the runs, or draw of what a fit leaves open, would choose.

    Args:
        best: the mixture chosen, by the fit of the runs as they are.
        proportions: the best mixture of each resample or draw [R, d].
        regret: by how much the objective of each resample is higher at `best` than at its own mixture [R], in nats per
            token.
        converged: whether the search in each resample ended by itself [R].

    Example:
        >>> import bimixjax, jax
        >>> import pandas as pd
        >>> table = {"run": list("abcd"), "mixture/x": [0.2, 0.4, 0.6, 0.8], "mixture/y": [0.8, 0.6, 0.4, 0.2]}
        >>> table |= {"loss/x": [3.31, 2.77, 2.56, 2.37], "loss/y": [2.37, 2.54, 2.79, 3.30]}
        >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table))
        >>> resamples = bimixjax.bootstrap("bimix", observations, key=jax.random.key(0), count=50)
        >>> found = bimixjax.optimize_resamples(resamples)
        >>> lower, upper = found.interval(level=0.9)
        >>> bool((lower < found.best.proportions).all() and (found.best.proportions < upper).all())
        True
    """

    best: OptimalMixture
    proportions: np.ndarray
    regret: np.ndarray
    converged: np.ndarray

    def __repr__(self) -> str:
        return f"OptimalResamples({self.best!r}; {len(self.proportions)} resamples or draws)"

    def summary(self) -> str:
        """Say in plain text what was found, and how far the mixtures of resamples or draws go from it."""
        ends = zip(self.best.domains, *self.interval(), strict=True)
        rows = [[name, f"{low:.4f}", f"to {high:.4f}"] for name, low, high in ends]
        said = f"Shares in 90 % of {len(self.proportions)} resamples or draws"
        regret = f"expected regret {self.expected_regret:.2g} nats per token"
        return "\n".join([self.best.summary(), said, summaries.aligned(rows), regret])

    @property
    def expected_regret(self) -> float:
        """Mean over resamples of what `best` loses against their own mixtures, in nats per token."""
        return float(np.mean(self.regret))

    def regret_limit(self, *, level: float = 0.9) -> float:
        """What the regret stays below in the share `level` of the resamples, in nats per token.

        Raises:
            InputError: for a level that is not above 0 and below 1.
        """
        checks.share("level", level)
        return float(np.quantile(self.regret, level))

    def interval(self, *, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """The limits that hold the share `level` of the resamples' proportions of each domain, in the middle.

        Returns:
            Lower and upper proportions [d], in the order of `best.domains`. They need not sum to 1.

        Raises:
            InputError: for a level that is not above 0 and below 1.
        """
        checks.share("level", level)
        lower, upper = np.quantile(self.proportions, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return lower, upper


def optimize_resamples(
    found: Resampled | AutoResampled,
    *,
    budget: Budget | None = None,
    weights: Weights | None = None,
    limits: Limits | None = None,
    method: Method = "auto",
    reference: Mapping[str, float] | ArrayLike | None = None,
    solver: LBFGS = _QUICK,
    starts: int = 3,
) -> OptimalResamples:
    """Find the best mixture of a fit and of every resample of its runs: how sure is the mixture, and what it may cost.

    For each resample b with objective J_b, minimize J_b(r) under the same budget, weights and limits. The regret of the
    chosen mixture r* in it is J_b(r*) - min J_b. Proportions may be wide open where the regret is small: the objective
    is then flat there. Neither counts what the law itself misses.

    Args:
        found: what `bootstrap` or `sample` gave.
        budget: as in `optimize`.
        weights: as in `optimize`.
        limits: as in `optimize`.
        method: as in `optimize`.
        reference: as in `optimize`.
        solver: settings of the L-BFGS in the resamples; the fit's own search is that of `optimize`.
        starts: how many points it starts from in each: the mixture chosen, the middle of the limits, random ones.

    Returns:
        The mixtures of the fit and of the resamples.

    Raises:
        InputError: as `optimize`.

    Example:
        >>> import bimixjax, jax
        >>> import pandas as pd
        >>> table = {"run": list("abcd"), "mixture/x": [0.2, 0.4, 0.6, 0.8], "mixture/y": [0.8, 0.6, 0.4, 0.2]}
        >>> table |= {"loss/x": [3.31, 2.77, 2.56, 2.37], "loss/y": [2.37, 2.54, 2.79, 3.30]}
        >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table))
        >>> resamples = bimixjax.bootstrap("bimix", observations, key=jax.random.key(0), count=50)
        >>> found = bimixjax.optimize_resamples(resamples)
        >>> found.proportions.shape, bool(0 <= found.expected_regret < 0.01)
        ((50, 2), True)
    """
    budget = budget or Budget()
    best = optimize(found.fit, budget=budget, weights=weights, limits=limits, method=method, reference=reference)
    goal = objective(found.fit, budget=budget, weights=weights)
    lower, upper = (limits or Limits()).arrays(found.fit.domains)
    with jax.enable_x64(True):
        if best.method == "dual":
            where = (lower, upper, best.proportions)
            search = partial(_dual_resamples, goal, found, where, model_size=budget.model_size)
        else:
            at_lower = np.isin(best.domains, best.idle) & (best.proportions <= lower + _NEAR)
            where = (lower, _pinned(lower, upper, at_lower), best.proportions)
            settings = {"model_size": budget.model_size, "solver": solver, "starts": starts}
            search = partial(_softmax_resamples, goal, found, where, **settings)
        return OptimalResamples(best=best, **_searched(search, len(found)))


def _searched(search: Callable[[np.ndarray], dict[str, Array]], count: int) -> dict[str, np.ndarray]:
    """Search in all resamples, some at a time; the last ones are filled up, so that one program serves all."""
    width = min(count, _TOGETHER)
    begins, parts = range(0, count, width), []
    for begin in counted("searches", len(begins), begins):
        found = search(np.minimum(np.arange(begin, begin + width), count - 1))
        parts.append({name: np.asarray(values) for name, values in found.items()})
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def _law_name(fit: FitResult | AutoFit) -> str:
    return "auto" if isinstance(fit, AutoFit) else fit.law.name


def _pinned(lower: np.ndarray, upper: np.ndarray, idle: np.ndarray) -> Array | None:
    """Upper limits for the search, with idle domains held at their lower ones where the rest can fill the mixture."""
    pinned = np.where(idle, lower, upper)
    used = pinned if pinned.sum() >= 1 else upper
    return jnp.asarray(used) if (used < 1).any() else None


@partial(jax.jit, static_argnames=("model_size",))
def _dual_resamples(
    goal: Objective | AutoObjective,
    found: Resampled | AutoResampled,
    where: tuple[Array, Array, Array],
    index: Array,
    *,
    model_size: float | None,
) -> dict[str, Array]:
    """The exact optimum of some resamples; `where`: the limits, and the mixture chosen."""
    lower, upper, chosen = where

    def one(index: Array) -> dict[str, Array]:
        own = of_resample(goal, found, index, model_size)
        r = own.optimal_proportions(lower, upper)
        return {"proportions": r, "regret": jnp.maximum(own(chosen) - own(r), 0.0), "converged": jnp.asarray(True)}

    return jax.vmap(one)(index)


@partial(jax.jit, static_argnames=("model_size", "solver", "starts"))
def _softmax_resamples(
    goal: Objective | AutoObjective,
    found: Resampled | AutoResampled,
    where: tuple[Array, Array | None, Array],
    index: Array,
    *,
    model_size: float | None,
    solver: LBFGS,
    starts: int,
) -> dict[str, Array]:
    """A search in some resamples; its first start is the mixture chosen, a little inside of the limits."""
    lower, searched, chosen = where
    z = jax.random.normal(jax.random.key(0), (starts, lower.shape[0]), lower.dtype)
    z = z.at[1:2].set(0.0).at[0].set(_inside(chosen, lower, searched))

    def one(index: Array) -> dict[str, Array]:
        own = of_resample(goal, found, index, model_size)
        ends, minima = softmax_search(own, lower, searched, z, solver)
        best = jnp.argmin(jnp.where(jnp.isfinite(minima.value), minima.value, jnp.inf))
        regret = own(chosen) - minima.value[best]
        # The search ends a little inside of a limit where the mixture chosen may stand.
        r = jnp.where(regret > 0, ends[best], chosen)
        return {"proportions": r, "regret": jnp.maximum(regret, 0.0), "converged": minima.converged[best]}

    return jax.vmap(one)(index)


def _inside(r: Array, lower: Array, upper: Array | None) -> Array:
    """Where the search finds a mixture near r that keeps off the limits."""
    if upper is None:
        room = 1 - jnp.sum(lower)
        return softmax_inverse(lower + 0.99 * (r - lower) + 0.01 * room / len(r), lower)
    return box_inverse(lower + 0.01 * (upper - lower) + 0.98 * (r - lower), lower, upper)


def _measured(fit: FitResult | AutoFit) -> np.ndarray:
    """The mixtures that a fit of one size has seen [m, d]."""
    known = np.asarray(fit.sizes[0].mixture).T if isinstance(fit, AutoFit) else fit.mixtures
    return np.asarray(known, float).reshape(-1, len(fit.domains))


def _reference(given: Mapping[str, float] | ArrayLike | None, domains: tuple[str, ...]) -> np.ndarray:
    """The mixture that domains without a say follow, in the order of `domains`."""
    if given is None:
        return np.full(len(domains), 1 / len(domains))
    if isinstance(given, Mapping):
        checks.known("domain", tuple(given), domains, "reference")
        given = [float(given.get(domain, 0.0)) for domain in domains]
    shares = np.asarray(given, float)
    if shares.shape != (len(domains),):
        raise InputError(f"reference has shape {shares.shape}; allowed: [{len(domains)}], for {', '.join(domains)}")
    checks.mixtures(shares, domains)
    return shares


def _shared(r: np.ndarray, flat: np.ndarray, reference: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """The mixture with what falls to domains without a slope split in the proportions of a reference, within limits."""
    low, high, like, mass = lower[flat], upper[flat], reference[flat], float(r[flat].sum())
    there = like > 0
    # sum clip(scale like, low, high) grows with the scale along straight lines between these.
    knots = np.unique(np.concatenate([[0.0], low[there] / like[there], high[there] / like[there]]))
    sums = np.array([np.clip(knot * like, low, high).sum() for knot in knots])
    shares = np.clip(np.interp(mass, sums, knots) * like, low, high)
    # What is left is for those that the reference does not have.
    room, left = np.where(there, 0.0, high - low), max(mass - shares.sum(), 0.0)
    found = r.copy()
    found[flat] = shares + left * room / max(room.sum(), np.finfo(float).tiny)
    return found


def _idle(goal: Objective | AutoObjective, flat: np.ndarray) -> np.ndarray:
    """The domains on which no weighted target depends, of those without a slope [d].

    Where a law says what other domains are worth beside the target's own, the slope in that one may be zero by
    convention: it is the others' that say what the own domain is worth.
    """
    if isinstance(goal, AutoObjective) or flat.all() or (goal.law.own_proportion and not goal.law.cross_domain):
        return flat
    return flat & ~np.isin(np.arange(len(flat)), goal.own)


def _not_finite(
    fit: FitResult | AutoFit, goal: Objective | AutoObjective, r: np.ndarray, budget: Budget, where: str
) -> str:
    """Which targets have no finite loss at a mixture, in words."""
    one = fit.at_size(budget.model_size)
    losses = np.asarray(one.predict(r, goal.volume, budget.model_size))
    bad = [f"{one.targets[t]} ({losses[t]:g})" for t in goal.chosen if not np.isfinite(losses[t])]
    at = ", ".join(f"{domain}={share:.3g}" for domain, share in zip(fit.domains, r, strict=True))
    return f"the objective is finite at {where} within the limits; at {at} these losses are not: {', '.join(bad)}"


def _describe(
    fit: FitResult | AutoFit,
    budget: Budget,
    goal: Objective | AutoObjective,
    found: tuple[np.ndarray, Certificate],
    flat: np.ndarray,
    method: str,
    limits: tuple[np.ndarray, np.ndarray],
) -> OptimalMixture:
    one, (r, known) = fit.at_size(budget.model_size), found
    names, (lower, upper) = np.array(fit.domains), limits
    asked = r, goal.volume, budget.model_size
    outside, reasons = one.extrapolates(*asked), one.extrapolations(*asked)[0]
    losses, weights = np.asarray(one.predict(*asked, from_prior=True)), np.zeros(len(one.targets))
    weights[list(goal.chosen)] = goal.weights
    objective = float(weights[weights > 0] @ losses[weights > 0])
    if not np.isfinite(objective):
        raise InputError(_not_finite(fit, goal, r, budget, "no mixture"))
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
        converged=_search.settled(known),
        at_lower=tuple(names[r <= lower + _NEAR].tolist()),
        at_upper=tuple(names[(r >= upper - _NEAR) & (upper < 1)].tolist()),
        lower=lower,
        upper=upper,
        idle=tuple(names[_idle(goal, flat)].tolist()),
        extrapolated=tuple(np.array(one.targets)[outside].tolist()),
        outside=reasons,
        untold=untold(fit, goal, budget, r),
    )
