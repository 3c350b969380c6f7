"""Variable projection where the prediction is a factor of one axis of the rows times a sum over factors of the other.

prediction[m, t] = share[m](theta) * sum_a c_a curve_a[t](theta)

Every sum over rows then falls into contractions of the data with vectors along one axis: an iteration takes m + t
powers and some ten multiply-adds per row, whatever the number of unknowns. Costs and gradients are sums over residuals,
not differences of sums of squares, which would lose half of the digits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bimixjax.solve import linear as _tiny
from bimixjax.solve import precision, sums
from bimixjax.solve.separable import (
    Inner,
    Model,
    Problem,
    Separated,
    Starts,
    along,
    best_linear,
    blocks,
    combined,
    eliminate,
    of_lanes,
    of_starts,
    prior_cost,
    products,
    reordered,
    unit_directions,
    with_linear_prior,
)


@dataclass(frozen=True, kw_only=True)
class Product:
    """B least-squares problems over rows [m, t] whose prediction is a product.

    Args:
        share: from theta [q, B], or of each row's own [q, m, B], to the factor of the first axis [m, B].
        curves: from theta to the p factors of the second axis, each [t, B].
        on_curve: for each theta, whether the curves depend on it; the share depends on all others, on none of these.
        factor: what residuals are multiplied by [m, t, B].
        target: right-hand sides, `factor` included [m, t, B].
    """

    share: Callable[[Array], Array]
    curves: Callable[[Array], Sequence[Array]]
    on_curve: tuple[bool, ...]
    factor: Array
    target: Array

    def separated(self, problem: Problem) -> Separated:
        """The problems with their linear unknowns eliminated."""
        data = _Data(factor=self.factor, target=self.target, square=self.factor**2, moment=self.factor * self.target)
        return Separated(
            scan=lambda starts: _scan(self, data, problem, starts),
            project=lambda theta: _project(self, data, problem, theta),
            linearize=lambda theta: _linearize(self, data, problem, theta),
            rounding=jnp.finfo(self.target.dtype).eps ** 2 * jnp.sum(self.target**2, axis=(0, 1)),
        )


@dataclass(frozen=True, kw_only=True)
class _Data:
    """What residuals are made of, and their products that every iteration takes, each [m, t, B]."""

    factor: Array
    target: Array
    square: Array
    moment: Array


@dataclass(frozen=True, kw_only=True)
class _Best:
    """The best c at some theta, the curve that it makes [t, B], and the residuals times `factor` [m, t, B]."""

    linear: Array
    cost: Array
    gram: Array
    square: Array
    curve: Array
    missed: Array


def _scan(product: Product, data: _Data, problem: Problem, starts: Starts) -> Array:
    """Costs [k, B] less the squared targets, as differences: near enough to choose by.

    Starts with one share take its sums over the rows once.
    """
    own = of_lanes(starts, data.target.shape[-1])
    first, which = _alike(starts, product.on_curve)
    square, moment = of_starts(lambda theta: _moments(data, product.share(theta)), own[first])

    def cost(start: tuple[Array, Array]) -> Array:
        theta, number = start
        curves = product.curves(theta)
        gram = products(curves, [square[number] * curve for curve in curves])
        explained = products(curves, [moment[number]])[:, 0]
        linear = best_linear(with_linear_prior(gram, problem), explained, problem)
        bend = jnp.sum(linear[:, None] * linear[None] * gram, axis=(0, 1))
        return bend - 2 * jnp.sum(linear * explained, axis=0) + prior_cost(linear, problem, theta)

    return of_starts(cost, (own, jnp.asarray(which)))


def _alike(starts: Starts, on_curve: tuple[bool, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The first start of each share, and whose share each has; of starts not known at compilation, each its own."""
    if not isinstance(starts, np.ndarray):
        return np.arange(len(starts)), np.arange(len(starts))
    shares = starts[:, ~np.array(on_curve)]
    _, first, which = np.unique(shares, axis=0, return_index=True, return_inverse=True)
    return first, which.reshape(-1)


def _moments(data: _Data, share: Array) -> tuple[Array, Array]:
    """What the curves' inner products with themselves and with the targets are sums over [t, B]."""
    return (
        # One after the other: of the product of two powers XLA would make one, and take it again.
        sums.over_first(share[:, None] * (share[:, None] * data.square)),
        sums.over_first(share[:, None] * data.moment),
    )


def _solve(data: _Data, problem: Problem, theta: Array, share: Array, curves: Sequence[Array]) -> _Best:
    square, moment = _moments(data, share)
    gram = with_linear_prior(products(curves, [square * curve for curve in curves]), problem)
    linear = best_linear(gram, products(curves, [moment])[:, 0], problem)
    curve = combined(linear, curves)
    missed = data.factor * (share[:, None] * curve[None]) - data.target
    return _Best(
        linear=linear,
        cost=sums.over_first(sums.over_first(missed**2)) + prior_cost(linear, problem, theta),
        gram=gram,
        square=square,
        curve=curve,
        missed=missed * data.factor,
    )


def _project(product: Product, data: _Data, problem: Problem, theta: Array) -> tuple[Array, Array]:
    best = _solve(data, problem, theta, product.share(theta), product.curves(theta))
    return best.linear, best.cost


def _linearize(product: Product, data: _Data, problem: Problem, theta: Array) -> Model:
    share = product.share(theta)
    curves, push_curves = jax.linearize(lambda theta: list(product.curves(theta)), theta)
    best = _solve(data, problem, theta, share, curves)
    directions = unit_directions(theta)
    of_curve = [k for k, moves in enumerate(product.on_curve) if moves]
    of_share = [k for k, moves in enumerate(product.on_curve) if not moves]
    bends = along(lambda tangent: combined(best.linear, push_curves(tangent)), [directions[k] for k in of_curve])
    turns = _turns(product, theta, of_share)
    inner = _inner(_Factors(share=share, curves=curves, turns=turns, bends=bends), data, best)
    inner = reordered(inner, np.argsort(of_share + of_curve).tolist())
    return eliminate(inner, problem, theta, linear=best.linear, cost=best.cost)


def _turns(product: Product, theta: Array, of_share: list[int]) -> list[Array]:
    """The changes of the share by some of theta, each [m, B].

    A pass forwards takes all terms of the share for each of them; where they are many, one pass backwards, with theta
    of each row's own, takes them once.
    """
    if len(of_share) <= _tiny.UNROLLED:
        directions = unit_directions(theta)
        return along(jax.linearize(product.share, theta)[1], [directions[k] for k in of_share])
    rows = product.target.shape[0]
    own = jnp.broadcast_to(theta[:, None], (theta.shape[0], rows, theta.shape[1]))
    share, pull = jax.vjp(product.share, own)
    slopes = pull(jnp.ones_like(share))[0]
    return [slopes[k] for k in of_share]


@dataclass(frozen=True, kw_only=True)
class _Factors:
    """The factors at some theta, the changes of the share [m, B] and those of the fitted curve [t, B]."""

    share: Array
    curves: Sequence[Array]
    turns: Sequence[Array]
    bends: Sequence[Array]


def _inner(factors: _Factors, data: _Data, best: _Best) -> Inner:
    """Inner products of columns and slopes, those of the share before those of the curve."""
    share, curve = factors.share, best.curve
    # What the second axis leaves of each product of a curve and the fitted curve.
    columns = [sums.over_second(data.square * (curve * each)[None]) for each in factors.curves]
    bent = [sums.over_second(data.square * (curve * each)[None]) for each in factors.bends]
    whole = combined(best.linear, columns)
    turned = [share * turn for turn in factors.turns]
    weighted = [best.square * bend for bend in factors.bends]
    crossed = products(turned, bent)
    return Inner(
        gram=best.gram,
        mixed=jnp.concatenate([products(columns, turned), products(factors.curves, weighted)], axis=1),
        square=blocks(
            products(factors.turns, [whole * turn for turn in factors.turns]),
            crossed,
            products(factors.bends, weighted),
        ),
        missed=jnp.concatenate(
            [
                products(factors.turns, [sums.over_second(best.missed * curve[None])])[:, 0],
                products(factors.bends, [sums.over_first(best.missed * share[:, None])])[:, 0],
            ]
        ),
        strayed=products(factors.curves, [sums.over_first(best.missed * share[:, None])])[:, 0]
        if precision.single(share.dtype)
        else None,
    )
