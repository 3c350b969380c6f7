"""The search for the mixture of least objective under any law: multistart, L-BFGS, active set.

1. Evaluate the objective at some 2000 mixtures, and start from the best of them.
2. Descend by L-BFGS in softmax coordinates. These never reach a limit and hardly move beside one, so each end is tried
   again with the shares that are nearly at a limit put there.
3. Certify the best: KKT residual and Frank-Wolfe gap. Where they are too large, fix the shares at active limits and
   descend on that face, and from points along the Frank-Wolfe direction; again from 2.

Domains on which the objective does not depend have no gradient; they share what falls to them in the proportions of a
reference.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import ArrayLike

from bimixjax._base import checks
from bimixjax._base.checks import InputError
from bimixjax.mixtures import box_inverse, softmax_inverse
from bimixjax.optimization.objectives import Objective, own_powers
from bimixjax.solve import LBFGS, Certificate, Region, certify, polish, softmax_search, softmax_search_on_host

# The largest KKT residual, and Frank-Wolfe gap in nats per token, of a stationary point.
STATIONARY = 1e-5, 1e-6

# Random mixtures evaluated, by the concentration of the Dirichlet distribution that they are drawn from.
_DRAWN = {1.0: 1280, 0.3: 512, 4.0: 256}
_VALUES, _SLOPES, _TOGETHER = 256, 8, 32
_ROUNDS = 10

# The least distance between starts in total variation, and the least number of vertices among the starts.
_APART, _VERTICES = 0.1, 4
# Descents start inside the limits by this part of the range between them.
_INSIDE = 1e-6
_SNAPPED = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9)

# Gradients are evaluated at shares of at least this: that of r^g, g < 1, is unbounded near 0, where the objective gains
# at most this share times the multiplier over g.
_LEAST_SHARE = 1e-8

# Slopes of powers, whose exponents are 10 at most, are finite from this share on.
_LEAST_OF_POWERS = 1e-25

# Objectives that differ by less than this part of them are ties.
_SAME = 1e-12

# Descents agree whose objectives differ by less than this part of them, or mixtures by less in total variation; of
# those that do not, so many are followed to their ends.
_AGREES, _ALIKE, _SECONDS = 1e-7, 0.01, 2

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
    """

    mixture: np.ndarray
    certificate: Certificate
    starts: int = 0
    agreed: int = 0
    second: float | None = None


def best_mixture(goal: Objective, region: Region, measured: np.ndarray, *, solver: LBFGS, starts: int) -> Found | None:
    """Find the best mixture within limits; None where the objective is finite at no mixture that was evaluated.

    Args:
        goal: the objective.
        region: the limits.
        measured: mixtures to evaluate beside random ones and those near the vertices [m, d].
        solver: settings of the L-BFGS.
        starts: how many descents run side by side.
    """
    least, most = region.span()
    if least.sum() >= 1 or most.sum() <= 1 or region.lower.sum() >= 1:
        return at_mixture(goal, region.nearest(region.lower), region)
    begin = _begin(goal, region, measured, starts)
    if begin is None:
        return None
    best, fixed, others = begin[0], np.zeros(begin.shape, bool), np.empty((0, len(begin[0])))
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
    agreed, second = _agreement(goal, best, others, region)
    return Found(mixture=best, certificate=found, starts=starts, agreed=agreed, second=second)


def at_mixture(goal: Objective, r: np.ndarray, region: Region) -> Found:
    """Certify a mixture that is known."""
    return Found(mixture=r, certificate=certificate(goal, r, region))


def certificate(goal: Objective, r: np.ndarray, region: Region) -> Certificate:
    """Certify a mixture by the gradient of the objective."""
    return certify(gradients_at(goal, r[None])[0], r, region, least=_least_slope(goal, r))


def _least_slope(goal: Objective, r: np.ndarray) -> float:
    return _LEAST_SLOPE * abs(float(values_at(goal, r[None])[0]))


def polished(goal: Objective, r: np.ndarray, region: Region) -> tuple[np.ndarray, Certificate]:
    """Follow a mixture to the stationary point beside it."""
    return polish(partial(values_at, goal), partial(gradients_at, goal), r, region, _least_slope(goal, r))


def _agreement(goal: Objective, best: np.ndarray, ends: np.ndarray, region: Region) -> tuple[int, float | None]:
    """Count the descents that ended at the best, and find what the best stationary end of the others costs."""
    values, least = values_at(goal, ends), float(values_at(goal, best[None])[0])
    same = (values <= least + _AGREES * abs(least)) | (np.abs(ends - best).sum(1) / 2 <= _ALIKE)
    costs = []
    for end in ends[~same][np.argsort(values[~same], kind="stable")][:_SECONDS]:
        other, found = polished(goal, end, region)
        if settled(found) and np.abs(other - best).sum() / 2 > _ALIKE:
            costs.append(float(values_at(goal, other[None])[0]) - least)
    return int(same.sum()), min(costs) if costs else None


def settled(found: Certificate) -> bool:
    """Say whether a certificate is that of a stationary point; never where anything is not finite."""
    return bool(found.kkt_residual <= STATIONARY[0]) and bool(found.gap <= STATIONARY[1])


def flat_domains(goal: Objective, domains: int) -> np.ndarray:
    """Find the domains on which the objective does not depend [d], by its gradient at random mixtures."""
    if goal.separable:
        scale, exponent, _ = np.asarray(own_powers(goal, domains))
        return scale * exponent == 0
    drawn = np.random.default_rng(1).dirichlet(np.ones(domains), _SLOPES)
    return np.all(gradients_at(goal, drawn) == 0, axis=0)


def values_at(goal: Objective, mixtures: np.ndarray) -> np.ndarray:
    """Evaluate the objective at mixtures [n, d], where it is compiled in calls of one shape."""
    if (found := goal.on_host(mixtures)) is not None:
        return found[0]
    if goal.separable:
        return _of_powers(goal, mixtures)[0]
    return _in_calls(_values, goal, mixtures, _VALUES)


def gradients_at(goal: Objective, mixtures: np.ndarray) -> np.ndarray:
    """Evaluate the gradient of the objective at mixtures [n, d], with shares of at least `_LEAST_SHARE`."""
    if (found := goal.on_host(np.maximum(mixtures, _LEAST_SHARE))) is not None:
        return found[1]()
    if goal.separable:
        return _of_powers(goal, mixtures)[1]
    return _in_calls(_gradients, goal, mixtures, _SLOPES)


def _of_powers(goal: Objective, mixtures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate sum_i c_i (r_i + e_i)^-a_i and its gradients, in time that grows as the number of shares."""
    scale, exponent, offset = np.asarray(own_powers(goal, mixtures.shape[1]))
    share, there = mixtures + offset, scale > 0
    # A term that is not there counts nothing, also where it would be infinite.
    powers = np.where(there, np.where(exponent > 0, np.maximum(share, 0.0), 1.0), 1.0)
    with np.errstate(divide="ignore"):
        values = np.where(there, scale * powers**-exponent, 0.0).sum(-1)
    least = np.maximum(share, _LEAST_OF_POWERS)
    return values, -scale * exponent * least ** (-exponent - 1)


def _in_calls(function, goal: Objective, mixtures: np.ndarray, size: int) -> np.ndarray:
    count = len(mixtures)
    padded = np.concatenate([mixtures, np.repeat(mixtures[-1:], -count % size, axis=0)])
    return np.concatenate([np.asarray(function(goal, part)) for part in padded.reshape(-1, size, padded.shape[1])])[
        :count
    ]


@jax.jit
def _values(goal: Objective, mixtures: Array) -> Array:
    return lax.map(goal, mixtures, batch_size=_TOGETHER)


@jax.jit
def _gradients(goal: Objective, mixtures: Array) -> Array:
    return jax.vmap(jax.grad(goal))(jnp.maximum(mixtures, _LEAST_SHARE))


def _begin(goal: Objective, region: Region, measured: np.ndarray, starts: int) -> np.ndarray | None:
    """Choose starts [k, d], the best first: the best mixtures evaluated that are `_APART` from each other."""
    domains, draw, lower = len(region.lower), np.random.default_rng(0), region.lower
    middle = region.nearest(np.full((1, domains), 1 / domains))
    vertices = region.nearest(0.9 * np.eye(domains) + 0.1 * middle)
    drawn = np.concatenate([draw.dirichlet(np.full(domains, c), count) for c, count in _DRAWN.items()])
    # Half of them over all mixtures, for narrow limits may leave the others no room, half above the lower limits.
    drawn[::2] = lower + (1 - lower.sum()) * drawn[::2]
    special = np.concatenate([middle, vertices, region.nearest(np.eye(domains))])
    tried = np.concatenate([special, region.nearest(measured), region.nearest(drawn)])
    values = values_at(goal, tried)
    order = [i for i in np.argsort(values, kind="stable").tolist() if np.isfinite(values[i])]
    if not order:
        return None
    of_vertices = [i for i in order if 1 <= i <= domains][: min(_VERTICES, starts // 3)]
    chosen: list[int] = [order[0], *(i for i in (0, *of_vertices) if i != order[0] and np.isfinite(values[i]))]
    for i in order:
        if len(chosen) < starts and np.min(np.abs(tried[chosen] - tried[i]).sum(-1)) > 2 * _APART:
            chosen.append(i)
    return tried[np.resize(chosen, starts)]


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


@partial(jax.jit, static_argnames=("solver",))
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


def reference_shares(given: Mapping[str, float] | ArrayLike | None, domains: tuple[str, ...]) -> np.ndarray:
    """Return the mixture that idle domains follow, in the order of `domains`."""
    if given is None:
        return np.full(len(domains), 1 / len(domains))
    if isinstance(given, Mapping):
        checks.known("domain", tuple(given), domains, "reference")
        given = [float(given.get(domain, 0.0)) for domain in domains]
    shares = np.asarray(given, float)
    if shares.shape != (len(domains),):
        raise InputError(f"reference has shape {shares.shape}; allowed: [{len(domains)}], for {', '.join(domains)}")
    checks.mixtures(shares, domains)
    return shares


def shared_out(r: np.ndarray, flat: np.ndarray, reference: np.ndarray, region: Region) -> np.ndarray:
    """Split what falls to domains without a gradient in the proportions of a reference, within limits."""
    if not flat.any():
        return r
    lower, upper = (np.where(flat, ends, r) for ends in (region.lower, region.upper))
    found = region.within_box(lower, upper).in_proportion(reference if region.ball is None else region.ball.reference)
    return np.where(flat, found, r)


def idle_domains(goal: Objective, flat: np.ndarray) -> np.ndarray:
    """Find the domains on which no weighted target depends, of those without a slope [d]."""
    own = np.isin(np.arange(len(flat)), goal.predictor.own_by_convention)
    return flat if flat.all() else flat & ~own
