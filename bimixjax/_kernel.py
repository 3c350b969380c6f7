"""The compiled part of a fit: one law, one target, one set of observations; batched once, at the top."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bimixjax._lanes import Lanes
from bimixjax._records import Leaf, record
from bimixjax.laws import Coefficient, Law, Point
from bimixjax.solve import LBFGS, Problem, Quadratic, Solution, VarPro

Solver = VarPro | LBFGS

# A prior one standard deviation off costs as much as one observation that is 1 % off.
_PRIOR_RESIDUAL = 0.01


@record
class Ends:
    """How each lane ended, lanes first.

    Args:
        solution: the solver's end, its cost with priors.
        values: packed coefficients [k] with volumes divided by their largest; user_values: in the user's unit.
        to_user [k, k]: derivative of the second by the first.
        information [k, k]: J'J of the relative residuals; penalty [k]: what the priors add to its diagonal.
        predicted: the law's losses at the observations [n].
    """

    solution: Solution
    values: Leaf
    user_values: Leaf
    to_user: Leaf
    information: Leaf
    penalty: Leaf
    predicted: Leaf


def start_grid(law: Law, domains: int) -> np.ndarray:
    """The product grid of a law's starting values, as packed non-linear coefficients [k, q]."""
    grid = law.starts()
    parts = law.part(linear=False)
    points = product(*(grid[c.name] for c in parts))
    return np.array(
        [np.concatenate([np.full(c.size(domains), v) for c, v in zip(parts, p, strict=True)]) for p in points]
    )


@partial(jax.jit, static_argnames=("law", "solver", "priors"))
def solve_lanes(lanes: Lanes, starts: Array, scale: Array, *, law: Law, solver: Solver, priors: bool) -> Ends:
    """Solve every lane; `scale` is the unit of the lanes' volumes in the user's."""

    def one(mixture: Array, volume: Array, size: Array, own: Array, loss: Array, weight: Array) -> Ends:
        points = Point(mixture=mixture, own=own, volume=volume, model_size=size)
        root = jnp.sqrt(weight)
        problem = _problem(law, mixture.shape[-1], priors, root)
        signed = tuple(c.lower < 0 for c in law.part(linear=True) for _ in range(c.size(mixture.shape[-1])))
        solution = solver.solve(_columns(law, points, root / loss), problem, starts, signed)
        return _describe(law, points, solution, problem, root / loss, scale)

    lane_axes = (None, None, None, 0, 0, 0)
    ends = jax.vmap(jax.vmap(one, in_axes=lane_axes))(
        lanes.mixture, lanes.volume, lanes.model_size, lanes.own, lanes.loss, lanes.weight
    )
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), ends)


def _columns(law: Law, points: Point, factor: Array) -> Callable[[Array], Array]:
    """The map from theta to the columns [n, p] of the linear coefficients, each row times its `factor`."""
    domains = points.mixture.shape[-1]
    linear, nonlinear = law.part(linear=True), law.part(linear=False)

    def columns(theta: Array) -> Array:
        named = law.unpack(theta, nonlinear, domains)
        terms = jax.vmap(lambda point: law.basis(named, point))(points)
        return jnp.stack([terms[c.name] for c in linear], axis=1) * factor[:, None]

    return columns


def _problem(law: Law, domains: int, priors: bool, target: Array) -> Problem:
    def each(parts: Sequence[Coefficient], read: Callable[[Coefficient], float]) -> Array:
        return jnp.array([read(c) for c in parts for _ in range(c.size(domains))], target.dtype)

    linear, nonlinear = law.part(linear=True), law.part(linear=False)
    strength = _PRIOR_RESIDUAL if priors else 0.0
    return Problem(
        target=target,
        lower=each(nonlinear, lambda c: c.lower),
        upper=each(nonlinear, lambda c: c.upper),
        linear_prior=Quadratic(
            mean=each(linear, lambda c: c.prior[0]),
            precision=each(linear, lambda c: strength / c.prior[1]),
        ),
        nonlinear_prior=Quadratic(
            mean=each(nonlinear, lambda c: np.log(c.prior[0])),
            precision=each(nonlinear, lambda c: strength / c.prior[1]),
        ),
    )


def _describe(law: Law, points: Point, solution: Solution, problem: Problem, factor: Array, scale: Array) -> Ends:
    domains = points.mixture.shape[-1]

    def predict(vector: Array) -> Array:
        named = law.unpack(vector, law.ordered(), domains)
        return jax.vmap(lambda point: law.loss(named, point))(points)

    def user(vector: Array) -> Array:
        named = law.with_volume_unit(law.unpack(vector, law.ordered(), domains), scale)
        return jnp.concatenate([jnp.atleast_1d(named[c.name]) for c in law.ordered()])

    values = jnp.concatenate([solution.linear, solution.nonlinear])
    jacobian = jax.jacfwd(predict)(values) * factor[:, None]
    log_slope = problem.nonlinear_prior.precision / jnp.maximum(solution.nonlinear, 1e-12)
    return Ends(
        solution=solution,
        values=values,
        user_values=user(values),
        to_user=jax.jacfwd(user)(values),
        information=jacobian.T @ jacobian,
        penalty=jnp.concatenate([problem.linear_prior.precision, log_slope]) ** 2,
        predicted=predict(values),
    )
