"""L-BFGS by optax: for any smooth function, and for the same least-squares problems as variable projection."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from bimixjax._records import record
from bimixjax.solve.solution import Solution, Status
from bimixjax.solve.varpro import Columns, Problem, criterion, project


@record
class Minimum:
    """The end of a minimization: the point, its value, the iterations taken, and whether it converged."""

    point: Array
    value: Array
    steps: Array
    converged: Array


@dataclass(frozen=True, kw_only=True)
class LBFGS:
    """Settings of the gradient solver: optax L-BFGS with a zoom line search.

    Args:
        starts: how many of the given starts, the best by cost, are iterated.
        max_steps: iterations per start.
        memory: how many past steps approximate the curvature.
        tolerance: stop after `patience` steps in a row that each lower the value by less than this share of it.
    """

    starts: int = 3
    max_steps: int = 1000
    memory: int = 20
    tolerance: float = 1e-14
    patience: int = 5

    def minimize(self, function: Callable[[Array], Array], start: Array) -> Minimum:
        """Minimize a smooth function of one vector from one start."""
        optimizer = optax.lbfgs(memory_size=self.memory)
        value_and_grad = optax.value_and_grad_from_state(function)

        def advance(carry: _Carry) -> _Carry:
            point, state, last, calm, steps = carry
            value, grad = value_and_grad(point, state=state)
            updates, state = optimizer.update(grad, state, point, value=value, grad=grad, value_fn=function)
            small = jnp.abs(last - value) <= self.tolerance * jnp.abs(value)
            moved = jnp.asarray(optax.apply_updates(point, updates))
            return moved, state, jnp.asarray(value), jnp.where(small, calm + 1, 0), steps + 1

        def unfinished(carry: _Carry) -> Array:
            return (carry[3] < self.patience) & (carry[4] < self.max_steps)

        zero = jnp.asarray(0)
        first = (start, optimizer.init(start), jnp.asarray(jnp.inf, start.dtype), zero, zero)
        point, _, _, calm, steps = lax.while_loop(unfinished, advance, first)
        return Minimum(point=point, value=function(point), steps=steps, converged=calm >= self.patience)

    def solve(self, columns: Columns, problem: Problem, starts: Array, signed: tuple[bool, ...]) -> Solution:
        """Solve one separable problem over all its unknowns at once; arguments as in `VarPro.solve`."""
        linear, costs = jax.vmap(lambda theta: project(columns(theta), problem, theta, signed)[:2])(starts)
        order = jnp.argsort(jnp.where(jnp.isfinite(costs), costs, jnp.inf))[: self.starts]
        map_ = _BoxMap(problem, signed)
        scale = jnp.maximum(jnp.sum(problem.target**2), jnp.finfo(starts.dtype).tiny)

        def cost(free: Array) -> Array:
            theta, c = map_.bounded(free)
            return criterion(columns(theta), c, problem, theta) / scale

        ends = jax.vmap(lambda theta, c: self.minimize(cost, map_.free(theta, c)))(starts[order], linear[order])
        best = jnp.argmin(jnp.where(jnp.isfinite(ends.value), ends.value, jnp.inf))
        end = jax.tree.map(lambda leaf: leaf[best], ends)
        theta, c = map_.bounded(end.point)
        ended = jnp.where(end.converged, Status.CONVERGED, Status.STEP_LIMIT)
        status = jnp.where(jnp.isfinite(end.value), ended, Status.NOT_FINITE)
        return Solution(nonlinear=theta, linear=c, cost=end.value * scale, steps=end.steps, status=status)


_Carry = tuple[Array, optax.OptState, Array, Array, Array]


class _BoxMap:
    """Smooth maps from free unknowns to bounded ones: theta by a cosine between its bounds, c >= 0 by a square.

    Both reach their bounds, which a logarithm does not.
    """

    def __init__(self, problem: Problem, signed: tuple[bool, ...]) -> None:
        self._lower, self._width = problem.lower, problem.upper - problem.lower
        self._signed = jnp.array(signed)

    def bounded(self, free: Array) -> tuple[Array, Array]:
        split = self._lower.shape[0]
        theta = self._lower + self._width * (0.5 - 0.5 * jnp.cos(free[:split]))
        return theta, jnp.where(self._signed, free[split:], free[split:] ** 2)

    def free(self, theta: Array, linear: Array) -> Array:
        # At a bound the map has no slope, so a start stands a little inside.
        share = jnp.clip((theta - self._lower) / self._width, 1e-6, 1 - 1e-6)
        inside = jnp.sqrt(jnp.maximum(linear, 1e-3))
        return jnp.concatenate([jnp.arccos(1 - 2 * share), jnp.where(self._signed, linear, inside)])
