"""Why a score should not be believed, in words."""

import numpy as np

from bimixjax.comparison.scores import FEWEST_RANKED, HeldOut, failures

# From these on, few units and shares of cells or fits are worth a word.
FEW_UNITS = 5
SHARE = 0.1
COVERAGE = 0.1


def sentence(found: HeldOut, law: str, group: float) -> str:
    """All that speaks against the scores of a law in a group of folds; "" where nothing does."""
    number, folds = found.laws.index(law), found.group == group
    rows = folds[found.fold]
    said = [*_rows(found, rows), *_law(found, number, rows), *_fits(found, number, folds)]
    return "; ".join(said)


def _rows(found: HeldOut, rows: np.ndarray) -> list[str]:
    """What holds for every law."""
    runs = len(np.unique(found.mixture[rows]))
    blocks = np.unique(found.block[found.fold[rows]])
    ranked = min(len(np.unique(found.mixture[rows & (found.block[found.fold] == block)])) for block in blocks)
    said = []
    if runs < FEW_UNITS:
        said.append(f"{runs} held-out mixture{'s' if runs > 1 else ''} only")
    elif ranked < FEWEST_RANKED:
        said.append(f"as few as {ranked} held-out mixtures: too few for a rank correlation")
    if found.beyond:
        said.append(f"extrapolates in {found.beyond}")
    outside = found.outside[rows].mean()
    return said + ([f"{outside:.0%} of rows outside the fitted proportions"] if outside > SHARE else [])


def _law(found: HeldOut, law: int, rows: np.ndarray) -> list[str]:
    measured = np.isfinite(found.measured[rows])
    spoken = np.isfinite(found.predicted[law, rows]) & measured
    if not spoken.any():
        return ["no finite prediction"]
    failed, cells = int(failures(found)[law, rows].sum()), int(measured.sum())
    zero = cells - int(spoken.sum()) - failed
    said = [f"{failed} of {cells} predictions are not finite: no error to compare"] if failed else []
    said += [f"not predicted at a share of zero: {zero} of {cells} losses"] if zero else []
    lower, upper = found.lower[law, rows], found.upper[law, rows]
    bounded = measured & np.isfinite(lower) & np.isfinite(upper)
    if found.level is not None and bounded.any():
        inside = ((lower <= found.measured[rows]) & (found.measured[rows] <= upper))[bounded].mean()
        if abs(inside - found.level) > COVERAGE:
            said.append(f"{found.level:.0%} intervals cover {inside:.0%}")
    return said


def _fits(found: HeldOut, law: int, folds: np.ndarray) -> list[str]:
    at_bound, failed = found.at_bound[law, folds].mean(), found.unconverged[law, folds].mean()
    said = [f"{at_bound:.0%} of fits at a bound"] if at_bound > SHARE else []
    return said + ([f"{failed:.1%} of fits not converged"] if failed > 0 else [])
