"""Linear algebra of a few unknowns, unrolled: under vmap it becomes plain elementwise work on any device."""

from itertools import product

import jax.numpy as jnp
from jax import Array

# A pivot that keeps less than this share of its diagonal is rounding, not rank.
_RANK = 1e-13


def cholesky(matrix: Array) -> tuple[list[list[Array]], Array]:
    """The lower factor of a small positive matrix [k, k] as rows of scalars, and whether it has full rank."""
    size = matrix.shape[0]
    rows: list[list[Array]] = []
    full = jnp.asarray(True)
    for i in range(size):
        row: list[Array] = []
        for j in range(i):
            partial = sum((row[k] * rows[j][k] for k in range(j)), start=jnp.zeros_like(matrix[0, 0]))
            row.append((matrix[i, j] - partial) / rows[j][j])
        pivot = matrix[i, i] - sum((value * value for value in row), start=jnp.zeros_like(matrix[0, 0]))
        kept = pivot > _RANK * matrix[i, i]
        full &= kept
        row.append(jnp.sqrt(jnp.where(kept, pivot, 1.0)))
        rows.append(row)
    return rows, full


def substitute(factor: list[list[Array]], right: Array) -> Array:
    """Solve L L^T x = right [k] for the lower factor L."""
    size = len(factor)
    forward: list[Array] = []
    for i in range(size):
        partial = sum((factor[i][j] * forward[j] for j in range(i)), start=jnp.zeros_like(right[0]))
        forward.append((right[i] - partial) / factor[i][i])
    backward: list[Array] = [forward[0]] * size
    for i in reversed(range(size)):
        partial = sum((factor[j][i] * backward[j] for j in range(i + 1, size)), start=jnp.zeros_like(right[0]))
        backward[i] = (forward[i] - partial) / factor[i][i]
    return jnp.stack(backward)


def masked(matrix: Array, keep: Array) -> Array:
    """The matrix [k, k] with the rows and columns outside `keep` [k] replaced by those of the identity."""
    return jnp.where(keep[:, None] & keep[None, :], matrix, jnp.eye(matrix.shape[0], dtype=matrix.dtype))


def nonnegative_least_squares(gram: Array, moment: Array, signed: tuple[bool, ...]) -> tuple[Array, Array]:
    """Minimise c' G c - 2 h' c over c, with c_k >= 0 except where `signed`; returns c [p] and its support [p].

    Every support is tried, which is exact and, for the four or fewer coefficients of a law, cheaper than iterating.
    A support whose Gram matrix is singular is passed over: a smaller one explains as much.
    """
    supports = [
        s for s in product((True, False), repeat=len(signed)) if all(k or not f for k, f in zip(s, signed, strict=True))
    ]
    best, explained = jnp.zeros_like(moment), jnp.zeros_like(moment[0])
    chosen = jnp.zeros(moment.shape, bool)
    for support in supports:
        keep = jnp.array(support)
        factor, full = cholesky(masked(gram, keep))
        candidate = substitute(factor, jnp.where(keep, moment, 0.0))
        feasible = full & jnp.all((candidate >= 0) | jnp.array(signed))
        gain = jnp.where(feasible, candidate @ moment, -jnp.inf)
        better = gain > explained
        best = jnp.where(better, candidate, best)
        chosen = jnp.where(better, keep, chosen)
        explained = jnp.where(better, gain, explained)
    return best, chosen
