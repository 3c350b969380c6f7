"""What is kept of solved lanes: all that a fit says of each, or the little that very many of them need."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

from bimixjax._base.arrays import Stored
from bimixjax._base.records import record
from bimixjax.fitting.lanes import Lanes
from bimixjax.fitting.problem import LeastSquares, flat, packed_values, points_of, take_lanes
from bimixjax.laws import Law
from bimixjax.solve import Problem, Solution, along, nonlinear_prior, products, unit_directions


@record
class Ends:
    """How each lane ended, lanes first.

    Attributes:
        solution: the solver's end, its cost with priors.
        values: packed coefficients with volumes divided by their largest.
        user_values: the same in the user's unit of volume.
        to_user: derivative of the second by the first.
        information: J'J of the residuals.
        penalty: what the priors add to it.
        predicted: the law's losses at the observations.
        factor: what differences of losses are multiplied by; the solver minimized the sum of their squares.
        cost: the criterion, without priors.
    """

    solution: Solution
    values: Float[Stored, "L k"]
    user_values: Float[Stored, "L k"]
    to_user: Float[Stored, "L k k"]
    information: Float[Stored, "L k k"]
    penalty: Float[Stored, "L k k"]
    predicted: Float[Stored, "L n"]
    factor: Float[Stored, "L n"]
    cost: Float[Stored, " L"]


def describe(squares: LeastSquares, solution: Solution) -> Ends:
    """Keep all that a `FitResult` says of a lane."""
    values, factor = packed_values(solution), flat(squares.factor)
    directions = unit_directions(values)
    predicted, push = jax.linearize(squares.predict, values)
    jacobian = [change * factor for change in along(push, directions)]
    moves = jax.vmap(lambda direction: jax.jvp(squares.in_user_units, (values,), (direction,))[1])(directions)
    residual = (predicted - flat(squares.loss)) / flat(squares.scale)
    return Ends(
        solution=solution,
        values=values,
        user_values=squares.in_user_units(values),
        to_user=jnp.moveaxis(moves, 0, 1),
        information=products(jacobian, jacobian),
        penalty=_penalty(squares.problem, solution.nonlinear, values),
        predicted=predicted,
        factor=factor,
        cost=jnp.sum(flat(squares.weight) * squares.batch.criterion.value(residual), axis=0),
    )


def _penalty(problem: Problem, theta: Float[Array, "q B"], values: Float[Array, "k B"]) -> Float[Array, "k k B"]:
    """Return what the priors add to J'J of all coefficients."""
    penalty = jnp.zeros((len(values), *values.shape), values.dtype)
    linear, nonlinear = problem.linear_prior, problem.nonlinear_prior
    if linear is not None:
        penalty += jnp.diag(jnp.pad(linear[1] ** 2, (0, len(theta))))[:, :, None]
    if nonlinear is not None:
        curvature = nonlinear_prior(nonlinear, problem.logarithmic, theta)[2]
        count = len(values) - len(theta)
        penalty += jnp.pad(curvature, ((count, 0), (count, 0), (0, 0)))
    return penalty


@record
class Brief:
    """Coefficients and the end, all that is kept of each of very many lanes.

    Attributes:
        values: packed coefficients, in the units that the view says.
        cost: what the solver minimized, priors included.
        steps, status: how the solver ended.
    """

    values: Float[Stored, "L k"]
    cost: Float[Stored, " L"]
    steps: Int[Stored, " L"]
    status: Int[Stored, " L"]


def brief(squares: LeastSquares, solution: Solution) -> Brief:
    """Keep what a bootstrap needs of a lane: coefficients in the user's units."""
    values = squares.in_user_units(packed_values(solution))
    return Brief(values=values, cost=solution.cost, steps=solution.steps, status=solution.status)


def scaled(squares: LeastSquares, solution: Solution) -> Brief:
    """Keep what cross-validation needs of a lane: coefficients in the units of the lanes."""
    values = packed_values(solution)
    return Brief(values=values, cost=solution.cost, steps=solution.steps, status=solution.status)


@partial(jax.jit, static_argnames="law")
def losses(law: Law, lanes: Lanes, values: Float[Array, "C L k"]) -> Float[Array, "C L n"]:
    """Predict all rows of each lane with a law, for C times all lanes' coefficients."""
    points, shape = points_of(take_lanes(lanes, lambda values: values)), lanes.loss.shape

    def one(vectors: Float[Array, "L k"]) -> Float[Array, "L n"]:
        named = law.unpack(vectors.T[:, None, None], law.ordered(), points.mixture.shape[0])
        return flat(jnp.broadcast_to(law.loss(named, points), shape)).T

    return lax.map(one, values)
