"""BiMix with transfer: every domain counts towards a target, by a power sum of the proportions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from bimixjax.laws.bimix import BiMix, BiMixSized
from bimixjax.laws.law import Basis, Coefficient, Law, Point, Units, power, rescaled, share_power

_POWER = Coefficient(name="g", prior=(0.5, 0.7), lower=0.05, upper=5.0, proportions=3)
_TRANSFER = Coefficient(
    name="T",
    prior=(0.1, 1.5),
    spread=1.0,
    upper=1e3,
    per_domain=True,
    own=1.0,
    meaning="worth of a share of the domain to the target, beside one of the target's own domain (1); 0: no help",
)


def effective_share(nonlinear: Mapping[str, Array], point: Point) -> Array:
    """Return rho = sum_j T_j r_j^g, with T = 1 for the target's own domain, and g = 1 under a law that has none."""
    shares = share_power(point.mixture, nonlinear["g"]) if "g" in nonlinear else point.mixture
    return jnp.sum(jnp.where(point.is_own, 1.0, nonlinear["T"]) * shares, axis=0)


@dataclass(frozen=True)
class BiMixTransfer(Law):
    """BiMix whose own proportion becomes a power sum over all domains.

    L_i(r, s) = rho_i^-alpha_i (B_i / s^beta_i + C_i),  rho_i = r_i^g_i + sum_{j != i} T_ij r_j^g_i,  T_ij >= 0

    T_ij says how much a share of domain j is worth to target i beside one of its own, whose coefficient is 1: that is
    the gauge. A target that is no domain has no such anchor: its T, B and C are known up to a common factor, its
    losses are not affected. A domain with r_j = 0 adds nothing; the loss diverges only where all domains that a target
    learns from are absent. With priors, the T_ij of a target are kept about their own common mean, which is fitted.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import BiMixTransfer, Point
        >>> is_own = jnp.array([True, False])
        >>> point = Point(mixture=jnp.array([0.0, 1.0]), own=0.0, volume=16.0, model_size=1.0, is_own=is_own)
        >>> coefficients = {"alpha": 0.5, "beta": 0.25, "g": 1.0, "T": jnp.array([1.0, 0.25]), "B": 1.0, "C": 1.0}
        >>> float(BiMixTransfer().loss(coefficients, point))
        3.0

    Source: arXiv 2405.14908 v4, Eq. 1-3, with a power mean of the proportions in place of r_i.
    """

    name = "bimix_transfer"
    gauge: ClassVar[Mapping[str, float]] = {"A": 1.0}
    local_minima = 3
    coefficients = (*BiMix.coefficients, _POWER, _TRANSFER)

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """Return {B: rho^-alpha s^-beta, C: rho^-alpha}."""
        share = power(effective_share(nonlinear, point), -nonlinear["alpha"])
        return {"B": (share, power(point.volume, -nonlinear["beta"])), "C": (share,)}

    def convex(self, coefficients: Mapping[str, np.ndarray]) -> bool:
        """A negative power of rho, which is concave for g <= 1."""
        return bool(coefficients.get("g", 1.0) <= 1)

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Little and much transfer, at two powers."""
        return {"alpha": (0.15,), "beta": (0.15, 0.8), "g": (0.4, 1.0), "T": (0.03, 0.3)}

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Multiply B by volume^beta."""
        return rescaled(coefficients, units.volume, B="beta")


@dataclass(frozen=True)
class BiMixTransferLinear(BiMixTransfer):
    """The transfer law with g = 1: rho_i = r_i + sum_{j != i} T_ij r_j.

    Example:
        >>> from bimixjax.laws import BiMixTransferLinear
        >>> BiMixTransferLinear().names(("web", "code"))
        ('B', 'C', 'alpha', 'beta', 'T[web]', 'T[code]')

    Source: arXiv 2405.14908 v4, Eq. 1-3, with a weighted sum of the proportions in place of r_i.
    """

    name = "bimix_transfer_linear"
    # Without a power below 1, little transfer does what more does with one.
    coefficients = (
        *(c for c in BiMixTransfer.coefficients if c.name not in ("g", "T")),
        replace(_TRANSFER, prior=(0.02, 1.0), spread=0.7),
    )

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Little and much transfer."""
        return {"alpha": (0.15,), "beta": (0.15, 0.8), "T": (0.01, 0.1, 0.5)}


@dataclass(frozen=True)
class BiMixTransferSized(Law):
    """The transfer law with model size: L_i(r, s, N) = rho_i^-gamma_i (E_i + A_i / N^alpha_i + B_i / s^beta_i).

    rho_i and its gauge are those of `BiMixTransfer`; the rest is the law of `BiMixSized`. E, A and alpha need
    three model sizes.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import BiMixTransferSized, Point
        >>> is_own = jnp.array([True, False])
        >>> point = Point(mixture=jnp.array([0.0, 1.0]), own=0.0, volume=16.0, model_size=4.0, is_own=is_own)
        >>> mixture = {"gamma": 0.5, "g": 1.0, "T": jnp.array([1.0, 0.25])}
        >>> law = BiMixTransferSized()
        >>> float(law.loss({"E": 1.0, "A": 2.0, "alpha": 0.5, "B": 2.0, "beta": 0.25, **mixture}, point))
        6.0

    Source: arXiv 2410.12883, with a power mean of the proportions in place of r_i.
    """

    name = "bimix_transfer_sized"
    sized = True
    local_minima = 4
    coefficients = (*BiMixSized.coefficients, _POWER, _TRANSFER)

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """E multiplies rho^-gamma, A that times N^-alpha, B that times s^-beta."""
        share = power(effective_share(nonlinear, point), -nonlinear["gamma"])
        return {
            "E": (share,),
            "A": (share, power(point.model_size, -nonlinear["alpha"])),
            "B": (share, power(point.volume, -nonlinear["beta"])),
        }

    def convex(self, coefficients: Mapping[str, np.ndarray]) -> bool:
        """A negative power of rho, which is concave for g <= 1."""
        return bool(coefficients.get("g", 1.0) <= 1)

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Little and much transfer, at two powers."""
        return {"gamma": (0.15,), "alpha": (0.3,), "beta": (0.15, 0.8), "g": (0.4, 1.0), "T": (0.03, 0.3)}

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Multiply A by model_size^alpha, B by volume^beta."""
        return rescaled(rescaled(coefficients, units.volume, B="beta"), units.model_size, A="alpha")
