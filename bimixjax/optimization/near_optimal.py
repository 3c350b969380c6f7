"""The set of mixtures that are nearly as good as the best one: random walks through it, and its middle."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from bimixjax.solve import Region

# Walks side by side, their steps, and those before a walk has forgotten where it began.
_WALKS, _STEPS, _FORGOTTEN = 64, 160, 40

# How often a step that leaves the set is drawn in.
_DRAWN_IN = 12

# Halvings of the way from the best mixture to the middle of the limits.
_HALVINGS = 40

Values = Callable[[Float[np.ndarray, "n d"]], Float[np.ndarray, " n"]]


def walked(
    values_at: Values, best: Float[np.ndarray, " d"], most: float, region: Region, seed: int
) -> Float[np.ndarray, "n d"]:
    """Draw mixtures uniformly from those within limits whose objective is at most `most`.

    Each step goes along a line to a place that is uniform on it within the set (hit and run; a place outside draws the
    ends of the line in, as in slice sampling). Lines have the direction of the difference of two other walks, so that
    a set that is long in some directions and short in others is walked as well as a round one.

    Args:
        values_at: evaluates the objective at mixtures.
        best: a mixture of the set.
        most: what bounds the objective.
        region: the limits.
        seed: of the walks.

    Returns:
        Mixtures [n, d]; only the best one where the limits leave no other.

    Source: Smith, Operations Research 32 (1984); Neal, Annals of Statistics 31 (2003); ter Braak, Statistics and
    Computing 16 (2006).
    """
    draw, d = np.random.default_rng(seed), len(best)
    onto = _tangent(region)
    if not onto.any():
        return best[None]
    middle = region.nearest(np.full(d, 1 / d))
    short, long = 0.0, 1.0
    for _ in range(_HALVINGS):
        half = (short + long) / 2
        inside = values_at((best + half * (middle - best))[None])[0] <= most
        short, long = (half, long) if inside else (short, half)
    # Off the limits where the best mixture stands at one: a line from there leaves at once.
    at = np.repeat((best + short / 2 * (middle - best))[None], _WALKS, axis=0)
    kept = []
    for step in range(_STEPS):
        first, second = draw.permuted(np.tile(np.arange(_WALKS), (2, 1)), axis=1)
        way = (at[first] - at[second]) if step >= _FORGOTTEN // 2 else draw.standard_normal(at.shape)
        lost = np.abs(way).max(1, keepdims=True) < 1e-12
        way = np.where(lost, draw.standard_normal(at.shape), way) @ onto
        low, high = _ends(at, way / np.abs(way).max(1, keepdims=True), region)
        way = way / np.abs(way).max(1, keepdims=True)
        open_, far = np.ones(_WALKS, bool), np.zeros(_WALKS)
        for _ in range(_DRAWN_IN):
            length = draw.uniform(low, high)
            tried = at[open_] + length[open_, None] * way[open_]
            inside = values_at(np.maximum(tried, 0.0)) <= most
            inside &= True if region.ball is None else region.ball.of(np.maximum(tried, 0.0)) <= region.ball.radius
            far[np.flatnonzero(open_)[inside]] = length[open_][inside]
            open_[np.flatnonzero(open_)[inside]] = False
            low, high = np.where(length < 0, length, low), np.where(length > 0, length, high)
            if not open_.any():
                break
        at = np.clip(at + far[:, None] * way, region.lower, region.upper)
        kept += [at] if step >= _FORGOTTEN else []
    return np.concatenate(kept)


def middle_of(mixtures: Float[np.ndarray, "n d"], values_at: Values, most: float) -> Float[np.ndarray, " d"]:
    """Average mixtures of the set; where the average is outside, which is then not convex, take the nearest of them."""
    mean = mixtures.mean(0)
    mean = mean / mean.sum()
    if values_at(mean[None])[0] <= most:
        return mean
    return mixtures[np.argmin(((mixtures - mean) ** 2).sum(1))]


def _tangent(region: Region) -> Float[np.ndarray, "d d"]:
    """Return what projects onto the directions that keep the sum, fixed shares and fixed totals of groups."""
    d = len(region.lower)
    rows = [np.ones(d), *np.eye(d)[region.lower >= region.upper]]
    rows += [(region.group == k).astype(float) for k in np.flatnonzero(region.least >= region.most)]
    _, sizes, directions = np.linalg.svd(np.array(rows), full_matrices=True)
    kept = directions[(sizes > 1e-10).sum() :]
    return kept.T @ kept


def _ends(at: np.ndarray, way: np.ndarray, region: Region) -> tuple[np.ndarray, np.ndarray]:
    """Return how far each walk can go back and forth on its line within the limits of shares and groups."""
    totals, drift = region.totals(at), region.totals(way)
    drift = np.where(np.abs(drift) > 1e-12, drift, 0.0)
    rooms = [(region.lower - at, region.upper - at, way), (region.least - totals, region.most - totals, drift)]
    low, high = np.full(len(at), -np.inf), np.full(len(at), np.inf)
    for below, above, speed in rooms:
        with np.errstate(divide="ignore", invalid="ignore"):
            first, last = below / speed, above / speed
        moving = speed != 0
        low = np.maximum(low, np.where(moving, np.minimum(first, last), -np.inf).max(1))
        high = np.minimum(high, np.where(moving, np.maximum(first, last), np.inf).min(1))
    return np.minimum(low, 0.0), np.maximum(high, 0.0)
