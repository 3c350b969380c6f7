"""BiMix with model size."""

from collections.abc import Mapping
from dataclasses import dataclass

from jax import Array

from bimixjax.laws.law import Coefficient, FactoredLaw, Point, Units, power


@dataclass(frozen=True)
class BiMixSized(FactoredLaw):
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
    valleys = 2
    coefficients = (
        Coefficient(name="E", linear=True, prior=(2.0, 2.0), sizes=3),
        Coefficient(name="A", linear=True, prior=(0.5, 2.0), sizes=3),
        Coefficient(name="B", linear=True, prior=(1.0, 2.0), volumes=3),
        Coefficient(name="gamma", prior=(0.1, 1.5), upper=10.0, proportions=2),
        Coefficient(name="alpha", prior=(0.3, 1.0), upper=20.0, sizes=3),
        Coefficient(name="beta", prior=(0.4, 1.0), upper=20.0, volumes=3),
    )

    def factors(self, nonlinear: Mapping[str, Array], point: Point) -> Mapping[str, tuple[Array, ...]]:
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
        """A grows by model_size^alpha, B by volume^beta."""
        return {
            **coefficients,
            "A": coefficients["A"] * power(units.model_size, coefficients["alpha"]),
            "B": coefficients["B"] * power(units.volume, coefficients["beta"]),
        }

    def own_power(self, coefficients: Mapping[str, Array], point: Point) -> tuple[Array, Array, Array]:
        """The triple (E + A N^-alpha + B s^-beta, gamma, 0)."""
        size = coefficients["A"] * power(point.model_size, -coefficients["alpha"])
        scale = coefficients["E"] + size + coefficients["B"] * power(point.volume, -coefficients["beta"])
        return scale, coefficients["gamma"], 0.0 * scale
