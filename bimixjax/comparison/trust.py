"""Why a score should not be believed, in words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from bimixjax.comparison.scores import FEWEST_RANKED, failures

if TYPE_CHECKING:
    from bimixjax.comparison.table import Comparison

# Fewer held-out mixtures, a larger share of rows or fits, and a coverage further off than these are worth a word.
FEW_UNITS = 5
SHARE = 0.1
COVERAGE = 0.1


def sentence(found: "Comparison", law: str, group: float) -> str:
    """Return all reasons to doubt the scores of a law in a group of folds; "" where nothing does."""
    number = found.laws.index(law)
    return "; ".join([*_of_all_laws(found, group), *_of_one_law(found, number, group)])


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
