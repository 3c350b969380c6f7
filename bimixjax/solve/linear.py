"""Linear algebra of a few unknowns for many lanes at once: matrices [k, k, ...], with lanes along trailing axes.

Small sizes are unrolled, and middle ones are loops over columns, so that everything is elementwise work over lanes, on
any device and on as many cores as there are calls; only large ones go to LAPACK.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import product
from operator import add

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bimixjax.solve import precision

# Slices that a sum adds at once: set by hand.
_SLICES = 8

# A difference of two products of no more roundings of one of them is zero.
_ROUNDINGS = 4

# A pivot that keeps less than this share of its diagonal is rounding, not rank.
_RANK = 1e-13

# Up to so many unknowns all is unrolled (chosen by benchmarks/batches.py); up to so many, lanes are solved by loops;
# more go to LAPACK. Compiled calls that use it side by side can wait for ever, each holding a thread of the pool that
# its batch then waits for.
UNROLLED, IN_LANES = 6, 32

# Columns that are eliminated from all rows that are left, before the rows of these are set aside: set by hand.
_COLUMNS = 8


def solve(matrix: Array, right: Array) -> tuple[Array, Array]:
    """Solve A x = b for positive A [k, k, ...] and b [k, m, ...]; also whether each A has full rank."""
    if _is_pair(matrix):
        return _solve_pair(matrix, right)
    if matrix.shape[0] <= UNROLLED:
        return _solve_unrolled(matrix, right)
    if matrix.shape[0] <= IN_LANES:
        return _solve_by_columns(matrix, right)
    a, b = jnp.moveaxis(matrix, (0, 1), (-2, -1)), jnp.moveaxis(right, (0, 1), (-2, -1))
    factor = lax.linalg.cholesky(a)
    full = jnp.all(jnp.isfinite(factor), axis=(-2, -1))
    factor = jnp.where(full[..., None, None], factor, jnp.eye(matrix.shape[0], dtype=matrix.dtype))
    half = lax.linalg.triangular_solve(factor, b, left_side=True, lower=True)
    x = lax.linalg.triangular_solve(factor, half, left_side=True, lower=True, transpose_a=True)
    return jnp.moveaxis(x, (-2, -1), (0, 1)), full


def _is_pair(matrix: Array) -> bool:
    """Say whether two unknowns may be solved by differences of products, which take too many digits of float32."""
    return matrix.shape[0] == 2 and not precision.single(matrix.dtype)


def _solve_pair(matrix: Array, right: Array) -> tuple[Array, Array]:
    """Solve for two unknowns by Cramer's rule: one division, not one after the other.

    Chosen by benchmarks/batches.py.
    """
    (a, b), (_, d) = matrix
    determinant = a * d - b * b
    full = determinant > precision.share(_RANK, matrix.dtype) * a * d
    tops = jnp.stack([d * right[0] - b * right[1], a * right[1] - b * right[0]])
    return tops / jnp.where(full, determinant, 1.0), full


def _solve_unrolled(matrix: Array, right: Array) -> tuple[Array, Array]:
    lower, inverse, full = _factored(matrix)
    size = matrix.shape[0]
    x: list[Array] = []
    for i in range(size):
        x.append(right[i] - sum(lower[i][j] * x[j] for j in range(i)))
    for i in reversed(range(size)):
        x[i] = x[i] * inverse[i] - sum(lower[j][i] * x[j] for j in range(i + 1, size))
    return jnp.stack(x), full


def _solve_by_columns(matrix: Array, right: Array) -> tuple[Array, Array]:
    """Eliminate by Gauss-Jordan, some columns at a time; positive matrices need no pivoting."""
    size = matrix.shape[0]
    least = precision.share(_RANK, matrix.dtype) * of_diagonal(matrix)
    full = jnp.ones(matrix.shape[2:], bool)
    left, known = jnp.concatenate([matrix, right], axis=1), []
    for first in range(0, size, _COLUMNS):
        count = min(_COLUMNS, size - first)
        left, full = _eliminated(left, full, least[first:], count)
        known.append(left[:count, count:])
        left = left[count:, count:]
    x = known.pop()
    for rows in reversed(known):
        x = jnp.concatenate([rows[:, len(x) :] - sum_over(rows[:, : len(x), None] * x[None], 1), x])
    return x, full


def _eliminated(rows: Array, full: Array, least: Array, count: int) -> tuple[Array, Array]:
    """Return rows [k, k + m, ...] whose first columns are those of the identity, and which lanes are of full rank."""
    number = jnp.arange(len(rows))[:, *(None,) * (rows.ndim - 2)]

    def eliminate(j: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, full = state
        kept = rows[j, j] > least[j]
        row = rows[j] / jnp.where(kept, rows[j, j], 1.0)
        others = jnp.where(number == j, 0.0, rows[:, j])
        return jnp.where((number == j)[:, None], row, rows - others[:, None] * row), full & kept

    return lax.fori_loop(0, count, eliminate, (rows, full))


def _factored(matrix: Array) -> tuple[list[list[Array]], list[Array], Array]:
    """Return L below the diagonal and 1 / D of the matrices L D L', as lanes, and whether each has full rank."""
    lower: list[list[Array]] = []
    inverse: list[Array] = []
    full = jnp.ones(matrix.shape[2:], bool)
    for i in range(matrix.shape[0]):
        row: list[Array] = []
        scaled: list[Array] = []
        for j in range(i):
            row.append(matrix[i, j] - sum(row[k] * lower[j][k] for k in range(j)))
            scaled.append(row[j] * inverse[j])
        pivot = matrix[i, i] - sum(a * b for a, b in zip(row, scaled, strict=True))
        kept = pivot > precision.share(_RANK, matrix.dtype) * matrix[i, i]
        full &= kept
        inverse.append(1 / jnp.where(kept, pivot, 1.0))
        lower.append(scaled)
    return lower, inverse, full


def contracted(left: Array, right: Array) -> Array:
    """Return the sums over the first axis of all products of left [k, a, ...] and right [k, b, ...]: [a, b, ...]."""
    if left.shape[0] * left.shape[1] * right.shape[1] > UNROLLED**3:
        return sum_over(left[:, :, None] * right[:, None])
    return stacked(
        [
            [reduce(add, (x[i] * y[j] for x, y in zip(left, right, strict=True))) for j in range(right.shape[1])]
            for i in range(left.shape[1])
        ]
    )


def stacked(rows: Sequence[Sequence[Array]]) -> Array:
    """Stack rows of lanes as one array, whose parts the compiler reads by themselves where their numbers are fixed."""
    space = rows[0][0].__array_namespace__()
    return space.stack([space.stack(list(row)) for row in rows])


def diagonal(values: Array) -> Array:
    """Return the matrices [k, k, ...] with the given diagonals [k, ...]."""
    return _eye(values.shape[0], values.ndim - 1, values.dtype) * values


def of_diagonal(matrix: Array) -> Array:
    """Return the diagonals [k, ...] of matrices [k, k, ...]."""
    if matrix.shape[0] <= IN_LANES:
        return jnp.stack([matrix[k, k] for k in range(matrix.shape[0])])
    return jnp.sum(jnp.where(_eye(matrix.shape[0], matrix.ndim - 2, jnp.dtype(bool)), matrix, 0.0), axis=1)


def taken(values: Array, places: Sequence[int], axis: int = 0) -> Array:
    """Return the values at some places of an axis; few of them as lanes that the compiler reads by themselves."""
    if len(places) <= IN_LANES:
        return jnp.stack([values[*(slice(None),) * axis, k] for k in places], axis=axis)
    return jnp.take(values, np.array(places), axis=axis)


def masked(matrix: Array, keep: Array) -> Array:
    """Return the matrix with the rows and columns outside `keep` [k, ...] replaced by those of the identity."""
    return jnp.where(keep[:, None] & keep[None, :], matrix, _eye(matrix.shape[0], matrix.ndim - 2, matrix.dtype))


def _eye(size: int, trailing: int, dtype: jnp.dtype) -> Array:
    return jnp.eye(size, dtype=dtype).reshape(size, size, *[1] * trailing)


def nonnegative_least_squares(gram: Array, moment: Array, signed: tuple[bool, ...]) -> Array:
    """Minimize c' G c - 2 h' c, with c_k >= 0 except where `signed`; returns c [p, ...].

    Every support is tried, which is exact and, for the four or fewer linear coefficients of a law, cheaper than
    iterating. A support whose Gram matrix is singular is passed over: a smaller one explains as much.
    """
    if _is_pair(gram) and not any(signed):
        return _nonnegative_pair(gram, moment)
    best, explained = [jnp.zeros_like(moment[0]) for _ in signed], jnp.zeros_like(moment[0])
    for support in product((True, False), repeat=len(signed)):
        if not any(support) or any(free and not kept for kept, free in zip(support, signed, strict=True)):
            continue
        index = [k for k, kept in enumerate(support) if kept]
        part, feasible = solve(
            stacked([[gram[i, j] for j in index] for i in index]), jnp.stack([moment[k] for k in index])[:, None]
        )
        values = {k: part[place, 0] for place, k in enumerate(index)}
        for k, value in values.items():
            feasible = feasible & ((value >= 0) | signed[k])
        gain = jnp.where(feasible, sum(value * moment[k] for k, value in values.items()), -jnp.inf)
        # Larger supports come first: one of them is not given up for a smaller one that only rounding puts above it.
        better = gain > explained * (1 + precision.slack(8, gram.dtype))
        best = [jnp.where(better, values.get(k, 0.0), old) for k, old in enumerate(best)]
        explained = jnp.where(better, gain, explained)
    # XLA computes a quotient once, but would repeat all of the above wherever c is read.
    return jnp.stack(best) / jnp.where(explained >= 0, 1.0, jnp.nan)


def _nonnegative_pair(gram: Array, moment: Array) -> Array:
    """Do the same for two unknowns, each a quotient."""
    (a, b), (_, d) = gram
    h, k = moment
    determinant = a * d - b * b
    x, y = h * d - k * b, k * a - h * b
    # An unknown that is the rounding of a difference is zero, else it would depend on how that was compiled.
    rounding = _ROUNDINGS * float(jnp.finfo(gram.dtype).eps)
    positive = (x > rounding * jnp.abs(h * d)) & (y > rounding * jnp.abs(k * a))
    both = positive & (determinant > precision.share(_RANK, gram.dtype) * a * d)
    # Alone, the first explains h^2 / a and the second k^2 / d.
    h, k = jnp.maximum(h, 0.0), jnp.maximum(k, 0.0)
    first = (a > 0) & (h * h * d >= k * k * a)
    tops = jnp.stack([jnp.where(both, x, jnp.where(first, h, 0.0)), jnp.where(both, y, jnp.where(first, 0.0, k))])
    bottom = jnp.where(both, determinant, jnp.where(first, a, d))
    return tops / jnp.where(bottom > 0, bottom, 1.0)


def _cholesky(matrix: Array) -> Array:
    """Return the lower L of positive matrices L L' [k, k, B], column by column."""
    size = matrix.shape[0]

    def column(j: Array, lower: Array) -> Array:
        left = matrix[:, j] - jnp.sum(lower * lower[j][None], axis=1)
        filled = jnp.where((jnp.arange(size) >= j)[:, None], left / jnp.sqrt(left[j]), 0.0)
        return lower.at[:, j].set(filled)

    return lax.fori_loop(0, size, column, jnp.zeros_like(matrix))


def cholesky_solve(matrix: Array, right: Array) -> Array:
    """Return A^-1 b for positive A [k, k, B] and b [k, B]."""
    lower = _cholesky(matrix)
    half = _forward(lower, right)
    size = len(right)

    def back(i: Array, x: Array) -> Array:
        j = size - 1 - i
        return x.at[j].set((half[j] - jnp.sum(lower[:, j] * x, axis=0)) / lower[j, j])

    return lax.fori_loop(0, size, back, jnp.zeros_like(right))


def inverse_root(matrix: Array) -> Array:
    """Return L^-1 of positive matrices L L' [k, k, B]."""
    eye = jnp.broadcast_to(jnp.eye(matrix.shape[0], dtype=matrix.dtype)[:, :, None], matrix.shape)
    return _forward(_cholesky(matrix), eye)


def _forward(lower: Array, right: Array) -> Array:
    """Return L^-1 b for lower L [k, k, B] and b [k, ..., B]."""

    def row(i: Array, x: Array) -> Array:
        known = lower[i].reshape(len(lower), *[1] * (right.ndim - 2), -1)
        return x.at[i].set((right[i] - jnp.sum(known * x, axis=0)) / lower[i, i])

    return lax.fori_loop(0, len(lower), row, jnp.zeros_like(right))


def sum_over(values: Array, axis: int = 0) -> Array:
    """Sum over one axis, as additions of slices: pairs, then pairs of pairs, which round less than one after another.

    On a CPU, XLA computes a reduction that it fuses with what surrounds it one number at a time; slices it adds lanes
    at full width.
    """
    lead, first = (slice(None),) * axis, None
    while (count := values.shape[axis]) > 1:
        # Numbers are added in blocks of one width; a count that none divides has its first number set aside.
        width = min(count, _SLICES)
        while count % width:
            width -= 1
        if width == 1:
            first = values[*lead, 0] if first is None else first + values[*lead, 0]
            values = values[*lead, 1:]
            continue
        blocks = values.reshape(*values.shape[:axis], count // width, width, *values.shape[axis + 1 :])
        parts = list(values.__array_namespace__().unstack(blocks, axis=axis + 1))
        while len(parts) > 1:
            paired = list(map(add, parts[::2], parts[1::2]))
            parts = paired + parts[2 * len(paired) :]
        values = parts[0]
    total = values[*lead, 0]
    return total if first is None else first + total
