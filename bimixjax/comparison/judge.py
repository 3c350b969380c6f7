"""Compare laws on the same held-out runs: errors, ranks, intervals, and paired differences."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bimixjax._base.checks import InputError, choice, distinct, known
from bimixjax._base.stages import counted
from bimixjax.auto.folds import auto_folds
from bimixjax.comparison.intervals import Errors, half_widths, nearest
from bimixjax.comparison.rows import At, Mask, Rows
from bimixjax.comparison.schemes import LeaveOneRunOut, Scheme, Split
from bimixjax.comparison.table import Comparison
from bimixjax.estimation import Auto
from bimixjax.fitting import FoldFits, fit_folds
from bimixjax.fitting.lanes import choose_targets
from bimixjax.fitting.options import Solver
from bimixjax.fitting.outliers import outliers_of_all
from bimixjax.laws import LAWS, Law
from bimixjax.observations import Observations, Unit
from bimixjax.solve import Status

Floats = NDArray[np.float64]
Rival = Law | Auto
AUTO = "auto"


def compare(
    laws: Sequence[str | Rival] | Mapping[str, str | Rival],
    observations: Observations,
    *,
    folds: Scheme | None = None,
    at: At = "last",
    volume: Unit | None = None,
    targets: Sequence[str] | None = None,
    level: float | None = 0.9,
    solver: Solver | None = None,
) -> Comparison:
    """Fit laws to the same folds of a table, and put their predictions beside the losses that were held out.

    Folds hold out whole runs, later volumes or larger models, never single rows. Intervals of a single law are
    calibrated inside the fitted rows of each fold, by asking it the same question there, or, where each run is held out
    in turn, on the other runs: conformal prediction, with widths that grow with the distance from the nearest fitted
    mixture. All folds of a law, and those within, are one batched call.

    Args:
        laws: names in `LAWS`, "auto", laws, or `Auto` settings; a mapping gives them names of one's own.
        observations: measured losses.
        folds: `LeaveOneRunOut` (the default), `RunDesigns`, `ChosenRuns`, `LaterVolumes` or `LargerSizes`.
        at: the volume at which held-out rows are judged: "last", the last one that at least half of the runs of a model
            size reach; "all"; or a number.
        volume: "tokens" or "steps"; by default tokens where the table has them, else steps.
        targets: which losses; by default those named like a domain, where there are any, else all.
        level: what share the intervals should cover; None for no intervals, which saves the fits that they take.
        solver: for single laws, as in `fit`.

    Returns:
        The comparison, with one table by `to_frame()`.

    Raises:
        InputError: for an unknown law or target, a table that cannot be split so, or a level not within 0 to 1.

    Example:
        >>> import pandas as pd
        >>> import bimixjax
        >>> from bimixjax.comparison import RunDesigns
        >>> share = [0.1, 0.2, 0.4, 0.6, 0.8, 0.9]
        >>> table = {"run": list("abcdef"), "mixture/x": share, "mixture/y": [1 - r for r in share]}
        >>> table |= {"loss/x": [2 * r**-0.25 for r in share]}
        >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table))
        >>> found = bimixjax.compare(["bimix"], observations, folds=RunDesigns(runs=(3, 4), draws=2), level=None)
        >>> found.to_frame()["group"].tolist()
        [3.0, 4.0]

    Source: the table's form follows arviz.compare; the intervals, Lei et al., JASA 113 (2018).
    """
    if level is not None and not 0 < level < 1:
        raise InputError(f"level is {level!r}; allowed: above 0 and below 1, or None")
    rivals = _named(laws)
    unit = observations.volume_unit(volume)
    names = _targets(rivals.values(), observations, targets)
    rows = Rows.of(observations, unit, at)
    scheme = folds or LeaveOneRunOut()
    judge = _Judge(observations, rows, unit, names, scheme, scheme.split(rows), level, solver)
    outcomes = [judge.outcome(law) for law in counted("laws compared", len(rivals), rivals.values())]
    return judge.comparison(tuple(rivals), outcomes)


@dataclasses.dataclass(frozen=True)
class _Judge:
    """What all laws of a comparison are asked."""

    observations: Observations
    rows: Rows
    unit: Unit | None
    targets: tuple[str, ...]
    scheme: Scheme
    split: Split
    level: float | None
    solver: Solver | None

    @property
    def held(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Fold and row of each held-out row that is judged [C]."""
        fold, row = np.nonzero(self.split.held_out & self.rows.judged & np.isfinite(self.losses).any(axis=1))
        return fold, row

    @property
    def losses(self) -> Floats:
        """Measured losses of every row [n, t]."""
        return self.observations.losses[:, [self.observations.targets.index(t) for t in self.targets]]

    def outcome(self, law: Rival) -> "_Outcome":
        """Fit a law to all folds, and to those within, in one call."""
        if not isinstance(law, Law):
            return self._combined(law)
        inner = self._inner()
        weights = np.concatenate([self.split.fitted, *(fitted[None] for _, fitted, _ in inner)]).astype(float)
        found = fit_folds(law, self.observations, weights, volume=self.unit, targets=self.targets, solver=self.solver)
        predicted = np.asarray(found.predicted)
        half = self._half_widths([*self._others(predicted), *self._within(inner, predicted[len(self.split) :])])
        kept = predicted[self.held]
        return self._kept(found, predicted, kept * np.exp(-half), kept * np.exp(half))

    def _combined(self, settings: Auto) -> "_Outcome":
        """Auto has intervals of its own."""
        found = auto_folds(
            self.observations,
            self.split.fitted.astype(float),
            volume=self.unit,
            targets=self.targets,
            settings=settings,
            level=0.9 if self.level is None else self.level,
        )
        predicted, lower, upper = (np.asarray(a)[self.held] for a in (found.predicted, found.lower, found.upper))
        if self.level is None:
            lower = upper = np.full_like(predicted, np.nan)
        # An average of laws has no bounds of its own, and says in its status how its members ended.
        unknown = np.full(len(self.split), np.nan)
        kept = {"predicted": predicted, "lower": lower, "upper": upper, "at_bound": unknown, "unconverged": unknown}
        return _Outcome(kept=kept, every=found.predicted)

    def _inner(self) -> list[tuple[int, Mask, Mask]]:
        """Folds within each fold: its number, rows to fit, rows to judge."""
        if self.level is None or self.scheme.crossed:
            return []
        within = self.scheme.within
        pairs = [(f, *pair) for f, rows in enumerate(self.split.fitted) for pair in within(self.rows, rows)]
        return [pair for pair in pairs if pair[1].any() and pair[2].any()]

    def _within(self, inner: list[tuple[int, Mask, Mask]], predicted: Floats) -> list[tuple[int, Errors]]:
        """Each fold's number with errors inside it."""
        pairs = zip(inner, predicted, strict=True)
        return [(fold, self._errors(fitted, judged, losses)) for (fold, fitted, judged), losses in pairs]

    def _others(self, predicted: Floats) -> list[tuple[int, Errors]]:
        """Each fold's number with the errors of another one, where the scheme is crossed."""
        if self.level is None or not self.scheme.crossed:
            return []
        folds = zip(self.split.fitted, self.split.held_out & self.rows.judged, predicted, strict=False)
        each = [self._errors(*fold) for fold in folds]
        return [(fold, errors) for fold in range(len(each)) for other, errors in enumerate(each) if other != fold]

    def _errors(self, fitted: Mask, judged: Mask, predicted: Floats) -> Errors:
        """Errors of a fit on rows that it has not seen."""
        with np.errstate(invalid="ignore", divide="ignore"):
            log = np.log(self.losses[judged] / predicted[judged])
        distance = nearest(self.rows, self.observations.proportions, fitted)
        return Errors(size=self.rows.model_size[judged], distance=distance[judged], log=log)

    def _half_widths(self, errors: list[tuple[int, Errors]]) -> Floats:
        """Half-widths in log loss [C, t] from the errors within each fold; NaN where there are none."""
        fold, row = self.held
        half = np.full((len(fold), len(self.targets)), np.nan)
        for each in dict.fromkeys(number for number, _ in errors):
            own = fold == each
            distance = nearest(self.rows, self.observations.proportions, self.split.fitted[each])[row[own]]
            within = Errors.concat([part for number, part in errors if number == each])
            half[own] = half_widths(within, self.level or 0.0, self.rows.model_size[row[own]], distance)
        return half

    def _kept(self, found: FoldFits, predicted: Floats, lower: Floats, upper: Floats) -> "_Outcome":
        """What is kept of a law; fits without any row do not count."""
        count = len(self.split)
        rows, status, at_bound = (np.asarray(a)[:count] for a in (found.rows, found.status, found.at_bound))
        total = np.maximum((rows > 0).sum(axis=(1, 2)), 1)
        kept = {
            "predicted": predicted[self.held],
            "lower": lower,
            "upper": upper,
            "at_bound": (at_bound & (rows > 0)).sum(axis=(1, 2)) / total,
            "unconverged": ((status != Status.CONVERGED) & (rows > 0)).sum(axis=(1, 2)) / total,
        }
        return _Outcome(kept=kept, every=predicted[:count])

    def comparison(self, laws: tuple[str, ...], outcomes: Sequence["_Outcome"]) -> Comparison:
        """The outcomes of all laws beside what was measured."""
        fold, row = self.held
        rows, split = self.rows, self.split
        stacked = {name: np.stack([outcome.kept[name] for outcome in outcomes]) for name in outcomes[0].kept}
        outlying = outliers_of_all([outcome.every for outcome in outcomes], self.losses, self.observations).sentence
        return Comparison(
            laws=laws,
            targets=self.targets,
            level=self.level,
            grouped_by=split.grouped_by,
            beyond=split.beyond,
            group=split.group,
            block=split.block,
            fold=fold,
            run=self.observations.run[row],
            mixture=rows.mixture[row],
            model_size=rows.model_size[row],
            volume=rows.volume[row],
            outside=self._outside()[self.held],
            absent=self._absent()[row],
            measured=self.losses[row],
            notes=(outlying,) if outlying else (),
            **stacked,
        )

    def _absent(self) -> Mask:
        """Whether the share of a target's own domain is zero [n, t]."""
        domains, shares = self.observations.domains, self.observations.proportions
        own = [shares[:, domains.index(t)] if t in domains else np.ones(len(shares)) for t in self.targets]
        return np.stack(own, axis=1) == 0

    def _outside(self) -> Mask:
        """Whether a row's mixture has a proportion outside those fitted at its size, or at all sizes [F, n]."""
        shares, size = self.observations.proportions, self.rows.model_size
        outside = np.zeros(self.split.fitted.shape, bool)
        for fold, fitted in enumerate(self.split.fitted):
            for each in self.rows.sizes:
                own = size == each
                there = shares[fitted & own] if (fitted & own).any() else shares[fitted]
                beyond = (shares < there.min(axis=0) - 1e-9) | (shares > there.max(axis=0) + 1e-9)
                outside[fold, own] = beyond.any(axis=1)[own]
        return outside


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Outcome:
    """What one law says.

    Args:
        kept: fields of `HeldOut`: losses and ends of intervals [C, t]; shares of its fits at bounds and not converged
            [F].
        every: losses of all rows in each fold [F, n, t].
    """

    kept: dict[str, Floats]
    every: Floats


def _named(laws: Sequence[str | Rival] | Mapping[str, str | Rival]) -> dict[str, Rival]:
    """Laws by name, in the order given."""
    given = laws if isinstance(laws, Mapping) else {_name(law): law for law in laws}
    if len(given) < len(laws):
        distinct("law", [_name(law) for law in laws], "laws")
    if not given:
        raise InputError(f"no law to compare; laws: {', '.join(['auto', *LAWS])}")
    return {name: _law(law) for name, law in given.items()}


def _name(law: str | Rival) -> str:
    if isinstance(law, str):
        return law
    return law.name if isinstance(law, Law) else AUTO


def _law(law: str | Rival) -> Rival:
    if law == AUTO:
        return Auto()
    return LAWS[choice("law", law, [AUTO, *LAWS])] if isinstance(law, str) else law


def _targets(laws: Iterable[Rival], table: Observations, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The targets asked for, else those named like a domain, else all."""
    if asked is not None:
        known("target", tuple(asked), table.targets, table.source)
    chosen = tuple(dict.fromkeys(asked)) if asked is not None else table.own_targets or table.targets
    for law in laws:
        if isinstance(law, Law):
            choose_targets(law, table, chosen)
    return chosen
