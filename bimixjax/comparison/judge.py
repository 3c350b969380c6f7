"""Compare laws on the same held-out runs: errors, ranks, intervals, and paired differences."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from bimixjax._base.checks import InputError, distinct, known
from bimixjax._base.stages import counted
from bimixjax.auto.folds import auto_folds
from bimixjax.comparison.choices import best_trained, orders
from bimixjax.comparison.intervals import Errors, half_widths, nearest
from bimixjax.comparison.rows import At, Mask, Rows
from bimixjax.comparison.schemes import Scheme, Split, every_run
from bimixjax.comparison.table import Comparison
from bimixjax.estimation import Auto
from bimixjax.fitting import fit_folds
from bimixjax.fitting.lanes import choose_targets
from bimixjax.fitting.options import Solver
from bimixjax.fitting.outliers import name_outliers_of_all
from bimixjax.laws import LAWS, Law, law_named
from bimixjax.observations import Inventory, Observations, Unit
from bimixjax.optimization.baselines import NAMES as BASELINES
from bimixjax.solve import Status

Rival = Law | Auto
AUTO = "auto"
_STACKED = ("predicted", "lower", "upper", "at_bound", "unconverged")


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
    inventory: Inventory | None = None,
) -> Comparison:
    """Fit laws to the same folds of a table, and put their predictions beside the losses that were held out.

    Beside the laws stand choices without one: the mixtures nearest to the natural and the uniform one, the zero-run
    order, and the best run that was fitted.

    Folds hold out whole runs, later volumes or larger models, never single rows. Intervals of a single law are
    calibrated inside the fitted rows of each fold, by holding out in the same way there, or, where each run is held out
    in turn, on the other runs: conformal prediction, with widths that grow with the distance from the nearest fitted
    mixture. All folds of a law, and those within, are one batched call.

    Args:
        laws: names in `LAWS`, "auto", laws, or `Auto` settings; a mapping gives them names of one's own.
        observations: measured losses.
        folds: `LeaveOneRunOut` (the default; above 64 mixtures it is `RunParts`), `RunDesigns`, `ChosenRuns`,
            `LaterVolumes` or `LargerSizes`.
        at: the volume at which held-out rows are judged: "last", the last one that at least half of the runs of a model
            size reach; "all"; or a number.
        volume: "tokens" or "steps"; by default tokens where the table has them, else steps.
        targets: which losses; by default those named like a domain, where there are any, else all.
        level: what share the intervals should cover; None for no intervals, which saves the fits that they take.
        solver: for single laws, as in `fit`.
        inventory: unique tokens of every domain, for the natural mixture; by default those of the table.

    Returns:
        The comparison, with one table by `to_frame()`.

    Raises:
        InputError: for an unknown law or target, a law with the name of a baseline, a table that cannot be split so, or
            a level not within 0 to 1.

    Example:
        >>> import pandas as pd
        >>> import bimixjax
        >>> from bimixjax.comparison import RunDesigns
        >>> share = [0.1, 0.2, 0.4, 0.6, 0.8, 0.9]
        >>> table = {"run": list("abcdef"), "mixture/x": share, "mixture/y": [1 - r for r in share]}
        >>> table |= {"loss/x": [2 * r**-0.25 for r in share]}
        >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table))
        >>> found = bimixjax.compare(["bimix"], observations, folds=RunDesigns(runs=(3, 4), draws=2), level=None)
        >>> found.to_frame().query("law == 'bimix'")["group"].tolist()
        [3.0, 4.0]

    Source: the table's form follows arviz.compare; the intervals, Lei et al., JASA 113 (2018).
    """
    if level is not None and not 0 < level < 1:
        raise InputError(f"level is {level!r}; allowed: above 0 and below 1, or None")
    rivals = _named(laws)
    unit = observations.volume_unit(volume)
    names = _targets(rivals.values(), observations, targets)
    rows = Rows.of(observations, unit, at)
    scheme = folds or every_run(rows)
    judge = _Judge(observations, rows, unit, names, scheme, scheme.split(rows), level, solver)
    without = orders(observations, names, inventory)
    outcomes = [judge.outcome(law) for law in counted("laws compared", len(rivals), rivals.values())]
    return judge.comparison(tuple(rivals), outcomes, without)


@dataclasses.dataclass(frozen=True)
class _Judge:
    """Folds and settings that all laws of a comparison share: n rows, t targets, F folds, C rows held out in a fold.

    An outcome is what a law predicts, by the names of the fields of `Comparison`; `every` has its losses of all rows in
    each fold [F, n, t].
    """

    observations: Observations
    rows: Rows
    unit: Unit | None
    targets: tuple[str, ...]
    scheme: Scheme
    split: Split
    level: float | None
    solver: Solver | None

    @cached_property
    def losses(self) -> Float[np.ndarray, "n t"]:
        """Measured losses of every row."""
        return self.observations.losses[:, [self.observations.targets.index(t) for t in self.targets]]

    @cached_property
    def places(self) -> tuple[Int[np.ndarray, " C"], Int[np.ndarray, " C"]]:
        """Fold and row of each held-out row that is judged."""
        fold, row = np.nonzero(self.split.held_out & self.rows.judged & np.isfinite(self.losses).any(axis=1))
        return fold, row

    def outcome(self, law: Rival) -> dict[str, np.ndarray]:
        """Fit a law to all folds, and to those within, in one call."""
        if not isinstance(law, Law):
            return self._outcome_of_auto(law)
        folds, inner = len(self.split), self._inner()
        weights = np.concatenate([self.split.fitted, *(fitted[None] for _, fitted, _ in inner)]).astype(float)
        found = fit_folds(law, self.observations, weights, volume=self.unit, targets=self.targets, solver=self.solver)
        losses = np.asarray(found.predicted)
        predicted, half = losses[self.places], self._half_widths(inner, losses)
        rows, status, at_bound = (np.asarray(a)[:folds] for a in (found.rows, found.status, found.at_bound))
        # Fits without any row do not count.
        fitted = rows > 0
        total = np.maximum(fitted.sum(axis=(1, 2)), 1)
        return {
            "predicted": predicted,
            "lower": predicted * np.exp(-half),
            "upper": predicted * np.exp(half),
            "at_bound": (at_bound & fitted).sum(axis=(1, 2)) / total,
            "unconverged": ((status != Status.CONVERGED) & fitted).sum(axis=(1, 2)) / total,
            "every": losses[:folds],
        }

    def _outcome_of_auto(self, settings: Auto) -> dict[str, np.ndarray]:
        """Auto has intervals of its own, but no bounds; its status says in words how its members ended."""
        options = {"volume": self.unit, "targets": self.targets, "settings": settings, "level": self.level or 0.9}
        found = auto_folds(self.observations, self.split.fitted.astype(float), **options)
        kept = {name: np.asarray(getattr(found, name))[self.places] for name in ("predicted", "lower", "upper")}
        if self.level is None:
            kept["lower"] = kept["upper"] = np.full_like(kept["predicted"], np.nan)
        unknown = np.full(len(self.split), np.nan)
        return {**kept, "at_bound": unknown, "unconverged": unknown, "every": found.predicted}

    def _inner(self) -> list[tuple[int, Mask, Mask]]:
        """Folds within each fold, where intervals are calibrated: its number, rows to fit, rows to judge."""
        if self.level is None or self.scheme.crossed:
            return []
        pairs = [(f, *pair) for f, rows in enumerate(self.split.fitted) for pair in self.scheme.within(self.rows, rows)]
        return [pair for pair in pairs if pair[1].any() and pair[2].any()]

    def _half_widths(
        self, inner: list[tuple[int, Mask, Mask]], losses: Float[np.ndarray, "fits n t"]
    ) -> Float[np.ndarray, "C t"]:
        """Half-widths in log loss, from errors on rows that a fit has not used; NaN where there are none.

        A fold's errors are those of the folds within it, or, where the scheme is crossed, of all other folds.
        """
        fold, row = self.places
        half = np.full((len(fold), len(self.targets)), np.nan)
        if self.level is None:
            return half
        if self.scheme.crossed:
            judged = self.split.held_out & self.rows.judged
            each = [self._errors(*fit) for fit in zip(self.split.fitted, judged, losses, strict=True)]
            of_fold = {number: each[:number] + each[number + 1 :] for number in range(len(each))}
        else:
            of_fold = {}
            for (number, fitted, judged), predicted in zip(inner, losses[len(self.split) :], strict=True):
                of_fold.setdefault(number, []).append(self._errors(fitted, judged, predicted))
        for number, parts in of_fold.items():
            own = fold == number
            distance = nearest(self.rows, self.observations.proportions, self.split.fitted[number])[row[own]]
            errors = Errors(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})
            half[own] = half_widths(errors, self.level, self.rows.model_size[row[own]], distance)
        return half

    def _errors(self, fitted: Mask, judged: Mask, predicted: Float[np.ndarray, "n t"]) -> Errors:
        """Errors of a fit on rows that it has not used."""
        with np.errstate(invalid="ignore", divide="ignore"):
            log = np.log(self.losses[judged] / predicted[judged])
        distance = nearest(self.rows, self.observations.proportions, fitted)
        return Errors(size=self.rows.model_size[judged], distance=distance[judged], log=log)

    def comparison(
        self,
        laws: tuple[str, ...],
        outcomes: Sequence[dict[str, np.ndarray]],
        without: tuple[dict[str, np.ndarray], dict[str, str]],
    ) -> Comparison:
        """Put the outcomes of all laws, and the orders of mixtures `without` one, beside what was measured."""
        fold, row = self.places
        rows, split = self.rows, self.split
        every, *stacked = ([found[name] for found in outcomes] for name in ("every", *_STACKED))
        outlying = name_outliers_of_all(every, self.losses, self.observations)
        domains, shares = self.observations.domains, self.observations.proportions
        own = [shares[:, domains.index(t)] if t in domains else np.ones(len(shares)) for t in self.targets]
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
            outside=self._outside()[self.places],
            absent=np.stack(own, axis=1)[row] == 0,
            measured=self.losses[row],
            notes=(outlying,) if outlying else (),
            orders={name: values[row] for name, values in without[0].items()},
            missing=without[1],
            best_run=best_trained(rows, split, self.losses.mean(axis=1))[self.places],
            **{name: np.stack(arrays) for name, arrays in zip(_STACKED, stacked, strict=True)},
        )

    def _outside(self) -> Bool[np.ndarray, "F n"]:
        """Tell whether a row's mixture has a proportion outside those fitted at its size, or at all sizes."""
        shares = self.observations.proportions
        outside = np.zeros(self.split.fitted.shape, bool)
        for fold, fitted in enumerate(self.split.fitted):
            for own, there in self.rows.fitted_by_size(fitted):
                low, high = shares[there].min(axis=0) - 1e-9, shares[there].max(axis=0) + 1e-9
                outside[fold, own] = ((shares[own] < low) | (shares[own] > high)).any(axis=1)
        return outside


def _named(laws: Sequence[str | Rival] | Mapping[str, str | Rival]) -> dict[str, Rival]:
    """Return laws by name, in the order given."""
    if isinstance(laws, Mapping):
        given = dict(laws)
    else:
        names = [law if isinstance(law, str) else law.name if isinstance(law, Law) else AUTO for law in laws]
        distinct("law", names, "laws")
        given = dict(zip(names, laws, strict=True))
    if taken := [name for name in given if name in BASELINES]:
        raise InputError(
            f"a law is named {taken[0]!r}, as one of the baselines {', '.join(BASELINES)}; name it otherwise"
        )
    if not given:
        raise InputError(f"no law to compare; laws: {', '.join([AUTO, *LAWS])}")
    return {
        name: Auto() if law == AUTO else law_named(law, also=(AUTO,)) if isinstance(law, str) else law
        for name, law in given.items()
    }


def _targets(laws: Iterable[Rival], table: Observations, asked: Sequence[str] | None) -> tuple[str, ...]:
    """Return the targets asked for, else those named like a domain, else all."""
    if asked is not None:
        known("target", tuple(asked), table.targets, table.source)
    chosen = tuple(dict.fromkeys(asked)) if asked is not None else table.own_targets or table.targets
    for law in laws:
        if isinstance(law, Law):
            choose_targets(law, table, chosen)
    return chosen
