"""Descent along the directions of L-BFGS, with a line search that takes one evaluation per turn.

A step t along d is long enough where f(t) <= f(0) + c1 t f'(0), and far enough where f'(t) >= c2 f'(0) (the weak
conditions of Wolfe); it is doubled until it overshoots, then bisected. Where values differ by rounding only, the first
condition is read from slopes. Steps and evaluations share one loop, so that a program holds one copy of the function,
and points that are minimized side by side do not wait for each other's line searches.

Source: Liu and Nocedal, Math. Program. 45 (1989) for the directions, which optax computes; Lewis and Overton, Math.
Program. 141 (2013), Algorithm 2.6, for the search; Hager and Zhang, SIAM J. Optim. 16 (2005) for the slopes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from bimixjax._base.records import record

# c1 and c2.
_DECREASE, _FLATTENED = 1e-4, 0.9

# Trials along one direction, after which the search gives up.
_MOST_TRIALS = 40

# Values nearer than so many roundings are distinguished by slopes.
_ROUNDINGS = 10

# From a point [n] to the value there, its gradient [n], and whatever else the caller wants of the end.
Evaluate = Callable[[Array], tuple[Array, Array, Any]]


@record
class Minimum:
    """The end of a minimization.

    Attributes:
        point: where it is.
        value: the function there.
        known: what the evaluation returned beside value and gradient.
        steps: iterations taken.
        converged: whether steps lowered the value no more.
    """

    point: Float[Array, " n"]
    value: Float[Array, ""]
    known: Any
    steps: Int[Array, ""]
    converged: Bool[Array, ""]


@record
class _Place:
    """A point, and what was evaluated there."""

    point: Float[Array, " n"]
    value: Float[Array, ""]
    gradient: Float[Array, " n"]
    known: Any


@record
class _Search:
    """A line search: its direction, the next step along it, the steps between which one fits, and trials so far."""

    direction: Float[Array, " n"]
    step: Float[Array, ""]
    short: Float[Array, ""]
    long: Float[Array, ""]
    trials: Int[Array, ""]


@record
class DescentState:
    """A descent: its best point, memory, search, iterations, and how many of these in a row gained almost nothing."""

    place: _Place
    memory: optax.OptState
    search: _Search
    steps: Int[Array, ""]
    calm: Int[Array, ""]

    @property
    def trial(self) -> Float[Array, " n"]:
        """The point to evaluate next."""
        return self.place.point + self.search.step * self.search.direction


@dataclass(frozen=True, kw_only=True)
class Descent:
    """Settings of a descent, with a tolerance in the numbers of the point; see `LBFGS`."""

    max_steps: int
    memory: int
    tolerance: float
    patience: int

    def run(self, evaluate: Evaluate, start: Array) -> Minimum:
        """Descend from one start [n]."""
        # Traced once, though the shapes of its results must be known before the loop.
        evaluate = jax.jit(evaluate)
        last = lax.while_loop(self.unfinished, lambda state: self._turn(evaluate, state), self._begin(evaluate, start))
        # No step along a downhill direction is short enough: what it would gain is rounding.
        stuck = _stuck(last.search) & jnp.isfinite(last.search.long) & jnp.isfinite(last.search.direction).all()
        return Minimum(
            point=last.place.point,
            value=last.place.value,
            known=last.place.known,
            steps=last.steps,
            converged=(last.calm >= self.patience) | stuck,
        )

    def _begin(self, evaluate: Evaluate, start: Array) -> DescentState:
        """Begin at no point, about to try the start: so the loop holds the only copy of the function."""
        shapes = jax.eval_shape(evaluate, start)
        return self.begin(start, jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)[2])

    def begin(self, start: Array, known: Any) -> DescentState:
        """Begin at no point, about to try the start; `known` has the shapes of what an evaluation returns beside."""
        nowhere = jnp.full((), jnp.inf, start.dtype)
        return DescentState(
            place=_Place(point=start, value=nowhere, gradient=jnp.zeros_like(start), known=known),
            memory=self._directions().init(start),
            search=_along(jnp.zeros_like(start)),
            steps=jnp.asarray(-1),
            calm=jnp.asarray(0),
        )

    def unfinished(self, state: DescentState) -> Array:
        """Say whether a descent goes on."""
        return (state.calm < self.patience) & (state.steps < self.max_steps) & ~_stuck(state.search)

    def _turn(self, evaluate: Evaluate, state: DescentState) -> DescentState:
        return self.advance(state, *evaluate(state.trial))

    def advance(self, state: DescentState, value: Array, gradient: Array, known: Any) -> DescentState:
        """Take the step that was tried if it is neither too long nor too short, and choose the one after."""
        place, search, point = state.place, state.search, state.trial
        tried = _Place(point=point, value=value, gradient=gradient, known=known)
        too_long, too_short = _judged(place, tried, search)
        first = state.steps < 0
        taken = first | ~(too_long | too_short)
        direction, memory = self._directions().update(tried.gradient, state.memory, point)
        small = jnp.abs(place.value - tried.value) <= self.tolerance * jnp.abs(tried.value)

        def chosen(new: Array, old: Array) -> Array:
            return jnp.where(taken, new, old)

        return DescentState(
            place=jax.tree.map(chosen, tried, place),
            memory=jax.tree.map(chosen, memory, state.memory),
            search=jax.tree.map(chosen, _along(-jnp.asarray(direction)), _narrowed(search, too_long)),
            steps=state.steps + taken,
            calm=jnp.where(taken & ~first, jnp.where(small, state.calm + 1, 0), state.calm),
        )

    def _directions(self) -> optax.GradientTransformation:
        return optax.scale_by_lbfgs(memory_size=self.memory)


def _along(direction: Array) -> _Search:
    """Begin a search along a direction with step 1, the length that L-BFGS proposes."""
    one = jnp.ones((), direction.dtype)
    return _Search(direction=direction, step=one, short=0 * one, long=jnp.inf * one, trials=jnp.asarray(0))


def _judged(place: _Place, tried: _Place, search: _Search) -> tuple[Array, Array]:
    """Say whether a step is too long, as one is that leads to no finite value; else whether it is too short."""
    slope, ahead = place.gradient @ search.direction, tried.gradient @ search.direction
    lower = tried.value <= place.value + _DECREASE * search.step * slope
    rounding = _ROUNDINGS * jnp.finfo(place.value.dtype).eps * jnp.abs(place.value)
    level = (tried.value <= place.value + rounding) & (ahead <= (2 * _DECREASE - 1) * slope)
    fits = (lower | level) & jnp.isfinite(tried.value) & jnp.isfinite(ahead)
    return ~fits, fits & (ahead < _FLATTENED * slope)


def _narrowed(search: _Search, too_long: Array) -> _Search:
    """Return the search after a step that does not fit."""
    short = jnp.where(too_long, search.short, search.step)
    long = jnp.where(too_long, search.step, search.long)
    step = jnp.where(jnp.isinf(long), 2 * search.step, (short + long) / 2)
    return _Search(direction=search.direction, step=step, short=short, long=long, trials=search.trials + 1)


def _stuck(search: _Search) -> Array:
    return search.trials >= _MOST_TRIALS
