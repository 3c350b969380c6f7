"""Least squares whose prediction is a sum of terms, products of factors of which some vary along one axis only.

    prediction[m, t] = sum_a c_a run_a[m](theta) row_a[m, t](theta)

For given theta the best c is a small problem with the Gram matrix A'A of the terms A. With the slopes J of the
prediction by theta at that c, and residuals e, Kaufman's step for theta alone solves

    (J'J - J'A (A'A)^-1 A'J) step = -J'e

The slope by a theta that only a factor of the runs reads is again a term, with another factor of the runs. So inner
products fall into sums over t of pairs of the few `row_a`, which no number of unknowns adds to, and sums over runs, of
which a table has many times fewer than rows. Laws with many unknowns have most of them in factors of the runs.

Source: Kaufman, BIT 15 (1975).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, reduce
from itertools import accumulate, repeat
from operator import add, mul

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from bimixjax.solve import linear as _linear, precision
from bimixjax.solve.separable import (
    Model,
    Problem,
    Starts,
    along,
    best_linear,
    combined,
    eliminate,
    of_lanes,
    of_starts,
    prior_cost,
    products,
    unit_directions,
    with_linear_prior,
)

# The number of the factor of the rows of a term that has one value per run.
_NONE = -1

# Changes of the factors of the runs, and of the rows, with theta.
_Change = tuple[Sequence[Array], Sequence[Array]]

# Slopes that are terms, in groups: which theta, and for each factor of the rows what multiplies it by each of these
# [m, 1, B]. Of many theta this is one array: a program with an operation for each would take minutes to compile.
_OfRuns = list[tuple[Sequence[int], dict[int, Sequence[Array] | Array]]]


class Terms:
    """B least-squares problems over rows [m, t] whose prediction is a sum of p products.

    Args:
        factors: from theta [q, B], or of each run's own [q, m, B], to the factors of each of p terms, which broadcast
            to [m, t, B].
        reads: for each factor of each term, whether it depends on each theta [p][f][q].
        scale: what residuals are multiplied by.
        problem: targets, which include `scale`, bounds and priors.
    """

    def __init__(
        self,
        *,
        factors: Callable[[Array], Sequence[Sequence[Array]]],
        reads: Sequence[Sequence[Sequence[bool]]],
        scale: Float[Array, "m t B"],
        problem: Problem,
    ) -> None:
        self.problem, self.scale, self.target = problem, scale, problem.target.reshape(scale.shape)
        self.square, self.moment = scale**2, scale * self.target
        self.square_of_run, self.moment_of_run = _over_rows(self.square), _over_rows(self.moment)
        # Cost that is rounding error [B].
        self.rounding = jnp.finfo(scale.dtype).eps ** 2 * jnp.sum(self.target**2, axis=(0, 1))
        # A quotient by this XLA computes once; a sum over rows it would repeat for every number that is decided by it.
        self.one = jnp.where(self.rounding >= 0, 1.0, jnp.nan)
        theta = jax.ShapeDtypeStruct((len(problem.lower), scale.shape[-1]), scale.dtype)
        self._factors, self._varies = factors, []
        for each in jax.eval_shape(factors, theta):
            self._varies.append([factor.shape[1] > 1 for factor in each])
        count = accumulate(any(term) for term in self._varies)
        # For each term, the number of its factor of the rows.
        self.which = [n - 1 if any(term) else _NONE for n, term in zip(count, self._varies, strict=True)]

        def read_by(kind: bool) -> list[list[bool]]:
            """Whether factors of the rows of a term, or those of the runs, read each theta [p][q]."""
            both = zip(reads, self._varies, strict=True)
            return [[any(np.array(column)[np.array(v) == kind]) for column in zip(*r, strict=True)] for r, v in both]

        # For each theta, which terms read it in their factor of the runs, and in that of the rows.
        self._patterns = list(zip(zip(*read_by(False), strict=True), zip(*read_by(True), strict=True), strict=True))

    def scan(self, starts: Starts) -> Float[Array, "k B"]:
        """Return the cost at each start less the squared target, as a difference: near enough to choose by."""

        def score(theta: Array) -> Array:
            at = _At(self, *self._products(theta))
            gram, moment = at.normal_equations()
            linear = best_linear(with_linear_prior(gram, self.problem), moment, self.problem)
            bend = jnp.sum(linear[:, None] * linear[None] * gram, axis=(0, 1))
            return bend - 2 * jnp.sum(linear * moment, axis=0) + prior_cost(linear, self.problem, theta)

        return of_starts(score, of_lanes(starts, self.scale.shape[-1]))

    def project(self, theta: Float[Array, "q B"]) -> tuple[Float[Array, "p B"], Float[Array, " B"]]:
        """Return the best c, and the cost there."""
        return self._solved(_At(self, *self._products(theta)), theta)[:2]

    def linearize(self, theta: Float[Array, "q B"]) -> Model:
        """Return the model around theta, with c eliminated."""
        values, push = jax.linearize(self._products, theta)
        at = _At(self, *values)
        linear, cost, gram, missed = self._solved(at, theta)
        of_runs, of_rows = self._slopes(at, theta, linear, push)
        mixed, square, gradient = at.inner_products(of_runs, of_rows, missed)
        # Slopes were taken in groups; from there back to the order of theta.
        place = np.argsort([k for group, _ in of_runs for k in group] + list(of_rows)).tolist()
        if place != sorted(place):
            square = _linear.taken(_linear.taken(square, place), place, axis=1)
            mixed, gradient = _linear.taken(mixed, place, axis=1), _linear.taken(gradient, place)
        # In float32, c is a little off its best, where terms and residuals are not orthogonal.
        single = precision.single(missed.dtype)
        slope = jnp.stack([_sum(missed * term) for term in at.terms()]) if single else None
        model = eliminate(
            self.problem, theta, linear, cost, gram=gram, mixed=mixed, square=square, gradient=gradient, slope=slope
        )
        return replace(model, cost=model.cost / self.one, gradient=model.gradient / self.one)

    def _products(self, theta: Array) -> tuple[list[Array], list[Array]]:
        """Multiply the factors of each term that have one value per run [m, 1, B], and those that have one per row."""
        run, row = [], []
        lanes = jnp.ones((1, 1, theta.shape[-1]), theta.dtype)
        for factors, varies in zip(self._factors(theta), self._varies, strict=True):
            run.append(reduce(mul, [lanes, *(f for f, v in zip(factors, varies, strict=True) if not v)]))
            if any(varies):
                row.append(reduce(mul, [f for f, v in zip(factors, varies, strict=True) if v]))
        return run, row

    def _solved(self, at: "_At", theta: Array) -> tuple[Array, Array, Array, Array]:
        """Return the best c, the cost, the Gram matrix, and the residuals times `scale` [m, t, B]."""
        gram, moment = at.normal_equations()
        gram = with_linear_prior(gram, self.problem)
        linear = best_linear(gram, moment, self.problem)
        missed = self.scale * combined(linear, at.terms()) - self.target
        return linear, _sum(missed**2) + prior_cost(linear, self.problem, theta), gram, missed * self.scale

    def _slopes(
        self, at: "_At", theta: Array, linear: Array, push: Callable[[Array], _Change]
    ) -> tuple[_OfRuns, dict[int, Array]]:
        """Return the slopes of the prediction that are terms, and those by other theta, which broadcast to rows."""
        of_runs: _OfRuns = []
        of_rows: dict[int, Array] = {}
        directions = unit_directions(theta)
        for pattern in dict.fromkeys(self._patterns):
            by_run, by_row = pattern
            group = [k for k, each in enumerate(self._patterns) if each == pattern]
            read = [a for a, reads in enumerate(by_run) if reads]
            # A pass forwards takes all terms for each theta; where only factors of the runs read them and they are
            # many, one pass backwards, with theta of each run's own, takes them once.
            forwards = any(by_row) or (read and len(group) <= _linear.UNROLLED)
            chosen = [directions[k] for k in group] if forwards else []
            changes = along(push, chosen, unrolled=_linear.UNROLLED) if chosen else []
            if any(by_row):
                of_rows |= {k: at.slope(linear, pattern, change) for k, change in zip(group, changes, strict=True)}
            elif not read:
                of_rows |= dict.fromkeys(group, jnp.zeros_like(theta[:1, None]))
            else:
                parts: dict[int, Sequence[Array] | Array] = {}
                for which in dict.fromkeys(self.which[a] for a in read):
                    of_it = [a for a in read if self.which[a] == which]
                    factor = partial(_factor_of_runs, [linear[a] for a in of_it], of_it)
                    parts[which] = (
                        [factor(run) for run, _ in changes] if chosen else self._backwards(theta, factor, group)
                    )
                of_runs.append((group, parts))
        return of_runs, of_rows

    def _backwards(
        self, theta: Array, factor: Callable[[Sequence[Array]], Array], group: Sequence[int]
    ) -> Float[Array, "k m 1 B"]:
        own = jnp.broadcast_to(theta[:, None], (len(theta), self.scale.shape[0], theta.shape[1]))
        value, pull = jax.vjp(lambda own: factor(self._products(own)[0]), own)
        return _linear.taken(pull(jnp.ones_like(value))[0], group)[:, :, None]


class _At:
    """The terms at some theta, and sums over t of the squared scales times pairs of factors of rows, each taken once.

    Args:
        rows: the problems.
        run: the factor of the runs of each term [m, 1, B].
        row: the factor of the rows [m, t, B] of those terms that have one.
    """

    def __init__(self, rows: Terms, run: Sequence[Array], row: Sequence[Array]) -> None:
        self._rows, self._run, self._row = rows, run, row
        self._sums: dict[tuple[int, int], Array] = {(_NONE, _NONE): rows.square_of_run}

    def terms(self) -> list[Array]:
        """Return the terms, which broadcast to [m, t, B]."""
        return list(map(self._times, self._run, self._rows.which))

    def _times(self, values: Array, which: int) -> Array:
        return values if which == _NONE else values * self._row[which]

    def _sum_of(self, first: int, second: int) -> Float[Array, "m 1 B"]:
        pair = (min(first, second), max(first, second))
        if pair not in self._sums:
            # One after the other: of the product of two powers XLA would make one, and take it in every row again.
            self._sums[pair] = _over_rows(self._times(self._times(self._rows.square, pair[0]), pair[1]))
        return self._sums[pair]

    def _weighted(self, values: Array, which: int) -> Float[Array, "m 1 B"]:
        return _linear.sum_over(self._times(self._rows.square * values, which), 1)[:, None]

    def normal_equations(self) -> tuple[Float[Array, "p p B"], Float[Array, "p B"]]:
        """Return inner products of terms, and of terms with the target."""
        rows, places = self._rows, list(zip(self._run, self._rows.which, strict=True))
        gram: list[list[Array]] = [[] for _ in places]
        moment = []
        for b, (run, which) in enumerate(places):
            for a, (other, its) in enumerate(places[: b + 1]):
                gram[b].append(_sum(run * (other * self._sum_of(which, its))))
                if a < b:
                    gram[a].append(gram[b][a])
            of_target = rows.moment_of_run if which == _NONE else _over_rows(self._times(rows.moment, which))
            moment.append(_sum(run * of_target))
        return _linear.stacked(gram), jnp.stack(moment)

    def slope(self, linear: Array, pattern: tuple[Sequence[bool], Sequence[bool]], change: _Change) -> Array:
        """Return the slope by a theta that factors of rows read, from the change of all factors with it."""
        slope = jnp.zeros(())
        for a, (by_run, by_row) in enumerate(zip(*pattern, strict=True)):
            which = self._rows.which[a]
            if by_run:
                slope = slope + self._times(linear[a] * change[0][a], which)
            if by_row:
                slope = slope + linear[a] * self._run[a] * change[1][which]
        return slope

    def inner_products(
        self, of_runs: _OfRuns, of_rows: dict[int, Array], missed: Float[Array, "m t B"]
    ) -> tuple[Float[Array, "p q B"], Float[Array, "q q B"], Float[Array, "q B"]]:
        """Return A'J, J'J and J'e, slopes that are terms first.

        With these, products are sums over runs; those of other slopes are sums over rows.
        """
        shape, by_row = self._rows.scale.shape, list(of_rows.values())
        lanes, count = shape[-1], len(self._run)
        first = self._products_with_runs(of_runs, by_row, missed)
        several = count + first.shape[1]
        flat = [jnp.broadcast_to(slope, shape).reshape(-1, lanes) for slope in by_row]
        weighted = [(self._rows.square * slope).reshape(-1, lanes) for slope in by_row]
        if by_row:
            last = products([*weighted, missed.reshape(-1, lanes)], flat)
        else:
            last = jnp.zeros((1, 0, lanes), missed.dtype)
        if not by_row:
            mixed = jnp.zeros((count, 0, lanes), missed.dtype)
        elif len(by_row) > _linear.UNROLLED:
            mixed = products([jnp.broadcast_to(term, shape).reshape(-1, lanes) for term in self.terms()], weighted)
        else:
            # Through sums that products with the slopes of runs take too.
            places = zip(self._run, self._rows.which, strict=True)
            mixed = _linear.stacked([[_sum(run * self._weighted(s, which)) for s in by_row] for run, which in places])
        crossed = first[several:-1]
        upper = jnp.concatenate([first[count:several], jnp.swapaxes(crossed, 0, 1)], axis=1)
        return (
            jnp.concatenate([first[:count], mixed], axis=1),
            jnp.concatenate([upper, jnp.concatenate([crossed, last[:-1]], axis=1)]),
            jnp.concatenate([first[-1], last[-1]]),
        )

    def _products_with_runs(
        self, of_runs: _OfRuns, by_row: Sequence[Array], missed: Array
    ) -> Float[Array, "rows runs B"]:
        """Return inner products of terms, slopes of runs, slopes of rows, and residuals with the slopes of runs."""
        shape, rows = (missed.shape[0], missed.shape[-1]), self._rows

        def over_runs(values: Array) -> Array:
            return jnp.broadcast_to(values[..., 0, :], (*values.shape[:-3], *shape))

        left: dict[int, Sequence[Array] | Array] = {}
        for which in dict.fromkeys(which for _, parts in of_runs for which in parts):
            every = [run * self._sum_of(which, its) for run, its in zip(self._run, rows.which, strict=True)]
            for group, parts in of_runs:
                of_each = [self._sum_of(which, its) for its in parts]
                arrays = [slopes for slopes in parts.values() if isinstance(slopes, Array)]
                if arrays:
                    # A group is either all arrays or none.
                    every.append(combined(arrays, of_each))
                else:
                    every += [combined([slopes[k] for slopes in parts.values()], of_each) for k in range(len(group))]
            every += map(self._weighted, by_row, repeat(which))
            left[which] = _joined(list(map(over_runs, [*every, _over_rows(self._times(missed, which))])))
        found = [jnp.zeros((len(self._run) + len(by_row) + 1, 0, shape[1]), missed.dtype)] if not of_runs else []
        for _, parts in of_runs:
            slopes = [
                over_runs(each) if isinstance(each, Array) else list(map(over_runs, each)) for each in parts.values()
            ]
            found.append(reduce(add, map(products, map(left.__getitem__, parts), slopes)))
        return jnp.concatenate(found, axis=1)


def _joined(values: Sequence[Array]) -> Sequence[Array] | Array:
    """Return values [m, B] as they are, but with arrays of many [k, m, B] among them, as one array."""
    if all(each.ndim == 2 for each in values):
        return values
    return jnp.concatenate([each if each.ndim == 3 else each[None] for each in values])


def _factor_of_runs(linear: Sequence[Array], terms: Sequence[int], run: Sequence[Array]) -> Array:
    """Return the sum of c times the factors of the runs of some terms, which share their factor of the rows."""
    return combined(linear, [run[a] for a in terms])


def _over_rows(values: Array) -> Float[Array, "m 1 B"]:
    return _linear.sum_over(values, 1)[:, None]


def _sum(values: Array) -> Float[Array, " B"]:
    """Sum over both axes of rows."""
    return _linear.sum_over(_linear.sum_over(values, 1))
