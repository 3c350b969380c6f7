"""Why a score should not be believed, in words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from bimixjax.comparison.scores import FEWEST_RANKED, failures
from bimixjax.optimization.baselines import BEST_RUN, NATURAL, UNIFORM, ZERO_RUN

if TYPE_CHECKING:
    from bimixjax.comparison.table import Comparison

# Fewer held-out mixtures, a larger share of rows or fits, and a coverage further off than these are worth a word.
FEW_UNITS = 5
SHARE = 0.1
COVERAGE = 0.1


def sentences(found: "Comparison", summary: Any) -> list[str]:
    """Return, for each row of a summary, all reasons to doubt its scores; "" where nothing does."""
    words = []
    for _, group in summary.groupby("group", sort=False):
        regrets = dict(zip(group["law"], group["regret_normalized"], strict=True))
        number = group["group"].iloc[0]
        of_all = list(_of_all_laws(found, number))
        for law, baseline in zip(group["law"], group["baseline"], strict=True):
            own = (
                []
                if baseline
                else [*_of_one_law(found, found.laws.index(law), number), *_of_choice(found, law, regrets)]
            )
            words.append("; ".join([*of_all, *own]))
    return words


def _of_choice(found: "Comparison", law: str, regrets: dict[str, float]) -> Iterator[str]:
    """Say which choices without a law are as good as that by a law, if it is a choice at all."""
    # Where folds are ranked together each run is held out once, and the best run trained is the best of all.
    crossed = len(np.unique(found.block)) < len(found.block)
    rivals = [name for name in (ZERO_RUN, UNIFORM, NATURAL, *(() if crossed else (BEST_RUN,))) if name in regrets]
    own = regrets[law]
    if as_good := [name for name in rivals if own > 0 and regrets[name] <= own]:
        yield f"its choice is no better than without a law, by {' and '.join(as_good)}"


def _of_all_laws(found: "Comparison", group: float) -> Iterator[str]:
    rows = (found.group == group)[found.fold]
    block = found.block[found.fold]
    mixtures = len(np.unique(found.mixture[rows]))
    ranked = min(len(np.unique(found.mixture[rows & (block == each)])) for each in np.unique(block[rows]))
    if mixtures < FEW_UNITS:
        yield f"{mixtures} held-out mixture{'s' if mixtures > 1 else ''} only"
    elif ranked < FEWEST_RANKED:
        yield f"as few as {ranked} held-out mixtures: too few for a rank correlation"
    if found.beyond:
        yield f"extrapolates in {found.beyond}"
    if (outside := found.outside[rows].mean()) > SHARE:
        yield f"{outside:.0%} of rows outside the fitted proportions"


def _of_one_law(found: "Comparison", law: int, group: float) -> Iterator[str]:
    folds = found.group == group
    rows = folds[found.fold]
    losses, lower, upper = found.measured[rows], found.lower[law, rows], found.upper[law, rows]
    measured = np.isfinite(losses)
    predicted = np.isfinite(found.predicted[law, rows]) & measured
    cells, failed = measured.sum(), failures(found)[law, rows].sum()
    if not predicted.any():
        yield "no finite prediction"
    else:
        if failed:
            yield f"{failed} of {cells} predictions are not finite: no error to compare"
        if zero := cells - predicted.sum() - failed:
            yield f"not predicted at a share of zero: {zero} of {cells} losses"
        bounded = measured & np.isfinite(lower) & np.isfinite(upper)
        if found.level is not None and bounded.any():
            inside = ((lower <= losses) & (losses <= upper))[bounded].mean()
            if abs(inside - found.level) > COVERAGE:
                yield f"{found.level:.0%} intervals cover {inside:.0%}"
    if (at_bound := found.at_bound[law, folds].mean()) > SHARE:
        yield f"{at_bound:.0%} of fits at a bound"
    if (unconverged := found.unconverged[law, folds].mean()) > 0:
        yield f"{unconverged:.1%} of fits not converged"
