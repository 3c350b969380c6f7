"""Predicted losses of named mixtures, with their limits, what is extrapolated among them, and what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from bimixjax import metrics
from bimixjax._base.checks import InputError, known
from bimixjax.comparison.scores import FEWEST_RANKED
from bimixjax.estimation import AutoFit
from bimixjax.fitting.base import Fit
from bimixjax.fitting.extrapolation import Extrapolation
from bimixjax.observations import UNITS, Budget, Inventory, Observations
from bimixjax.optimization import OptimalMixture
from bimixjax.optimization.baselines import BEST_RUN

Losses = Float[np.ndarray, "n t"]
Shares = Float[np.ndarray, " d"]

# What share of measured losses the intervals should hold.
COVERED = 0.9


@dataclass(frozen=True, kw_only=True)
class Asked:
    """n mixtures to judge, each at a budget of its own.

    Attributes:
        names, proportions: a name for each, and its shares of the fit's domains.
        budgets: where each is judged.
        measured: losses that were measured there, by target, NaN where there is none.
        unique: unique tokens of each domain for each mixture; None for no limit.
    """

    names: tuple[str, ...]
    proportions: Float[np.ndarray, "n d"]
    budgets: tuple[Budget, ...]
    measured: Mapping[str, Float[np.ndarray, " n"]]
    unique: Float[np.ndarray, "n d"] | None = None

    @classmethod
    def of(cls, mixtures: Mapping[str, Shares], budget: Budget, unique: Shares | None = None) -> Self:
        """Ask for mixtures by name, all at one budget and with one inventory [d], without measured losses."""
        proportions, budgets = np.stack(list(mixtures.values())), (budget,) * len(mixtures)
        each = None if unique is None else np.broadcast_to(unique, proportions.shape)
        return cls(names=tuple(mixtures), proportions=proportions, budgets=budgets, measured={}, unique=each)

    @classmethod
    def read(cls, path: Path, fit: Fit, budget: Budget, unique: Shares | None = None) -> Self:
        """Ask for the runs of a table, each where it was measured; a number that the budget names holds for all.

        So does an inventory; without one, each run has its own, if the table says. Where the budget moves a run away
        from where it was measured, its losses are not those of that place.

        Raises:
            InputError: for a domain that the fit does not have, or a table with the other unit of volume only.
        """
        table = Observations.of_mixtures(path)
        known("domain", table.domains, fit.domains, str(path))
        there = _volumes(table, fit, budget)
        own = {"volume": there, "model_size": table.model_size}
        asked = {name: [getattr(budget, name)] * len(table) for name in own}
        kept = np.full(len(table), True)
        for name, values in own.items():
            if values is not None and getattr(budget, name) is None:
                asked[name] = values.tolist()
            elif values is not None:
                kept &= values == getattr(budget, name)
        # One row of each run at a place, that which was measured there if any was.
        places = pd.DataFrame({"run": table.run, **asked})
        first = places.iloc[np.argsort(~kept, kind="stable")].drop_duplicates().index
        rows = np.sort(np.asarray(first))
        proportions, place = np.zeros((len(table), len(fit.domains))), [fit.domains.index(n) for n in table.domains]
        proportions[:, place] = table.proportions
        each = None if unique is None else np.broadcast_to(unique, proportions.shape)
        if each is None and table.unique is not None:
            each = np.full(proportions.shape, np.inf)
            each[:, place] = table.unique
        return cls(
            names=tuple(table.run[rows].tolist()),
            proportions=proportions[rows],
            budgets=tuple(replace(budget, **{name: asked[name][row] for name in own}) for row in rows.tolist()),
            measured=dict(zip(table.targets, np.where(kept[:, None], table.losses, np.nan)[rows].T, strict=True)),
            unique=None if each is None else each[rows],
        )

    def and_then(self, other: "Asked") -> "Asked":
        """Return these and others; a loss that one of both lacks is missing."""
        measured = [pd.DataFrame(part.measured, index=range(len(part.names))) for part in (self, other)]
        limits = [
            np.full(part.proportions.shape, np.inf) if part.unique is None else part.unique for part in (self, other)
        ]
        return Asked(
            names=self.names + other.names,
            proportions=np.concatenate([self.proportions, other.proportions]),
            budgets=self.budgets + other.budgets,
            measured={str(target): values.to_numpy() for target, values in pd.concat(measured).items()},
            unique=None if self.unique is None and other.unique is None else np.concatenate(limits),
        )


def _volumes(table: Observations, fit: Fit, budget: Budget) -> Float[np.ndarray, " rows"] | None:
    """Return where the rows of a table were measured, in the unit of the fit; None where it does not say."""
    unit = fit.volume_unit
    if unit is None or getattr(table, UNITS[unit]) is None:
        other = table.volume_unit()
        if unit is not None and other is not None and budget.volume is None:
            raise InputError(
                f"{table.source} has {other}, the fit is in {unit}; add a column {UNITS[unit]!r} or give --volume"
            )
        return None
    return table.volumes(unit)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Losses that a fit predicts for n mixtures.

    Attributes:
        domains, names, proportions: the mixtures.
        budgets: where each is judged.
        targets, losses: names; nats per token.
        lower, upper: limits of measured losses, which hold 90 % of them; NaN where the fit has none, or priors alone
            say what is predicted.
        outside: of each mixture, what lies outside what was fitted.
        measured: losses that were measured there, NaN where there is none.
    """

    domains: tuple[str, ...]
    names: tuple[str, ...]
    proportions: Float[np.ndarray, "n d"]
    budgets: tuple[Budget, ...]
    targets: tuple[str, ...]
    losses: Losses
    lower: Losses
    upper: Losses
    outside: tuple[tuple[Extrapolation, ...], ...]
    measured: Losses

    @classmethod
    def of(
        cls,
        fit: Fit,
        mixtures: Mapping[str, Shares],
        budget: Budget,
        inventory: Inventory | None = None,
        *,
        refuse: bool = True,
    ) -> Self:
        """Ask a fit for the losses of mixtures over its domains at one budget; arguments as in `judged`."""
        unique = None if inventory is None else inventory.array(fit.domains)
        return cls.judged(fit, Asked.of(mixtures, budget, unique), refuse=refuse)

    @classmethod
    def judged(cls, fit: Fit, asked: Asked, *, intervals: bool = False, refuse: bool = True) -> Self:
        """Ask a fit for the losses of mixtures.

        Args:
            fit: a fit over the domains of the mixtures.
            asked: these.
            intervals: whether to ask for limits, where the fit has any.
            refuse: whether a loss from priors alone is an error, unless the budget asks for it; else it is marked.
        """
        budgets = tuple(_settled(fit, budget) for budget in asked.budgets)
        count = len(budgets)
        losses, lower, upper = np.full((3, count, len(fit.targets)), np.nan)
        outside: list[tuple[Extrapolation, ...]] = [()] * count
        # Every mixture of one model size is asked for in one call.
        groups: dict[tuple[float | None, bool], list[int]] = {}
        for row, budget in enumerate(budgets):
            groups.setdefault((budget.model_size, budget.from_prior or not refuse), []).append(row)
        for (size, from_prior), rows in groups.items():
            volume = None if fit.volume_unit is None else np.array([budgets[i].volume for i in rows], float)
            where = asked.proportions[rows], volume, size
            unique = None if asked.unique is None else asked.unique[rows]
            losses[rows] = fit.predict(*where, inventory=unique, from_prior=from_prior)
            for row, found in zip(rows, fit.extrapolations(*where, inventory=unique), strict=True):
                outside[row] = found
            if intervals and isinstance(fit, AutoFit):
                limits = fit.interval(*where, level=COVERED, inventory=unique, from_prior=from_prior)
                lower[rows], upper[rows] = limits
        found = cls(
            domains=fit.domains,
            names=asked.names,
            proportions=asked.proportions,
            budgets=budgets,
            targets=fit.targets,
            losses=losses,
            lower=lower,
            upper=upper,
            outside=tuple(outside),
            measured=np.stack([asked.measured.get(t, np.full(count, np.nan)) for t in fit.targets], axis=1),
        )
        # Nothing measured says how far off priors are.
        limits = {name: np.where(found.from_prior, np.nan, getattr(found, name)) for name in ("lower", "upper")}
        return replace(found, **limits)

    def beside(self, best: OptimalMixture, fit: Fit, inventory: Inventory | None = None) -> Self:
        """Add, for each mixture that the limits of a search do not allow, the nearest one that they do.

        But for the best run: what lies beside it was not trained.
        """
        outside = {name: r for name, r in self.mixtures.items() if name != BEST_RUN and not best.allows(r)}
        allowed = {f"{name}, nearest allowed": best.nearest(r) for name, r in outside.items()}
        if not allowed:
            return self
        return self.of(fit, {**self.mixtures, **allowed}, self.budgets[0], inventory, refuse=False)

    @property
    def mixtures(self) -> dict[str, Shares]:
        """Proportions by name."""
        return dict(zip(self.names, self.proportions, strict=True))

    @property
    def extrapolated(self) -> Bool[np.ndarray, "n t"]:
        """Whether each loss lies outside what was fitted."""
        return self._concerned(from_prior=False)

    @property
    def from_prior(self) -> Bool[np.ndarray, "n t"]:
        """Whether nothing that was fitted depends on it, so that each loss follows from the priors alone."""
        return self._concerned(from_prior=True)

    def _concerned(self, *, from_prior: bool) -> Bool[np.ndarray, "n t"]:
        found = [{t for one in each if one.from_prior or not from_prior for t in one.targets} for each in self.outside]
        return np.array([[target in each for target in self.targets] for each in found])

    def to_frame(self) -> pd.DataFrame:
        """Return one row per mixture: `run`, its budget, `mixture/<domain>`, then losses by target.

        Columns: `predicted/`, `lower/` and `upper/` (limits that hold 90 % of measured losses) where there are any,
        `loss/` where any was measured, `extrapolated/`, `from_prior/`; `extrapolation` says what lies outside.
        """
        columns: dict[str, object] = {"run": list(self.names)}
        unit, size = self.budgets[0].unit, [budget.model_size for budget in self.budgets]
        columns |= {UNITS[unit]: [budget.volume for budget in self.budgets]} if unit else {}
        columns |= {"model_size": size} if any(size) else {}
        columns |= {f"mixture/{name}": self.proportions[:, i] for i, name in enumerate(self.domains)}
        shown = {"predicted": self.losses, "lower": self.lower, "upper": self.upper, "loss": self.measured}
        for kind, values in shown.items():
            if not np.isnan(values).all():
                columns |= {f"{kind}/{name}": values[:, i] for i, name in enumerate(self.targets)}
        for kind, flags in {"extrapolated": self.extrapolated, "from_prior": self.from_prior}.items():
            columns |= {f"{kind}/{name}": flags[:, i] for i, name in enumerate(self.targets)}
        columns["extrapolation"] = ["; ".join(map(str, each)) for each in self.outside]
        return pd.DataFrame(columns)


def _settled(fit: Fit, budget: Budget) -> Budget:
    """Return a budget with the fit's unit, and the only volume that was fitted where none is given."""
    if fit.volume_unit is None:
        fit.at_size(budget.model_size).allowed_volume(budget.volume)
        return replace(budget, volume=None, unit=None)
    volume = fit.at_size(budget.model_size).volume_or_only(budget.volume)
    return replace(budget, volume=float(np.asarray(volume)), unit=fit.volume_unit)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How well predictions meet the losses that stand beside them.

    Attributes:
        targets: names of those that were measured.
        rows, silent: measured losses with and without a finite prediction.
        error: mean relative error.
        r2: R2 of the loss.
        coverage: share of the measured losses within the limits; NaN where there are none.
        rank: Spearman's correlation of the mean over targets, in the mean over volumes and model sizes with five
            mixtures or more; NaN where there is none.
        ranked: how many mixtures these have in all.
    """

    targets: tuple[str, ...]
    rows: Int[np.ndarray, " t"]
    silent: Int[np.ndarray, " t"]
    error: Float[np.ndarray, " t"]
    r2: Float[np.ndarray, " t"]
    coverage: Float[np.ndarray, " t"]
    rank: float
    ranked: int

    @classmethod
    def of(cls, predicted: Predictions) -> "Scores | None":
        """Score what was measured; None where nothing was."""
        chosen = np.flatnonzero(~np.isnan(predicted.measured).all(0))
        if not chosen.size:
            return None
        arrays = (predicted.losses, predicted.measured, predicted.lower, predicted.upper)
        losses, measured, lower, upper = (array[:, chosen] for array in arrays)
        ranks = ranked(losses.mean(1), measured.mean(1), predicted.budgets)
        return cls.between(tuple(predicted.targets[t] for t in chosen), losses, measured, (lower, upper), ranks)

    @classmethod
    def between(
        cls,
        targets: tuple[str, ...],
        losses: Losses,
        measured: Losses,
        limits: tuple[Losses, Losses],
        ranks: tuple[float, int],
    ) -> "Scores":
        """Score predicted losses [n, t] with their limits by measured ones; `ranks` as `ranked` gives them."""
        lower, upper = limits
        finite = np.isfinite(losses)
        scored = np.where(finite, measured, np.nan)
        limited = np.where(np.isfinite(lower) & np.isfinite(upper), measured, np.nan)
        known = np.where(finite, losses, 0.0)
        return cls(
            targets=targets,
            rows=(~np.isnan(scored)).sum(0),
            silent=(~np.isnan(measured) & ~finite).sum(0),
            error=np.asarray(metrics.mean_relative_error(known, scored, axis=0)),
            r2=np.asarray(metrics.r2(known, scored, axis=0)),
            coverage=np.asarray(metrics.coverage(lower, upper, limited, axis=0)),
            rank=ranks[0],
            ranked=ranks[1],
        )


def ranked(
    predicted: Float[np.ndarray, " n"], measured: Float[np.ndarray, " n"], budgets: Sequence[Budget]
) -> tuple[float, int]:
    """Rank correlation within each volume and model size, in the mean, and how many mixtures it is of."""
    places = [(budget.volume, budget.model_size) for budget in budgets]
    frame = pd.DataFrame(places, columns=["volume", "model_size"]).assign(predicted=predicted, measured=measured)
    frame = frame[np.isfinite(frame["measured"]) & frame["predicted"].notna()]
    groups = [part for _, part in frame.groupby(["volume", "model_size"], dropna=False) if len(part) >= FEWEST_RANKED]
    found = [float(metrics.spearman(part["predicted"], part["measured"])) for part in groups]
    return (float(np.mean(found)) if found else np.nan), sum(map(len, groups))
