"""Minimization over mixtures: an exact dual for sums of powers, L-BFGS for any smooth objective, and certificates."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from bimixjax._base.arrays import Stored
from bimixjax._base.records import record
from bimixjax._base.roots import root
from bimixjax.mixtures import box_map, softmax_map
from bimixjax.solve.descent import Descent, DescentState, Minimum
from bimixjax.solve.lbfgs import LBFGS


@record
class Certificate:
    """How far a mixture is from optimal.

    Attributes:
        multiplier: price mu of the constraint sum r = 1: what the objective gains per unit of share.
        kkt_residual: largest of stationarity over |mu| (or over the least slope that counts), sign violation and
            |sum r - 1|; a coordinate is excused from stationarity only as far as it stands at the limit that holds it.
        gap: Frank-Wolfe gap, the most that any feasible move gains to first order; where the objective is convex, an
            upper bound on what is lost against the optimum.
    """

    multiplier: Float[Array, ""]
    kkt_residual: Float[Array, ""]
    gap: Float[Array, ""]


def certify(gradient: Array, r: Array, lower: Array, upper: Array, *, least: Array | float = 0.0) -> Certificate:
    """Return the certificate of a mixture r [n] within limits, from the objective's gradient there [n].

    Stationarity is taken over |mu|, or over `least` where that is larger.
    """
    multiplier = _multiplier(gradient, r, lower, upper)
    reduced = (gradient + multiplier) / jnp.maximum(jnp.abs(multiplier), jnp.maximum(least, jnp.finfo(r.dtype).tiny))
    excess = jnp.minimum(jnp.maximum(reduced, 0.0), r - lower) + jnp.minimum(jnp.maximum(-reduced, 0.0), upper - r)
    outside = jnp.maximum(jnp.max(lower - r), jnp.max(r - upper))
    residual = jnp.max(jnp.array([jnp.max(excess), jnp.abs(jnp.sum(r) - 1), outside]))
    vertex = cheapest(gradient, lower, upper)
    return Certificate(multiplier=multiplier, kkt_residual=residual, gap=gradient @ (r - vertex))


def _multiplier(gradient: Array, r: Array, lower: Array, upper: Array) -> Array:
    """Return the mean of -gradient over coordinates with room on both sides; a price between the sides if none has."""
    room = jnp.minimum(r - lower, upper - r)
    inside = jnp.sum(room)
    mean = -jnp.sum(room * gradient) / jnp.where(inside > 0, inside, 1.0)
    at_lower = jnp.max(jnp.where(r - lower <= upper - r, -gradient, -jnp.inf))
    at_upper = jnp.min(jnp.where(r - lower > upper - r, -gradient, jnp.inf))
    between = jnp.where(
        jnp.isfinite(at_lower), jnp.where(jnp.isfinite(at_upper), (at_lower + at_upper) / 2, at_lower), at_upper
    )
    return jnp.where(inside > 1e-12, mean, between)


def cheapest(gradient: Array, lower: Array, upper: Array) -> Array:
    """Return the feasible mixture that minimizes gradient . r: domains at lower limits, the best ones filled up."""
    order = jnp.argsort(gradient)
    room = (upper - lower)[order]
    before = jnp.cumsum(room) - room
    fill = jnp.clip(1 - jnp.sum(lower) - before, 0.0, room)
    return lower.at[order].add(fill)


def power_dual(scale: Array, exponent: Array, lower: Array, upper: Array) -> Array:
    """Minimize sum_i scale_i r_i^-exponent_i over mixtures within limits, exactly, through its scalar dual.

    Stationarity gives r_i(mu) = clip((scale_i exponent_i / mu)^(1 / (1 + exponent_i)), lower_i, upper_i), and the
    price mu is the root of sum_i r_i(mu) = 1, searched in log mu. A domain whose term is zero gets
    its lower limit; where the others cannot fill the mixture, such domains share the rest in proportion to their room.

    Args:
        scale: c_i >= 0 [n].
        exponent: alpha_i >= 0 [n].
        lower: lower limits [n], summing to at most 1.
        upper: upper limits [n], summing to at least 1.

    Returns:
        The mixture r [n], differentiable in all arguments by the implicit function theorem (to first order).

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.solve import power_dual
        >>> [round(float(x), 6) for x in power_dual(jnp.array([4.0, 1.0]), jnp.ones(2), jnp.zeros(2), jnp.ones(2))]
        [0.666667, 0.333333]

    Source: arXiv 2405.14908, Eq. 15-16; the closed form is derived from its Lagrangian.
    """
    drive = scale * exponent
    active = drive > 0
    log_drive = jnp.log(jnp.where(active, drive, 1.0))

    def shares(price: Array) -> Array:
        return jnp.where(active, jnp.clip(jnp.exp((log_drive - price) / (1 + exponent)), lower, upper), lower)

    # Shares from 1 down to 1e-100 of every active domain: the root lies between, or the limits decide.
    low = jnp.min(jnp.where(active, log_drive, jnp.inf)) - 1e-3
    high = jnp.max(jnp.where(active, log_drive + 230.0 * (1 + exponent), -jnp.inf))
    low, high = (jnp.where(jnp.any(active), end, 0.0) for end in (low, high))
    start = jnp.clip(jax.nn.logsumexp(log_drive, where=active), low, high)
    r = shares(root(lambda mu: jnp.log(jnp.sum(shares(mu))), low, high, start, lambda mu: jnp.sum(shares(mu)) - 1))
    left = jnp.maximum(1 - jnp.sum(r), 0.0)
    room = jnp.where(active, 0.0, upper - lower)
    whole = jnp.sum(room)
    return r + left * room / jnp.where(whole > 0, whole, 1.0)


def softmax_search(
    objective: Callable[[Array], Array],
    lower: Array,
    upper: Array | None,
    starts: Array,
    solver: LBFGS,
    held: Array | bool = False,
) -> tuple[Array, Minimum]:
    """Minimize any smooth objective of a mixture by L-BFGS in unconstrained coordinates z, from several starts.

    With lower limits only, r = lower + (1 - sum lower) softmax(z). With upper limits, r = lower + (upper - lower)
    sigmoid(z - t) with t such that r sums to one. Either map keeps to the limits by construction.

    Args:
        objective: r [n] -> scalar.
        lower: lower limits [n] or [k, n].
        upper: upper limits [n] or [k, n]; None where there are none.
        starts: z [k, n].
        solver: settings of the L-BFGS.
        held: shares that stay at their lower limit [k, n], not all of one start; the upper limit is the same there.

    Returns:
        The end of every start, as mixtures [k, n]; and the minima behind them, whose `known` is the gradient of the
        objective by the mixture [k, n].
    """

    def one(z: Array, low: Array, high: Array | None, stays: Array) -> tuple[Array, Minimum]:
        to_mixture = _within(low, high, stays)

        def evaluate(z: Array) -> tuple[Array, Array, Array]:
            r, pull = jax.vjp(to_mixture, z)
            value, gradient = jax.value_and_grad(objective)(r)
            # A share that stays has no say, also where the objective has no finite slope in it.
            return value, pull(jnp.where(stays, 0.0, gradient))[0], gradient

        minimum = solver.descend(evaluate, z)
        return to_mixture(minimum.point), minimum

    low, stays = jnp.broadcast_to(lower, starts.shape), jnp.broadcast_to(held, starts.shape)
    high = None if upper is None else jnp.broadcast_to(upper, starts.shape)
    return jax.vmap(one)(starts, low, high, stays)


def _within(low: Stored, high: Stored | None, stays: Stored) -> Callable[[Array], Array]:
    """Return the map from free coordinates to a mixture within limits."""

    def to_mixture(z: Array) -> Array:
        return softmax_map(jnp.where(stays, -jnp.inf, z), jnp.asarray(low)) if high is None else box_map(z, low, high)

    return to_mixture


def softmax_search_on_host(
    evaluate: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    lower: np.ndarray,
    upper: np.ndarray | None,
    starts: Array,
    solver: LBFGS,
    held: np.ndarray,
) -> np.ndarray:
    """Take the steps of `softmax_search` for an objective that is evaluated outside of them, all starts at once.

    Args:
        evaluate: mixtures [k, n] -> values [k] and gradients [k, n].
        lower: lower limits [k, n].
        upper: upper limits [k, n]; None where there are none.
        starts: z [k, n].
        solver: settings of the L-BFGS.
        held: shares that stay at their lower limit [k, n].

    Returns:
        The end of every start, as mixtures [k, n].
    """
    limits, descent, best = (lower, upper, held), solver.descent(starts.dtype), np.asarray(starts)
    # As NumPy's arrays, for those that a program returns would have another program compiled.
    state, mixtures = jax.tree.map(np.asarray, _first_turn(descent, limits, starts))
    moving = np.ones(len(starts), bool)
    while moving.any():
        found = evaluate(mixtures)
        state, mixtures, best, moving = jax.tree.map(np.asarray, _turn(descent, limits, state, *found, moving))
    return best


@partial(jax.jit, static_argnames=("descent",))
def _first_turn(
    descent: Descent, limits: tuple[Stored, Stored | None, Stored], starts: Array
) -> tuple[DescentState, Array]:
    """Begin at the starts, and return the mixtures to evaluate first."""

    def one(start: Array, limits: tuple[Stored, Stored | None, Stored]) -> tuple[DescentState, Array]:
        state = descent.begin(start, jnp.zeros_like(start))
        return state, _within(*limits)(state.trial)

    return jax.vmap(one)(starts, limits)


@partial(jax.jit, static_argnames=("descent",))
def _turn(
    descent: Descent,
    limits: tuple[Stored, Stored | None, Stored],
    state: DescentState,
    values: Array,
    slopes: Array,
    moving: Array,
) -> tuple[DescentState, Array, Array, Array]:
    """Advance the starts that are moving; return them, the mixtures to evaluate next, the best, and which move on."""

    def one(
        state: DescentState, value: Array, slope: Array, moves: Array, limits: tuple[Stored, Stored | None, Stored]
    ) -> tuple[DescentState, Array, Array, Array]:
        to_mixture = _within(*limits)
        _, pull = jax.vjp(to_mixture, state.trial)
        gradient = pull(jnp.where(limits[2], 0.0, slope))[0]
        after = descent.advance(state, value, gradient, slope)
        state = jax.tree.map(lambda new, old: jnp.where(moves, new, old), after, state)
        return state, to_mixture(state.trial), to_mixture(state.place.point), moves & descent.unfinished(state)

    return jax.vmap(one)(state, values, slopes, moving, limits)
