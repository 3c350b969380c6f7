"""The search for the mixture of least objective under any law: multistart, L-BFGS, Newton steps, active set.

1. Evaluate the objective at some 2500 mixtures, and start from the best of them; where it is not known to be convex,
   also on the best faces of the simplex.
2. Descend by L-BFGS in softmax coordinates. These never reach a limit and hardly move beside one, so each end is tried
   again with the shares that are nearly at a limit put there. Newton steps follow the best to its stationary point.
3. Certify it: KKT residual and Frank-Wolfe gap. Where they are too large, fix the shares at active limits and descend
   on that face, and from points along the Frank-Wolfe direction; again from 2.
4. Count how many descents agree. Where some do not, and the objective is not known to be convex, try mixtures that give
   the share of one domain to another.
"""

import dataclasses
from functools import partial
from operator import itemgetter

import numpy as np
from jax import Array

from bimixjax._base.compilation import program
from bimixjax.mixtures import box_inverse, softmax_inverse
from bimixjax.optimization.evaluation import goal_is_convex, gradients_at, values_at
from bimixjax.optimization.objectives import Objective
from bimixjax.solve import (
    CERTIFIED,
    LBFGS,
    Certificate,
    Region,
    certify,
    polish,
    softmax_search,
    softmax_search_on_host,
)

# The largest KKT residual, and Frank-Wolfe gap in nats per token, of a stationary point.
STATIONARY = 1e-5, 1e-6

# Random mixtures evaluated, by the concentration of the Dirichlet distribution that they are drawn from; and such that
# have a random half of the domains only, since some laws have a minimum on every face.
_DRAWN, _ON_FACES = {1.0: 1280, 0.3: 512, 4.0: 256}, 512
_ROUNDS = 10

# The least distance between starts in total variation, and the least number of vertices among the starts.
_APART, _VERTICES = 0.1, 4
# Descents start inside the limits by this part of the range between them.
_INSIDE = 1e-6
_SNAPPED = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9)

# Of mixtures that differ from the best in two domains, so many are followed, so many times in a row; of more domains
# than this there are too many.
_NEIGHBORS, _MOVES, _MOST_MOVED = 6, 6, 40

# Objectives that differ by less than this part of them are ties.
_SAME = 1e-12

# Descents agree whose objectives differ by less than this part of them, or mixtures by less in total variation; of
# those that do not, so many are followed to their ends.
_AGREES, _ALIKE, _SECONDS = 1e-7, 0.01, 2
# The KKT residual to which mixtures are followed that are compared with the best.
_COMPARED = 1e-8

# The KKT residual is relative to the multiplier, or to this part of the objective where that is larger: at a minimum
# inside the limits both gradient and multiplier are 0.
_LEAST_SLOPE = 1e-2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """Where a search ended.

    Attributes:
        mixture: the best [d].
        certificate: how far it is from optimal.
        starts: how many descents there were; 0 where there was no search.
        agreed: how many of them ended at this mixture.
        second: by how much the objective is higher at the best of the others that is stationary, in nats per token;
            None where there is none.
        in_hull: whether the hull of the fitted mixtures keeps it from what is better, see `in_hull`.
    """

    mixture: np.ndarray
    certificate: Certificate
    starts: int = 0
    agreed: int = 0
    second: float | None = None
    in_hull: bool = False


def best_mixture(goal: Objective, region: Region, measured: np.ndarray, *, solver: LBFGS, starts: int) -> Found | None:
    """Find the best mixture within limits; None where the objective is finite at no mixture that was evaluated.

    Args:
        goal: the objective.
        region: the limits.
        measured: mixtures to evaluate beside random ones and those near the vertices [m, d].
        solver: settings of the L-BFGS.
        starts: how many descents run side by side; where the objective is not convex, as many again begin on faces.
    """
    least, most = region.span()
    if least.sum() >= 1 or most.sum() <= 1 or region.lower.sum() >= 1:
        return at_mixture(goal, region.nearest(region.lower), region)
    begin = _begin(goal, region, measured, starts)
    if begin is None:
        return None
    (begin, fixed), others = begin, np.empty((0, len(region.lower)))
    best, free, found = begin[0], ~fixed.any(1), certificate(goal, begin[0], region)
    for turn in range(_ROUNDS):
        ends = _descended(goal, begin, fixed, region, solver)
        ends = _lowest(goal, np.stack([ends, *_snapped(ends, region)], axis=1), region)
        others = ends if turn == 0 else others
        known, best = best, _lowest(goal, np.concatenate([[best], ends])[None], region)[0]
        best, found = polished(goal, best, region)
        # From where it was, the search would only do the same again.
        if settled(found) or (turn and (best == known).all()):
            break
        begin, fixed = _onward(best, gradients_at(goal, best[None])[0], region, found, starts)
    best, found, same, second = _compared(goal, best, found, others, region)
    if not goal_is_convex(goal, len(best)) and (second is not None or not same[free].all()):
        known, (best, found) = best, _moved_on(goal, best, found, region)
        if (best != known).any():
            best, found, same, second = _compared(goal, best, found, others, region)
    # Descents that were kept on a face do not say where free ones end.
    agreed = int(same[free].sum())
    return Found(mixture=best, certificate=found, starts=int(free.sum()), agreed=agreed, second=second)


def _moved_on(goal: Objective, best: np.ndarray, found: Certificate, region: Region) -> tuple[np.ndarray, Certificate]:
    """Follow mixtures that give the share of one domain to another, or a part of it, as long as they end lower."""
    domains = len(best)
    if domains > _MOST_MOVED:
        return best, found
    for _ in range(_MOVES):
        given = np.flatnonzero(best - region.lower > _ALIKE)
        taken = (best - region.lower)[given]
        to_one = np.repeat(best[None, None], domains, 1).repeat(len(given), 0)
        to_one[np.arange(len(given)), :, given] = region.lower[given][:, None]
        to_one[:, np.arange(domains), np.arange(domains)] += taken[:, None] * (np.arange(domains) != given[:, None])
        half = (to_one + best) / 2
        small = best + 0.1 * (to_one - best)
        tried = region.nearest(np.concatenate([each.reshape(-1, domains) for each in (to_one, half, small)]))
        values, value = values_at(goal, tried), float(values_at(goal, best[None])[0])
        order = np.argsort(np.where(np.isfinite(values), values, np.inf), kind="stable")
        followed: list[np.ndarray] = [best]
        for i in order.tolist():
            if len(followed) > _NEIGHBORS:
                break
            if min(np.abs(tried[i] - one).sum() for one in followed) > 2 * _ALIKE:
                followed.append(tried[i])
        ends = [polished(goal, one, region, _COMPARED) for one in followed[1:]]
        reached = values_at(goal, np.array([end for end, _ in ends])) if ends else np.array([np.inf])
        place = int(np.nanargmin(np.where(np.isfinite(reached), reached, np.inf)))
        if not reached[place] < value - _AGREES * abs(value):
            return best, found
        best, found = polished(goal, ends[place][0], region)
    return best, found


def at_mixture(goal: Objective, r: np.ndarray, region: Region) -> Found:
    """Certify a mixture that is known."""
    return Found(mixture=r, certificate=certificate(goal, r, region))


def certificate(goal: Objective, r: np.ndarray, region: Region) -> Certificate:
    """Certify a mixture by the gradient of the objective."""
    return certify(gradients_at(goal, r[None])[0], r, region, least=_least_slope(goal, r))


def _least_slope(goal: Objective, r: np.ndarray) -> float:
    return _LEAST_SLOPE * abs(float(values_at(goal, r[None])[0]))


def polished(goal: Objective, r: np.ndarray, region: Region, done: float = CERTIFIED) -> tuple[np.ndarray, Certificate]:
    """Follow a mixture to the stationary point beside it, to a KKT residual."""
    return polish(partial(values_at, goal), partial(gradients_at, goal), r, region, _least_slope(goal, r), done)


def _compared(
    goal: Objective, best: np.ndarray, found: Certificate, ends: np.ndarray, region: Region
) -> tuple[np.ndarray, Certificate, np.ndarray, float | None]:
    """Compare the best with the ends of the descents, and take one that leads lower when it is followed to its end.

    Returns:
        The best and its certificate, which descents ended there [k], and what the best stationary end of the others
        costs.
    """
    same, other = _agreement(goal, best, ends, region)
    for _ in range(_MOVES):
        if other is None or not other[1] < -_AGREES * abs(float(values_at(goal, best[None])[0])):
            break
        best, found = polished(goal, other[0], region)
        same, other = _agreement(goal, best, ends, region)
    return best, found, same, None if other is None else other[1]


def _agreement(
    goal: Objective, best: np.ndarray, ends: np.ndarray, region: Region
) -> tuple[np.ndarray, tuple[np.ndarray, float] | None]:
    """Say which descents ended at the best [k], and find the best stationary end of the others, and what it costs."""
    values, least = values_at(goal, ends), float(values_at(goal, best[None])[0])
    same = (values <= least + _AGREES * abs(least)) | (np.abs(ends - best).sum(1) / 2 <= _ALIKE)
    costs: list[tuple[np.ndarray, float]] = []
    followed: list[np.ndarray] = []
    for end in ends[~same][np.argsort(values[~same], kind="stable")]:
        if len(followed) == _SECONDS:
            break
        if any(np.abs(end - one).sum() / 2 <= _ALIKE for one in followed):
            continue
        followed.append(end)
        other, found = polished(goal, end, region, _COMPARED)
        if settled(found) and np.abs(other - best).sum() / 2 > _ALIKE:
            costs.append((other, float(values_at(goal, other[None])[0]) - least))
    return same, min(costs, key=itemgetter(1)) if costs else None


def settled(found: Certificate) -> bool:
    """Say whether a certificate is that of a stationary point; never where anything is not finite."""
    return bool(found.kkt_residual <= STATIONARY[0]) and bool(found.gap <= STATIONARY[1])


def _begin(goal: Objective, region: Region, measured: np.ndarray, starts: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Choose starts [k, d], the best first: the best mixtures evaluated that are `_APART` from each other.

    Returns:
        The starts, and which of their shares stay at a limit at first: those of mixtures that were drawn there.
    """
    domains, draw, lower = len(region.lower), np.random.default_rng(0), region.lower
    middle = region.nearest(np.full((1, domains), 1 / domains))
    vertices = region.nearest(0.9 * np.eye(domains) + 0.1 * middle)
    drawn = np.concatenate([draw.dirichlet(np.full(domains, c), count) for c, count in _DRAWN.items()])
    # Half of them over all mixtures, for narrow limits may leave the others no room, half above the lower limits.
    drawn[::2] = lower + (1 - lower.sum()) * drawn[::2]
    on_faces = draw.dirichlet(np.ones(domains), _ON_FACES) * (draw.random((_ON_FACES, domains)) < 0.5)
    on_faces = lower + (1 - lower.sum()) * on_faces / np.maximum(on_faces.sum(1, keepdims=True), 1e-300)
    special = np.concatenate([middle, vertices, region.nearest(np.eye(domains))])
    tried = [special, region.nearest(measured), region.nearest(drawn), region.nearest(on_faces)]
    drawn_there = len(special) + len(measured) + len(drawn)
    tried = np.concatenate(tried)
    values = values_at(goal, tried)
    order = [i for i in np.argsort(values, kind="stable").tolist() if np.isfinite(values[i])]
    if not order:
        return None
    of_vertices = [i for i in order if 1 <= i <= domains][: min(_VERTICES, starts // 3)]
    chosen: list[int] = [order[0], *(i for i in (0, *of_vertices) if i != order[0] and np.isfinite(values[i]))]
    for i in order:
        if len(chosen) < starts and np.min(np.abs(tried[chosen] - tried[i]).sum(-1)) > 2 * _APART:
            chosen.append(i)
    chosen = np.resize(chosen, starts).tolist()
    if not goal_is_convex(goal, domains):
        # As many again, each the best of its face.
        there = [i for i in order if i >= drawn_there]
        _, first = np.unique(tried[there] <= lower, axis=0, return_index=True)
        chosen += [there[i] for i in np.sort(first)[:starts]] if there else []
    begin = tried[np.resize(chosen, -(-len(chosen) // starts) * starts)]
    chosen = np.resize(chosen, len(begin)).tolist()
    fixed = (begin <= lower) & (np.array(chosen) >= drawn_there)[:, None]
    # At least one share must be free.
    return begin, fixed & ~fixed.all(1, keepdims=True)


def _descended(goal: Objective, begin: np.ndarray, fixed: np.ndarray, region: Region, solver: LBFGS) -> np.ndarray:
    """Descend from mixtures [k, d] to others [k, d], with the shares `fixed` [k, d]."""
    low = np.where(fixed, begin, region.lower)
    plain = region.is_box
    high = np.where(fixed, begin, region.upper) if np.any(region.upper < 1) or not plain else None
    z, beyond = _coordinates(begin, low, high, fixed, region), None if plain else region
    if goal.on_host(begin[:1]) is None:
        return np.asarray(_descend(goal, z, low, high, fixed, beyond, solver=solver))

    def evaluate(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = goal.on_host(r)
        assert found is not None
        return found[0], found[1]()

    return softmax_search_on_host(evaluate, low, high, z, solver, fixed, beyond)


def _coordinates(
    begin: np.ndarray, low: np.ndarray, high: np.ndarray | None, fixed: np.ndarray, region: Region
) -> np.ndarray:
    """Compute the coordinates of mixtures a little inside the limits."""
    if high is None:
        room = (1 - low.sum(-1, keepdims=True)) / (~fixed).sum(-1, keepdims=True)
        inside = low + (1 - _INSIDE) * (begin - low) + _INSIDE * room
        return np.asarray(softmax_inverse(np.where(fixed, low + 1, inside), low))
    inside = low + _INSIDE * (high - low) + (1 - 2 * _INSIDE) * (begin - low)
    z = np.asarray(box_inverse(inside, low, high))
    if not region.grouped:
        return z
    least, most = region.within_box(low, high).span()
    totals = least + _INSIDE * (most - least) + (1 - 2 * _INSIDE) * (region.totals(begin) - least)
    return np.concatenate([z, np.asarray(box_inverse(totals, least, most))], axis=-1)


@program(static=("solver",))
def _descend(
    goal: Objective, z: Array, low: Array, high: Array | None, fixed: Array, region: Region | None, *, solver: LBFGS
) -> Array:
    return softmax_search(goal, low, high, z, solver, fixed, region)[0]


def _snapped(ends: np.ndarray, region: Region) -> list[np.ndarray]:
    """Put the shares that are nearly at a limit there, by several measures of nearly."""
    found = []
    for near in _SNAPPED:
        low = np.where(region.upper - ends < near, region.upper, region.lower)
        high = np.maximum(low, np.where(ends - region.lower < near, region.lower, region.upper))
        least, most = region.within_box(low, high).span()
        possible = (least <= most).all(-1) & (least.sum(-1) <= 1 + 1e-12) & (most.sum(-1) >= 1 - 1e-12)
        put = ends.copy()
        if possible.any():
            put[possible] = region.within_box(low[possible], high[possible]).nearest(ends[possible])
        found.append(put)
    return found


def _lowest(goal: Objective, tried: np.ndarray, region: Region) -> np.ndarray:
    """Choose the mixture of least objective of each row [k, d] of [k, n, d]; of ties, the one most at limits."""
    values = values_at(goal, tried.reshape(-1, tried.shape[-1])).reshape(tried.shape[:2])
    values = np.where(np.isfinite(values), values, np.inf)
    least = values.min(1, keepdims=True)
    same = values <= least + _SAME * np.abs(least)
    at_limits = np.sum((tried == region.lower) | (tried == region.upper), axis=-1)
    return tried[np.arange(len(tried)), np.argmax(np.where(same, at_limits, -1), axis=1)]


def _onward(
    r: np.ndarray, slope: np.ndarray, region: Region, found: Certificate, starts: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose where to go on from a mixture that is not stationary, and which shares are fixed there: [k, d] each.

    The mixture itself, with the active set fixed: shares at a limit that the gradient would push them over; then points
    r + w (v - r) towards the vertex v of the limits that minimizes the linearized objective (Frank-Wolfe), w = .5 to
    1e-9.
    """
    lower, upper, slope = region.lower, region.upper, np.nan_to_num(slope)
    reduced = slope + found.prices[region.group]
    fixed = ((r <= lower) & (reduced >= 0)) | ((r >= upper) & (reduced <= 0)) | (lower == upper)
    toward = region.cheapest(slope)
    way = 10.0 ** -np.linspace(0.3, 9, max(starts - 2, 1))[:, None]
    begin = np.concatenate([r[None], r[None], r + way * (toward - r)])
    begin = begin if region.ball is None else region.ball.drawn_in(begin)
    stays = np.stack([fixed, lower == upper, *(fixed & (toward == r),) * len(way)])
    # At least one share must be free.
    most = np.argmax(np.where(lower < upper, begin, -1.0), axis=1)
    stays[np.arange(len(begin)), most] &= ~stays.all(1)
    return begin, stays
