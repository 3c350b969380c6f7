"""The search for the mixture of least objective under any law: multistart, L-BFGS, active set.

1. Evaluate the objective at some 2000 mixtures, and start from the best of them.
2. Descend by L-BFGS in softmax coordinates. These never reach a limit and hardly move beside one, so each end is tried
   again with the shares that are nearly at a limit put there.
3. Certify the best: KKT residual and Frank-Wolfe gap. Where they are too large, fix the shares at active limits and
   descend on that face, and from points along the Frank-Wolfe direction; again from 2.

Domains on which the objective does not depend have no gradient; they share what falls to them in the proportions of a
reference.
"""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import ArrayLike

from bimixjax._base import checks
from bimixjax._base.checks import InputError
from bimixjax.mixtures import box_inverse, nearest, softmax_inverse
from bimixjax.optimization.objectives import Objective
from bimixjax.solve import LBFGS, Certificate, certify, cheapest, softmax_search, softmax_search_on_host

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

# Objectives that differ by less than this part of them are ties.
_SAME = 1e-12

# The KKT residual is relative to the multiplier, or to this part of the objective where that is larger: at a minimum
# inside the limits both gradient and multiplier are 0.
_LEAST_SLOPE = 1e-2


def best_mixture(
    goal: Objective, lower: np.ndarray, upper: np.ndarray, measured: np.ndarray, *, solver: LBFGS, starts: int
) -> np.ndarray | None:
    """Find the best mixture [d] within limits; None where the objective is finite at no mixture that was evaluated.

    Args:
        goal: the objective.
        lower: the least share of each domain [d].
        upper: the greatest [d].
        measured: mixtures to evaluate beside random ones and those near the vertices [m, d].
        solver: settings of the L-BFGS.
        starts: how many descents run side by side.
    """
    if lower.sum() >= 1 or upper.sum() <= 1:
        return nearest(lower, lower, upper)
    begin = _begin(goal, lower, upper, measured, starts)
    if begin is None:
        return None
    best, fixed = begin[:1], np.zeros(begin.shape, bool)
    for turn in range(_ROUNDS):
        ends = _descended(goal, begin, fixed, lower, upper, solver)
        known, best = best, _lowest(goal, np.concatenate([best, ends, *_snapped(ends, lower, upper)]), lower, upper)
        slope = gradients_at(goal, best)[0]
        # From where it was, the search would only do the same again.
        if settled(certificate(goal, best[0], lower, upper, slope)) or (turn and (best == known).all()):
            break
        begin, fixed = _onward(best[0], slope, lower, upper, starts)
    return best[0]


def certificate(
    goal: Objective, r: np.ndarray, lower: np.ndarray, upper: np.ndarray, slope: np.ndarray | None = None
) -> Certificate:
    """Certify a mixture by the gradient of the objective."""
    slope = gradients_at(goal, r[None])[0] if slope is None else slope
    least = _LEAST_SLOPE * abs(float(values_at(goal, r[None])[0]))
    return jax.tree.map(np.asarray, _certified(slope, r, lower, upper, least))


@jax.jit
def _certified(slope: Array, r: Array, lower: Array, upper: Array, least: Array) -> Certificate:
    return certify(slope, r, lower, upper, least=least)


def settled(found: Certificate) -> bool:
    """Say whether a certificate is that of a stationary point; never where anything is not finite."""
    return bool(found.kkt_residual <= STATIONARY[0]) and bool(found.gap <= STATIONARY[1])


def flat_domains(goal: Objective, domains: int) -> np.ndarray:
    """Find the domains on which the objective does not depend [d], by its gradient at random mixtures."""
    drawn = np.random.default_rng(1).dirichlet(np.ones(domains), _SLOPES)
    return np.all(gradients_at(goal, drawn) == 0, axis=0)


def values_at(goal: Objective, mixtures: np.ndarray) -> np.ndarray:
    """Evaluate the objective at mixtures [n, d], where it is compiled in calls of one shape."""
    if (found := goal.on_host(mixtures)) is not None:
        return found[0]
    return _in_calls(_values, goal, mixtures, _VALUES)


def gradients_at(goal: Objective, mixtures: np.ndarray) -> np.ndarray:
    """Evaluate the gradient of the objective at mixtures [n, d], with shares of at least `_LEAST_SHARE`."""
    if (found := goal.on_host(np.maximum(mixtures, _LEAST_SHARE))) is not None:
        return found[1]()
    return _in_calls(_gradients, goal, mixtures, _SLOPES)


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


def _begin(
    goal: Objective, lower: np.ndarray, upper: np.ndarray, measured: np.ndarray, starts: int
) -> np.ndarray | None:
    """Choose starts [k, d], the best first: the best mixtures evaluated that are `_APART` from each other."""
    domains, draw = len(lower), np.random.default_rng(0)
    middle = nearest(np.full((1, domains), 1 / domains), lower, upper)
    vertices = nearest(0.9 * np.eye(domains) + 0.1 * middle, lower, upper)
    drawn = np.concatenate([draw.dirichlet(np.full(domains, c), count) for c, count in _DRAWN.items()])
    # Half of them over all mixtures, for narrow limits may leave the others no room, half above the lower limits.
    drawn[::2] = lower + (1 - lower.sum()) * drawn[::2]
    special = np.concatenate([middle, vertices, nearest(np.eye(domains), lower, upper)])
    tried = np.concatenate([special, nearest(measured, lower, upper), nearest(drawn, lower, upper)])
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


def _descended(
    goal: Objective, begin: np.ndarray, fixed: np.ndarray, lower: np.ndarray, upper: np.ndarray, solver: LBFGS
) -> np.ndarray:
    """Descend from mixtures [k, d] to others [k, d], with the shares `fixed` [k, d]."""
    low = np.where(fixed, begin, lower)
    high = np.where(fixed, begin, upper) if np.any(upper < 1) else None
    z = _coordinates(begin, low, high, fixed)
    if goal.on_host(begin[:1]) is None:
        return np.asarray(_descend(goal, z, low, high, fixed, solver=solver))

    def evaluate(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = goal.on_host(r)
        assert found is not None
        return found[0], found[1]()

    return softmax_search_on_host(evaluate, low, high, z, solver, fixed)


@jax.jit
def _coordinates(begin: Array, low: Array, high: Array | None, fixed: Array) -> Array:
    """Compute the coordinates of mixtures a little inside the limits."""
    if high is None:
        room = (1 - jnp.sum(low, -1, keepdims=True)) / jnp.sum(~fixed, -1, keepdims=True)
        inside = low + (1 - _INSIDE) * (begin - low) + _INSIDE * room
        return softmax_inverse(jnp.where(fixed, low + 1, inside), low)
    return box_inverse(low + _INSIDE * (high - low) + (1 - 2 * _INSIDE) * (begin - low), low, high)


@partial(jax.jit, static_argnames=("solver",))
def _descend(goal: Objective, z: Array, low: Array, high: Array | None, fixed: Array, *, solver: LBFGS) -> Array:
    return softmax_search(goal, low, high, z, solver, fixed)[0]


def _snapped(ends: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> list[np.ndarray]:
    """Put the shares that are nearly at a limit there, by several measures of nearly."""
    found = []
    for near in _SNAPPED:
        low = np.where(upper - ends < near, upper, lower)
        high = np.maximum(low, np.where(ends - lower < near, lower, upper))
        possible = (low.sum(-1) <= 1 + 1e-12) & (high.sum(-1) >= 1 - 1e-12)
        found.append(nearest(ends[possible], low[possible], high[possible]))
    return found


def _lowest(goal: Objective, tried: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Choose the mixture of least objective [1, d] of [n, d]; of ties, the one with the most shares at limits."""
    values = values_at(goal, tried)
    values = np.where(np.isfinite(values), values, np.inf)
    same = values <= values.min() + _SAME * abs(values.min())
    at_limits = np.sum((tried == lower) | (tried == upper), axis=1)
    return tried[[np.argmax(np.where(same, at_limits, -1))]]


def _onward(
    r: np.ndarray, slope: np.ndarray, lower: np.ndarray, upper: np.ndarray, starts: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose where to go on from a mixture that is not stationary, and which shares are fixed there: [k, d] each.

    The mixture itself, with the active set fixed: shares at a limit that the gradient would push them over; then points
    r + w (v - r) towards the vertex v of the limits that minimizes the linearized objective (Frank-Wolfe), w = .5 to
    1e-9.
    """
    price = float(np.asarray(_certified(slope, r, lower, upper, 0.0).multiplier))
    reduced = np.nan_to_num(slope) + price
    fixed = ((r <= lower) & (reduced >= 0)) | ((r >= upper) & (reduced <= 0)) | (lower == upper)
    toward = np.asarray(jax.jit(cheapest)(np.nan_to_num(slope), lower, upper))
    way = 10.0 ** -np.linspace(0.3, 9, max(starts - 2, 1))[:, None]
    begin = np.concatenate([r[None], r[None], r + way * (toward - r)])
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


def shared_out(
    r: np.ndarray, flat: np.ndarray, reference: np.ndarray, lower: np.ndarray, upper: np.ndarray
) -> np.ndarray:
    """Split what falls to domains without a gradient in the proportions of a reference, within limits."""
    low, high, like, mass = lower[flat], upper[flat], reference[flat], float(r[flat].sum())
    there = like > 0
    # The sum of clip(scale * like, low, high) is linear in the scale between these.
    knots = np.unique(np.concatenate([[0.0], low[there] / like[there], high[there] / like[there]]))
    sums = np.array([np.clip(knot * like, low, high).sum() for knot in knots])
    shares = np.clip(np.interp(mass, sums, knots) * like, low, high)
    # The rest is for those that the reference does not have.
    room, left = np.where(there, 0.0, high - low), max(mass - shares.sum(), 0.0)
    found = r.copy()
    found[flat] = shares + left * room / max(room.sum(), np.finfo(float).tiny)
    return found


def idle_domains(goal: Objective, flat: np.ndarray) -> np.ndarray:
    """Find the domains on which no weighted target depends, of those without a slope [d]."""
    own = np.isin(np.arange(len(flat)), goal.predictor.own_by_convention)
    return flat if flat.all() else flat & ~own
