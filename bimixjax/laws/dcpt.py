"""The D-CPT law of continual pre-training on one domain."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from bimixjax.laws.law import Basis, Coefficient, Law, Point, Units, power, rescaled, share_power

_LINEAR = (
    Coefficient(name="E", linear=True, prior=(2.0, 2.0)),
    Coefficient(name="B", linear=True, prior=(0.5, 2.0), volumes=3),
    Coefficient(name="C", linear=True, prior=(0.5, 2.0), proportions=2),
)
_SIZED = (
    Coefficient(name="E", linear=True, prior=(2.0, 2.0), sizes=3),
    *_LINEAR[1:],
    Coefficient(name="A", linear=True, prior=(0.5, 2.0), sizes=3),
)
_NONLINEAR = (
    Coefficient(name="beta", prior=(0.4, 1.0), upper=20.0, volumes=3),
    Coefficient(name="eta", prior=(0.2, 1.5), upper=10.0, proportions=2),
    Coefficient(name="gamma", prior=(0.2, 1.5), upper=10.0, proportions=3),
    Coefficient(name="eps", prior=(0.02, 1.5), upper=10.0, proportions=4),
)


@dataclass(frozen=True)
class DCPT(Law):
    """The D-CPT law at one model size, for the share r_i of the target's own domain.

    L_i(r_i, s) = E_i + B_i r_i^eta_i / s^beta_i + C_i / (r_i + eps_i)^gamma_i

    At r_i = 0 the middle term is zero and the last one C / eps^gamma: finite unless eps = 0, which a fit that has such
    rows avoids.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import DCPT, Point
        >>> point = Point(mixture=jnp.array([0.25, 0.75]), own=0.25, volume=16.0, model_size=1.0)
        >>> volume, mixture = {"B": 4.0, "eta": 0.5, "beta": 0.25}, {"C": 0.5, "eps": 0.0, "gamma": 0.5}
        >>> float(DCPT().loss({"E": 1.0, **volume, **mixture}, point))
        3.0

    Source: D-CPT law, arXiv 2406.01375.
    """

    name = "dcpt"
    own_proportion = True
    local_minima = 4
    coefficients = (*_LINEAR, *_NONLINEAR)

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """E multiplies 1, B multiplies r^eta s^-beta, C multiplies (r + eps)^-gamma."""
        return {
            "E": (jnp.ones_like(point.volume),),
            "B": (share_power(point.own, nonlinear["eta"]), power(point.volume, -nonlinear["beta"])),
            "C": (power(point.own + nonlinear["eps"], -nonlinear["gamma"]),),
        }

    def convex(self, coefficients: Mapping[str, np.ndarray]) -> bool:
        """Where the middle term is, which has a power eta of the share."""
        return bool((coefficients["eta"] >= 1) | (coefficients["eta"] == 0) | (coefficients["B"] == 0))

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Volume terms that do and do not grow with the share, offsets small and large."""
        return {"beta": (0.2, 0.8), "eta": (0.02, 0.4), "gamma": (0.1, 0.6), "eps": (0.01, 0.2)}

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Multiply B by volume^beta."""
        return rescaled(coefficients, units.volume, B="beta")


@dataclass(frozen=True)
class DCPTSized(DCPT):
    """The D-CPT law with model size: A_i / N^alpha_i is added. E, A and alpha need three sizes.

    L_i(r_i, s, N) = E_i + A_i / N^alpha_i + B_i r_i^eta_i / s^beta_i + C_i / (r_i + eps_i)^gamma_i

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import DCPTSized, Point
        >>> point = Point(mixture=jnp.array([0.25, 0.75]), own=0.25, volume=16.0, model_size=4.0)
        >>> volume, mixture = {"B": 4.0, "eta": 0.5, "beta": 0.25}, {"C": 0.5, "eps": 0.0, "gamma": 0.5}
        >>> float(DCPTSized().loss({"E": 1.0, "A": 2.0, "alpha": 0.5, **volume, **mixture}, point))
        4.0

    Source: D-CPT law, arXiv 2406.01375.
    """

    name = "dcpt_sized"
    sized = True
    coefficients = (*_SIZED, *_NONLINEAR, Coefficient(name="alpha", prior=(0.3, 1.0), upper=20.0, sizes=3))

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """Return the basis at one size, and N^-alpha for A."""
        return {**super().basis(nonlinear, point), "A": (power(point.model_size, -nonlinear["alpha"]),)}

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Give those at one size, and one exponent of the size."""
        return {**super().starts(), "alpha": (0.3,)}

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Multiply A by model_size^alpha, B by volume^beta."""
        return rescaled(super().with_units(coefficients, units), units.model_size, A="alpha")
