"""Damped Gauss-Newton (Levenberg-Marquardt) steps on many small problems side by side, lanes last.

With half the gradient g of a cost and its Gauss-Newton matrix H, a step s solves

    (H + damping diag H) s = -g

and promises to lower the cost by -(2 g's + s'Hs). Damping follows how much of that was gained: where a valley bends, it
grows before a step is refused.

Source: Levenberg, Quart. Appl. Math. 2 (1944); Marquardt, SIAM J. Appl. Math. 11 (1963); Nielsen, IMM-REP-1999-05 (the
gain ratio).
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from bimixjax._base.arrays import Stored
from bimixjax._base.records import record
from bimixjax.solve import linear as _linear, precision

# The least damping, as a share of the curvature, and the share of what was promised that a true or a useful step gains.
_LEAST_DAMPING, _TRUE, _USEFUL = 1e-12, 0.9, 0.25

# In float32, costs nearer than so many roundings are one cost.
COST_ROUNDINGS = 50


@record
class Quadratic:
    """A cost near B points: what a step is computed from.

    Attributes:
        cost: there.
        gradient: half its gradient g.
        curvature: its Gauss-Newton matrix H.
    """

    cost: Float[Stored, " B"]
    gradient: Float[Stored, "q B"]
    curvature: Float[Stored, "q q B"]


@record
class State:
    """Points of B lanes, the point that each tries next, and what that step promises.

    Attributes:
        point: the best point so far.
        model: what was evaluated there; its `cost` is infinite before the first evaluation.
        trial: the next point.
        promised: by how much the model says that the trial lowers the cost.
        damping: of the next step.
        steps: iterations taken.
        done: whether no step promises more.
    """

    point: Float[Stored, "q B"]
    model: Any
    trial: Float[Stored, "q B"]
    promised: Float[Stored, " B"]
    damping: Float[Stored, " B"]
    steps: Int[Stored, " B"]
    done: Bool[Stored, " B"]


@dataclass(frozen=True, kw_only=True)
class Marquardt:
    """How damping follows the steps, and when lanes stop.

    Attributes:
        relief, ease, caution: by what damping is multiplied after a step that gained more than .9 of what it promised,
            more than .25, or less.
        growth: by what it is multiplied after a step that is not taken.
        most_damping: a lane that finds no better point under more damping than this stops.
        last_damping: a lane stops before a step that promises too little if its damping is at most this, so that the
            caller can take that step without damping.
    """

    relief: float
    ease: float
    caution: float
    growth: float
    most_damping: float
    last_damping: float

    def run(
        self,
        linearize: Callable[[Array], Any],
        step: Callable[[Array, Any, Array], Array],
        negligible: Callable[[Array], Array],
        start: Float[Array, "q B"],
        *,
        damping: Float[Array, " B"],
        done: Bool[Array, " B"],
        most: Array | int,
    ) -> State:
        """Take steps until all lanes are done, at most so many.

        Args:
            linearize: from points to a record with `cost` [B], `gradient` (half of it) [q, B], `curvature` [q, q, B].
            step: from points, the record there and damping to the step.
            negligible: from costs to the promise that is not worth a step.
            start: where lanes start.
            damping: of the first step.
            done: lanes that stay where they are.
            most: most steps.
        """
        linearize = jax.jit(linearize)
        shapes = jax.eval_shape(linearize, start)
        nothing = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), shapes)
        begin = _begin(jnp.asarray(start), nothing, damping, done)

        def unfinished(turn: tuple[Array, State]) -> Array:
            return jnp.any(~turn[1].done) & (turn[0] < most)

        def advance(turn: tuple[Array, State]) -> tuple[Array, State]:
            return turn[0] + 1, self._advance(linearize, step, negligible, turn[1])

        return lax.while_loop(unfinished, advance, (jnp.asarray(-1), begin))[1]

    def run_on_host(
        self,
        linearize: Callable[[np.ndarray, np.ndarray], "Quadratic"],
        step: Callable[[np.ndarray, "Quadratic", np.ndarray], np.ndarray],
        negligible: Callable[[np.ndarray], np.ndarray],
        start: Float[np.ndarray, "q B"],
        *,
        damping: Float[np.ndarray, " B"],
        most: int,
    ) -> State:
        """Take the same steps with NumPy, which compiles nothing, and leave alone the lanes that are done.

        Arguments are as of `run`; `linearize` is also given the numbers of the lanes that the points are of.
        """
        unknowns, lanes = start.shape
        nothing = Quadratic(
            cost=np.zeros(lanes), gradient=np.zeros(start.shape), curvature=np.zeros((unknowns, unknowns, lanes))
        )
        state = _begin(start, nothing, damping, np.zeros(lanes, bool))
        # Costs of points that are not finite are refused, and steps to them are not taken.
        with np.errstate(all="ignore"):
            for _ in range(most + 1):
                if not len(moving := np.flatnonzero(~state.done)):
                    break
                some = jax.tree.map(lambda leaf, at=moving: leaf[..., at], state)
                moved = self._advance(lambda z, at=moving: linearize(z, at), step, negligible, some)
                for leaf, new in zip(jax.tree.leaves(state), jax.tree.leaves(moved), strict=True):
                    leaf[..., moving] = new
        return state

    def _advance(
        self,
        linearize: Callable[[Any], Any],
        step: Callable[[Any, Any, Any], Any],
        negligible: Callable[[Any], Any],
        state: State,
    ) -> State:
        """Move to the trial if it lowers the cost, and choose the next; damping falls after a good step, else grows."""
        space = state.point.__array_namespace__()
        tried, known = linearize(state.trial), state.model
        gained = (known.cost - tried.cost) / state.promised
        followed = space.where(gained > _TRUE, self.relief, space.where(gained > _USEFUL, self.ease, self.caution))
        change = space.where((tried.cost < known.cost) & ~state.done, followed, self.growth)
        # At the start nothing was promised, and damping stays.
        change = space.where(space.isfinite(state.promised), change, 1.0)
        damping = space.maximum(state.damping * change, _LEAST_DAMPING)
        slack = precision.slack(COST_ROUNDINGS, state.point.dtype)
        better = (tried.cost < known.cost * (1 + slack)) & ~state.done
        # Points whose costs count as one must not climb, one within the slack of the other.
        tried = dataclasses.replace(tried, cost=space.minimum(tried.cost, known.cost))

        def chosen(new: Stored, old: Stored) -> Array:
            return space.where(better, new, old)

        point, model = chosen(state.trial, state.point), jax.tree.map(chosen, tried, known)
        moved = step(point, model, damping)
        column = moved[:, None]
        bend = _linear.contracted(column, _linear.contracted(model.curvature, column))[0, 0]
        promised = space.abs(2 * _linear.contracted(column, model.gradient[:, None])[0, 0] + bend)
        last = better & (damping <= self.last_damping)
        least = space.where(last, space.minimum(promised, state.promised), state.promised)
        stuck = ~better & (state.damping > self.most_damping)
        return State(
            point=point,
            model=model,
            trial=point + moved,
            promised=promised,
            damping=damping,
            steps=state.steps + ~state.done,
            done=state.done | (least <= negligible(model.cost)) | stuck | ~space.isfinite(model.cost),
        )


def _begin(start: Stored, nothing: Any, damping: Stored, done: Stored) -> State:
    """Let lanes begin at no point, about to try the start: so a loop holds the only copy of the linearization."""
    space = start.__array_namespace__()
    endless = space.full(start.shape[1], space.inf, dtype=start.dtype)
    return State(
        point=space.asarray(start, copy=True),
        model=dataclasses.replace(nothing, cost=endless),
        trial=space.asarray(start, copy=True),
        promised=space.asarray(endless, copy=True),
        damping=damping,
        steps=space.full(start.shape[1], -1, dtype="int32"),
        done=done,
    )
