"""Levenberg-Marquardt steps on projected problems, lanes side by side, which stop and go on again.

Damping follows how much of what a step promised it gained: where a valley bends, it grows before a step is refused.

Source: Levenberg, Quart. Appl. Math. 2 (1944); Marquardt, SIAM J. Appl. Math. 11 (1963); Nielsen, IMM-REP-1999-05 (the
gain ratio).
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array, lax

from bimixjax._base.records import record
from bimixjax.solve import linear as _tiny
from bimixjax.solve import precision
from bimixjax.solve.separable import Model, Problem, Separated

# Damping, as a share of the curvature: at the start, and the least.
_DAMPING, _LEAST_DAMPING = 1e-2, 1e-12

# What damping is multiplied by after a step that gained more than .9 of what it promised, more than .25, less, nothing.
_TRUE, _USEFUL = 0.9, 0.25
_RELIEF, _EASE, _CAUTION, _GROWTH = 0.1, 0.5, 3.0, 6.0

# A lane that finds no better point under this damping is done.
_MOST_DAMPING = 1e12

# Costs nearer than this share of them are one cost; in float32, those nearer than so many roundings.
_SAME_COST = 1e-13
_COST_ROUNDINGS = 50


@record
class Standing:
    """Where B lanes stand when nothing is being tried.

    Args:
        theta: non-linear coefficients [q, B].
        linear: the best c there [p, B].
        cost: criterion [B]; infinite before the first step.
        damping: of the next step [B].
        steps: iterations taken [B].
        done: whether no step promises more [B].
    """

    theta: Array
    linear: Array
    cost: Array
    damping: Array
    steps: Array
    done: Array


@record
class _State:
    """Where lanes stand, the point that each tries next, and what its step promises to gain."""

    theta: Array
    model: Model
    trial: Array
    promised: Array
    damping: Array
    steps: Array
    done: Array


def at_start(theta: Array, unknowns: int) -> Standing:
    """Lanes that stand at theta [q, B] and have `unknowns` linear coefficients."""
    lanes = theta.shape[1]
    return Standing(
        theta=theta,
        linear=jnp.zeros((unknowns, lanes), theta.dtype),
        cost=jnp.full(lanes, jnp.inf, theta.dtype),
        damping=jnp.full(lanes, _DAMPING, theta.dtype),
        steps=jnp.zeros(lanes, jnp.int32),
        done=jnp.zeros(lanes, bool),
    )


def advanced(rows: Separated, problem: Problem, standing: Standing, most: Array | int, tolerance: float) -> Standing:
    """Lanes after so many more steps, or done; those that are already stay.

    Steps are those of lanes that nothing had stopped, so lanes end where they would have ended in one go.
    """

    def unfinished(state: tuple[Array, _State]) -> Array:
        return jnp.any(~state[1].done) & (state[0] < most)

    def step(state: tuple[Array, _State]) -> tuple[Array, _State]:
        return state[0] + 1, _advance(rows, problem, state[1], tolerance)

    # The first iteration takes no step: it is the evaluation at which lanes begin.
    _, last = lax.while_loop(unfinished, step, (jnp.asarray(-1), _begin(problem, standing)))
    theta, linear, cost = _polished(rows, problem, last)
    moved = Standing(theta=theta, linear=linear, cost=cost, damping=last.damping, steps=last.steps, done=last.done)
    return jax.tree.map(lambda new, old: jnp.where(standing.done, old, new), moved, standing)


def _cost_slack(theta: Array) -> float:
    return precision.slack(_COST_ROUNDINGS, theta.dtype)


def _begin(problem: Problem, standing: Standing) -> _State:
    """Nowhere, about to try theta; so the loop holds the only copy of the linearization, and compiles faster."""
    theta = standing.theta
    unknowns, lanes = theta.shape
    endless = jnp.full(lanes, jnp.inf, theta.dtype)
    nothing = Model(
        cost=endless,
        linear=jnp.zeros((len(problem.signed), lanes), theta.dtype),
        gradient=jnp.zeros_like(theta),
        curvature=jnp.zeros((unknowns, unknowns, lanes), theta.dtype),
        seen=jnp.zeros(theta.shape, bool),
    )
    return _State(
        theta=theta,
        model=nothing,
        trial=theta,
        promised=endless,
        damping=standing.damping,
        steps=standing.steps - 1,
        done=standing.done,
    )


def _damping(state: _State, cost: Array) -> Array:
    """What damps the next step, after a trial that came to this cost; as before where nothing had been promised."""
    gained = (state.model.cost - cost) / state.promised
    followed = jnp.where(gained > _TRUE, _RELIEF, jnp.where(gained > _USEFUL, _EASE, _CAUTION))
    change = jnp.where((cost < state.model.cost) & ~state.done, followed, _GROWTH)
    return jnp.maximum(state.damping * jnp.where(jnp.isfinite(state.promised), change, 1.0), _LEAST_DAMPING)


def _advance(rows: Separated, problem: Problem, state: _State, tolerance: float) -> _State:
    """Move to the trial if it lowers the cost, and choose the next; damping falls after a good step, else grows."""
    tried = rows.linearize(state.trial)
    # XLA computes a quotient once, but would repeat a sum over rows for every number that it decides on.
    one = jnp.where(rows.rounding >= 0, 1.0, jnp.nan)
    tried = dataclasses.replace(tried, cost=tried.cost / one, gradient=tried.gradient / one)
    damping = _damping(state, tried.cost)
    better = (tried.cost < state.model.cost * (1 + _cost_slack(state.theta))) & ~state.done
    # Points whose costs count as one must not climb, one within the slack of the other.
    tried = dataclasses.replace(tried, cost=jnp.minimum(tried.cost, state.model.cost))

    def chosen(new: Array, old: Array) -> Array:
        return jnp.where(better, new, old)

    theta, model = chosen(state.trial, state.theta), jax.tree.map(chosen, tried, state.model)
    step = _bounded_step(problem, theta, model, damping / one)
    bend = _tiny.contracted(step[:, None], _tiny.contracted(model.curvature, step[:, None]))[0, 0]
    promised = -(2 * _tiny.contracted(step[:, None], model.gradient[:, None])[0, 0] + bend)
    # A step that damping does not shorten, and that promises so little, is still taken, by `_polished`.
    least = jnp.where(better & (damping <= _DAMPING), jnp.minimum(jnp.abs(promised), state.promised), state.promised)
    small = least <= precision.share(tolerance, theta.dtype) * model.cost + rows.rounding
    stuck = ~better & (state.damping > _MOST_DAMPING)
    return _State(
        theta=theta,
        model=model,
        trial=theta + step,
        promised=jnp.abs(promised),
        damping=damping,
        steps=state.steps + ~state.done,
        done=state.done | small | stuck | ~jnp.isfinite(model.cost),
    )


def _polished(rows: Separated, problem: Problem, last: _State) -> tuple[Array, Array, Array]:
    """Theta, c and cost after one more step, undamped.

    A cost tells two points apart to the root of the rounding only, and a gradient to the rounding itself: so the step
    is taken where the cost does not rise by more than rounding, and lanes end at the same point whatever else is in
    their chunk.
    """
    model = last.model
    theta = last.theta + _bounded_step(problem, last.theta, model, jnp.zeros_like(last.damping))
    linear, cost = rows.project(theta)
    taken = last.done & (cost <= model.cost * (1 + _SAME_COST + _cost_slack(theta)) + rows.rounding)
    return (
        jnp.where(taken, theta, last.theta),
        jnp.where(taken, linear, model.linear),
        jnp.where(taken, cost, model.cost),
    )


def _bounded_step(problem: Problem, theta: Array, model: Model, damping: Array) -> Array:
    """The Levenberg-Marquardt step in the coordinates that are free to move, clipped to the bounds."""
    lower, upper = problem.lower[:, None], problem.upper[:, None]
    held = ((theta <= lower) & (model.gradient > 0)) | ((theta >= upper) & (model.gradient < 0))
    curvature = jnp.stack([model.curvature[k, k] for k in range(len(theta))])
    # A coefficient that the rows say nothing of must stay where it is, not wander on rounding.
    free = ~held & model.seen
    damped = model.curvature + _tiny.diagonal(damping * curvature)
    step, _ = _tiny.solve(_tiny.masked(damped, free), jnp.where(free, -model.gradient, 0.0)[:, None])
    return jnp.clip(theta + step[:, 0], lower, upper) - theta
