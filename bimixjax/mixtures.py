"""The simplex of mixtures: special points, designs, projection, distances, and smooth maps onto it."""

import math
from collections.abc import Callable
from functools import partial
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.scipy.special import rel_entr
from numpy.typing import ArrayLike, NDArray
from optax.projections import projection_simplex

from bimixjax._base.checks import InputError, every
from bimixjax._base.roots import root

MOST_POINTS = 10_000_000


def uniform(n: int) -> NDArray[np.float64]:
    """Return the mixture 1/n over n domains.

    Example:
        >>> uniform(4).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    return np.full(_at_least_one("n", n), 1 / n)


def natural(tokens: ArrayLike) -> NDArray[np.float64]:
    """Return the natural mixture r_i = tokens_i / sum_j tokens_j.

    Args:
        tokens: available tokens of each domain, shape [n].

    Raises:
        InputError: where a count is negative or not finite, or all are zero.

    Example:
        >>> natural([30, 10]).tolist()
        [0.75, 0.25]
    """
    counts = np.asarray(tokens, np.float64)
    every(np.isfinite(counts) & (counts >= 0), lambda i: f"tokens[{i}] is {counts[i]}; allowed: finite and >= 0")
    if not counts.sum() > 0:
        raise InputError(f"tokens are {counts.tolist()}; allowed: at least one above 0")
    return counts / counts.sum()


def dirichlet(key: Array, concentration: ArrayLike, runs: int) -> NDArray[np.float64]:
    """Draw mixtures from Dirichlet(concentration), shape [runs, n].

    Drawn in float64 whatever the caller's setting, so that a key gives one design everywhere.

    Args:
        key: a key of `jax.random.key`.
        concentration: shape [n], for example strength times a base mixture.
        runs: number of mixtures.

    Raises:
        InputError: where a concentration is not finite and above 0.

    Example:
        >>> import jax
        >>> dirichlet(jax.random.key(0), [0.5, 1.0, 2.0], 4).shape
        (4, 3)
    """
    strength = np.asarray(concentration, np.float64)
    ok = np.isfinite(strength) & (strength > 0)
    every(ok, lambda i: f"concentration[{i}] is {strength[i]}; allowed: finite and above 0")
    with jax.enable_x64(True):
        drawn = np.asarray(jax.random.dirichlet(key, strength, (_at_least_one("runs", runs),), np.float64))
    return drawn / drawn.sum(axis=1, keepdims=True)


def lattice(n: int, parts: int) -> NDArray[np.float64]:
    """Return every mixture of n domains whose proportions are multiples of 1/parts, shape [k, n].

    Example:
        >>> lattice(2, 2).tolist()
        [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    slots = _at_least_one("n", n) + _at_least_one("parts", parts) - 1
    count = math.comb(slots, n - 1)
    if count > MOST_POINTS:
        raise InputError(f"a lattice of {n} domains and {parts} parts has {count} points; allowed: {MOST_POINTS}")
    # Stars and bars: n - 1 bars among the slots leave the parts of each domain between them.
    bars = np.array(list(combinations(range(slots), n - 1)), np.int64).reshape(count, n - 1)
    edges = np.column_stack([np.full(count, -1), bars, np.full(count, slots)])
    return (np.diff(edges, axis=1) - 1) / parts


def project(x: ArrayLike) -> Array:
    """Return the mixture nearest to x, argmin_r |r - x|_2 over the simplex; x has shape [..., n].

    Raises:
        InputError: where a number is not finite (under jit, where values are unknown, the result is NaN).

    Example:
        >>> project([0.5, 1.0, -3.0]).tolist()
        [0.25, 0.75, 0.0]
    """
    if not isinstance(x, Tracer):
        given = np.asarray(x)
        every(np.isfinite(given), lambda *i: f"x[{', '.join(map(str, i))}] is {given[i]}; allowed: finite numbers")
    return _project(_floating(x))


@jax.jit
@partial(jnp.vectorize, signature="(n)->(n)")
def _project(x: Array) -> Array:
    # The projection does not change with a shift; this one keeps large x from swallowing the unit sum.
    return projection_simplex(x - jnp.max(x))


def nearest(x: ArrayLike, lower: ArrayLike, upper: ArrayLike, total: ArrayLike = 1.0) -> NDArray[np.float64]:
    """Return the mixtures within limits that are nearest to x, argmin_r |r - x|_2 over lower <= r <= upper.

    Some mixture must keep to the limits: sum lower <= 1 <= sum upper (checked by `checks.limits`).

    Args:
        x: finite numbers [..., n].
        lower: lower limits [n] or [..., n].
        upper: upper limits [n] or [..., n].
        total: what the shares sum to, one number or [..., 1].

    Example:
        >>> nearest([0.7, 0.2, 0.1], [0.0, 0.0, 0.2], [0.6, 1.0, 1.0]).round(3).tolist()
        [0.6, 0.2, 0.2]
    """
    x, low, high = np.broadcast_arrays(np.asarray(x, float), np.asarray(lower, float), np.asarray(upper, float))
    # r = clip(x - shift, lower, upper): bisection for the shift, then exactly from the shares that are off the limits.
    first, last = np.min(x - high, axis=-1, keepdims=True), np.max(x - low, axis=-1, keepdims=True)
    for _ in range(60):
        shift = (first + last) / 2
        over = np.clip(x - shift, low, high).sum(-1, keepdims=True) > total
        first, last = np.where(over, shift, first), np.where(over, last, shift)
    r = np.clip(x - last, low, high)
    free = (r > low) & (r < high)
    left = (total - r.sum(-1, keepdims=True)) / np.maximum(free.sum(-1, keepdims=True), 1)
    return np.clip(np.where(free, r + left, r), low, high)


def total_variation(p: ArrayLike, q: ArrayLike) -> Array:
    """Return the total variation distance sum_i |p_i - q_i| / 2 of mixtures of shape [..., n].

    Example:
        >>> float(total_variation([1.0, 0.0], [0.5, 0.5]))
        0.5
    """
    return _distance(lambda a, b: jnp.sum(jnp.abs(a - b)) / 2, p, q)


def hellinger(p: ArrayLike, q: ArrayLike) -> Array:
    """Return the Hellinger distance sqrt(sum_i (sqrt(p_i) - sqrt(q_i))^2 / 2) of mixtures of shape [..., n].

    Example:
        >>> float(hellinger([1.0, 0.0], [0.0, 1.0]))
        1.0
    """
    return _distance(lambda a, b: jnp.sqrt(jnp.sum((jnp.sqrt(a) - jnp.sqrt(b)) ** 2) / 2), p, q)


def kl(p: ArrayLike, q: ArrayLike) -> Array:
    """Return KL(p || q) = sum_i p_i log(p_i / q_i) in nats, infinite where q_i = 0 < p_i; shape [..., n].

    Example:
        >>> float(kl([1.0, 0.0], [1.0, 0.0]))
        0.0
    """
    return _distance(lambda a, b: jnp.sum(rel_entr(a, b)), p, q)


def softmax_map(z: ArrayLike, lower: ArrayLike) -> Array:
    """Map z, shape [..., n], onto the mixtures above lower limits: r = lower + (1 - sum lower) softmax(z).

    Example:
        >>> softmax_map([0.0, 0.0], [0.5, 0.0]).tolist()
        [0.75, 0.25]
    """
    return _softmax_map(*_alike(z, lower))


@partial(jnp.vectorize, signature="(n),(n)->(n)")
def _softmax_map(z: Array, lower: Array) -> Array:
    # Lower limits that sum to 1 may do so up to rounding, which must not push r below them.
    return lower + jnp.maximum(1 - jnp.sum(lower), 0) * jax.nn.softmax(z)


def softmax_inverse(r: ArrayLike, lower: ArrayLike) -> Array:
    """Return the z of mean 0 with softmax_map(z, lower) = r, for r above lower; -inf or NaN where r is at a limit.

    Example:
        >>> softmax_inverse([0.75, 0.25], [0.5, 0.0]).tolist()
        [0.0, 0.0]
    """
    return _softmax_inverse(*_alike(r, lower))


@partial(jnp.vectorize, signature="(n),(n)->(n)")
def _softmax_inverse(r: Array, lower: Array) -> Array:
    z = jnp.log(r - lower)
    return z - jnp.mean(z)


def box_map(z: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> Array:
    """Map z, shape [..., n], onto the mixtures within limits: r = lower + (upper - lower) sigmoid(z - t).

    The shift t solves sum_i r_i = 1. Smooth under grad, jvp, vmap and jit, also where lower_i = upper_i.
    Some mixture must keep to the limits: sum lower <= 1 <= sum upper (checked by `checks.limits`).

    Example:
        >>> box_map([0.0, 0.0], [0.0, 0.5], [0.5, 1.0]).tolist()
        [0.25, 0.75]
    """
    return _box_map(*_alike(z, lower, upper))


# Compiled once per shape: eager calls would compile the loop inside each time.
@jax.jit
@partial(jnp.vectorize, signature="(n),(n),(n)->(n)")
def _box_map(z: Array, lower: Array, upper: Array) -> Array:
    tiny, width = jnp.finfo(z.dtype).tiny, upper - lower
    goal = jnp.log(jnp.maximum(1 - jnp.sum(lower), tiny)) - jnp.log(jnp.maximum(jnp.sum(upper) - 1, tiny))
    weights = lax.stop_gradient(jnp.where(jnp.sum(width) > 0, width, 1))

    def shift(z: Array, low: Array, high: Array) -> Array:
        """Find t in its logit, log(sum w sigmoid(z - t) / sum w sigmoid(t - z)), which is nearly linear in t."""

        def excess(t: Array) -> Array:
            up, down = jax.nn.sigmoid(z - t), jax.nn.sigmoid(t - z)
            return jnp.log(weights @ up) - jnp.log(weights @ down) - goal

        def equation(t: Array) -> Array:
            return jnp.sum(lower + width * jax.nn.sigmoid(z - t)) - 1

        return root(excess, low, high, (low + high) / 2, equation)

    fixed, most = lax.stop_gradient(z), jnp.finfo(z.dtype).eps
    t = shift(fixed, jnp.min(fixed) - goal, jnp.max(fixed) - goal)
    t, most = lax.stop_gradient(t), 4 * most * jnp.maximum(1, jnp.abs(lax.stop_gradient(t)))
    # A large t is known to its last digit only; the rest of it is found where z - t is small.
    return lower + width * jax.nn.sigmoid(z - t - shift(z - t, -most, most))


def group_map(z: Array, lower: Array, upper: Array, group: Array, totals: Array) -> Array:
    """Map z [n] onto the shares within limits whose sums by group are given: that of `box_map`, in each group.

    Args:
        z: free numbers [n].
        lower: lower limits [n].
        upper: upper limits [n].
        group: the group of each share, from 0 [n].
        totals: what each group sums to, between the sums of its limits [G].

    Example:
        >>> import jax.numpy as jnp
        >>> r = group_map(jnp.zeros(3), jnp.zeros(3), jnp.ones(3), jnp.array([0, 0, 1]), jnp.array([0.6, 0.4]))
        >>> r.round(3).tolist() == jnp.array([0.3, 0.3, 0.4]).tolist()
        True
    """
    tiny, width = jnp.finfo(z.dtype).tiny, upper - lower
    count, ones = totals.shape[0], jnp.ones_like(z)
    total = partial(jax.ops.segment_sum, segment_ids=group, num_segments=count)
    goal = jnp.log(jnp.maximum(totals - total(lower), tiny)) - jnp.log(jnp.maximum(total(upper) - totals, tiny))
    goal = lax.stop_gradient(goal)
    weights = lax.stop_gradient(jnp.where(total(width)[group] > 0, width, 1))
    empty = total(ones) == 0

    def shift(z: Array, low: Array, high: Array) -> Array:
        def excess(t: Array) -> Array:
            up, down = jax.nn.sigmoid(z - t[group]), jax.nn.sigmoid(t[group] - z)
            up, down = (jnp.where(empty, 1.0, total(weights * each)) for each in (up, down))
            return jnp.where(empty, -t, jnp.log(up) - jnp.log(down) - goal)

        def equation(t: Array) -> Array:
            return jnp.where(empty, -t, total(lower + width * jax.nn.sigmoid(z - t[group])) - totals)

        return root(excess, low, high, (low + high) / 2, equation)

    fixed, most = lax.stop_gradient(z), jnp.finfo(z.dtype).eps
    ends = (each(fixed, group, num_segments=count) for each in (jax.ops.segment_min, jax.ops.segment_max))
    t = shift(fixed, *(jnp.where(empty, 0.0, end - goal) for end in ends))
    t, most = lax.stop_gradient(t), 4 * most * jnp.maximum(1, jnp.abs(lax.stop_gradient(t)))
    # As in `box_map`: a large t is known to its last digit only, the rest of it is found where z - t is small.
    return lower + width * jax.nn.sigmoid(z - t[group] - shift(z - t[group], -most, most)[group])


def box_inverse(r: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> Array:
    """Return the z with box_map(z, lower, upper) = r and t = 0: the logit of (r - lower)/(upper - lower).

    It is infinite where r is at one of two limits that differ, and 0 where the limits are one.

    Example:
        >>> box_inverse([0.25, 0.75], [0.0, 0.5], [0.5, 1.0]).tolist()
        [0.0, 0.0]
    """
    return _box_inverse(*_alike(r, lower, upper))


@partial(jnp.vectorize, signature="(n),(n),(n)->(n)")
def _box_inverse(r: Array, lower: Array, upper: Array) -> Array:
    free = upper > lower
    return jnp.where(free, jnp.log(jnp.where(free, r - lower, 1)) - jnp.log(jnp.where(free, upper - r, 1)), 0)


def _distance(of: Callable[[Array, Array], Array], p: ArrayLike, q: ArrayLike) -> Array:
    dtype = jnp.promote_types(_floating(p).dtype, _floating(q).dtype)
    return jnp.vectorize(of, signature="(n),(n)->()")(*_alike(_floating(p).astype(dtype), q))


def _alike(first: ArrayLike, *others: ArrayLike) -> tuple[Array, ...]:
    """Return all with the shape that they broadcast to, in the precision of the first."""
    first = _floating(first)
    shape = jnp.broadcast_shapes(first.shape, *map(np.shape, others))
    return tuple(jnp.broadcast_to(jnp.asarray(x, first.dtype), shape) for x in (first, *others))


def _floating(x: ArrayLike) -> Array:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise InputError(f"{name} is {value}; allowed: a whole number from 1")
    return value
