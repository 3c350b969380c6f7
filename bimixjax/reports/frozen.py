"""Predictions written down before the runs are measured, and judged by what was measured later."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float
from rich.console import RenderableType
from rich.text import Text

from bimixjax._base import checks, schema
from bimixjax._base.checks import InputError, known
from bimixjax._base.records import read_json, read_origin, write_json
from bimixjax._base.summaries import listed
from bimixjax.estimation import AutoFit
from bimixjax.fitting.base import Fit
from bimixjax.observations import UNITS, Budget, Observations
from bimixjax.reports import documents, tables
from bimixjax.reports.predictions import COVERED, Asked, Predictions, Scores, ranked

MEAN = "weighted mean"
_KIND = "frozen predictions"
# A run may end a little off the volume that was planned; a loss of volume^-beta with beta < 1 moves by less than this.
_VOLUME = 1e-3
# Total variation between the mixture frozen and the one trained: what rounding a sum of shares may come to.
_MIXTURE = 1e-2

Means = Float[np.ndarray, " n"]
# Of each target, and last of their mean.
Columns = Float[np.ndarray, "n t+1"]


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """Losses that a fit predicts for n runs before they are measured.

    Attributes:
        law: the name of the fit's.
        domains, targets: names.
        weights: of the t targets in their mean; they sum to 1.
        runs, proportions: ids and mixtures.
        budgets: where each run is judged.
        losses: predicted, nats per token: by target, and last their weighted mean.
        lower, upper: limits that hold 90 % of measured losses; NaN where the fit has none.
        extrapolated: whether the loss of a target lies outside what was fitted.
    """

    law: str
    domains: tuple[str, ...]
    targets: tuple[str, ...]
    weights: Float[np.ndarray, " t"]
    runs: tuple[str, ...]
    proportions: Float[np.ndarray, "n d"]
    budgets: tuple[Budget, ...]
    losses: Columns
    lower: Columns
    upper: Columns
    extrapolated: Bool[np.ndarray, "n t"]

    @classmethod
    def of(cls, fit: Fit, asked: Asked, weights: Mapping[str, float] | None = None) -> Self:
        """Freeze what a fit predicts for the runs asked for; `weights` of targets, by default all the same.

        Raises:
            InputError: where one of the runs has been measured there already, or is there twice.
        """
        predicted = Predictions.judged(fit, asked, intervals=True)
        unmeasured = np.asarray(np.isnan(predicted.measured).all(1))
        checks.every(unmeasured, lambda i: f"run {asked.names[i]!r} is measured already: it is too late to freeze it")
        places = zip(asked.names, predicted.budgets, strict=True)
        checks.distinct("run", [f"{run} at {at.volume}, {at.model_size}" for run, at in places], "what is to be frozen")
        w = checks.target_weights(weights, fit.targets)
        limits = _mean_limits(fit, asked, predicted.budgets, w)
        ends = zip((predicted.lower, predicted.upper), limits, strict=True)
        lower, upper = (np.column_stack([of_targets, of_mean]) for of_targets, of_mean in ends)
        return cls(
            law=fit.name,
            domains=fit.domains,
            targets=fit.targets,
            weights=w,
            runs=asked.names,
            proportions=asked.proportions,
            budgets=predicted.budgets,
            losses=np.column_stack([predicted.losses, _mean(predicted.losses, w)]),
            lower=lower,
            upper=upper,
            extrapolated=predicted.extrapolated,
        )

    def save(self, path: str | Path) -> None:
        """Write one strict JSON file that says by its hash what it holds."""
        write_json(path, {"kind": _KIND, **asdict(self)}, hashed=True)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file written by `save`.

        Raises:
            InputError: where it is something else, or was changed after it was written.
        """
        found = read_json(path, sealed=True)
        if not isinstance(found, dict) or found.pop("kind", None) != _KIND:
            raise InputError(f"{path} holds no frozen predictions; allowed: a file of `bimix predict --freeze`")
        read = schema.read(found, _FIELDS, path)
        read["budgets"] = tuple(Budget(**one) for one in read["budgets"])
        return cls(**read)

    def score(self, table: Observations) -> "Judged":
        """Judge by the losses in a table: a run meets its prediction by its id, volume and model size.

        Raises:
            InputError: where no run meets its prediction, or one was trained on another mixture than was frozen.
        """
        known("domain", table.domains, self.domains, table.source)
        rows = [self._row(table, i) for i in range(len(self.runs))]
        met = [i for i, row in enumerate(rows) if row is not None]
        there = [target for target in self.targets if target in table.targets]
        losses = np.full((len(self.runs), len(self.targets)), np.nan)
        for target in there:
            measured = table.losses[[row for row in rows if row is not None], table.targets.index(target)]
            losses[met, self.targets.index(target)] = measured
        if np.isnan(losses).all():
            first = self.budgets[0]
            place = "" if first.volume is None else f" at {first.volume:g} {first.unit}"
            place += "" if first.model_size is None else f" and model size {first.model_size:g}"
            wanted = f"loss/{self.targets[0]} of run {self.runs[0]!r}{place}"
            raise InputError(f"{table.source} has none of the losses that were frozen, such as {wanted}")
        measured = np.column_stack([losses, _mean(losses, self.weights)])
        ranks = ranked(self.losses[:, -1], measured[:, -1], self.budgets)
        limits = self.lower, self.upper
        return Judged(
            frozen=self,
            measured=measured,
            scores=Scores.between((*self.targets, MEAN), self.losses, measured, limits, ranks),
            others=tuple(run for run in table.runs if run not in self.runs),
        )

    def _row(self, table: Observations, i: int) -> int | None:
        """Return the row of a table that measures prediction `i`, if one does."""
        budget, there = self.budgets[i], table.run == self.runs[i]
        off = np.zeros(len(table))
        if budget.volume is not None:
            off = np.abs(table.volumes(budget.unit) / budget.volume - 1)
        elif there.sum() > 1 and table.volume_unit() is not None:
            raise InputError(
                f"{table.source}: run {self.runs[i]!r} has several volumes; the predictions know of one only"
            )
        if budget.model_size is not None and table.model_size is not None:
            there &= table.model_size == budget.model_size
        rows = np.flatnonzero(there & (off <= _VOLUME))
        if not rows.size:
            return None
        row = int(rows[np.argmin(off[rows])])
        shares = dict(zip(table.domains, table.proportions[row], strict=True))
        trained = np.array([shares.get(domain, 0.0) for domain in self.domains])
        if np.abs(trained - self.proportions[i]).sum() / 2 > _MIXTURE:
            both = (np.round(r, 4).tolist() for r in (trained, self.proportions[i]))
            got, frozen = (dict(zip(self.domains, r, strict=True)) for r in both)
            raise InputError(f"{table.source}: run {self.runs[i]!r} has the mixture {got}; frozen was {frozen}")
        return row


_COLUMN = schema.numbers("runs", "columns", null=True)
_BUDGET: dict[str, schema.Kind] = {
    "volume": schema.maybe(schema.number(low=1e-300)),
    "unit": schema.maybe(schema.text(tuple(UNITS))),
    "model_size": schema.maybe(schema.number(low=1e-300)),
    "from_prior": schema.flag,
}
_FIELDS: dict[str, schema.Kind] = {
    "law": schema.text(),
    "domains": schema.texts("domains", names=True),
    "targets": schema.texts("targets", names=True),
    "weights": schema.numbers("targets", low=0, high=1),
    "runs": schema.texts("runs"),
    "proportions": schema.numbers("runs", "domains", low=0, high=1 + 1e-6),
    "budgets": schema.each(schema.record(_BUDGET), "runs"),
    **dict.fromkeys(("losses", "lower", "upper"), _COLUMN),
    "extrapolated": schema.numbers("runs", "targets", of=bool),
}


def _mean(losses: Float[np.ndarray, "n t"], weights: Float[np.ndarray, " t"]) -> Means:
    used = np.flatnonzero(weights)
    return losses[:, used] @ weights[used]


def _mean_limits(
    fit: Fit, asked: Asked, budgets: tuple[Budget, ...], weights: Float[np.ndarray, " t"]
) -> tuple[Means, Means]:
    """Return the limits of the weighted mean of measured losses; NaN where the fit has none."""
    lower, upper = np.full((2, len(budgets)), np.nan)
    if not isinstance(fit, AutoFit):
        return lower, upper
    for size in dict.fromkeys(one.model_size for one in budgets):
        rows = [i for i, one in enumerate(budgets) if one.model_size == size]
        volume = None if fit.volume_unit is None else np.array([budgets[i].volume for i in rows], float)
        unique = None if asked.unique is None else asked.unique[rows]
        options: dict[str, Any] = {"weights": weights, "level": COVERED, "inventory": unique}
        from_prior = budgets[rows[0]].from_prior
        ends = fit.mean_interval(asked.proportions[rows], volume, size, **options, from_prior=from_prior)
        lower[rows], upper[rows] = ends
    return lower, upper


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Frozen predictions beside what was measured later.

    Attributes:
        frozen: the predictions.
        measured: losses by target, and last their weighted mean; NaN where none was measured.
        scores: how well both meet, by target, and last by weighted mean.
        others: runs of the table that were not frozen.
    """

    frozen: Frozen
    measured: Columns
    scores: Scores
    others: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The frozen runs of which nothing is measured."""
        nothing = np.asarray(np.isnan(self.measured).all(1))
        return tuple(dict.fromkeys(run for run, none in zip(self.frozen.runs, nothing, strict=True) if none))


def screen(found: Judged, path: Path) -> list[RenderableType]:
    """Return the scores, what made the frozen file, and the runs that lack on either side."""
    shown = tables.scores(found.scores, "Frozen predictions against what was measured later", MEAN)
    said = [f"{len(found.missing)} frozen runs are not measured: {listed(found.missing)}"] if found.missing else []
    said += (
        [f"{len(found.others)} runs were not frozen, and do not count: {listed(found.others)}"] if found.others else []
    )
    command = (read_origin(path)[0] or {}).get("command")
    return [shown, *([Text(f"Frozen by: {command}")] if command else []), *tables.notes(said)]


def document(found: Judged) -> dict[str, Any]:
    """Return the scores for machines, and each run's losses, predicted and measured."""
    frozen = found.frozen
    names = (*frozen.targets, MEAN)
    kinds = {"predicted": frozen.losses, "lower": frozen.lower, "upper": frozen.upper, "measured": found.measured}
    runs = [
        {
            "run": run,
            "budget": frozen.budgets[i],
            **{kind: dict(zip(names, values[i], strict=True)) for kind, values in kinds.items()},
        }
        for i, run in enumerate(frozen.runs)
    ]
    scores = documents.scores(found.scores)
    return {
        "law": frozen.law,
        "scores": scores,
        "runs": runs,
        "not_measured": found.missing,
        "not_frozen": found.others,
    }
