"""What the network does with arrays: rows of a table and products with them, rotary positions, attention."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

ROTARY_BASE = 10_000.0


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def look_up(
    table: Float[Array, "V D"], tokens: Int[Array, "B L"], dtype: Any, positions: int | None
) -> Float[Array, "B L D"]:
    """Return the row of each token as `dtype`; its gradient is made of `positions` of each window at a time."""
    return table[tokens].astype(dtype)


def _looked_up(table: Array, tokens: Array, dtype: Any, positions: int | None) -> tuple[Array, tuple[Array, Array]]:
    return look_up(table, tokens, dtype, positions), (table, tokens)


def _slope(dtype: Any, positions: int | None, kept: tuple[Array, Array], slope: Array) -> tuple[Array, None]:
    table, tokens = kept
    length = math.gcd(tokens.shape[1], positions or tokens.shape[1])

    def add(total: Array, part: tuple[Array, Array]) -> tuple[Array, None]:
        hit = jax.nn.one_hot(part[0], len(table), dtype=dtype)
        return total + jnp.einsum("blv,bld->vd", hit, part[1], preferred_element_type=jnp.float32), None

    total, _ = jax.lax.scan(add, jnp.zeros(table.shape, jnp.float32), (cut(tokens, length), cut(slope, length)))
    return total.astype(table.dtype), None


look_up.defvjp(_looked_up, _slope)


@jax.custom_vjp
def project(hidden: Float[Array, "B L D"], table: Float[Array, "V D"]) -> Float[Array, "B L V"]:
    """Return the float32 product with each row; slopes are products in the type of `hidden`, summed in float32.

    Left to itself, JAX would widen both factors to float32, for which devices have half of their bfloat16 peak or less.
    """
    return jnp.einsum("bld,vd->blv", hidden, table.astype(hidden.dtype), preferred_element_type=jnp.float32)


def _projected(hidden: Array, table: Array) -> tuple[Array, tuple[Array, Array]]:
    return project(hidden, table), (hidden, table)


def _slopes(kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    hidden, table = kept
    slope, rows = slope.astype(hidden.dtype), table.astype(hidden.dtype)
    of_hidden = jnp.einsum("blv,vd->bld", slope, rows, preferred_element_type=jnp.float32)
    of_table = jnp.einsum("blv,bld->vd", slope, hidden, preferred_element_type=jnp.float32)
    return of_hidden.astype(hidden.dtype), of_table.astype(table.dtype)


project.defvjp(_projected, _slopes)


def cut(x: Array, length: int) -> Array:
    """Return `length` positions of each window at a time; the batch stays one axis, which may be split over devices."""
    return jnp.moveaxis(x.reshape(len(x), -1, length, *x.shape[2:]), 1, 0)


def attend(
    q: Float[Array, "B L H d"], k: Float[Array, "B L H d"], v: Float[Array, "B L H d"], *, fused: bool
) -> Float[Array, "B L H d"]:
    """Return softmax(q k^T d^(-1/2)) v of each head, where a token sees itself and those before it."""
    causal = partial(jax.nn.dot_product_attention, is_causal=True)
    if not fused:
        return causal(q, k, v, implementation="xla")
    # The compiler cannot split what is cuDNN's within a map over members, so each device is given its own part.
    mesh = jax.sharding.get_abstract_mesh().shape
    part = P("data", None, "model" if q.shape[2] % mesh["model"] == 0 else None)
    own = partial(causal, implementation="cudnn")
    return jax.shard_map(own, in_specs=part, out_specs=part, axis_names={"data", "model"}, check_vma=False)(q, k, v)


def rotate(x: Float[Array, "B L H d"]) -> Float[Array, "B L H d"]:
    """Rotate the pair (x_j, x_{j + d/2}) at position l by the angle l 10000^(-2 j / d) (RoPE, arXiv 2104.09864)."""
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[1])[:, None, None] * ROTARY_BASE ** (-np.arange(half) / half)
    cos, sin = (jnp.asarray(table, x.dtype) for table in (np.cos(angle), np.sin(angle)))
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
