"""Points at which a fit is asked: unique tokens over its domains, and the losses of a predictor at many of them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import Float

from bimixjax._base import checks
from bimixjax.observations import Inventory, Unique


def unique_over(domains: Sequence[str], inventory: Unique) -> Array | np.ndarray:
    """Return unique tokens in the order of the domains [d], or of each mixture [n, d].

    Raises:
        InputError: where they are not over the domains, or not above 0.
    """
    found = inventory.array(domains) if isinstance(inventory, Inventory) else inventory
    if not isinstance(found, Tracer):
        found = np.asarray(found, float)
        checks.every(found > 0, lambda *i: f"the inventory has {found[i]:g} tokens; allowed: above 0, or inf")
    if found.ndim not in (1, 2) or found.shape[-1] != len(domains):
        allowed = f"[{len(domains)}] or [n, {len(domains)}], over the domains {', '.join(domains)}"
        raise checks.InputError(f"unique tokens have shape {tuple(found.shape)}; allowed: {allowed}")
    return found


@jax.jit
def losses_at(predictor: Any, mixtures: Float[Array, "*n d"], volume: Float[Array, "*n"]) -> Float[Array, "*n T"]:
    """Evaluate a predictor at mixtures [n, d] or [d] and volumes [n] or one, each with its unique tokens, if any."""
    predictor = jax.tree.map(partial(jnp.asarray, dtype=jnp.float64), predictor)
    unique = getattr(predictor, "unique", None)
    each = unique is not None and unique.ndim == 2
    if mixtures.ndim == 1 and volume.ndim == 0 and not each:
        return predictor(mixtures, volume)
    rows = mixtures.shape[0] if mixtures.ndim == 2 else volume.shape[0] if volume.ndim else len(predictor.unique)
    mixtures, volume = jnp.broadcast_to(mixtures, (rows, mixtures.shape[-1])), jnp.broadcast_to(volume, (rows,))
    if each:
        return jax.vmap(lambda r, s, u: replace(predictor, unique=u)(r, s))(mixtures, volume, unique)
    return jax.vmap(predictor)(mixtures, volume)


def values_on_host(predictor: Any, r: Float[np.ndarray, "*n d"], s: Float[np.ndarray, "*n"]) -> np.ndarray:
    """Evaluate a predictor as `losses_at` does, with the programs that it has `on_host`: [n, T] or [T]."""
    each = 0 if predictor.unique is None or predictor.unique.ndim == 1 else len(predictor.unique)
    points, volumes = np.atleast_2d(r), np.atleast_1d(s)
    rows = max(len(points), len(volumes), each)
    points = np.broadcast_to(points, (rows, points.shape[1]))
    losses = predictor.on_host.values(points, np.broadcast_to(volumes, rows))
    return losses if r.ndim == 2 or s.ndim == 1 or each else losses[0]
