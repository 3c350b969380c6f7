"""A power of the own proportion plus linear terms of the others."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from bimixjax.laws.law import Basis, Coefficient, Law, Point, share_power


@dataclass(frozen=True)
class PowerLinear(Law):
    """Own power plus linear cross terms, the form that won the domain-mixture task of SLDBench.

    L_i(r) = b_i (1 + sum_{j != i} W_ij r_j) - w_i r_i^e_i,  b_i >= 0, w_i >= 0

    The source's cross coefficient is b_i W_ij here, and its own coefficient -w_i. Finite everywhere: at r_i = 0 the own
    term is zero. For a target that is no domain the own term is absent, and b and 1 + W are known up to a common
    factor. It says nothing of the volume: see `WithVolume`.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import PowerLinear, Point
        >>> is_own = jnp.array([True, False])
        >>> point = Point(mixture=jnp.array([0.25, 0.75]), own=0.25, volume=1.0, model_size=1.0, is_own=is_own)
        >>> float(PowerLinear().loss({"b": 3.0, "w": 1.5, "e": 0.5, "W": jnp.array([0.0, 0.25])}, point))
        2.8125

    Source: SLDBench, arXiv 2507.21184, domain-mixture task, SLDAgent's best form.
    """

    name = "power_linear"
    local_minima = 3
    coefficients = (
        Coefficient(name="b", linear=True, prior=(3.0, 2.0)),
        Coefficient(name="w", linear=True, prior=(1.0, 2.0), proportions=3),
        Coefficient(name="e", prior=(0.3, 1.0), lower=0.02, upper=10.0, proportions=3),
        Coefficient(
            name="W",
            prior=(0.0, 0.5),
            spread=0.2,
            lower=-50.0,
            upper=50.0,
            per_domain=True,
            own=0.0,
            meaning="change of the target's loss, as a part of b, per share of the domain; below 0, the domain helps",
        ),
    )

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """B multiplies the linear terms, w the own power."""
        cross = jnp.where(point.is_own, 0.0, nonlinear["W"])
        return {"b": 1 + jnp.sum(cross * point.mixture, axis=0), "w": -share_power(point.own, nonlinear["e"])}

    def convex(self, coefficients: Mapping[str, np.ndarray]) -> bool:
        """A linear function, less a power that is concave for e <= 1."""
        return bool(coefficients["e"] <= 1)

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Own powers from nearly a logarithm to nearly linear."""
        return {"e": (0.1, 0.4, 1.0), "W": (0.0,)}
