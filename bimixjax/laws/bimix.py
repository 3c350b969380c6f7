"""BiMix: a power of the domain's own proportion times a power law with a floor in the volume."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from jax import Array

from bimixjax.laws._law import Coefficient, Law, Point, power


@dataclass(frozen=True)
class BiMix(Law):
    """The bivariate data mixing law, one target at a time.

    L_i(r_i, s) = (A_i / r_i^alpha_i) (B_i / s^beta_i + C_i)

    r_i is the domain's own share of training, s the volume, L_i the domain's validation loss in nats per token.
    (A, B, C) and (k A, B/k, C/k) give the same losses, so four of the five coefficients can be known: the gauge here
    is A = 1. alpha needs two distinct r_i, and beta, B and C need three distinct volumes. At r_i = 0 the law
    diverges: such rows are masked in a fit and predicted as infinite. It has no cross-domain term, so the target must
    be a domain.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import BiMix, Point
        >>> point = Point(mixture=jnp.array([0.25, 0.75]), own=0.25, volume=16.0, model_size=1.0)
        >>> coefficients = {"alpha": 0.5, "beta": 0.25, "B": 1.0, "C": 1.0}
        >>> float(BiMix().loss(coefficients, point))
        3.0

    Source: Ge et al., arXiv 2405.14908 v4, Eq. 1-3.
    """

    name = "bimix"
    gauge: ClassVar[Mapping[str, float]] = {"A": 1.0}
    own_proportion = True
    coefficients = (
        Coefficient(name="B", linear=True, prior=(1.0, 2.0), volumes=3),
        Coefficient(name="C", linear=True, prior=(2.0, 2.0), volumes=3),
        Coefficient(name="alpha", prior=(0.1, 1.5), upper=10.0, proportions=2),
        Coefficient(name="beta", prior=(0.4, 1.0), upper=20.0, volumes=3),
    )

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Mapping[str, Array]:
        """B multiplies r^-alpha s^-beta, C multiplies r^-alpha."""
        own = power(point.own, -nonlinear["alpha"])
        return {"B": own * power(point.volume, -nonlinear["beta"]), "C": own}

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Exponents around those of published losses; the cost has one valley, so a few suffice."""
        return {"alpha": (0.1,), "beta": (0.15, 0.6, 1.5)}

    def with_units(self, coefficients: Mapping[str, Array], volume: Array, model_size: Array) -> Mapping[str, Array]:
        """B grows by volume^beta."""
        return {**coefficients, "B": coefficients["B"] * power(volume, coefficients["beta"])}

    def own_power(self, coefficients: Mapping[str, Array], point: Point) -> tuple[Array, Array]:
        """The pair (B s^-beta + C, alpha)."""
        scale = coefficients["B"] * power(point.volume, -coefficients["beta"]) + coefficients["C"]
        return scale, coefficients["alpha"]
