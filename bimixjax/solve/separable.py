"""Least squares that are linear in some unknowns, projected to the others: what variable projection iterates over.

For given theta the best linear coefficients c(theta) are a small non-negative least-squares problem, solved exactly.
What remains is a problem in theta, for which Levenberg-Marquardt takes Kaufman's approximation: the Gauss-Newton matrix
of the full problem with the linear block eliminated by its Schur complement.

Many problems (lanes) are solved side by side, along the last axis of every array: sums over the rows of a problem then
run over lanes at full width.

Source: Golub and Pereyra, SIAM J. Numer. Anal. 10 (1973); Kaufman, BIT 15 (1975).
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product, starmap
from operator import mul
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float

from bimixjax._base.records import record, static
from bimixjax.solve import linear as _linear, precision as _precision

# From theta [q, B] and the data of B lanes, lanes last in every leaf, to a list of p columns [n, B]. A list is never
# stacked: XLA would write the stack to memory before it sums over rows. Many columns may be one array.
Rows = Sequence[Array] | Array
Starts = Array | np.ndarray
Columns = Callable[[Array, Any], Rows]
Change = TypeVar("Change")

# Up to this many unknowns, what is done for each is unrolled; beyond, it is vectorized, to compile faster. Set by hand.
_UNROLLED = 4

# A coefficient that keeps less than this share of its curvature beside the linear ones is not identified.
_ROUNDING = 1e-11


# Normal priors, the same in every lane, which add the sum of ((x - mean) precision)^2 to the cost: the mean of each
# unknown, and one over each standard deviation, zero for no prior, or the square root of an inverse covariance.
Normal = tuple[Float[Array, " q"], Float[Array, " q"] | Float[Array, "q q"]]


@record
class Problem:
    """Separable least-squares problems: per lane, the sum over rows of (columns(theta) c - target)^2, plus priors.

    Attributes:
        target: right-hand sides; a masked row is zero here and in the columns.
        lower: lower bounds on theta.
        upper: upper bounds on theta.
        linear_prior: mean and precision of c, or None.
        nonlinear_prior: those of theta, or of log theta where `logarithmic`; or None.
        signed: for each c, whether it may be negative.
        logarithmic: for each theta, whether its prior is on its logarithm.
    """

    target: Float[Array, "n B"]
    lower: Float[Array, " q"]
    upper: Float[Array, " q"]
    linear_prior: Normal | None
    nonlinear_prior: Normal | None
    signed: tuple[bool, ...] = static()
    logarithmic: tuple[bool, ...] = static()


@record
class Model:
    """The projected problems around theta [q, B].

    Attributes:
        cost: the criterion.
        linear: the best c.
        gradient: half the gradient of the cost by theta, c eliminated.
        curvature: its Gauss-Newton matrix.
        identified: whether the rows tell each theta from c.
    """

    cost: Float[Array, " B"]
    linear: Float[Array, "p B"]
    gradient: Float[Array, "q B"]
    curvature: Float[Array, "q q B"]
    identified: Bool[Array, "q B"]


def lowest(costs: Array, values: Array, count: int) -> Array:
    """Return the `count` of k values [k, a, B] that have the least costs [k, B] in each lane: [count, a, B]."""
    finite = jnp.where(jnp.isfinite(costs), costs, jnp.inf)
    order = jnp.argmin(finite, axis=0)[None] if count == 1 else jnp.argsort(finite, axis=0)[:count]
    return jnp.take_along_axis(values, order[:, None], axis=0)


def of_lanes(starts: Starts, lanes: int) -> Array:
    """Return starts [k, q], or of each lane [k, q, B], in every lane [k, q, B]."""
    known = jnp.asarray(starts)
    return known if known.ndim == 3 else jnp.broadcast_to(known[:, :, None], (*known.shape, lanes))


def of_starts(function: Callable[[Any], Any], starts: Any) -> Any:
    """Apply a function to each start, a leading axis of all leaves: of a few, side by side, of more, in turn."""
    few = len(jax.tree.leaves(starts)[0]) <= _UNROLLED
    return jax.vmap(function)(starts) if few else lax.map(function, starts)


def project(values: Rows, problem: Problem, theta: Array) -> tuple[Array, Array]:
    """Return the best c [p, B] for p columns [n, B], and the cost there."""
    moment = products(values, [problem.target])[:, 0]
    linear = best_linear(with_linear_prior(products(values, values), problem), moment, problem)
    return linear, criterion(values, linear, problem, theta)


def best_linear(gram: Array, moment: Array, problem: Problem) -> Array:
    """Return the best c [p, B], for a Gram matrix that holds the prior and a moment that does not."""
    if problem.linear_prior is not None:
        mean, precision = problem.linear_prior
        moment = moment + (precision**2 * mean)[:, None]
    return _linear.nonnegative_least_squares(gram, moment, problem.signed)


def criterion(values: Rows, linear: Array, problem: Problem, theta: Array) -> Array:
    """Return what is minimized [B]: the sum of squared residuals of p columns [n, B] and of squared priors."""
    return _linear.sum_over((combined(linear, values) - problem.target) ** 2) + prior_cost(linear, problem, theta)


def prior_cost(linear: Array, problem: Problem, theta: Array) -> Array:
    """Return what the priors add to the squared residuals [B]."""
    cost = jnp.zeros((), theta.dtype)
    if problem.linear_prior is not None:
        mean, precision = problem.linear_prior
        cost = cost + _linear.sum_over((precision[:, None] * (linear - mean[:, None])) ** 2)
    if problem.nonlinear_prior is not None:
        cost = cost + nonlinear_prior(problem.nonlinear_prior, problem.logarithmic, theta)[0]
    return cost


def combined(linear: Array | Rows, values: Rows) -> Array:
    """Return the sum of c times each of some values."""
    return sum((c * each for c, each in zip(linear, values, strict=True)), start=jnp.zeros(()))


def with_linear_prior(gram: Array, problem: Problem) -> Array:
    """Return the Gram matrix [p, p, B] with the linear prior."""
    prior = problem.linear_prior
    return gram if prior is None else gram + _linear.diagonal((prior[1] ** 2)[:, None])


def products(left: Rows, right: Rows) -> Array:
    """Return all inner products over rows of a columns and b columns [n, B]: [a, b, B].

    Many of them are a product of matrices, lanes first: sums over rows of lanes side by side XLA takes one number at a
    time on a CPU.
    """
    if len(left) * len(right) <= _UNROLLED**2:
        found, width = list(map(_linear.sum_over, starmap(mul, product(left, right)))), len(right)
        return _linear.stacked([found[i : i + width] for i in range(0, len(found), width)])
    a, b = (each if isinstance(each, Array) else jnp.stack(each) for each in (left, right))
    found = jnp.einsum("anB,bnB->Bab", a, b, precision=lax.Precision.HIGHEST)
    return jnp.moveaxis(found, 0, -1)


def nonlinear_prior(
    prior: Normal, logarithmic: tuple[bool, ...], theta: Float[Array, "q B"]
) -> tuple[Float[Array, " B"], Float[Array, "q B"], Float[Array, "q q B"]]:
    """Return what the prior on theta adds to the cost, to half its gradient, and to the Gauss-Newton matrix."""
    mean, precision = prior
    root = jnp.diag(precision) if precision.ndim == 1 else precision
    logs = jnp.array(logarithmic)[:, None] & jnp.any(root != 0, axis=0)[:, None]
    least = _precision.least(theta.dtype)
    positive = jnp.where(logs, jnp.maximum(theta, least), 1.0)
    logarithm = jnp.where(theta > least, jnp.log(positive), _precision.LOG_OF_NOTHING)
    exactly = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    missed = exactly(root, jnp.where(logs, logarithm, theta) - mean[:, None])
    # Divided twice: the least of theta, squared, would be nothing.
    curvature = exactly(root.T, root)[:, :, None] / positive[:, None] / positive
    return _linear.sum_over(missed**2), exactly(root.T, missed) / positive, curvature


def eliminate(
    problem: Problem,
    theta: Float[Array, "q B"],
    linear: Float[Array, "p B"],
    cost: Float[Array, " B"],
    *,
    gram: Float[Array, "p p B"],
    mixed: Float[Array, "p q B"],
    square: Float[Array, "q q B"],
    gradient: Float[Array, "q B"],
    slope: Float[Array, "p B"] | None,
) -> Model:
    """Eliminate the linear unknowns that are not fixed at 0 by their Schur complement, and add the priors.

    Args:
        problem: what is solved.
        theta: where.
        linear: the best c there.
        cost: the criterion.
        gram: inner products of terms, with the linear prior.
        mixed: of terms with slopes.
        square: of slopes.
        gradient: of slopes with residuals.
        slope: of terms with residuals, where c is not its best to the last digit; None where it is.
    """
    support = linear != 0
    mixed = jnp.where(support[:, None], mixed, 0.0)
    eliminated, _ = _linear.solve(_linear.masked(gram, support), mixed)
    if slope is not None:
        if problem.linear_prior is not None:
            mean, precision = problem.linear_prior
            slope = slope + (precision**2)[:, None] * (linear - mean[:, None])
        slope = jnp.where(support, slope, 0.0)
        gradient = gradient - _linear.contracted(eliminated, slope[:, None])[:, 0]
    if problem.nonlinear_prior is not None:
        _, prior_gradient, prior_curvature = nonlinear_prior(problem.nonlinear_prior, problem.logarithmic, theta)
        square, gradient = square + prior_curvature, gradient + prior_gradient
    curvature = square - _linear.contracted(mixed, eliminated)
    rounding = _precision.share(_ROUNDING, theta.dtype)
    return Model(
        cost=cost,
        linear=linear,
        gradient=gradient,
        curvature=curvature,
        identified=_linear.of_diagonal(curvature) > rounding * _linear.of_diagonal(square),
    )


def along(
    push: Callable[[Array], Change], directions: Sequence[Array] | Array, *, unrolled: int = _UNROLLED
) -> list[Change]:
    """Return the change, an array or a tree of them, along each direction [q, q, B]."""
    if len(directions) <= unrolled:
        return [push(direction) for direction in directions]
    every = jax.vmap(push)(jnp.stack(list(directions)))
    return [jax.tree.map(lambda leaf, k=k: leaf[k], every) for k in range(len(directions))]


def unit_directions(theta: Array) -> Array:
    """Return a unit tangent along each coordinate of theta [q, B], in every lane: [q, q, B]."""
    size = theta.shape[0]
    return jnp.broadcast_to(jnp.eye(size, dtype=theta.dtype)[:, :, None], (size, *theta.shape))
