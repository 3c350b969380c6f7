"""The losses that an objective reads, at one or several budgets, as functions of the mixture on the host."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from bimixjax.optimization.objectives import Objective

# Mixtures evaluated in one call of a compiled function, so that few shapes are compiled; `_TOGETHER` side by side.
_MANY, _FEW, _TOGETHER = 256, 16, 32

# Slopes are those at shares of at least this, as in `search`.
_LEAST_SHARE = 1e-8


@dataclass(frozen=True, eq=False)
class Losses:
    """m losses as functions of the mixture: those of each part, one after the other.

    Attributes:
        parts: one objective per budget, of which the predictor and the volume are read.
    """

    parts: tuple[Objective, ...]

    def __len__(self) -> int:
        return sum(len(part.chosen) for part in self.parts)

    @cached_property
    def own_by_convention(self) -> tuple[int, ...]:
        """The domains on which some loss depends where its share is small, though it has no slope."""
        return tuple(sorted({i for part in self.parts for i in part.predictor.own_by_convention}))

    def convex(self, domains: int) -> bool:
        """Say whether all losses are known to be convex in the mixture."""
        known = [getattr(part.predictor, "convex", None) for part in self.parts]
        return all(each is not None and bool(each(domains)) for each in known)

    def values(self, mixtures: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n m"]:
        """Evaluate the losses at mixtures."""
        return self.with_pull(mixtures)[0]

    def with_pull(
        self, mixtures: Float[np.ndarray, "n d"]
    ) -> tuple[Float[np.ndarray, "n m"], Callable[[np.ndarray], np.ndarray]]:
        """Evaluate the losses, and return a function from derivatives by them [n, m] to those by mixtures [n, d]."""
        found = [_of_part(part, mixtures) for part in self.parts]
        ends = np.cumsum([len(part.chosen) for part in self.parts])[:-1]

        def pull(by_losses: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "n d"]:
            pieces = np.split(by_losses, ends, axis=1)
            return np.sum([of(piece) for (_, of), piece in zip(found, pieces, strict=True)], axis=0)

        return np.concatenate([losses for losses, _ in found], axis=1), pull

    def jacobian(self, r: Float[np.ndarray, " d"]) -> Float[np.ndarray, "m d"]:
        """Compute the slopes of the losses at a mixture."""
        return self.with_pull(np.repeat(r[None], len(self), axis=0))[1](np.eye(len(self)))


def _of_part(
    part: Objective, mixtures: Float[np.ndarray, "n d"]
) -> tuple[Float[np.ndarray, "n t"], Callable[[np.ndarray], np.ndarray]]:
    inside = np.maximum(mixtures, _LEAST_SHARE)
    if (on_host := getattr(part.predictor, "on_host", None)) is not None:
        volumes = np.broadcast_to(part.volume, len(mixtures))
        losses = on_host.values(mixtures, volumes)
        return losses, lambda by_losses: on_host.with_pull(inside, volumes)[1](by_losses)
    losses = _in_calls(_losses, part, mixtures)
    return losses, lambda by_losses: _in_calls(_pulled, part, inside, by_losses)


def _in_calls(function: Callable[..., Array], part: Objective, *arrays: np.ndarray) -> np.ndarray:
    """Call a compiled function with rows in blocks of one size."""
    count = len(arrays[0])
    size = _MANY if count > _FEW else _FEW
    padded = [np.concatenate([each, np.repeat(each[-1:], -count % size, axis=0)]) for each in arrays]
    blocks = zip(*(each.reshape(-1, size, each.shape[1]) for each in padded), strict=True)
    with jax.enable_x64(True):
        return np.concatenate([np.asarray(function(part, *block)) for block in blocks])[:count]


@jax.jit
def _losses(part: Objective, mixtures: Array) -> Array:
    part = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), part)
    return lax.map(lambda r: part.predictor(r, part.volume), mixtures, batch_size=_TOGETHER)


@jax.jit
def _pulled(part: Objective, mixtures: Array, by_losses: Array) -> Array:
    part = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), part)

    def pull(r: Array, by: Array) -> Array:
        return jax.vjp(lambda r: part.predictor(r, part.volume), r)[1](by)[0]

    return lax.map(lambda each: pull(*each), (mixtures, by_losses), batch_size=_TOGETHER)
