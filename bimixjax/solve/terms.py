"""Projected problems whose prediction is a sum of terms, products of factors of which some vary along one axis only.

prediction[m, t] = sum_a c_a run_a[m](theta) row_a[m, t](theta)

The slope with an unknown that only a factor of the runs reads is again such a product. Inner products of products fall
into sums over t of pairs of the few `row_a`, which no number of unknowns adds to, and sums over runs, of which a table
has many times fewer than rows. Laws with many unknowns have most of them in factors of the runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import accumulate
from operator import mul

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bimixjax.solve import linear as _tiny
from bimixjax.solve import precision
from bimixjax.solve import sums as _sums
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
    of_starts,
    prior_cost,
    products,
    reordered,
    unit_directions,
    with_linear_prior,
)

# The factor of the rows of what has one value per run.
_NONE = -1


@dataclass(frozen=True, kw_only=True)
class Terms:
    """B least-squares problems over rows [m, t] whose prediction is a sum of p products.

    Args:
        factors: from theta [q, B], or of each run's own [q, m, B], to the factors of each of p terms, which broadcast
            to [m, t, B].
        reads: for each factor of each term, whether it depends on each theta [p][f][q].
        scale: what residuals are multiplied by [m, t, B].
        target: right-hand sides, `scale` included [m, t, B].
    """

    factors: Callable[[Array], Sequence[Sequence[Array]]]
    reads: Sequence[Sequence[Sequence[bool]]]
    scale: Array
    target: Array

    def separated(self, problem: Problem) -> Separated:
        """The problems with their linear unknowns eliminated."""
        data = _Data.of(self)
        lanes = self.target.shape[-1]
        return Separated(
            scan=lambda starts: of_starts(partial(_score, self, data, problem), of_lanes(starts, lanes)),
            project=lambda theta: _project_at(self, data, problem, theta).end,
            linearize=lambda theta: _linearize(self, data, problem, theta),
            rounding=jnp.finfo(self.target.dtype).eps ** 2 * jnp.sum(self.target**2, axis=(0, 1)),
        )


@dataclass(frozen=True, kw_only=True)
class _Data:
    """What residuals are made of, and what weighs sums over rows: [m, t, B] or, summed over t, [m, 1, B]."""

    scale: Array
    target: Array
    square: Array
    moment: Array
    square_of_run: Array
    moment_of_run: Array

    @classmethod
    def of(cls, rows: Terms) -> "_Data":
        square, moment = rows.scale**2, rows.scale * rows.target
        return cls(
            scale=rows.scale,
            target=rows.target,
            square=square,
            moment=moment,
            square_of_run=_over_rows(square),
            moment_of_run=_over_rows(moment),
        )


@dataclass(frozen=True, kw_only=True)
class _Split:
    """Terms as products of what has one value per run [p][m, 1, B] and, for some of them, of one per row [m, t, B].

    Args:
        run: the former, of each term.
        row: the latter, of the terms that have one.
        which: for each term, the number of its `row`, or _NONE.
        by_run, by_row: whether each of them depends on each theta [p][q].
    """

    run: Sequence[Array]
    row: Sequence[Array]
    which: Sequence[int]
    by_run: Sequence[Sequence[bool]]
    by_row: Sequence[Sequence[bool]]

    def terms(self) -> list[Array]:
        return [self.whole(run, which) for run, which in zip(self.run, self.which, strict=True)]

    def whole(self, run: Array, which: int) -> Array:
        """What has the given factors, which broadcasts to [m, t, B]."""
        return run if which == _NONE else run * self.row[which]


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Which factors of a term vary with the run only, told from their shapes; the rest as in `_Split`."""

    varies: Sequence[Sequence[bool]]
    which: Sequence[int]
    by_run: Sequence[Sequence[bool]]
    by_row: Sequence[Sequence[bool]]

    @classmethod
    def of(cls, rows: Terms, theta: Array) -> "_Layout":
        varies = [[factor.shape[1] > 1 for factor in factors] for factors in jax.eval_shape(rows.factors, theta)]
        along = list(accumulate(any(term) for term in varies))
        return cls(
            varies=varies,
            which=[count - 1 if any(term) else _NONE for count, term in zip(along, varies, strict=True)],
            by_run=[_read(reads, term, False) for reads, term in zip(rows.reads, varies, strict=True)],
            by_row=[_read(reads, term, True) for reads, term in zip(rows.reads, varies, strict=True)],
        )

    def products(self, rows: Terms, theta: Array) -> tuple[list[Array], list[Array]]:
        """`run` and `row` of a `_Split`."""
        run, row = [], []
        lanes = jnp.ones((1, 1, theta.shape[-1]), theta.dtype)
        for factors, varies in zip(rows.factors(theta), self.varies, strict=True):
            run.append(reduce(mul, [lanes, *(f for f, v in zip(factors, varies, strict=True) if not v)]))
            if any(varies):
                row.append(reduce(mul, [f for f, v in zip(factors, varies, strict=True) if v]))
        return run, row

    def split(self, products: tuple[Sequence[Array], Sequence[Array]]) -> _Split:
        run, row = products
        return _Split(run=run, row=row, which=self.which, by_run=self.by_run, by_row=self.by_row)


def _read(reads: Sequence[Sequence[bool]], varies: Sequence[bool], kind: bool) -> list[bool]:
    """Whether any factor that varies with the row, or any that does not, reads each theta."""
    return [
        any(read and v == kind for read, v in zip(column, varies, strict=True)) for column in zip(*reads, strict=True)
    ]


def _split(rows: Terms, theta: Array) -> _Split:
    layout = _Layout.of(rows, theta)
    return layout.split(layout.products(rows, theta))


class _Sums:
    """Sums over t of the squared scales times pairs of the factors of rows [m, 1, B], each taken once."""

    def __init__(self, data: _Data, split: _Split) -> None:
        self._data, self._split = data, split
        self._known: dict[tuple[int, int], Array] = {(_NONE, _NONE): data.square_of_run}

    def of(self, first: int, second: int) -> Array:
        pair = (min(first, second), max(first, second))
        if pair not in self._known:
            # One after the other: of the product of two powers XLA would make one, and take it in every row again.
            self._known[pair] = _over_rows(self._split.whole(self._split.whole(self._data.square, pair[0]), pair[1]))
        return self._known[pair]

    def weighted(self, values: Array, which: int) -> Array:
        """The sums of the squared scales times values times a factor of rows."""
        return _over_rows(self._split.whole(self._data.square * values, which))


def _over_rows(values: Array) -> Array:
    return _sums.over_second(values)[:, None]


@dataclass(frozen=True, kw_only=True)
class _Best:
    """The best c at some theta, the cost there, the Gram matrix, and the residuals times `scale` [m, t, B]."""

    linear: Array
    cost: Array
    gram: Array
    missed: Array

    @property
    def end(self) -> tuple[Array, Array]:
        return self.linear, self.cost


def _score(rows: Terms, data: _Data, problem: Problem, theta: Array) -> Array:
    """The cost at a start less the squared target [B], as a difference: near enough to choose by."""
    split = _split(rows, theta)
    gram, moment = _normal_equations(split, data, _Sums(data, split))
    linear = best_linear(with_linear_prior(gram, problem), moment, problem)
    bend = jnp.sum(linear[:, None] * linear[None] * gram, axis=(0, 1))
    return bend - 2 * jnp.sum(linear * moment, axis=0) + prior_cost(linear, problem, theta)


def _normal_equations(split: _Split, data: _Data, sums: _Sums) -> tuple[Array, Array]:
    """Inner products of terms [p, p, B], and of terms with the target [p, B]."""
    places = list(zip(split.run, split.which, strict=True))
    upper = {
        (a, b): _sum(run * (other * sums.of(which, its)))
        for b, (run, which) in enumerate(places)
        for a, (other, its) in enumerate(places[: b + 1])
    }
    moment = [
        _sum(run * (data.moment_of_run if which == _NONE else _over_rows(split.whole(data.moment, which))))
        for run, which in places
    ]
    whole = [[upper[min(a, b), max(a, b)] for b in range(len(places))] for a in range(len(places))]
    return _tiny.stacked(whole), jnp.stack(moment)


def _project(split: _Split, data: _Data, problem: Problem, theta: Array, sums: _Sums) -> _Best:
    gram, moment = _normal_equations(split, data, sums)
    gram = with_linear_prior(gram, problem)
    linear = best_linear(gram, moment, problem)
    missed = data.scale * combined(linear, split.terms()) - data.target
    return _Best(
        linear=linear,
        cost=_sum(missed**2) + prior_cost(linear, problem, theta),
        gram=gram,
        missed=missed * data.scale,
    )


def _project_at(rows: Terms, data: _Data, problem: Problem, theta: Array) -> _Best:
    split = _split(rows, theta)
    return _project(split, data, problem, theta, _Sums(data, split))


def _linearize(rows: Terms, data: _Data, problem: Problem, theta: Array) -> Model:
    layout = _Layout.of(rows, theta)
    values, push = jax.linearize(partial(layout.products, rows), theta)
    split = layout.split(values)
    sums = _Sums(data, split)
    best = _project(split, data, problem, theta, sums)
    at = _At(rows=rows, theta=theta, linear=best.linear, split=split, push=push)
    inner = _inner(split, _slopes(at), data, best, sums)
    return eliminate(inner, problem, theta, linear=best.linear, cost=best.cost)


@dataclass(frozen=True, kw_only=True)
class _Slopes:
    """The change of the prediction with each theta.

    Args:
        by_run: groups of those that only factors of the runs read: which theta, and for each factor of rows that their
            slopes are a sum over, the other factors [m, 1, B].
        by_row: of each other theta, in full, which broadcasts to [m, t, B].
    """

    by_run: Sequence[tuple[Sequence[int], dict[int, Sequence[Array]]]]
    by_row: dict[int, Array]

    @property
    def order(self) -> list[int]:
        return [k for group, _ in self.by_run for k in group] + list(self.by_row)


# Changes of `run` and `row` of a `_Split`.
_Change = tuple[Sequence[Array], Sequence[Array]]


@dataclass(frozen=True, kw_only=True)
class _At:
    """A point that slopes are taken at: theta [q, B], c [p, B], the terms there, and their change with one of theta."""

    rows: Terms
    theta: Array
    linear: Array
    split: _Split
    push: Callable[[Array], _Change]

    def along(self, group: Sequence[int]) -> list[_Change]:
        """The changes with each of some theta."""
        directions = unit_directions(self.theta)
        return along(self.push, [directions[k] for k in group], unrolled=_tiny.UNROLLED)


def _slopes(at: _At) -> _Slopes:
    patterns = list(zip(zip(*at.split.by_run, strict=True), zip(*at.split.by_row, strict=True), strict=True))
    by_run: list[tuple[Sequence[int], dict[int, Sequence[Array]]]] = []
    by_row: dict[int, Array] = {}
    for pattern in dict.fromkeys(patterns):
        group = [k for k, each in enumerate(patterns) if each == pattern]
        run, row = pattern
        if any(row):
            by_row |= {k: _of_row(at, change, pattern) for k, change in zip(group, at.along(group), strict=True)}
        elif any(run):
            read = [a for a, reads in enumerate(run) if reads]
            by_run.append((group, _of_runs(at, read, group)))
        else:
            by_row |= dict.fromkeys(group, jnp.zeros_like(at.theta[:1, None]))
    return _Slopes(by_run=by_run, by_row=by_row)


def _of_row(at: _At, change: _Change, pattern: tuple[Sequence[bool], Sequence[bool]]) -> Array:
    """The slope with a theta that factors of rows read, from the change of all factors with it."""
    slope, split, linear = jnp.zeros(()), at.split, at.linear
    for a, (of_run, of_row) in enumerate(zip(*pattern, strict=True)):
        if of_run:
            slope = slope + split.whole(linear[a] * change[0][a], split.which[a])
        if of_row:
            slope = slope + linear[a] * split.run[a] * change[1][split.which[a]]
    return slope


def _of_runs(at: _At, read: Sequence[int], group: Sequence[int]) -> dict[int, Sequence[Array]]:
    """For each factor of rows, what multiplies it in the slopes of the terms read with a group of theta [m, 1, B].

    A pass forwards takes all terms for each of theta; where they are many, one pass backwards, with theta of each run's
    own, takes them once.
    """
    found: dict[int, Sequence[Array]] = {}
    changes = at.along(group) if len(group) <= _tiny.UNROLLED else []
    for which in dict.fromkeys(at.split.which[a] for a in read):
        of_it = [a for a in read if at.split.which[a] == which]

        def summed(run: Sequence[Array], of_it: Sequence[int] = of_it) -> Array:
            return combined([at.linear[a] for a in of_it], [run[a] for a in of_it])

        found[which] = [summed(run) for run, _ in changes] or _backwards(at, summed, group)
    return found


def _backwards(at: _At, summed: Callable[[Sequence[Array]], Array], group: Sequence[int]) -> Sequence[Array]:
    unknowns, lanes = at.theta.shape
    own = jnp.broadcast_to(at.theta[:, None], (unknowns, at.rows.target.shape[0], lanes))
    layout = _Layout.of(at.rows, at.theta)
    value, pull = jax.vjp(lambda own: summed(layout.products(at.rows, own)[0]), own)
    slopes = pull(jnp.ones_like(value))[0]
    return [slopes[k][:, None] for k in group]


def _inner(split: _Split, slopes: _Slopes, data: _Data, best: _Best, sums: _Sums) -> Inner:
    """Inner products of terms and slopes: sums over runs where one of them has a factor of the runs, else over rows."""
    of_run, by_row = _of_run_slopes(split, slopes, data, best, sums), list(slopes.by_row.values())
    count, several = len(split.run), len(split.run) + of_run.shape[1]
    full = [_flat(slope, data) for slope in by_row]
    weighted = [_flat(data.square * each, data) for each in by_row]
    of_row = _products([*weighted, _flat(best.missed, data)], full)
    if len(by_row) > _tiny.UNROLLED:
        terms = products([_flat(term, data) for term in split.terms()], weighted)
    else:
        terms = _products_of_terms(split, by_row, sums, best)
    inner = Inner(
        gram=best.gram,
        mixed=jnp.concatenate([of_run[:count], terms], axis=1),
        square=blocks(of_run[count:several], jnp.swapaxes(of_run[several:-1], 0, 1), of_row[:-1]),
        missed=jnp.concatenate([of_run[-1], of_row[-1]]),
        strayed=jnp.stack([_sum(best.missed * term) for term in split.terms()])
        if precision.single(best.missed.dtype)
        else None,
    )
    return reordered(inner, np.argsort(slopes.order).tolist())


def _products_of_terms(split: _Split, by_row: Sequence[Array], sums: _Sums, best: _Best) -> Array:
    """Inner products of terms and slopes of rows, through sums that those with the slopes of runs take too."""
    if not by_row:
        return jnp.zeros((len(split.run), 0, best.missed.shape[-1]), best.missed.dtype)
    places = zip(split.run, split.which, strict=True)
    return jnp.stack(
        [jnp.stack([_sum(run * sums.weighted(slope, which)) for slope in by_row]) for run, which in places]
    )


def _of_run_slopes(split: _Split, slopes: _Slopes, data: _Data, best: _Best, sums: _Sums) -> Array:
    """Inner products of terms, slopes of runs, slopes of rows, and the residual, with the slopes of runs."""
    lanes = best.missed.shape[-1]
    shape = (best.missed.shape[0], lanes)

    def left(which: int) -> list[Array]:
        terms = [run * sums.of(which, its) for run, its in zip(split.run, split.which, strict=True)]
        of_run = [
            sum((parts[its][k] * sums.of(which, its) for its in parts), start=jnp.zeros(()))
            for group, parts in slopes.by_run
            for k in range(len(group))
        ]
        of_row = [sums.weighted(slope, which) for slope in slopes.by_row.values()]
        every = [*terms, *of_run, *of_row, _over_rows(split.whole(best.missed, which))]
        return [jnp.broadcast_to(each[:, 0], shape) for each in every]

    known = {which: left(which) for which in dict.fromkeys(which for _, parts in slopes.by_run for which in parts)}
    found = [
        sum(
            (products(known[which], [jnp.broadcast_to(u[:, 0], shape) for u in parts[which]]) for which in parts),
            start=jnp.zeros(()),
        )
        for _, parts in slopes.by_run
    ]
    rows = len(split.run) + len(slopes.order) + 1
    return jnp.concatenate(found, axis=1) if found else jnp.zeros((rows, 0, lanes), best.missed.dtype)


def _products(left: Sequence[Array], right: Sequence[Array]) -> Array:
    """All inner products [a, b, B], of which there may be none."""
    return products(left, right) if right else jnp.zeros((len(left), 0, left[0].shape[-1]), left[0].dtype)


def _flat(values: Array, data: _Data) -> Array:
    """Values of all rows [n, B]."""
    return jnp.broadcast_to(values, data.square.shape).reshape(-1, values.shape[-1])


def _sum(values: Array) -> Array:
    """The sum over both axes of rows."""
    return _sums.over_first(_sums.over_second(values))
