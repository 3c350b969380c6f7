"""The search for the mixture of least objective under any law: many are looked at, the best followed to their ends.

L-BFGS in softmax coordinates never reaches a limit, and hardly moves beside one. So what it ends at is also tried with
shares that are nearly at a limit put there; and while the certificate is not met, the search goes on along the face of
those that stay, and from points on the way to the mixture that the slopes like best. Domains without a say in the
objective have no slope; what falls to them is shared in the proportions of a reference.
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
from bimixjax.solve import LBFGS, Certificate, certify, cheapest, softmax_search

# A stationary point: a KKT residual and a Frank-Wolfe gap, in nats per token, of no more.
STATIONARY = 1e-5, 1e-6

# Random mixtures looked at, by the concentration of the Dirichlet distribution that they are drawn from.
_LOOKED_AT = {1.0: 1280, 0.3: 512, 4.0: 256}
_VALUES, _SLOPES, _TOGETHER = 256, 8, 32
_ROUNDS = 10

# Starts that are nearer in total variation lead to the same end; as many vertices are started from at least.
_APART, _VERTICES = 0.1, 4
# Descents start this part of the room inside of the limits.
_INSIDE = 1e-6
_SNAPPED = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9)

# Slopes are read at shares of no less: those of a power of a share r^g, g < 1, are as steep as one likes near 0, and
# what is to be gained there is less than this share times the multiplier over g.
_LEAST_SHARE = 1e-8

# Mixtures whose objectives differ by less of it are as good as each other.
_SAME = 1e-12

# Slopes are held against the multiplier, or this part of the objective where that is larger: a law with a best share
# inside has slopes and a multiplier of 0 there, whose ratio says nothing.
_LEAST_SLOPE = 1e-2


def best_mixture(
    goal: Objective, lower: np.ndarray, upper: np.ndarray, measured: np.ndarray, *, solver: LBFGS, starts: int
) -> np.ndarray | None:
    """The best mixture found within limits [d], or None where the objective is finite at none that was looked at.

    Args:
        goal: the objective.
        lower: the least share of each domain [d].
        upper: the greatest [d].
        measured: mixtures to look at beside random ones and those near the vertices [m, d].
        solver: settings of the L-BFGS.
        starts: how many points are followed at a time.
    """
    if lower.sum() >= 1 or upper.sum() <= 1:
        return nearest(lower, lower, upper)
    begin = _begin(goal, lower, upper, measured, starts)
    if begin is None:
        return None
    best, held = begin[:1], np.zeros(begin.shape, bool)
    for _ in range(_ROUNDS):
        ends = _descended(goal, begin, held, lower, upper, solver)
        best = _lowest(goal, np.concatenate([best, ends, *_snapped(ends, lower, upper)]), lower, upper)
        slope = slopes_at(goal, best)[0]
        if settled(certificate(goal, best[0], lower, upper, slope)):
            break
        begin, held = _onward(best[0], slope, lower, upper, starts)
    return best[0]


def certificate(
    goal: Objective, r: np.ndarray, lower: np.ndarray, upper: np.ndarray, slope: np.ndarray | None = None
) -> Certificate:
    """The certificate of a mixture, by the slopes of the objective itself."""
    slope = slopes_at(goal, r[None])[0] if slope is None else slope
    least = _LEAST_SLOPE * abs(float(values_at(goal, r[None])[0]))
    return jax.tree.map(np.asarray, certify(*map(jnp.asarray, (slope, r, lower, upper)), least=least))


def settled(found: Certificate) -> bool:
    """Whether a certificate is that of a stationary point; never where anything is not finite."""
    return bool(found.kkt_residual <= STATIONARY[0]) and bool(found.gap <= STATIONARY[1])


def flat_domains(goal: Objective, domains: int) -> np.ndarray:
    """Domains in which the objective has no slope anywhere, read at random mixtures [d]."""
    drawn = np.random.default_rng(1).dirichlet(np.ones(domains), _SLOPES)
    return np.all(slopes_at(goal, drawn) == 0, axis=0)


def values_at(goal: Objective, mixtures: np.ndarray) -> np.ndarray:
    """The objective at mixtures [n, d], in calls of one shape so that they are compiled once."""
    return _in_calls(_values, goal, mixtures, _VALUES)


def slopes_at(goal: Objective, mixtures: np.ndarray) -> np.ndarray:
    """The slopes of the objective at mixtures [n, d], none at a share of less than `_LEAST_SHARE`."""
    return _in_calls(_slopes, goal, mixtures, _SLOPES)


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
def _slopes(goal: Objective, mixtures: Array) -> Array:
    return jax.vmap(jax.grad(goal))(jnp.maximum(mixtures, _LEAST_SHARE))


def _begin(
    goal: Objective, lower: np.ndarray, upper: np.ndarray, measured: np.ndarray, starts: int
) -> np.ndarray | None:
    """Where to start from, the best first: the best of what is looked at, apart from each other."""
    domains, draw = len(lower), np.random.default_rng(0)
    middle = nearest(np.full((1, domains), 1 / domains), lower, upper)
    vertices = nearest(0.9 * np.eye(domains) + 0.1 * middle, lower, upper)
    drawn = np.concatenate([draw.dirichlet(np.full(domains, c), count) for c, count in _LOOKED_AT.items()])
    # Drawn over all mixtures, as somebody would who does not know of the limits, and over those above the lower ones.
    drawn[::2] = lower + (1 - lower.sum()) * drawn[::2]
    special = np.concatenate([middle, vertices, nearest(np.eye(domains), lower, upper)])
    looked = np.concatenate([special, nearest(measured, lower, upper), nearest(drawn, lower, upper)])
    values = values_at(goal, looked)
    order = [i for i in np.argsort(values, kind="stable").tolist() if np.isfinite(values[i])]
    if not order:
        return None
    of_vertices = [i for i in order if 1 <= i <= domains][: min(_VERTICES, starts // 3)]
    chosen: list[int] = [order[0], *(i for i in (0, *of_vertices) if i != order[0] and np.isfinite(values[i]))]
    for i in order:
        if len(chosen) < starts and np.min(np.abs(looked[chosen] - looked[i]).sum(-1)) > 2 * _APART:
            chosen.append(i)
    return looked[np.resize(chosen, starts)]


def _descended(
    goal: Objective, begin: np.ndarray, held: np.ndarray, lower: np.ndarray, upper: np.ndarray, solver: LBFGS
) -> np.ndarray:
    """The ends [k, d] of descents from mixtures [k, d], with those shares `held` [k, d]."""
    low = np.where(held, begin, lower)
    high = np.where(held, begin, upper) if np.any(upper < 1) else None
    return np.asarray(_descend(goal, begin, low, high, held, solver=solver))


@partial(jax.jit, static_argnames=("solver",))
def _descend(goal: Objective, begin: Array, low: Array, high: Array | None, held: Array, *, solver: LBFGS) -> Array:
    if high is None:
        room = (1 - jnp.sum(low, -1, keepdims=True)) / jnp.sum(~held, -1, keepdims=True)
        inside = low + (1 - _INSIDE) * (begin - low) + _INSIDE * room
        z = softmax_inverse(jnp.where(held, low + 1, inside), low)
    else:
        z = box_inverse(low + _INSIDE * (high - low) + (1 - 2 * _INSIDE) * (begin - low), low, high)
    return softmax_search(goal, low, high, z, solver, held)[0]


def _snapped(ends: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> list[np.ndarray]:
    """The ends with shares that are nearly at a limit put there, by several measures of nearly."""
    found = []
    for near in _SNAPPED:
        low = np.where(upper - ends < near, upper, lower)
        high = np.maximum(low, np.where(ends - lower < near, lower, upper))
        possible = (low.sum(-1) <= 1 + 1e-12) & (high.sum(-1) >= 1 - 1e-12)
        found.append(nearest(ends[possible], low[possible], high[possible]))
    return found


def _lowest(goal: Objective, tried: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Of mixtures [n, d] the one of least objective [1, d]; of those that are as good, the plainest."""
    values = values_at(goal, tried)
    values = np.where(np.isfinite(values), values, np.inf)
    same = values <= values.min() + _SAME * abs(values.min())
    at_limits = np.sum((tried == lower) | (tried == upper), axis=1)
    return tried[[np.argmax(np.where(same, at_limits, -1))]]


def _onward(
    r: np.ndarray, slope: np.ndarray, lower: np.ndarray, upper: np.ndarray, starts: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where to go on from a mixture that is not stationary, and what is held there: [k, d] each.

    The mixture itself, with shares held at a limit that the slopes would push them over; then points on the way to the
    mixture within limits that the slopes like best, from a tenth of the way to ever less of it.
    """
    price = float(np.asarray(certify(*map(jnp.asarray, (slope, r, lower, upper))).multiplier))
    reduced = np.nan_to_num(slope) + price
    held = ((r <= lower) & (reduced >= 0)) | ((r >= upper) & (reduced <= 0)) | (lower == upper)
    toward = np.asarray(cheapest(*map(jnp.asarray, (np.nan_to_num(slope), lower, upper))))
    way = 10.0 ** -np.linspace(0.3, 9, max(starts - 2, 1))[:, None]
    begin = np.concatenate([r[None], r[None], r + way * (toward - r)])
    stays = np.stack([held, lower == upper, *(held & (toward == r),) * len(way)])
    # One share at least must be free to move.
    most = np.argmax(np.where(lower < upper, begin, -1.0), axis=1)
    stays[np.arange(len(begin)), most] &= ~stays.all(1)
    return begin, stays


def reference_shares(given: Mapping[str, float] | ArrayLike | None, domains: tuple[str, ...]) -> np.ndarray:
    """The mixture that domains without a say follow, in the order of `domains`."""
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
    """The mixture with what falls to domains without a slope split in the proportions of a reference, within limits."""
    low, high, like, mass = lower[flat], upper[flat], reference[flat], float(r[flat].sum())
    there = like > 0
    # sum clip(scale like, low, high) grows with the scale along straight lines between these.
    knots = np.unique(np.concatenate([[0.0], low[there] / like[there], high[there] / like[there]]))
    sums = np.array([np.clip(knot * like, low, high).sum() for knot in knots])
    shares = np.clip(np.interp(mass, sums, knots) * like, low, high)
    # What is left is for those that the reference does not have.
    room, left = np.where(there, 0.0, high - low), max(mass - shares.sum(), 0.0)
    found = r.copy()
    found[flat] = shares + left * room / max(room.sum(), np.finfo(float).tiny)
    return found


def idle_domains(goal: Objective, flat: np.ndarray) -> np.ndarray:
    """Find the domains on which no weighted target depends, of those without a slope [d]."""
    own = np.isin(np.arange(len(flat)), goal.predictor.own_by_convention)
    return flat if flat.all() else flat & ~own
