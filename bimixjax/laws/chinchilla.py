"""Scaling laws of volume and model size, for which all mixtures are alike."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from bimixjax.laws.law import Basis, Coefficient, Law, Point, Units, power, rescaled


@dataclass(frozen=True)
class Chinchilla(Law):
    """The parametric law of Chinchilla: L(s, N) = E + A / N^alpha + B / s^beta.

    The mixture plays no part. E, A and alpha need three model sizes.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import Chinchilla, Point
        >>> point = Point(mixture=jnp.ones(1), own=1.0, volume=1.4e12, model_size=70e9)
        >>> coefficients = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
        >>> round(float(Chinchilla().loss(coefficients, point)), 3)
        1.937

    Source: Hoffmann et al., arXiv 2203.15556, Eq. 2.
    """

    name = "chinchilla"
    sized = True
    local_minima = 2
    coefficients = (
        Coefficient(name="E", linear=True, prior=(2.0, 2.0), sizes=3),
        Coefficient(name="A", linear=True, prior=(0.5, 2.0), sizes=3),
        Coefficient(name="B", linear=True, prior=(1.0, 2.0), volumes=3),
        Coefficient(name="alpha", prior=(0.3, 1.0), upper=20.0, sizes=3),
        Coefficient(name="beta", prior=(0.4, 1.0), upper=20.0, volumes=3),
    )

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """E multiplies 1, A multiplies N^-alpha, B multiplies s^-beta."""
        return {
            "E": jnp.ones_like(point.volume),
            "A": power(point.model_size, -nonlinear["alpha"]),
            "B": power(point.volume, -nonlinear["beta"]),
        }

    def convex(self, coefficients: Mapping[str, np.ndarray]) -> bool:
        """The mixture plays no part."""
        return True

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Exponents around those of published losses."""
        return {"alpha": (0.1, 0.4, 1.0), "beta": (0.15, 0.6, 1.5)}

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Multiply A by model_size^alpha, B by volume^beta."""
        return rescaled(rescaled(coefficients, units.volume, B="beta"), units.model_size, A="alpha")


@dataclass(frozen=True)
class Kaplan(Law):
    """The law of Kaplan et al., with their D_c and N_c as a linear scale and a ratio.

    L(s, N) = K (n / N^(aN/aD) + 1 / s)^aD, which is ((N_c / N)^(aN/aD) + D_c / s)^aD with K = D_c^aD and
    n = N_c^(aN/aD) / D_c.

    The mixture plays no part; there is no floor. n and aN need two model sizes.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import Kaplan, Point
        >>> point = Point(mixture=jnp.ones(1), own=1.0, volume=4.0, model_size=4.0)
        >>> float(Kaplan().loss({"K": 2.0, "n": 2.0, "aN": 0.5, "aD": 1.0}, point))
        2.5

    Source: Kaplan et al., arXiv 2001.08361, Eq. 1.5.
    """

    name = "kaplan"
    sized = True
    local_minima = 3
    coefficients = (
        Coefficient(name="K", linear=True, prior=(3.0, 3.0)),
        Coefficient(name="n", prior=(10.0, 3.0), upper=1e8, sizes=2),
        Coefficient(name="aN", prior=(0.08, 1.0), upper=10.0, sizes=2),
        Coefficient(name="aD", prior=(0.1, 1.0), lower=1e-3, upper=10.0, volumes=2),
    )

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """K multiplies the power of the sum."""
        lack = nonlinear["n"] * power(point.model_size, -nonlinear["aN"] / nonlinear["aD"])
        return {"K": power(lack + 1 / point.volume, nonlinear["aD"])}

    def convex(self, coefficients: Mapping[str, np.ndarray]) -> bool:
        """The mixture plays no part."""
        return True

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Size or volume as the bottleneck."""
        return {"n": (0.1, 3.0, 100.0), "aN": (0.05, 0.2), "aD": (0.1, 0.4)}

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Multiply K by volume^aD, n by model_size^(aN/aD) / volume."""
        ratio = coefficients["aN"] / coefficients["aD"]
        return {
            **coefficients,
            "K": coefficients["K"] * power(units.volume, coefficients["aD"]),
            "n": coefficients["n"] * power(units.model_size, ratio) / units.volume,
        }
