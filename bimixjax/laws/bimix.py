"""BiMix: a power of the domain's own proportion times a curve of the volume; with an offset; with model size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from bimixjax.laws.chinchilla import Chinchilla
from bimixjax.laws.law import Basis, Coefficient, Law, Point, Units, power, rescaled


def volume_curve(coefficients: Mapping[str, Array], point: Point) -> Array:
    """Return B s^-beta + C."""
    return coefficients["B"] * power(point.volume, -coefficients["beta"]) + coefficients["C"]


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
    diverges_at_zero = True
    coefficients = (
        Coefficient(name="B", linear=True, prior=(1.0, 2.0), volumes=3),
        Coefficient(name="C", linear=True, prior=(2.0, 2.0), volumes=3),
        Coefficient(name="alpha", prior=(0.1, 1.5), upper=10.0, proportions=2),
        Coefficient(name="beta", prior=(0.4, 1.0), upper=20.0, volumes=3),
    )

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """Return {B: r^-alpha s^-beta, C: r^-alpha}."""
        own = power(point.own, -nonlinear["alpha"])
        return {"B": (own, power(point.volume, -nonlinear["beta"])), "C": (own,)}

    def loss(self, coefficients: Mapping[str, Array], point: Point) -> Array:
        """Evaluate the formula as it stands: at r = 0 infinite even where B or C is 0, and r^0 = 1."""
        flat = coefficients["alpha"] == 0
        own = power(jnp.where(flat, 1.0, point.own), -coefficients["alpha"])
        return own * volume_curve(coefficients, point)

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Exponents around those of published losses; the cost has one local minimum, so a few suffice."""
        return {"alpha": (0.1,), "beta": (0.15, 0.6, 1.5)}

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Multiply B by volume^beta."""
        return rescaled(coefficients, units.volume, B="beta")

    def own_power(self, coefficients: Mapping[str, Array], point: Point) -> tuple[Array, Array, Array]:
        """Return (B s^-beta + C, alpha, 0)."""
        scale = volume_curve(coefficients, point)
        return scale, coefficients["alpha"], 0.0 * scale


@dataclass(frozen=True)
class BiMixOffset(Law):
    """BiMix with an offset that keeps the loss finite where the domain is absent.

    L_i(r_i, s) = (r_i + eps_i)^-alpha_i (B_i / s^beta_i + C_i)

    eps_i stands for what a domain's loss gains from the rest of training, whatever it is. At r_i = 0 the loss is
    eps^-alpha (B s^-beta + C); it diverges there only where eps = 0, which a fit that has such rows avoids.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import BiMixOffset, Point
        >>> point = Point(mixture=jnp.array([0.0, 1.0]), own=0.0, volume=16.0, model_size=1.0)
        >>> coefficients = {"alpha": 0.5, "beta": 0.25, "eps": 0.25, "B": 1.0, "C": 1.0}
        >>> float(BiMixOffset().loss(coefficients, point))
        3.0

    Source: arXiv 2405.14908 v4, Eq. 1-3, with the offset of D-CPT (2406.01375) in its own-proportion term.
    """

    name = "bimix_offset"
    gauge: ClassVar[Mapping[str, float]] = {"A": 1.0}
    own_proportion = True
    local_minima = 4
    coefficients = (*BiMix.coefficients, Coefficient(name="eps", prior=(0.02, 1.5), upper=10.0, proportions=3))

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """Return {B: (r + eps)^-alpha s^-beta, C: (r + eps)^-alpha}."""
        own = power(point.own + nonlinear["eps"], -nonlinear["alpha"])
        return {"B": (own, power(point.volume, -nonlinear["beta"])), "C": (own,)}

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Give those of BiMix, with a small and a large offset."""
        return {"alpha": (0.1, 0.5), "beta": (0.15, 0.6, 1.5), "eps": (0.01, 0.2)}

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Multiply B by volume^beta."""
        return rescaled(coefficients, units.volume, B="beta")

    def own_power(self, coefficients: Mapping[str, Array], point: Point) -> tuple[Array, Array, Array]:
        """Return (B s^-beta + C, alpha, eps)."""
        scale = volume_curve(coefficients, point)
        return scale, coefficients["alpha"], coefficients["eps"]


@dataclass(frozen=True)
class BiMixSized(Law):
    """BiMix with model size: a law in size and volume, times a power of the domain's own proportion.

    L_i(r_i, s, N) = (E_i + A_i / N^alpha_i + B_i / s^beta_i) r_i^-gamma_i

    At one model size this is BiMix. E, A and alpha need three model sizes. At r_i = 0 the law diverges: such
    rows are masked in a fit and predicted as infinite.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import BiMixSized, Point
        >>> point = Point(mixture=jnp.array([0.25, 0.75]), own=0.25, volume=16.0, model_size=100.0)
        >>> coefficients = {"E": 1.0, "A": 5.0, "alpha": 0.5, "B": 1.0, "beta": 0.25, "gamma": 0.5}
        >>> round(float(BiMixSized().loss(coefficients, point)), 6)
        4.0

    Source: He et al., arXiv 2410.12883 (D there is s here).
    """

    name = "bimix_sized"
    own_proportion = True
    diverges_at_zero = True
    sized = True
    local_minima = 2
    coefficients = (
        *Chinchilla.coefficients[:3],
        Coefficient(name="gamma", prior=(0.1, 1.5), upper=10.0, proportions=2),
        *Chinchilla.coefficients[3:],
    )

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """E multiplies r^-gamma, A that times N^-alpha, B that times s^-beta."""
        own = power(point.own, -nonlinear["gamma"])
        return {
            "E": (own,),
            "A": (own, power(point.model_size, -nonlinear["alpha"])),
            "B": (own, power(point.volume, -nonlinear["beta"])),
        }

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Exponents around those of published losses."""
        return {"gamma": (0.1,), "alpha": (0.1, 0.4, 1.0), "beta": (0.15, 0.6, 1.5)}

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Multiply A by model_size^alpha, B by volume^beta."""
        return rescaled(rescaled(coefficients, units.volume, B="beta"), units.model_size, A="alpha")

    def own_power(self, coefficients: Mapping[str, Array], point: Point) -> tuple[Array, Array, Array]:
        """Return (E + A N^-alpha + B s^-beta, gamma, 0)."""
        scale = Chinchilla().loss(coefficients, point)
        return scale, coefficients["gamma"], 0.0 * scale
