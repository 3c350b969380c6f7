"""Minimization over mixtures of any smooth objective by L-BFGS."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bimixjax._base.arrays import Stored
from bimixjax._base.compilation import program
from bimixjax._base.roots import root
from bimixjax.mixtures import box_map, group_map, softmax_map
from bimixjax.solve.descent import Descent, DescentState, Minimum
from bimixjax.solve.lbfgs import LBFGS
from bimixjax.solve.region import Ball, Region


def softmax_search(
    objective: Callable[[Array], Array],
    lower: Array,
    upper: Array | None,
    starts: Array,
    solver: LBFGS,
    held: Array | bool = False,
    region: Region | None = None,
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
        region: groups and a ball that mixtures keep to besides; of its shares the limits are those given. Starts then
            have G more coordinates, those of the groups' totals.

    Returns:
        The end of every start, as mixtures [k, n]; and the minima behind them, whose `known` is the gradient of the
        objective by the mixture [k, n].
    """

    def one(z: Array, low: Array, high: Array | None, stays: Array) -> tuple[Array, Minimum]:
        to_mixture = _within(low, high, stays, region)

        def evaluate(z: Array) -> tuple[Array, Array, Array]:
            r, pull = jax.vjp(to_mixture, z)
            value, gradient = jax.value_and_grad(objective)(r)
            # A share that stays has no say, also where the objective has no finite slope in it.
            return value, pull(jnp.where(stays, 0.0, gradient))[0], gradient

        minimum = solver.descend(evaluate, z)
        return to_mixture(minimum.point), minimum

    shape = starts.shape[0], np.shape(lower)[-1]
    low, stays = jnp.broadcast_to(lower, shape), jnp.broadcast_to(held, shape)
    high = None if upper is None else jnp.broadcast_to(upper, shape)
    return jax.vmap(one)(starts, low, high, stays)


def _within(low: Stored, high: Stored | None, stays: Stored, region: Region | None = None) -> Callable[[Array], Array]:
    """Return the map from free coordinates to a mixture within limits.

    With groups, coordinates beyond the shares' own are those of the groups' totals.
    """
    if high is None:
        return lambda z: softmax_map(jnp.where(stays, -jnp.inf, z), jnp.asarray(low))
    if region is None or region.is_box:
        return lambda z: box_map(z, low, high)

    def to_mixture(z: Array) -> Array:
        lower, upper = jnp.asarray(low), jnp.asarray(high)
        if region.grouped:
            total = partial(jax.ops.segment_sum, segment_ids=region.group, num_segments=len(region.least))
            least, most = jnp.maximum(region.least, total(lower)), jnp.minimum(region.most, total(upper))
            totals = box_map(z[lower.shape[0] :], least, most)
            r = group_map(z[: lower.shape[0]], lower, upper, jnp.asarray(region.group), totals)
        else:
            r = box_map(z, lower, upper)
        return r if region.ball is None else _drawn_in(r, region.ball)

    return to_mixture


def divergence(r: Array, ball: Ball) -> Array:
    """Compute that of a mixture from the reference of a ball; a share of 0 has no slope."""
    there, reference = r > 0, jnp.asarray(ball.reference)
    x = jnp.where(there, r, 1.0)
    if ball.divergence == "hellinger":
        return 1 - jnp.sum(jnp.where(there, jnp.sqrt(x * reference), 0.0))
    return jnp.sum(jnp.where(there, x * jnp.log(x / jnp.where(reference > 0, reference, 1.0)), 0.0))


def _drawn_in(r: Array, ball: Ball) -> Array:
    """Move a mixture that is outside of a ball straight towards its center, onto its surface."""
    center = jnp.asarray(ball.center)

    def slack(x: Array) -> Array:
        return ball.radius - divergence(x, ball)

    way = r - center
    ends = jnp.zeros((), r.dtype), jnp.ones((), r.dtype)
    part = root(lambda t: slack(center + t * way), *ends, ends[1] / 2)
    return jnp.where(slack(r) >= 0, r, center + part * way)


def softmax_search_on_host(
    evaluate: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    lower: np.ndarray,
    upper: np.ndarray | None,
    starts: Stored,
    solver: LBFGS,
    held: np.ndarray,
    region: Region | None = None,
) -> np.ndarray:
    """Take the steps of `softmax_search` for an objective that is evaluated outside of them, all starts at once.

    Args:
        evaluate: mixtures [k, n] -> values [k] and gradients [k, n].
        lower: lower limits [k, n].
        upper: upper limits [k, n]; None where there are none.
        starts: z [k, n].
        solver: settings of the L-BFGS.
        held: shares that stay at their lower limit [k, n].
        region: as in `softmax_search`.

    Returns:
        The end of every start, as mixtures [k, n].
    """
    limits, descent = (lower, upper, held), solver.descent(starts.dtype)
    # As NumPy's arrays, for those that a program returns would have another program compiled.
    state, mixtures, best = jax.tree.map(np.asarray, _first_turn(descent, limits, region, starts))
    moving = np.ones(len(starts), bool)
    while moving.any():
        found = evaluate(mixtures)
        state, mixtures, best, moving = jax.tree.map(np.asarray, _turn(descent, limits, region, state, *found, moving))
    return best


@program(static=("descent",))
def _first_turn(
    descent: Descent, limits: tuple[Stored, Stored | None, Stored], region: Region | None, starts: Array
) -> tuple[DescentState, Array, Array]:
    """Begin at the starts, and return the mixtures to evaluate first, twice: they are the best so far."""

    def one(start: Array, limits: tuple[Stored, Stored | None, Stored]) -> tuple[DescentState, Array, Array]:
        state = descent.begin(start, jnp.zeros_like(limits[0]))
        mixture = _within(*limits, region)(state.trial)
        return state, mixture, mixture

    return jax.vmap(one)(starts, limits)


@program(static=("descent",))
def _turn(
    descent: Descent,
    limits: tuple[Stored, Stored | None, Stored],
    region: Region | None,
    state: DescentState,
    values: Array,
    slopes: Array,
    moving: Array,
) -> tuple[DescentState, Array, Array, Array]:
    """Advance the starts that are moving; return them, the mixtures to evaluate next, the best, and which move on."""

    def one(
        state: DescentState, value: Array, slope: Array, moves: Array, limits: tuple[Stored, Stored | None, Stored]
    ) -> tuple[DescentState, Array, Array, Array]:
        to_mixture = _within(*limits, region)
        _, pull = jax.vjp(to_mixture, state.trial)
        gradient = pull(jnp.where(limits[2], 0.0, slope))[0]
        after = descent.advance(state, value, gradient, slope)
        state = jax.tree.map(lambda new, old: jnp.where(moves, new, old), after, state)
        return state, to_mixture(state.trial), to_mixture(state.place.point), moves & descent.unfinished(state)

    return jax.vmap(one)(state, values, slopes, moving, limits)
