"""What laws predict for the same held-out rows, beside what was measured there, and its tables."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from bimixjax._base import notebooks, summaries
from bimixjax._base.checks import known
from bimixjax.comparison import scores, trust


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """What L laws predict for the same C held-out rows and t targets, in F folds; `compare` makes one.

    Losses are in nats per token. A prediction is infinite where the law diverges at a share of zero, which is
    counted; any other that is not finite has failed, and a law with such a one has no error to compare.

    Attributes:
        laws, targets: names.
        level: what share of measurements the intervals should cover; None where there are none.
        grouped_by: what distinguishes groups of folds, in words.
        beyond: what all held-out rows exceed of the fitted ones: "volume", "model size", or nothing.
        group, block: of each fold: its group, and which folds are ranked together.
        fold, run, mixture, model_size, volume: of each row held out in a fold.
        outside: whether a row's mixture lies outside the fitted proportions.
        absent: whether the target's own domain has a share of zero there.
        measured: losses, NaN where missing.
        predicted, lower, upper: losses and ends of the intervals.
        at_bound, unconverged: share of the fits of a fold that ended so, NaN for an average of laws.
        notes: what else a reader should know: of rows far outside what every law says.
        orders: of each row, what orders mixtures without a law, the least first, by the name of a baseline.
        missing: why there is no such order, by the name of a baseline.
        best_run: of each row, the mean loss measured at its size and volume of the best run that its fold fits.

    Example:
        >>> import pandas as pd
        >>> import bimixjax
        >>> share = [0.1, 0.2, 0.4, 0.8]
        >>> table = {"run": list("abcd"), "mixture/x": share, "mixture/y": [1 - r for r in share]}
        >>> table |= {"loss/x": [2 * r**-0.25 for r in share]}
        >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table))
        >>> found = bimixjax.compare(["bimix", "additive"], observations, level=None)
        >>> found.to_frame()["law"].tolist()
        ['bimix', 'additive', 'uniform', 'zero-run', 'best run']
    """

    laws: tuple[str, ...]
    targets: tuple[str, ...]
    level: float | None
    grouped_by: str
    beyond: str
    group: Float[np.ndarray, " F"]
    block: Int[np.ndarray, " F"]
    fold: Int[np.ndarray, " C"]
    run: Shaped[np.ndarray, " C"]
    mixture: Int[np.ndarray, " C"]
    model_size: Float[np.ndarray, " C"]
    volume: Float[np.ndarray, " C"]
    outside: Bool[np.ndarray, " C"]
    absent: Bool[np.ndarray, "C t"]
    measured: Float[np.ndarray, "C t"]
    predicted: Float[np.ndarray, "L C t"]
    lower: Float[np.ndarray, "L C t"]
    upper: Float[np.ndarray, "L C t"]
    at_bound: Float[np.ndarray, "L F"]
    unconverged: Float[np.ndarray, "L F"]
    notes: tuple[str, ...] = ()
    orders: Mapping[str, Float[np.ndarray, " C"]] = dataclasses.field(default_factory=dict)
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict)
    best_run: Float[np.ndarray, " C"] | None = None

    def __repr__(self) -> str:
        laws, targets = summaries.listed(self.laws), summaries.listed(self.targets)
        return f"Comparison(laws {laws}; targets {targets}; {len(self.group)} folds, {len(self.run)} rows held out)"

    def summary(self) -> str:
        """Say in plain text how each law did: errors, rank correlations, regrets, and what to be wary of."""
        return summaries.compared(self)

    def _repr_html_(self) -> str:
        return notebooks.compared(self)

    def cells(self) -> pd.DataFrame:
        """Return one row per law, held-out row and target, with the measured loss, the prediction and its interval.

        `unit` numbers what standard errors count as independent: blocks of folds; within one block, folds; within one
        fold, mixtures. `relative` is (predicted - measured) / measured.
        """
        return scores.cells(self).drop(columns=["row", "failed"])

    def scores(self) -> pd.DataFrame:
        """Return one row per law or baseline, block of folds, model size and volume: `to_frame` before averaging."""
        return self._scored.copy()

    @cached_property
    def _scored(self) -> pd.DataFrame:
        # Of many folds they take a while, and are asked for again by tables, figures and differences.
        return scores.scores(self)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per law and group of folds, the best of each group first, then one per baseline.

        Returns:
            A frame with the columns
            law, group: the law or baseline, and what distinguishes groups of folds, such as the number of runs fitted;
            baseline: whether it is a baseline, which needs no law and has the decision scores only: `natural` and
            `uniform` choose the held-out mixture nearest to that one, `zero-run` the first in its order, and `best run`
            is the best run that the fold fits, as it was measured at that size and volume;
            cells, silent: held-out losses, and those without a finite prediction;
            failed: those of them that it has no right to, where no share of zero makes it diverge; with any such one,
            error, bias, r2, common and difference are NaN, since a mean of the others would flatter the law;
            error, error_se: mean relative error of what it predicts, means over targets, rows, model sizes, then units;
            worst, worst_target: the error of the worst target, and its name;
            bias: mean of (predicted - measured) / measured;
            r2: R2 of a target's loss over held-out mixtures, mean over targets;
            spearman, spearman_target: rank correlation over held-out mixtures of the mean loss, and mean over targets,
            with predictions that are not finite last;
            regret: measured mean loss of the mixture that the law likes best among those held out, minus the least one;
            below 0 for a best run that is better than all of them;
            regret_normalized: over the mean of these measured mean losses minus the least one: 0 is the best mixture of
            those held out, 1 as good as an average one;
            regret_se, regret_normalized_se: standard errors over blocks of folds, NaN for a single one;
            top3: share of the three best held-out mixtures among the three that the law likes best;
            coverage, width: share of losses inside the interval, and its width relative to the loss;
            common: error on the cells that all laws predict (laws that fail somewhere aside);
            difference, difference_se: `common` minus that of the group's best law, paired over units;
            trust: why a row should not be believed, in words, or nothing.
        """
        summary = scores.summary(self, self._scored)
        return summary.assign(trust=trust.sentences(self, summary))

    def difference(self, law: str, other: str, group: float | None = None) -> tuple[float, float]:
        """Return the mean error of one law minus another's where both predict, and its standard error over units.

        Args:
            law: a name.
            other: the name of the law that it is compared with.
            group: which folds; all where None.

        Raises:
            InputError: for a law that was not compared.
        """
        known("law", (law, other), self.laws, "the comparison")
        return scores.difference(self, (law, other), group)
