"""Least squares that are linear in some unknowns, projected to the others: what variable projection iterates over.

For given theta the best linear coefficients c(theta) are a small non-negative least-squares problem, solved exactly.
What remains is a problem in theta, for which Levenberg-Marquardt takes Kaufman's approximation: the Gauss-Newton matrix
of the full problem with the linear block eliminated by its Schur complement.

Many problems (lanes) are solved side by side, along the last axis of every array: sums over the rows of a problem then
run over lanes at full width.

Source: Golub and Pereyra, SIAM J. Numer. Anal. 10 (1973); Kaufman, BIT 15 (1975).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bimixjax._base.records import record, static
from bimixjax.solve import linear as _tiny
from bimixjax.solve import precision as _precision
from bimixjax.solve import sums

# From theta [q, B] and the data of B lanes, lanes last in every leaf, to p columns [n, B]. A list of columns is never
# stacked: XLA would write the stack to memory before it sums over rows.
Rows = Sequence[Array]
Starts = Array | np.ndarray
Columns = Callable[[Array, Any], Rows]
AtData = Callable[[Array], Rows]
Change = TypeVar("Change")

# Up to this many unknowns, what is done for each is unrolled; beyond, it is vectorized, for the compiler's sake.
_UNROLLED = 4

# A coefficient that keeps less than this share of its curvature beside the linear ones is not told from them.
_ROUNDING = 1e-11


@record
class Quadratic:
    """Normal priors, the same in every lane: the sum of ((x - mean) precision)^2; a precision of zero is none.

    The precisions [q] become a matrix [q, q], here the square root of an inverse covariance, where they are joint.
    """

    mean: Array
    precision: Array


@record
class Problem:
    """Separable least-squares problems: per lane, the sum over rows of (columns(theta) c - target)^2, plus priors.

    Args:
        target: right-hand sides [n, B]; a masked row is zero here and in the columns.
        lower: lower bounds on theta [q].
        upper: upper bounds on theta [q].
        linear_prior: prior on c [p], or None.
        nonlinear_prior: prior on theta [q], or on log theta where `logarithmic`; or None.
        signed: for each c, whether it may be negative.
        logarithmic: for each theta, whether its prior is on its logarithm.
    """

    target: Array
    lower: Array
    upper: Array
    linear_prior: Quadratic | None
    nonlinear_prior: Quadratic | None
    signed: tuple[bool, ...] = static()
    logarithmic: tuple[bool, ...] = static()


@record
class Model:
    """The projected problems around theta [q, B].

    Args:
        cost: criterion [B].
        linear: c [p, B].
        gradient: half the reduced gradient [q, B].
        curvature: reduced Gauss-Newton matrix [q, q, B].
        seen: whether the rows tell each theta from c [q, B].
    """

    cost: Array
    linear: Array
    gradient: Array
    curvature: Array
    seen: Array


@dataclass(frozen=True, kw_only=True)
class Separated:
    """Problems with their linear unknowns eliminated.

    Args:
        scan: from starts [k, q] or [k, q, B] to their costs [k, B], less what is the same for all of a lane.
        project: from theta [q, B] to the best c [p, B] and the cost there [B].
        linearize: the model around theta.
        rounding: cost that is rounding error [B].
    """

    scan: Callable[[Starts], Array]
    project: Callable[[Array], tuple[Array, Array]]
    linearize: Callable[[Array], Model]
    rounding: Array


def with_data(columns: Columns, data: Any) -> AtData:
    """The columns as a function of theta alone."""
    return lambda theta: columns(theta, data)


def lowest(costs: Array, values: Array, count: int) -> Array:
    """The `count` of k values [k, a, B] that have the least costs [k, B] in each lane: [count, a, B]."""
    finite = jnp.where(jnp.isfinite(costs), costs, jnp.inf)
    order = jnp.argmin(finite, axis=0)[None] if count == 1 else jnp.argsort(finite, axis=0)[:count]
    return jnp.take_along_axis(values, order[:, None], axis=0)


def of_lanes(starts: Starts, lanes: int) -> Array:
    """Starts [k, q], or of each lane [k, q, B], in every lane [k, q, B]."""
    known = jnp.asarray(starts)
    return known if known.ndim == 3 else jnp.broadcast_to(known[:, :, None], (*known.shape, lanes))


def of_starts(function: Callable[[Any], Any], starts: Any) -> Any:
    """What a function makes of each start, a leading axis of all leaves: of a few, side by side, of more, in turn."""
    few = len(jax.tree.leaves(starts)[0]) <= _UNROLLED
    return jax.vmap(function)(starts) if few else lax.map(function, starts)


def project(values: Rows, problem: Problem, theta: Array) -> tuple[Array, Array]:
    """The best c [p, B] for p columns [n, B], and the cost there."""
    moment = products(values, [problem.target])[:, 0]
    linear = best_linear(_gram(values, problem), moment, problem)
    return linear, criterion(residual(values, linear, problem), linear, problem, theta)


def best_linear(gram: Array, moment: Array, problem: Problem) -> Array:
    """The best c [p, B], for a Gram matrix that holds the prior and a moment that does not."""
    prior = problem.linear_prior
    if prior is not None:
        moment = moment + (prior.precision**2 * prior.mean)[:, None]
    return _tiny.nonnegative_least_squares(gram, moment, problem.signed)


def criterion(missed: Array, linear: Array, problem: Problem, theta: Array) -> Array:
    """What is minimized [B]: squared residuals `missed` [n, B] and squared priors, summed."""
    return _squares(missed) + prior_cost(linear, problem, theta)


def prior_cost(linear: Array, problem: Problem, theta: Array) -> Array:
    """What the priors add to the squared residuals [B]."""
    cost = jnp.zeros((), theta.dtype)
    if problem.linear_prior is not None:
        prior = problem.linear_prior
        cost = cost + _squares(prior.precision[:, None] * (linear - prior.mean[:, None]))
    if problem.nonlinear_prior is not None:
        cost = cost + nonlinear_prior(problem.nonlinear_prior, problem.logarithmic, theta).cost
    return cost


def residual(values: Rows, linear: Array, problem: Problem) -> Array:
    """The columns times c, less the target [n, B]."""
    return combined(linear, values) - problem.target


def combined(linear: Array | Rows, values: Rows) -> Array:
    """The sum of c times each of some values."""
    return sum((c * each for c, each in zip(linear, values, strict=True)), start=jnp.zeros(()))


def _gram(values: Rows, problem: Problem) -> Array:
    return with_linear_prior(products(values, values), problem)


def with_linear_prior(gram: Array, problem: Problem) -> Array:
    """The Gram matrix [p, p, B] with the linear prior."""
    prior = problem.linear_prior
    return gram if prior is None else gram + _tiny.diagonal((prior.precision**2)[:, None])


def _squares(values: Array) -> Array:
    return sums.over_first(values**2)


def products(left: Rows, right: Rows) -> Array:
    """All inner products over rows of a columns and b columns [n, B]: [a, b, B].

    Many of them are a product of matrices, lanes first: sums over rows of lanes side by side XLA takes one number at a
    time on a CPU.
    """
    if len(left) * len(right) <= _UNROLLED**2:
        return _tiny.stacked([[sums.over_first(a * b) for b in right] for a in left])
    found = jnp.einsum("anB,bnB->Bab", jnp.stack(left), jnp.stack(right), precision=lax.Precision.HIGHEST)
    return jnp.moveaxis(found, 0, -1)


@record
class PriorAt:
    """What the prior on theta adds at some theta.

    Args:
        cost: to the criterion [B].
        gradient: to half its gradient [q, B].
        curvature: to the Gauss-Newton matrix [q, q, B].
    """

    cost: Array
    gradient: Array
    curvature: Array


def nonlinear_prior(prior: Quadratic, logarithmic: tuple[bool, ...], theta: Array) -> PriorAt:
    """The prior at theta [q, B]."""
    precision = prior.precision
    root = jnp.diag(precision) if precision.ndim == 1 else precision
    logs = jnp.array(logarithmic)[:, None] & jnp.any(root != 0, axis=0)[:, None]
    least = _precision.least(theta.dtype)
    positive = jnp.where(logs, jnp.maximum(theta, least), 1.0)
    seen = jnp.where(logs, jnp.where(theta > least, jnp.log(positive), _precision.LOG_OF_NOTHING), theta)
    exactly = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    missed = exactly(root, seen - prior.mean[:, None])
    # Divided twice: the least of theta, squared, would be nothing.
    return PriorAt(
        cost=_squares(missed),
        gradient=exactly(root.T, missed) / positive,
        curvature=exactly(root.T, root)[:, :, None] / positive[:, None] / positive,
    )


@record
class Inner:
    """Inner products over rows of p columns, q slopes and the residual.

    Args:
        gram: columns with columns, and the linear prior [p, p, B].
        mixed: columns with slopes [p, q, B].
        square: slopes with slopes [q, q, B].
        missed: slopes with the residual [q, B].
        strayed: columns with the residual [p, B], which is how far c is from the best in float32; None in float64.
    """

    gram: Array
    mixed: Array
    square: Array
    missed: Array
    strayed: Array | None


def eliminate(inner: Inner, problem: Problem, theta: Array, *, linear: Array, cost: Array) -> Model:
    """The model around theta once the linear unknowns that are not held at 0 are eliminated, priors included."""
    support = linear != 0
    mixed = jnp.where(support[:, None], inner.mixed, 0.0)
    eliminated, _ = _tiny.solve(_tiny.masked(inner.gram, support), mixed)
    whole, gradient = inner.square, inner.missed
    if inner.strayed is not None:
        strayed = jnp.where(support, _with_prior_slope(inner.strayed, linear, problem), 0.0)
        gradient = gradient - _tiny.contracted(eliminated, strayed[:, None])[:, 0]
    if problem.nonlinear_prior is not None:
        prior = nonlinear_prior(problem.nonlinear_prior, problem.logarithmic, theta)
        whole, gradient = whole + prior.curvature, gradient + prior.gradient
    curvature = whole - _tiny.contracted(mixed, eliminated)
    told = _precision.share(_ROUNDING, theta.dtype)
    return Model(
        cost=cost,
        linear=linear,
        gradient=gradient,
        curvature=curvature,
        seen=jnp.stack([curvature[k, k] > told * whole[k, k] for k in range(len(theta))]),
    )


def reordered(inner: Inner, order: list[int]) -> Inner:
    """The inner products with the slopes in the given order."""
    if order == sorted(order):
        return inner
    square = jnp.stack([inner.square[k] for k in order])
    return Inner(
        gram=inner.gram,
        mixed=jnp.stack([inner.mixed[:, k] for k in order], axis=1),
        square=jnp.stack([square[:, k] for k in order], axis=1),
        missed=jnp.stack([inner.missed[k] for k in order]),
        strayed=inner.strayed,
    )


def blocks(first: Array, mixed: Array, last: Array) -> Array:
    """The symmetric matrix with the given blocks."""
    return jnp.concatenate(
        [jnp.concatenate([first, mixed], axis=1), jnp.concatenate([mixed.swapaxes(0, 1), last], axis=1)]
    )


def _with_prior_slope(slope: Array, linear: Array, problem: Problem) -> Array:
    """Half the derivative of the rows' cost by c [p, B], with that of the prior."""
    prior = problem.linear_prior
    return slope if prior is None else slope + (prior.precision**2)[:, None] * (linear - prior.mean[:, None])


def along(
    push: Callable[[Array], Change], directions: Sequence[Array] | Array, *, unrolled: int = _UNROLLED
) -> list[Change]:
    """The change, an array or a tree of them, along each direction [q, q, B]."""
    if len(directions) <= unrolled:
        return [push(direction) for direction in directions]
    every = jax.vmap(push)(jnp.stack(list(directions)))
    return [jax.tree.map(lambda leaf, k=k: leaf[k], every) for k in range(len(directions))]


def unit_directions(theta: Array) -> Array:
    """A unit tangent along each coordinate of theta [q, B], in every lane: [q, q, B]."""
    size = theta.shape[0]
    return jnp.broadcast_to(jnp.eye(size, dtype=theta.dtype)[:, :, None], (size, *theta.shape))
