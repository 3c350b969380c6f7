"""L-BFGS: for any smooth function, and for the same least-squares problems as variable projection."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from bimixjax.solve import precision as _precision
from bimixjax.solve.descent import Descent, Evaluate, Minimum
from bimixjax.solve.precision import Precision
from bimixjax.solve.separable import Columns, Problem, Rows, Starts, criterion, lowest, of_lanes, project
from bimixjax.solve.solution import Solution, Status, best_end


@dataclass(frozen=True, kw_only=True)
class LBFGS:
    """Settings of the gradient solver: L-BFGS with a line search by bisection.

    Attributes:
        starts: how many of the given starts, the best by cost, are iterated.
        max_steps: iterations per start.
        memory: how many past steps approximate the curvature.
        tolerance: stop after `patience` steps in a row that each lower the value by less than this share of it.
        precision: of a fit, as in `VarPro`.

    Raises:
        InputError: for another precision.
    """

    starts: int = 3
    max_steps: int = 1000
    memory: int = 20
    tolerance: float = 1e-14
    patience: int = 5
    precision: Precision | None = None

    def __post_init__(self) -> None:
        _precision.check(self.precision)

    def minimize(self, function: Callable[[Array], Array], start: Array) -> Minimum:
        """Minimize a smooth function of one vector from one start."""

        def evaluate(point: Array) -> tuple[Array, Array, None]:
            return *jax.value_and_grad(function)(point), None

        return self.descend(evaluate, start)

    def descend(self, evaluate: Evaluate, start: Array) -> Minimum:
        """As `minimize`, with the gradient by hand; `known` of the end is what else was evaluated there."""
        return self.descent(start.dtype).run(evaluate, start)

    def descent(self, dtype: Any) -> Descent:
        """Return the descent that these settings make of points in a floating dtype."""
        return Descent(
            max_steps=self.max_steps,
            memory=self.memory,
            tolerance=_precision.share(self.tolerance, dtype),
            patience=self.patience,
        )

    def solve(self, columns: Columns, data: Any, problem: Problem, starts: Starts) -> Solution:
        """Solve B separable problems, given by their columns, over all their unknowns at once."""
        own, count = of_lanes(starts, problem.target.shape[-1]), min(self.starts, len(starts))
        linears, costs = lax.map(lambda theta: project(columns(theta, data), problem, theta), own)
        thetas, linears = (lowest(costs, values, count) for values in (own, linears))

        def one(theta: Array, linear: Array, target: Array, own_data: Any) -> Solution:
            alone = dataclasses.replace(problem, target=target[:, None])
            of_lane = jax.tree.map(lambda leaf: leaf[..., None], own_data)
            return self._solve_one(lambda theta: columns(theta, of_lane), alone, theta, linear)

        lanes = jax.vmap(one, in_axes=-1, out_axes=-1)
        return best_end(lax.map(lambda start: lanes(start[0], start[1], problem.target, data), (thetas, linears)))

    def _solve_one(self, columns: Callable[[Array], Rows], problem: Problem, theta: Array, linear: Array) -> Solution:
        box, split = _Box(problem), theta.shape[0]
        scale = jnp.maximum(jnp.sum(problem.target**2), jnp.finfo(theta.dtype).tiny)

        def cost(free: Array) -> Array:
            inside, c = box.inside(free[:split]), box.signs(free[split:])
            return criterion(columns(inside[:, None]), c[:, None], problem, inside[:, None])[0] / scale

        end = self.minimize(cost, jnp.concatenate([box.free(theta), box.roots(linear)]))
        ended = jnp.where(end.converged, Status.CONVERGED, Status.STEP_LIMIT)
        return Solution(
            nonlinear=box.inside(end.point[:split]),
            linear=box.signs(end.point[split:]),
            cost=end.value * scale,
            steps=end.steps,
            status=jnp.where(jnp.isfinite(end.value), ended, Status.NOT_FINITE),
        )


class _Box:
    """Smooth maps from free unknowns to bounded ones: theta by a cosine between its bounds, c >= 0 by a square.

    Both reach their bounds, which a logarithm does not. At a bound the maps have no slope, so a start stands inside.
    """

    def __init__(self, problem: Problem) -> None:
        self._lower, self._width = problem.lower, problem.upper - problem.lower
        self._signed = jnp.array(problem.signed)

    def inside(self, free: Array) -> Array:
        return self._lower + self._width * (0.5 - 0.5 * jnp.cos(free))

    def free(self, theta: Array) -> Array:
        return jnp.arccos(1 - 2 * jnp.clip((theta - self._lower) / self._width, 1e-6, 1 - 1e-6))

    def signs(self, free: Array) -> Array:
        return jnp.where(self._signed, free, free**2)

    def roots(self, linear: Array) -> Array:
        return jnp.where(self._signed, linear, jnp.sqrt(jnp.maximum(linear, 1e-3)))
