"""Linear algebra of a few unknowns for many lanes at once: matrices [k, k, ...], with lanes along trailing axes.

Small sizes are unrolled, so that everything is elementwise work over lanes, on any device; larger ones go to LAPACK.
"""

from itertools import product

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

# A pivot that keeps less than this share of its diagonal is rounding, not rank.
_RANK = 1e-13

# Up to this many unknowns no library is called.
UNROLLED = 6


def solve(matrix: Array, right: Array) -> tuple[Array, Array]:
    """Solve A x = b for positive A [k, k, ...] and b [k, m, ...]; also whether each A has full rank."""
    if matrix.shape[0] <= UNROLLED:
        return _solve_unrolled(matrix, right)
    a, b = jnp.moveaxis(matrix, (0, 1), (-2, -1)), jnp.moveaxis(right, (0, 1), (-2, -1))
    factor = lax.linalg.cholesky(a)
    full = jnp.all(jnp.isfinite(factor), axis=(-2, -1))
    factor = jnp.where(full[..., None, None], factor, jnp.eye(matrix.shape[0], dtype=matrix.dtype))
    half = lax.linalg.triangular_solve(factor, b, left_side=True, lower=True)
    x = lax.linalg.triangular_solve(factor, half, left_side=True, lower=True, transpose_a=True)
    return jnp.moveaxis(x, (-2, -1), (0, 1)), full


def _solve_unrolled(matrix: Array, right: Array) -> tuple[Array, Array]:
    rows, full = _cholesky(matrix)
    size = matrix.shape[0]
    x: list[Array] = []
    for i in range(size):
        x.append((right[i] - sum((rows[i][j] * x[j] for j in range(i)), start=jnp.zeros(()))) / rows[i][i])
    for i in reversed(range(size)):
        x[i] = (x[i] - sum((rows[j][i] * x[j] for j in range(i + 1, size)), start=jnp.zeros(()))) / rows[i][i]
    return jnp.stack(x), full


def _cholesky(matrix: Array) -> tuple[list[list[Array]], Array]:
    """The lower factor as rows of lanes, and whether each matrix has full rank."""
    rows: list[list[Array]] = []
    full = jnp.ones(matrix.shape[2:], bool)
    for i in range(matrix.shape[0]):
        row: list[Array] = []
        for j in range(i):
            row.append((matrix[i, j] - sum((row[k] * rows[j][k] for k in range(j)), start=jnp.zeros(()))) / rows[j][j])
        pivot = matrix[i, i] - sum((value * value for value in row), start=jnp.zeros(()))
        kept = pivot > _RANK * matrix[i, i]
        full &= kept
        row.append(jnp.sqrt(jnp.where(kept, pivot, 1.0)))
        rows.append(row)
    return rows, full


def diagonal(values: Array) -> Array:
    """The matrices [k, k, ...] with the given diagonals [k, ...]."""
    return _eye(values.shape[0], values.ndim - 1, values.dtype) * values


def masked(matrix: Array, keep: Array) -> Array:
    """The matrix with the rows and columns outside `keep` [k, ...] replaced by those of the identity."""
    return jnp.where(keep[:, None] & keep[None, :], matrix, _eye(matrix.shape[0], matrix.ndim - 2, matrix.dtype))


def _eye(size: int, trailing: int, dtype: jnp.dtype) -> Array:
    return jnp.eye(size, dtype=dtype).reshape(size, size, *[1] * trailing)


def nonnegative_least_squares(gram: Array, moment: Array, signed: tuple[bool, ...]) -> tuple[Array, Array]:
    """Minimize c' G c - 2 h' c, with c_k >= 0 except where `signed`; returns c [p, ...] and its support.

    Every support is tried, which is exact and, for the four or fewer linear coefficients of a law, cheaper than
    iterating. A support whose Gram matrix is singular is passed over: a smaller one explains as much.
    """
    best, explained = jnp.zeros_like(moment), jnp.zeros_like(moment[0])
    chosen = jnp.zeros(moment.shape, bool)
    for support in product((True, False), repeat=len(signed)):
        if not any(support) or any(free and not kept for kept, free in zip(support, signed, strict=True)):
            continue
        index = np.flatnonzero(support)
        part, full = solve(gram[index][:, index], moment[index][:, None])
        feasible = full
        for k, value in zip(index.tolist(), part[:, 0], strict=True):
            feasible = feasible & ((value >= 0) | signed[k])
        gain = jnp.where(feasible, jnp.sum(part[:, 0] * moment[index], axis=0), -jnp.inf)
        better = gain > explained
        best = jnp.where(better, jnp.zeros_like(moment).at[index].set(part[:, 0]), best)
        chosen = jnp.where(better, jnp.zeros(moment.shape, bool).at[index].set(True), chosen)
        explained = jnp.where(better, gain, explained)
    return best, chosen
