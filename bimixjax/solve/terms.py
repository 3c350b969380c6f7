"""Projected problems whose prediction is a sum of terms, each of which may vary along one axis of the rows only.

prediction[m, t] = sum_a c_a term_a[m, t](theta)

A term of the mixture has one value per run, [m, 1], and so have its slopes: their sums over rows are then sums over
runs, of which a table has many times fewer. Laws with many unknowns have most of them in such terms.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bimixjax.solve import _precision, _sums, _tiny
from bimixjax.solve.separable import (
    Inner,
    Model,
    Problem,
    Separated,
    along,
    best_linear,
    blocks,
    combined,
    eliminate,
    of_lanes,
    prior_cost,
    products,
    reordered,
    unit_directions,
    with_linear_prior,
)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """B least-squares problems over rows [m, t] whose prediction is a sum of p terms.

    Args:
        terms: from theta [q, B], or of each run's own [q, m, B], to p arrays that broadcast to [m, t, B].
        reads: for each term, whether it depends on each theta [p][q].
        factor: what residuals are multiplied by [m, t, B].
        target: right-hand sides, `factor` included [m, t, B].
    """

    terms: Callable[[Array], Sequence[Array]]
    reads: Sequence[Sequence[bool]]
    factor: Array
    target: Array

    def separated(self, problem: Problem) -> Separated:
        """The problems with their linear unknowns eliminated."""
        data = _Data.of(self)
        lanes = self.target.shape[-1]
        return Separated(
            scan=lambda starts: lax.map(
                lambda theta: _project(self.terms(theta), data, problem, theta).cost, of_lanes(starts, lanes)
            ),
            project=lambda theta: _project(self.terms(theta), data, problem, theta).end,
            linearize=lambda theta: _linearize(self, data, problem, theta),
            rounding=jnp.finfo(self.target.dtype).eps ** 2 * jnp.sum(self.target**2, axis=(0, 1)),
        )


@dataclass(frozen=True, kw_only=True)
class _Data:
    """What residuals are made of, and what weighs sums over rows: [m, t, B] or, summed over t, [m, 1, B]."""

    factor: Array
    target: Array
    square: Array
    square_of_run: Array
    moment: Array
    moment_of_run: Array

    @classmethod
    def of(cls, rows: Terms) -> "_Data":
        square, moment = rows.factor**2, rows.factor * rows.target
        return cls(
            factor=rows.factor,
            target=rows.target,
            square=square,
            square_of_run=_sums.over_second(square)[:, None],
            moment=moment,
            moment_of_run=_sums.over_second(moment)[:, None],
        )

    def weighted(self, values: Array) -> Array:
        """The squared factors times values, summed over t [m, 1, B]."""
        if values.shape[1] == 1:
            return self.square_of_run * values
        return _sums.over_second(self.square * values)[:, None]


@dataclass(frozen=True, kw_only=True)
class _Best:
    """The best c at some theta, the cost there, the Gram matrix, and the residuals times `factor` [m, t, B]."""

    linear: Array
    cost: Array
    gram: Array
    missed: Array

    @property
    def end(self) -> tuple[Array, Array]:
        return self.linear, self.cost


def _project(terms: Sequence[Array], data: _Data, problem: Problem, theta: Array) -> _Best:
    gram = with_linear_prior(_gram(terms, data), problem)
    moment = [_sum((data.moment if term.shape[1] > 1 else data.moment_of_run) * term) for term in terms]
    linear = best_linear(gram, jnp.stack(moment), problem)
    missed = data.factor * combined(linear, terms) - data.target
    return _Best(
        linear=linear,
        cost=_sum(missed**2) + prior_cost(linear, problem, theta),
        gram=gram,
        missed=missed * data.factor,
    )


def _gram(terms: Sequence[Array], data: _Data) -> Array:
    upper = {
        (a, b): _sum(data.weighted(terms[a]) * terms[b])
        if terms[b].shape[1] == 1
        else _sum(data.square * terms[a] * terms[b])
        for b in range(len(terms))
        for a in range(b + 1)
    }
    return _tiny.stacked([[upper[min(a, b), max(a, b)] for b in range(len(terms))] for a in range(len(terms))])


def _linearize(rows: Terms, data: _Data, problem: Problem, theta: Array) -> Model:
    terms = rows.terms(theta)
    best = _project(terms, data, problem, theta)
    slopes = _slopes(rows, terms, theta, best.linear)
    inner = _inner(terms, slopes, data, best)
    return eliminate(inner, problem, theta, linear=best.linear, cost=best.cost)


def _slopes(rows: Terms, terms: Sequence[Array], theta: Array, linear: Array) -> list[Array]:
    """The change of the prediction with each theta, which broadcasts to [m, t, B]."""
    patterns = list(zip(*rows.reads, strict=True))
    slopes: list[Array] = [jnp.zeros_like(theta[:1, None])] * len(theta)
    for pattern in dict.fromkeys(patterns):
        read = [a for a, reads in enumerate(pattern) if reads]
        which = [k for k, each in enumerate(patterns) if each == pattern]
        if read:
            some = _of_group(rows, [terms[a] for a in read], theta, partial(_only, rows, linear, read), which)
            for k, slope in zip(which, some, strict=True):
                slopes[k] = slope
    return slopes


def _only(rows: Terms, linear: Array, read: Sequence[int], theta: Array) -> Array:
    terms = rows.terms(theta)
    return combined([linear[a] for a in read], [terms[a] for a in read])


def _of_group(
    rows: Terms, terms: Sequence[Array], theta: Array, summed: Callable[[Array], Array], which: Sequence[int]
) -> Sequence[Array]:
    """The slopes of a sum of terms that all depend on the same of theta.

    A pass forwards takes all terms for each of them; where they are many and vary with the run only, one pass
    backwards, with theta of each run's own, takes them once.
    """
    runs = rows.target.shape[0]
    if len(which) <= _tiny.UNROLLED or any(term.shape[1] > 1 for term in terms):
        directions = unit_directions(theta)
        return list(along(jax.linearize(summed, theta)[1], [directions[k] for k in which]))
    own = jnp.broadcast_to(theta[:, None], (theta.shape[0], runs, theta.shape[1]))
    value, pull = jax.vjp(summed, own)
    slopes = pull(jnp.ones_like(value))[0]
    return [slopes[k][:, None] for k in which]


def _inner(terms: Sequence[Array], slopes: Sequence[Array], data: _Data, best: _Best) -> Inner:
    """Inner products of terms and slopes: sums over runs where a slope has one value per run, else over rows."""
    by_run = [slope for slope in slopes if slope.shape[1] == 1]
    by_row = [slope for slope in slopes if slope.shape[1] > 1]
    weighted = [data.weighted(values)[:, 0] for values in (*terms, *by_run, *by_row)]
    runs = [jnp.broadcast_to(slope[:, 0], data.square_of_run[:, 0].shape) for slope in by_run]
    rows = [_flat(slope, data) for slope in by_row]
    of_run = _products([*weighted, _sums.over_second(best.missed)], runs)
    of_row = _products(
        [*(_flat(data.square * each, data) for each in (*terms, *by_row)), _flat(best.missed, data)], rows
    )
    count, several = len(terms), len(terms) + len(runs)
    crossed = of_run[several:-1]
    inner = Inner(
        gram=best.gram,
        mixed=jnp.concatenate([of_run[:count], of_row[:count]], axis=1),
        square=blocks(of_run[count:several], jnp.swapaxes(crossed, 0, 1), of_row[count:-1]),
        missed=jnp.concatenate([of_run[-1], of_row[-1]]),
        strayed=jnp.stack([_sum(best.missed * term) for term in terms])
        if _precision.single(best.missed.dtype)
        else None,
    )
    order = [k for k, slope in enumerate(slopes) if slope.shape[1] == 1]
    order += [k for k, slope in enumerate(slopes) if slope.shape[1] > 1]
    return reordered(inner, np.argsort(order).tolist())


def _products(left: Sequence[Array], right: Sequence[Array]) -> Array:
    """All inner products [a, b, B], of which there may be none."""
    return products(left, right) if right else jnp.zeros((len(left), 0, left[0].shape[-1]), left[0].dtype)


def _flat(values: Array, data: _Data) -> Array:
    """Values of all rows [n, B]."""
    return jnp.broadcast_to(values, data.square.shape).reshape(-1, values.shape[-1])


def _sum(values: Array) -> Array:
    """The sum over both axes of rows."""
    return _sums.over_first(_sums.over_second(values))
