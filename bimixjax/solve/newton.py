"""The last digits of a minimum over mixtures within limits: Newton steps, each the solution of a quadratic program.

Its Hessian is that of the objective plus the pull of the ball, by differences of gradients; where it is not convex its
eigenvalues count by their absolute values, first of all directions, then of those of the face on which the step ends.
Near a share of 0 the slope of many laws is not bounded: the coordinates of a descent hardly move there, while this
step, scaled by the curvature of each share, does.
"""

from collections.abc import Callable

import numpy as np

from bimixjax.solve.certificate import Certificate, ball_pull, certify
from bimixjax.solve.quadratic import Face, program
from bimixjax.solve.region import Region

Values = Callable[[np.ndarray], np.ndarray]

# Differences of the gradient, relative to the share, and the least share that they are relative to.
_STEP, _LEAST = 1e-4, 2e-8
_ROUNDS, _HALVED, _GENTLE = 40, 14, 4
# How much of its room a share keeps in a gentle step.
_KEPT = 0.05
# The KKT residual of a mixture that is certified to rounding.
CERTIFIED = 1e-13
# Values that differ by rounding; that hardly differ; and how much higher one may be, relative to them: a step that ends
# outside of the ball is drawn in, which takes shares off their limits by its square.
_ROUNDING, _CLOSE, _HIGHER = 2e-15, 1e-9, 1e-10

# Beyond so many domains the Hessian costs more than it is worth.
MOST_DOMAINS = 128


def polish(
    values: Values, gradients: Values, r: np.ndarray, region: Region, least: float, done: float = CERTIFIED
) -> tuple[np.ndarray, Certificate]:
    """Follow a mixture within limits to the stationary point beside it.

    Args:
        values: mixtures [n, d] -> objective [n].
        gradients: mixtures [n, d] -> its gradients [n, d].
        r: where to begin [d].
        region: the limits.
        least: the least slope that counts, as in `certify`.
        done: the KKT residual at which to stop.

    Returns:
        A mixture whose objective is not higher, but for 1e-10 of it, and its certificate.
    """
    value, slope = values(r[None])[0], gradients(r[None])[0]
    best = certify(slope, r, region, least=least)
    for _ in range(_ROUNDS):
        if best.kkt_residual <= done or len(r) > MOST_DOMAINS or not np.isfinite(slope).all():
            break
        tried = _trials(gradients, r, slope, region)
        found = values(tried)
        found = np.where(np.isfinite(found), found, np.inf)
        place = int(np.argmin(found))
        # Where values hardly differ, whole steps are judged by what they leave of the slopes.
        close = not found[place] < value - _CLOSE * abs(value)
        whole = [k for k in (0, _HALVED) if found[k] <= value + _HIGHER * abs(value)] if close else []
        asked = [place, *whole]
        after = gradients(tried[asked])
        known = [certify(each, tried[k], region, least=least) for k, each in zip(asked, after, strict=True)]
        chosen = int(np.argmin([one.kkt_residual for one in known])) if close else 0
        if close and not known[chosen].kkt_residual < 0.5 * best.kkt_residual:
            chosen = 0
            if not found[place] < value - _ROUNDING * abs(value):
                break
        r, value, slope, best = tried[asked[chosen]], found[asked[chosen]], after[chosen], known[chosen]
    return r, best


def _trials(gradients: Values, r: np.ndarray, slope: np.ndarray, region: Region) -> np.ndarray:
    """Return mixtures to try: Newton steps and parts of them, and such that keep some of each share's room."""
    bends, tangent, pull = _hessian(gradients, r), np.zeros(len(r)), 0.0
    if region.ball is not None:
        tangent, pull = region.ball.slopes(r), ball_pull(slope, r, region)
        bends = bends + np.diag(pull * region.ball.curvatures(r))
    scale = 1 / np.sqrt(np.maximum(np.abs(np.diag(bends)), 1e-12 * np.abs(bends).max() + 1e-300))
    scaled = scale[:, None] * bends * scale
    # The sum of all shares is given, so bends along it are of no account; as a large one they leave the others alone.
    ones = 1 / scale / np.linalg.norm(1 / scale)
    across = scaled - np.outer(ones, ones @ scaled)
    across = across - np.outer(across @ ones, ones)
    convex = _absolute(across + np.outer(ones, ones) * max(np.abs(scaled).max(), 1e-300))
    step, face = program(convex / scale[:, None] / scale, slope, r, region, tangent, pull > 0)
    on_face = _step_on(face, step, bends, slope, region, tangent, scale)
    ways = 0.5 ** np.arange(_HALVED)[:, None]
    full = _within(np.clip(r + on_face, region.lower, region.upper)[None], region)[0]
    tried = [_within(r + ways * way, region) for way in (full - r, step)]
    return np.concatenate([*tried, _within(_gentle(r, ways[:_GENTLE] * step, region, face), region)])


def _hessian(gradients: Values, r: np.ndarray) -> np.ndarray:
    # Gradients below the least share are those there: a share of 0 would have a row of zeros and a column that is none.
    r = np.maximum(r, _LEAST)
    size = _STEP * r
    ahead, behind = np.split(gradients(np.concatenate([r + np.diag(size), r - np.diag(size)])), 2)
    bends = np.nan_to_num((ahead - behind) / (2 * size[:, None]))
    return (bends + bends.T) / 2


def _absolute(matrix: np.ndarray) -> np.ndarray:
    """Return the matrix with the absolute values of its eigenvalues, none of them nearly 0."""
    values, axes = np.linalg.eigh(matrix)
    values = np.maximum(np.abs(values), 1e-10 * max(np.abs(values).max(initial=0.0), 1e-300))
    return (axes * values) @ axes.T


def _step_on(
    face: Face,
    step: np.ndarray,
    bends: np.ndarray,
    slope: np.ndarray,
    region: Region,
    tangent: np.ndarray,
    scale: np.ndarray,
) -> np.ndarray:
    """Return the step to the stationary point on a face: that given, and what the Hessian as it is adds to it."""
    free = np.flatnonzero(face.shares == 0)
    rows = (face.rows(region, tangent) * scale)[:, free]
    _, sizes, vectors = np.linalg.svd(rows)
    across = vectors[int(np.sum(sizes > 1e-12 * max(sizes.max(initial=0.0), 1e-300))) :].T
    if not across.size:
        return step
    left = (scale * (slope + bends @ step))[free]
    inner = _absolute(across.T @ (scale[free, None] * bends[np.ix_(free, free)] * scale[free]) @ across)
    found = step.copy()
    found[free] -= scale[free] * (across @ np.linalg.solve(inner, across.T @ left))
    return found


def _within(x: np.ndarray, region: Region) -> np.ndarray:
    """Return mixtures as they are, where they keep to the limits but for rounding, else the nearest that do.

    Shares at a limit stay there where they can: rounding that lifts a share from 0 can cost more than the step gains,
    for the slope of some laws is infinite at 0.
    """
    wrong = np.array([region.violation(one) > 1e-15 for one in x])
    if not wrong.any():
        return x
    low = np.where(x >= region.upper, region.upper, region.lower)
    high = np.maximum(low, np.where(x <= region.lower, region.lower, region.upper))
    least, most = region.within_box(low, high).span()
    stays = wrong & (least <= most).all(-1) & (least.sum(-1) <= 1) & (most.sum(-1) >= 1)
    x = x.copy()
    x[wrong & ~stays] = region.nearest(x[wrong & ~stays])
    x[stays] = region.within_box(low[stays], high[stays]).nearest(x[stays])
    return x


def _gentle(r: np.ndarray, ways: np.ndarray, region: Region, face: Face) -> np.ndarray:
    """Take steps [n, d], each share at most so far that some of its room is left; what sums lack goes by room."""
    low, high = r - (1 - _KEPT) * (r - region.lower), r + (1 - _KEPT) * (region.upper - r)
    moved = np.clip(r + ways, low, high)
    room = np.minimum(moved - region.lower, region.upper - moved)
    for some in face.rows(region, r)[: 1 + np.count_nonzero(face.totals)].astype(bool):
        lacking = (r + ways)[:, some].sum(1, keepdims=True) - moved[:, some].sum(1, keepdims=True)
        rooms = room[:, some].sum(1, keepdims=True)
        moved[:, some] += np.clip(lacking / np.where(rooms > 0, rooms, 1), -1, 1) * room[:, some]
    return moved
