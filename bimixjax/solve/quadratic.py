"""Quadratic programs over mixtures within limits: the model that a Newton step minimizes.

    minimize g . d + d . H d / 2   over d with  lower <= r + d <= upper,  least_k <= sum_{i in k} (r + d)_i <= most_k,
    sum_i d_i = 0,  D' . d <= radius - D(r),   for positive definite H

by a primal-dual active set: with the limits that are thought to bind as equations, a linear system gives d and their
multipliers; limits that d breaks are added, those whose multipliers have the wrong sign are let go, until neither is.

Source: Hintermueller, Ito and Kunisch, SIAM J. Optim. 13 (2002).
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from bimixjax.solve.region import NEAR, Region

# Turns after which the set is taken as it is: the step is only tried.
_TURNS = 40
# Limits are broken by more than this, relative to 1.
_BROKEN = 1e-14


@dataclasses.dataclass(frozen=True)
class Face:
    """The limits that bind: which shares stand at one (-1 lower, 1 upper), which totals likewise, and the ball."""

    shares: Int[np.ndarray, " d"]
    totals: Int[np.ndarray, " G"]
    ball: bool

    def rows(self, region: Region, tangent: np.ndarray) -> Float[np.ndarray, "m d"]:
        """Return the sums given on the face, that of groups at no limit first; then the tangent of the ball."""
        place = np.where(self.totals != 0, np.arange(1, len(self.totals) + 1), 0)[region.group]
        rows = [(place == 0).astype(float)]
        rows += [(place == k + 1).astype(float) for k in np.flatnonzero(self.totals)]
        return np.array([*rows, *([tangent] if self.ball else [])])


def program(
    bends: Float[np.ndarray, "d d"],
    slope: Float[np.ndarray, " d"],
    r: Float[np.ndarray, " d"],
    region: Region,
    tangent: Float[np.ndarray, " d"],
    ball: bool,
) -> tuple[Float[np.ndarray, " d"], Face]:
    """Solve the program: the step d, and the face on which it ends.

    Args:
        bends: H, positive definite [d, d].
        slope: g [d].
        r: the mixture.
        region: the limits.
        tangent: the gradient of the ball's divergence [d]; zeros where there is none.
        ball: whether the ball is thought to bind at first.
    """
    below, above, totals = region.lower - r, region.upper - r, region.totals(r)
    short, far = region.least - totals, region.most - totals
    slack = 0.0 if region.ball is None else region.ball.radius - float(region.ball.of(r))
    at = np.where(above <= 0, 1, 0)
    at = np.where(below >= 0, -1, at)
    of_groups = np.where(short >= -NEAR, -1, np.where(far <= NEAR, 1, 0))
    face, step = Face(at, of_groups, ball), np.zeros(len(r))
    for _ in range(_TURNS):
        fixed = face.shares != 0
        step = np.where(face.shares < 0, below, np.where(face.shares > 0, above, 0.0))
        rows, free = face.rows(region, tangent), ~fixed
        ends = np.where(face.totals < 0, short, far)[face.totals != 0]
        wanted = np.concatenate([[-ends.sum()], ends, [slack] if face.ball else []])
        used = np.abs(rows[:, free]).sum(1) > 0
        a, b = rows[used][:, free], (wanted - rows[:, fixed] @ step[fixed])[used]
        h = bends[np.ix_(free, free)]
        system = np.block([[h, a.T], [a, np.zeros((len(a), len(a)))]])
        target = np.concatenate([-slope[free] - bends[np.ix_(free, fixed)] @ step[fixed], b])
        found = np.linalg.lstsq(system, target, rcond=1e-15)[0]
        step[free] = found[: free.sum()]
        prices = np.zeros(len(rows))
        prices[used] = found[free.sum() :]
        after = _after(
            face, step, bends @ step + slope + prices @ rows, prices, (below, above, short, far, slack), region, tangent
        )
        if all(np.array_equal(getattr(after, name), getattr(face, name)) for name in ("shares", "totals", "ball")):
            break
        face = after
    return step, face


def _after(
    face: Face,
    step: np.ndarray,
    reduced: np.ndarray,
    prices: np.ndarray,
    room: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float],
    region: Region,
    tangent: np.ndarray,
) -> Face:
    """Add the limits that a step breaks, and let go those that pull the wrong way."""
    below, above, short, far, slack = room
    shares = np.where(step < below - _BROKEN, -1, np.where(step > above + _BROKEN, 1, 0))
    kept = ((face.shares < 0) & (reduced >= 0)) | ((face.shares > 0) & (reduced <= 0)) | (below >= above)
    shares = np.where(face.shares != 0, np.where(kept, face.shares, 0), shares)
    tight = np.flatnonzero(face.totals)
    nu = np.zeros(len(face.totals))
    nu[tight] = prices[1 : 1 + len(tight)] - prices[0]
    moved = region.totals(step)
    totals = np.where(moved < short - _BROKEN, -1, np.where(moved > far + _BROKEN, 1, 0))
    kept = ((face.totals < 0) & (nu <= 0)) | ((face.totals > 0) & (nu >= 0)) | (region.least >= region.most)
    totals = np.where(face.totals != 0, np.where(kept, face.totals, 0), totals)
    ball = region.ball is not None and bool(prices[-1] > 0 if face.ball else tangent @ step > slack + _BROKEN)
    return Face(shares, totals, ball)
