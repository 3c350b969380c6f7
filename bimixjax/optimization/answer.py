"""What a search over mixtures found, with its certificate; kept in a file of strict JSON."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bimixjax._base import checks, notebooks, schema, summaries
from bimixjax._base.records import read_json, write_json
from bimixjax.fitting.base import Fit
from bimixjax.fitting.extrapolation import Extrapolation
from bimixjax.observations import UNITS, Budget
from bimixjax.optimization.limits import GroupTotal, Limits, Nearby
from bimixjax.solve import Region

if TYPE_CHECKING:
    from bimixjax.optimization.worth import Worth


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimalMixture:
    """The mixture found, what it is predicted to lose, and how sure the search is.

    Attributes:
        domains, proportions: the mixture.
        targets, losses, weights: predicted losses in nats per token, and the objective's weights (they sum to 1).
        objective: the weighted mean of the losses.
        budget: where the mixture is judged.
        method: "dual" (exact) or "softmax" (L-BFGS from several starts).
        kkt_residual, gap, multiplier: the certificate, see `Certificate`. The residual is over the multiplier, or over
            1 % of the objective where that is larger.
        convex: whether the objective is known to be convex: then no mixture within the limits is better by more than
            the gap. Else the certificate says only that nothing nearby is better, and the next three say more.
        starts, agreed: how many descents there were, and how many of them ended here; 0 where there was no search.
        second: by how much the objective is higher at the next best minimum that a descent ended at, in nats per token;
            None where all ended here, or at no minimum.
        converged: whether this is a stationary point: a residual of at most 1e-5 and a gap of at most 1e-6.
        at_lower, at_upper: domains that stand at a limit.
        lower, upper: the limits of each domain.
        groups: limits of sums of shares.
        near: what the mixture keeps near to; None where that was not asked for.
        held: the groups that stand at a limit of their total, "near" where the mixture is as far away as allowed, and
            "hull" where that keeps it from better ones.
        beyond_hull: how far the mixture is from the nearest average of those that were measured, in total variation; 0
            where it is one of these, None where nothing measured is known.
        hull: how far from such averages it was allowed to be; None where there was no such limit.
        averaged: the mixtures that were averaged for it [m, d].
        idle: domains on which no weighted target depends; they get their lower limit, or share what is best not given
            to the others.
        extrapolated: targets whose loss at this mixture and volume lies outside what was fitted.
        outside: what lies outside, and by how much.
        untold: what of the mixture itself no run constrains, in words.
        objective_interval: limits that hold the measured objective in 90 % of cases, moved up for the mixture being
            the best of many by the fit, see `chosen_interval`; None where a fit has no intervals.
        goal: what was minimized, in words.
        value: what that is here, in nats per token, where it is another than the weighted mean; else None.
        active: the losses that are the worst ones, or that stand at a guardrail.

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
    goal: str = "weighted mean"
    value: float | None = None
    active: tuple[str, ...] = ()
    convex: bool = False
    starts: int = 0
    agreed: int = 0
    second: float | None = None
    groups: tuple[GroupTotal, ...] = ()
    near: Nearby | None = None
    held: tuple[str, ...] = ()
    beyond_hull: float | None = None
    hull: float | None = None
    averaged: np.ndarray | None = None

    @property
    def region(self) -> Region:
        """The mixtures that keep to the limits."""
        lower, upper = (dict(zip(self.domains, ends.tolist(), strict=True)) for ends in (self.lower, self.upper))
        groups = {one.name: (one.domains, one.least, one.most) for one in self.groups}
        near = None if self.near is None else (self.near.mixture, self.near.radius, self.near.divergence)
        limits = Limits(lower=lower, upper=upper, groups=groups, near=near, hull=self.hull)
        return limits.region(self.domains, measured=self.averaged)

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
        return self.region.allows(np.asarray(mixture, float))

    def nearest(self, mixture: ArrayLike) -> np.ndarray:
        """Return the mixture within the limits that is nearest to another one [d]."""
        return self.region.nearest(np.asarray(mixture, float))

    def __repr__(self) -> str:
        return f"OptimalMixture({summaries.largest(self)}; objective {self.objective:.4f} nats per token)"

    def summary(self) -> str:
        """Say in plain text what was found: shares, predicted losses, and how the search ended."""
        return summaries.optimum(self)

    def _repr_html_(self) -> str:
        return notebooks.optimum(self)

    def worth(self, fit: Fit, **options: Any) -> "Worth":
        """Say what the mixture is worth by the fit that chose it; options as in `Worth.of`."""
        from bimixjax.optimization.worth import Worth

        return Worth.of(self, fit, **options)

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
            # Older files hold neither the limits, nor what lies outside of what was fitted, nor the last fields.
            before = {"lower": [0.0] * len(domains), "upper": [1.0] * len(domains), "outside": [], "untold": []}
            before |= dict.fromkeys(("objective_interval", "second", "near", "beyond_hull", "hull", "averaged"))
            before |= {"convex": found.get("method") == "dual", "starts": 0, "agreed": 0, "groups": [], "held": []}
            before |= {"goal": "weighted mean", "value": None, "active": []}
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
        found["groups"] = tuple(GroupTotal(**one) for one in found["groups"])
        if (near := found["near"]) is not None:
            found["near"] = Nearby(**{**near, "mixture": tuple(near["mixture"].tolist())})
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
                "kind": schema.text(("share", "epochs", "volume", "model size")),
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
    "goal": schema.text(),
    "value": schema.maybe(schema.number()),
    "active": schema.texts(),
    "convex": schema.flag,
    **dict.fromkeys(("starts", "agreed"), schema.whole(low=0, high=10**9)),
    **dict.fromkeys(("second", "beyond_hull"), schema.maybe(schema.number())),
    "groups": schema.each(
        schema.record(
            {
                "name": schema.text(),
                "domains": schema.texts(names=True),
                **dict.fromkeys(("least", "most"), schema.number(low=0, high=1)),
            }
        )
    ),
    "near": schema.maybe(
        schema.record(
            {
                "mixture": schema.shares("domains"),
                "radius": schema.number(low=0),
                "divergence": schema.text(("kl", "hellinger")),
            }
        )
    ),
    "held": schema.texts(),
    "hull": schema.maybe(schema.number(low=0, high=1)),
    "averaged": schema.maybe(schema.numbers("averaged", "domains", low=0, high=1)),
}
