"""The mixture of least predicted loss within limits, with a certificate."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from numpy.typing import ArrayLike

from bimixjax._base import checks, schema, summaries
from bimixjax._base.checks import InputError
from bimixjax._base.records import read_json, write_json
from bimixjax.auto.result import AutoFit
from bimixjax.fitting.base import Fit
from bimixjax.fitting.extrapolation import Extrapolation
from bimixjax.mixtures import nearest
from bimixjax.observations import UNITS, Budget
from bimixjax.optimization import search
from bimixjax.optimization.chosen import chosen_interval
from bimixjax.optimization.objectives import Objective, Weights, check_constrained, objective, unconstrained
from bimixjax.solve import LBFGS, Certificate

Method = Literal["auto", "dual", "softmax"]

# A share this near a limit stands there.
NEAR = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds on the proportions: the least and the most of each domain; of one not named, 0 and 1.

    Attributes:
        lower, upper: by domain.

    Example:
        >>> from bimixjax import Limits
        >>> Limits(lower={"code": 0.05}, upper={"web": 0.6}).arrays(("web", "code"))[1].tolist()
        [0.6, 1.0]
    """

    lower: Mapping[str, float] = dataclasses.field(default_factory=dict)
    upper: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def arrays(self, domains: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper limits in the order of `domains`; raise `InputError` where no mixture meets them."""
        for side in (self.lower, self.upper):
            checks.known("domain", tuple(side), domains, "limits")
        lower = np.array([float(self.lower.get(d, 0.0)) for d in domains])
        upper = np.array([float(self.upper.get(d, 1.0)) for d in domains])
        checks.limits(lower, upper, domains)
        return lower, upper


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimalMixture:
    """The mixture found, what it is predicted to lose, and how sure the search is.

    Attributes:
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
        idle: domains on which no weighted target depends; they get their lower limit, or share what is best not given
            to the others.
        extrapolated: targets whose loss at this mixture and volume lies outside what was fitted.
        outside: what lies outside, and by how much.
        untold: what of the mixture itself no run constrains, in words.
        objective_interval: limits that hold the measured objective in 90 % of cases, moved up for the mixture being
            the best of many by the fit, see `chosen_interval`; None where a fit has no intervals.

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
    objective_interval: tuple[float, float] | None = None

    @property
    def from_prior(self) -> tuple[str, ...]:
        """The targets whose loss here no run constrains, but the law and its priors alone."""
        found = {target for one in self.outside if one.from_prior for target in one.targets}
        return tuple(target for target in self.targets if target in found)

    @property
    def fixed(self) -> tuple[str, ...]:
        """The domains whose limits leave one share only."""
        return tuple(d for d, low, high in zip(self.domains, self.lower, self.upper, strict=True) if low == high)

    def allows(self, mixture: ArrayLike) -> bool:
        """Say whether another mixture [d] keeps to the limits."""
        r = np.asarray(mixture, float)
        return bool(np.all((r >= self.lower - NEAR) & (r <= self.upper + NEAR)))

    def nearest(self, mixture: ArrayLike) -> np.ndarray:
        """Return the mixture within the limits that is nearest to another one [d]."""
        return nearest(mixture, self.lower, self.upper)

    def __repr__(self) -> str:
        return f"OptimalMixture({summaries.largest(self)}; objective {self.objective:.4f} nats per token)"

    def summary(self) -> str:
        """Say in plain text what was found: shares, predicted losses, and how the search ended."""
        return summaries.optimum(self)

    def as_dict(self) -> dict[str, float]:
        """Return proportions by domain."""
        return dict(zip(self.domains, self.proportions.tolist(), strict=True))

    def save(self, path: str | Path) -> None:
        """Write one strict JSON file."""
        write_json(path, self, hashed=True)

    @classmethod
    def load(cls, path: str | Path) -> "OptimalMixture":
        """Read a file written by `save`; raise `InputError` if it is not one."""
        found = read_json(path)
        if isinstance(found, dict) and isinstance(domains := found.get("domains"), list):
            # Older files hold neither the limits, nor what lies outside of what was fitted, nor the last field.
            before = {"lower": [0.0] * len(domains), "upper": [1.0] * len(domains), "outside": [], "untold": []}
            before["objective_interval"] = None
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
        if found["objective_interval"] is not None:
            found["objective_interval"] = tuple(found["objective_interval"].tolist())
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
    "objective_interval": schema.maybe(schema.numbers(2)),
}


def optimize(
    fit: Fit,
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
        starts: how many points the L-BFGS starts from: the middle of the limits, the best vertices, and the best of
            2048 random mixtures, those near the vertices and those that were measured.

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
    budget = budget or Budget()
    checks.choice("method", method, ("auto", "dual", "softmax"))
    starts = checks.starts(starts)
    goal = objective(fit, budget=budget, weights=weights)
    check_constrained(fit, goal, budget)
    lower, upper = (limits or Limits()).arrays(fit.domains)
    if method == "dual" and not goal.separable:
        raise InputError(f"the dual needs a law that is a power of the own proportion; {fit.name} is not one")
    exact = goal.separable and method != "softmax"
    shares = search.reference_shares(reference, fit.domains)
    with jax.enable_x64(True):
        flat = search.flat_domains(goal, len(lower))
        if flat.all():
            r = nearest(lower, lower, upper)
        elif exact:
            r = np.asarray(goal.optimal_proportions(lower, upper))
        else:
            at = {"solver": solver or LBFGS(), "starts": starts}
            r = search.best_mixture(goal, lower, upper, fit.at_size(budget.model_size).fitted_mixtures, **at)
        r = None if r is None else search.shared_out(r, flat, shares, lower, upper)
        found = None if r is None else search.certificate(goal, r, lower, upper)
    if r is None or found is None:
        raise InputError(_not_finite(fit, goal, nearest(shares, lower, upper), budget, "no mixture that was looked at"))
    return _describe(fit, budget, goal, (r, found), flat, "dual" if exact else "softmax", (lower, upper))


def _not_finite(fit: Fit, goal: Objective, r: np.ndarray, budget: Budget, where: str) -> str:
    """Say which targets have no finite loss at a mixture."""
    one = fit.at_size(budget.model_size)
    losses = np.asarray(one.predict(r, goal.volume, budget.model_size))
    bad = [f"{one.targets[t]} ({losses[t]:g})" for t in goal.chosen if not np.isfinite(losses[t])]
    at = ", ".join(f"{domain}={share:.3g}" for domain, share in zip(fit.domains, r, strict=True))
    return f"the objective is finite at {where} within the limits; at {at} these losses are not: {', '.join(bad)}"


def _describe(
    fit: Fit,
    budget: Budget,
    goal: Objective,
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
        converged=search.settled(known),
        at_lower=tuple(names[r <= lower + NEAR].tolist()),
        at_upper=tuple(names[(r >= upper - NEAR) & (upper < 1)].tolist()),
        lower=lower,
        upper=upper,
        idle=tuple(names[search.idle_domains(goal, flat)].tolist()),
        extrapolated=tuple(np.array(one.targets)[outside].tolist()),
        outside=reasons,
        untold=unconstrained(fit, goal, budget, r),
        objective_interval=chosen_interval(one, *asked, weights) if isinstance(one, AutoFit) else None,
    )
