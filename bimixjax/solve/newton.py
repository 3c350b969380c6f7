"""The last digits of a minimum over mixtures within limits: Newton steps on the face of the limits that bind.

With the shares F that no limit holds, the gradient g and the Hessian H of the objective plus the pull of the ball,

    minimize g_F . d + d . H_FF d / 2   over d with  sum_{i in F, k} d_i = 0 for each price k,  D' . d = radius - D(r),

by the absolute values of the eigenvalues of H on these directions, so that it goes down where H is not convex. Near a
share of 0 the slope of many laws is not bounded: the coordinates of a descent hardly move there, while this step,
scaled by the curvature of each share, does.
"""

from collections.abc import Callable

import numpy as np

from bimixjax.solve.certificate import Certificate, certify, classes
from bimixjax.solve.region import Region

Values = Callable[[np.ndarray], np.ndarray]

# Differences of the gradient, relative to the share, and the least share that they are relative to.
_STEP, _LEAST = 1e-4, 2e-8
_ROUNDS, _HALVED = 40, 14
# How much of its room a share keeps in a step.
_KEPT = 0.05
# Certified to rounding; and shares this near a limit are tried there.
_DONE, _NEAR = 1e-13, 1e-6

# Beyond so many domains the Hessian costs more than it is worth.
MOST_DOMAINS = 128


def polish(
    values: Values, gradients: Values, r: np.ndarray, region: Region, least: float
) -> tuple[np.ndarray, Certificate]:
    """Follow a mixture within limits to the stationary point beside it.

    Args:
        values: mixtures [n, d] -> objective [n].
        gradients: mixtures [n, d] -> its gradients [n, d].
        r: where to begin [d].
        region: the limits.
        least: the least slope that counts, as in `certify`.

    Returns:
        A mixture whose objective is not higher, and its certificate.
    """
    value, slope = values(r[None])[0], gradients(r[None])[0]
    best = certify(slope, r, region, least=least)
    for _ in range(_ROUNDS):
        if best.kkt_residual <= _DONE or len(r) > MOST_DOMAINS or not np.isfinite(slope).all():
            break
        tried = _trials(gradients, r, slope, region, best)
        found = values(tried)
        found = np.where(np.isfinite(found), found, np.inf)
        place = int(np.argmin(found))
        rounding = 4 * np.finfo(float).eps * abs(value)
        # Where values differ by rounding, the full step is judged by what it leaves of the slopes.
        place = place if found[place] < value - rounding else 0
        after = gradients(tried[[place]])[0]
        known = certify(after, tried[place], region, least=least) if np.isfinite(after).all() else best
        if not found[place] < value - rounding and not (
            found[place] <= value + rounding and known.kkt_residual < 0.9 * best.kkt_residual
        ):
            break
        r, value, slope, best = tried[place], found[place], after, known
    return r, best


def _trials(gradients: Values, r: np.ndarray, slope: np.ndarray, region: Region, known: Certificate) -> np.ndarray:
    """Return mixtures to try: the Newton step and parts of it, without and with shares put at a near limit."""
    bent = slope if region.ball is None or known.pull == 0 else slope + known.pull * region.ball.slopes(r)
    reduced = bent + known.prices[region.group]
    below, above = r - region.lower, region.upper - r
    pushed = ((below <= _NEAR) & (reduced >= 0)) | ((above <= _NEAR) & (reduced <= 0))
    held = (region.lower == region.upper) | (pushed & (np.minimum(below, above) <= 0))
    free = np.flatnonzero(~held)
    place = _prices(region, r, known)
    step = _newton(gradients, r, bent, region, known, free, place)
    ways = 0.5 ** np.arange(_HALVED)[:, None] * step
    snapped = np.where(pushed, np.where(below <= above, region.lower, region.upper), r)
    gentle = _moved(r, ways, region, place)
    # Straight to the limits, and with shares near one put there, the rest of the step as it is.
    direct = region.nearest(np.clip(r + ways[:4], region.lower, region.upper))
    put = region.nearest(np.where(pushed, snapped, gentle[:4]))
    return np.concatenate([gentle, direct, put])


def _prices(region: Region, r: np.ndarray, known: Certificate) -> np.ndarray:
    """Return which sum each share counts in: of its group where that stands at a limit that holds it, else of all."""
    totals = region.totals(r)
    place = classes(region, totals)
    nu = known.prices - known.multiplier
    lets_go = ((totals - region.least <= region.most - totals) & (nu > 0)) | (
        (totals - region.least > region.most - totals) & (nu < 0)
    )
    lets_go &= region.least < region.most
    return np.where(lets_go[region.group], 0, place)


def _newton(
    gradients: Values,
    r: np.ndarray,
    slope: np.ndarray,
    region: Region,
    known: Certificate,
    free: np.ndarray,
    place: np.ndarray,
) -> np.ndarray:
    """Compute the step [d] of the free shares."""
    whole = np.zeros(len(r))
    size = _STEP * np.maximum(r[free], _LEAST)
    moves = size[:, None] * np.eye(len(r))[free]
    ahead, behind = np.split(gradients(np.concatenate([r + moves, r - moves])), 2)
    bends = (ahead - behind)[:, free] / (2 * size[:, None])
    bends = np.nan_to_num((bends + bends.T) / 2)
    rows = [np.where(place[free] == k, 1.0, 0.0) for k in np.unique(place[free])]
    wanted = [0.0] * len(rows)
    if region.ball is not None and known.pull > 0:
        bends += np.diag(known.pull * region.ball.curvatures(r)[free])
        rows.append(region.ball.slopes(r)[free])
        wanted.append(region.ball.radius - float(region.ball.of(r)))
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(bends)), 1e-12))
    bends, pull, rows = scale[:, None] * bends * scale, scale * slope[free], np.array(rows) * scale
    # Directions that the rows leave, by their singular vectors.
    _, sizes, vectors = np.linalg.svd(rows)
    rank = int(np.sum(sizes > 1e-12 * max(sizes.max(initial=0.0), 1e-300)))
    across = vectors[rank:].T
    base = np.linalg.lstsq(rows, np.array(wanted), rcond=None)[0]
    values, axes = np.linalg.eigh(across.T @ bends @ across)
    values = np.maximum(np.abs(values), 1e-10 * max(np.abs(values).max(initial=0.0), 1e-300))
    along = across @ (axes @ ((axes.T @ (across.T @ (pull + bends @ base))) / values))
    whole[free] = scale * (base - along)
    return whole


def _moved(r: np.ndarray, ways: np.ndarray, region: Region, place: np.ndarray) -> np.ndarray:
    """Take steps [n, d], each share at most so far that some of its room is left; what sums lack goes by room."""
    low, high = r - (1 - _KEPT) * (r - region.lower), r + (1 - _KEPT) * (region.upper - r)
    moved = np.clip(r + ways, np.minimum(r, low), np.maximum(r, high))
    # A share at a limit that lets it go has no room to scale by.
    moved = np.where((r <= region.lower) | (r >= region.upper), np.clip(r + ways, region.lower, region.upper), moved)
    room = np.minimum(moved - region.lower, region.upper - moved)
    for k in np.unique(place):
        some = place == k
        lacking = r[some].sum() - moved[:, some].sum(1, keepdims=True)
        rooms = room[:, some].sum(1, keepdims=True)
        moved[:, some] += np.clip(lacking / np.where(rooms > 0, rooms, 1), -1, 1) * room[:, some]
    wrong = [i for i, one in enumerate(moved) if region.violation(one) > 1e-14]
    if wrong:
        moved[wrong] = region.nearest(moved[wrong])
    return moved
