"""The solve that does not move: what separable problems are worth at given non-linear unknowns."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from bimixjax.solve.separable import Columns, Problem, Starts, lowest, of_lanes, project, with_data
from bimixjax.solve.solution import Solution, Status


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Takes the best of the starts, within bounds, for the end: its best linear coefficients, and the cost there.

    So the end of a float32 solve gets what float64 makes of its non-linear coefficients.
    """

    def solve(self, columns: Columns, data: Any, problem: Problem, starts: Starts) -> Solution:
        """Solve B separable problems at one of the given points; arguments as in `VarPro.solve`."""
        at_data, lanes = with_data(columns, data), problem.target.shape[-1]

        def projected(theta: Array) -> tuple[Array, Array]:
            return project(at_data(theta), problem, theta)

        own = of_lanes(starts, lanes)
        theta = own[0] if len(own) == 1 else lowest(lax.map(lambda theta: projected(theta)[1], own), own, 1)[0]
        theta = jnp.clip(theta, problem.lower[:, None], problem.upper[:, None])
        linear, cost = projected(theta)
        ended = jnp.where(jnp.isfinite(cost), Status.CONVERGED, Status.NOT_FINITE)
        return Solution(nonlinear=theta, linear=linear, cost=cost, steps=jnp.zeros(lanes, jnp.int32), status=ended)
