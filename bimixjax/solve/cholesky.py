"""Cholesky factors of many small matrices at once, lanes last, as plain loops over columns.

LAPACK in batches is slower at some ten unknowns, and two compiled calls that use it side by side can wait for ever,
each holding a thread of the pool that its batch then waits for.
"""

import jax.numpy as jnp
from jax import Array, lax


def factor(matrix: Array) -> Array:
    """The lower L of positive matrices L L' [k, k, B]."""
    size = matrix.shape[0]

    def column(j: Array, lower: Array) -> Array:
        left = matrix[:, j] - jnp.sum(lower * lower[j][None], axis=1)
        filled = jnp.where((jnp.arange(size) >= j)[:, None], left / jnp.sqrt(left[j]), 0.0)
        return lower.at[:, j].set(filled)

    return lax.fori_loop(0, size, column, jnp.zeros_like(matrix))


def solve(matrix: Array, right: Array) -> Array:
    """A^-1 b for positive A [k, k, B] and b [k, B]."""
    lower = factor(matrix)
    half = _forward(lower, right)
    size = len(right)

    def back(i: Array, x: Array) -> Array:
        j = size - 1 - i
        return x.at[j].set((half[j] - jnp.sum(lower[:, j] * x, axis=0)) / lower[j, j])

    return lax.fori_loop(0, size, back, jnp.zeros_like(right))


def inverse_root(matrix: Array) -> Array:
    """L^-1 of positive matrices L L' [k, k, B]."""
    eye = jnp.broadcast_to(jnp.eye(matrix.shape[0], dtype=matrix.dtype)[:, :, None], matrix.shape)
    return _forward(factor(matrix), eye)


def _forward(lower: Array, right: Array) -> Array:
    """L^-1 b for lower L [k, k, B] and b [k, ..., B]."""

    def row(i: Array, x: Array) -> Array:
        known = lower[i].reshape(len(lower), *[1] * (right.ndim - 2), -1)
        return x.at[i].set((right[i] - jnp.sum(known * x, axis=0)) / lower[i, i])

    return lax.fori_loop(0, len(lower), row, jnp.zeros_like(right))
