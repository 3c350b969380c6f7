"""Repeated data: a law read at the volume that fresh tokens would have to have."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from bimixjax.laws.law import Basis, Law, Point, Units
from bimixjax.laws.volume import adopt

# R*_D of 2305.16264: its fit to losses of models that repeat all of their data.
DECAY = 15.387756


def effective_volume(seen: ArrayLike, unique: ArrayLike, decay: ArrayLike = DECAY) -> Array:
    """Return D' = U + U R* (1 - exp(-R / R*)), R = D/U - 1, what `seen` tokens are worth of which `unique` differ.

    Args:
        seen: D, tokens trained on.
        unique: U > 0, tokens that there are; no limit where infinite.
        decay: R*, after how many repetitions a token has lost 1 - 1/e of its worth.

    Returns:
        D', which is D up to U and tends to U (1 + R*).

    Example:
        >>> from bimixjax.laws import effective_volume
        >>> [round(float(effective_volume(seen, 1e9)) / 1e9, 3) for seen in (0.5e9, 4e9, 1e12)]
        [0.5, 3.726, 16.388]

    Source: Muennighoff et al., arXiv 2305.16264, Eq. 5, with its fitted R*_D.
    """
    seen, unique = jnp.asarray(seen), jnp.asarray(unique)
    limited = jnp.isfinite(unique)
    there = jnp.where(limited, unique, 1.0)
    epochs = jnp.maximum(seen / there - 1, 0.0)
    return jnp.where(limited, jnp.minimum(seen, there) - there * decay * jnp.expm1(-epochs / decay), seen)


def effective(point: Point, decay: ArrayLike) -> Point:
    """Return the point at which each domain's tokens are its effective ones: s' = sum_j D'_j, r'_j = D'_j / s'."""
    parts = effective_volume(point.mixture * point.volume, point.unique, decay)
    volume = jnp.sum(parts, axis=0)
    # From `own`, not from the mixture, which is zero in a masked row.
    own_unique = jnp.sum(jnp.where(point.is_own, point.unique, 0.0), axis=0)
    own_unique = jnp.where(own_unique > 0, own_unique, jnp.inf)
    own = effective_volume(point.own * point.volume, own_unique, decay) / volume
    return point._replace(mixture=parts / volume, own=own, volume=volume)


@dataclass(frozen=True)
class Repeated(Law):
    """Any law, for domains with a limited number of tokens: each domain counts with its effective tokens.

    The inner law is evaluated at the volume s' = sum_j D'_j and the mixture r'_j = D'_j / s', where D'_j is the
    effective volume of the r_j s tokens of domain j: r_i s becomes D'_i. Nothing changes until a domain repeats.

    Attributes:
        inner: the law.
        unique: unique tokens of each domain, in the order of the table's domains and in the unit of volume of the fit;
            None for those of each run, as the columns `unique/<domain>` of its table say.
        decay: R*, see `effective_volume`.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import BiMix, Point, Repeated
        >>> law = Repeated(BiMix(), unique=(1e9, float("inf")))
        >>> coefficients = {"alpha": 0.1, "beta": 0.3, "B": 300.0, "C": 2.0}
        >>> fresh, repeated = (Point(jnp.array([0.5, 0.5]), 0.5, s, 1.0, jnp.array([True, False])) for s in (2e9, 2e11))
        >>> bool(law.loss(coefficients, fresh) == BiMix().loss(coefficients, fresh))
        True
        >>> bool(law.loss(coefficients, repeated) > BiMix().loss(coefficients, repeated))
        True

    Source: the transform of arXiv 2305.16264, applied domain by domain.
    """

    inner: Law
    unique: tuple[float, ...] | None = None
    decay: float = DECAY

    def __post_init__(self) -> None:
        # A file of a fit names its law: one with tokens of its own is not that of a name alone.
        name = f"{self.inner.name}_repeated" + ("" if self.unique is None else "_given")
        adopt(self, self.inner, name=name, cross_domain=True, reads_unique=self.unique is None)

    def effective(self, point: Point) -> Point:
        """Return the point at which the inner law is evaluated."""
        if self.unique is None:
            return effective(point, self.decay)
        axes = (-1,) + (1,) * (jnp.ndim(point.mixture) - 1)
        return effective(point._replace(unique=np.asarray(self.unique, float).reshape(axes) / point.unit), self.decay)

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """Return the basis of the inner law at the effective point."""
        return self.inner.basis(nonlinear, self.effective(point))

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Start as the inner law does."""
        return self.inner.starts()

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Change units as the inner law does."""
        return self.inner.with_units(coefficients, units)
