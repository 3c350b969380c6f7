"""What is kept of solved lanes: all that a fit says of each, or the little that very many of them need."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from bimixjax._base.records import Leaf, record
from bimixjax.fitting.lanes import Lanes
from bimixjax.fitting.problem import Solved, flat, points_of, take_lanes
from bimixjax.laws import Law
from bimixjax.solve import Problem, Solution, along, nonlinear_prior, products, unit_directions


@record
class Ends:
    """How each lane ended, lanes first.

    Args:
        solution: the solver's end, its cost with priors.
        values: packed coefficients [L, k] with volumes divided by their largest.
        user_values: the same in the user's unit of volume [L, k].
        to_user: derivative of the second by the first [L, k, k].
        information: J'J of the residuals [L, k, k].
        penalty: what the priors add to it [L, k, k].
        predicted: the law's losses at the observations [L, n].
        factor: what differences of losses are multiplied by [L, n]; the solver minimized the sum of their squares.
        cost: the criterion, without priors [L].
    """

    solution: Solution
    values: Leaf
    user_values: Leaf
    to_user: Leaf
    information: Leaf
    penalty: Leaf
    predicted: Leaf
    factor: Leaf
    cost: Leaf


def describe(solved: Solved) -> Ends:
    """All that a `FitResult` says of a lane."""
    values, problem = solved.values, solved.problem
    factor = flat(solved.factor)
    predicted, push = jax.linearize(solved.predict, values)
    jacobian = [change * factor for change in along(push, unit_directions(values))]
    moves = jax.vmap(partial(_push, solved.in_user_units, values))(unit_directions(values))
    return Ends(
        solution=solved.solution,
        values=values,
        user_values=solved.in_user_units(values),
        to_user=jnp.moveaxis(moves, 0, 1),
        information=products(jacobian, jacobian),
        penalty=_penalty(problem, solved.solution.nonlinear, values),
        predicted=predicted,
        factor=factor,
        cost=jnp.sum(
            flat(solved.weight) * solved.plan.criterion.value((predicted - flat(solved.loss)) / flat(solved.scale)),
            axis=0,
        ),
    )


def _penalty(problem: Problem, theta: Array, values: Array) -> Array:
    """What the priors add to J'J of all coefficients [k, k, B]."""
    penalty = jnp.zeros((len(values), *values.shape), values.dtype)
    linear, nonlinear = problem.linear_prior, problem.nonlinear_prior
    if linear is not None:
        penalty += jnp.diag(jnp.pad(linear.precision**2, (0, len(theta))))[:, :, None]
    if nonlinear is not None:
        curvature = nonlinear_prior(nonlinear, problem.logarithmic, theta)[2]
        count = len(values) - len(theta)
        penalty += jnp.pad(curvature, ((count, 0), (count, 0), (0, 0)))
    return penalty


@record
class Brief:
    """The little that is kept of each of very many lanes: coefficients in the user's units [L, k], and the end."""

    values: Leaf
    cost: Leaf
    steps: Leaf
    status: Leaf


def brief(solved: Solved) -> Brief:
    """What a bootstrap keeps of a lane."""
    end = solved.solution
    return Brief(values=solved.in_user_units(solved.values), cost=end.cost, steps=end.steps, status=end.status)


@record
class Scaled:
    """What cross-validation keeps of lanes: packed coefficients in the units of the lanes [L, k], and the end."""

    values: Leaf
    steps: Leaf
    status: Leaf


def scaled(solved: Solved) -> Scaled:
    """What cross-validation keeps of a lane."""
    end = solved.solution
    return Scaled(values=solved.values, steps=end.steps, status=end.status)


@partial(jax.jit, static_argnames="law")
def losses(law: Law, lanes: Lanes, values: Array) -> Array:
    """What a law says of all rows of each lane, for C times all lanes' coefficients [C, L, k]: [C, L, n]."""
    points, shape = points_of(take_lanes(lanes, lambda values: values)), lanes.loss.shape

    def one(vectors: Array) -> Array:
        named = law.unpack(vectors.T[:, None, None], law.ordered(), points.mixture.shape[0])
        return flat(jnp.broadcast_to(law.loss(named, points), shape)).T

    return lax.map(one, values)


def _push(function: Callable[[Array], Array], point: Array, direction: Array) -> Array:
    return jax.jvp(function, (point,), (direction,))[1]
