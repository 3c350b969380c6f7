"""Data mixing laws: exponentials of the proportions."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from bimixjax.laws.law import Basis, Coefficient, Law, Point

_FLOOR = Coefficient(name="c", linear=True, prior=(2.0, 2.0))
_SCALE = Coefficient(name="k", linear=True, prior=(0.5, 2.0))
_SLOPES = Coefficient(
    name="t",
    prior=(-1.0, 3.0),
    spread=3.0,
    lower=-50.0,
    upper=50.0,
    per_domain=True,
    meaning="below 0, more of the domain lowers the target's loss; above 0, it raises it",
)


@dataclass(frozen=True)
class Exponential(Law):
    """The exponential data mixing law M4, the one that its source adopts.

    L_i(r) = c_i + k_i exp(sum_j t_ij r_j),  t_ii = 0

    On the simplex, adding a constant to every t_ij and dividing k_i by its exponential changes nothing, which leaves
    d + 1 coefficients: t_ii = 0 is the gauge, so that k_i is what training on domain i alone leaves above c_i. A target
    that is no domain has no t_ii: its k and t are known up to that constant. Finite everywhere. It says nothing of the
    volume: see `WithVolume`.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import Exponential, Point
        >>> point = Point(mixture=jnp.array([1.0, 0.0]), own=1.0, volume=1.0, model_size=1.0)
        >>> float(Exponential().loss({"c": 2.0, "k": 1.0, "t": jnp.array([0.0, 0.5])}, point))
        3.0

    Source: Ye et al., arXiv 2403.16952, form M4.
    """

    name = "exponential"
    local_minima = 4
    # Where all t are equal, which a target without an own domain allows, the mixture has no effect: a saddle.
    draws = 16
    coefficients = (
        _FLOOR,
        _SCALE,
        Coefficient(
            name="t",
            prior=(1.0, 2.0),
            spread=1.0,
            lower=-50.0,
            upper=50.0,
            per_domain=True,
            own=0.0,
            meaning="the lower, the more the domain helps the target; 0: as much as the target's own domain",
        ),
    )

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """C multiplies 1, k the exponential."""
        slopes = jnp.where(point.is_own, 0.0, nonlinear["t"])
        return {"c": jnp.ones_like(point.volume), "k": jnp.exp(jnp.sum(slopes * point.mixture, axis=0))}

    def convex(self, coefficients: Mapping[str, np.ndarray]) -> bool:
        """A sum of exponentials of linear functions, with factors that are not negative."""
        return True

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Start from losses that fall with the own proportion, slowly to steeply."""
        return {"t": (0.1, 0.5, 1.5, 4.0)}


@dataclass(frozen=True)
class LogLinear(Exponential):
    """The log-linear law of Olmix, f(r) = exp(c') + exp(t' . r): the law M4 with c = exp(c') and t' = t + log k.

    Example:
        >>> from bimixjax.laws import LogLinear
        >>> LogLinear().names(("web", "code"))
        ('c', 'k', 't[web]', 't[code]')

    Source: arXiv 2602.12237, and its repository allenai/olmix.
    """

    name = "log_linear"


@dataclass(frozen=True)
class ExponentialM1(Law):
    """The data mixing law M1: L_i(r) = c_i + k_i sum_j K_ij exp(t_ij r_j),  K_ij >= 0, K_ii = 1.

    The source's k_ij is k_i K_ij here: taking the target's own as 1 is the gauge. A target that is no domain has none:
    its k and K are known up to a common factor. Finite everywhere. It has many optima, and few runs leave it loose.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import ExponentialM1, Point
        >>> is_own = jnp.array([True, False])
        >>> point = Point(mixture=jnp.array([1.0, 0.0]), own=1.0, volume=1.0, model_size=1.0, is_own=is_own)
        >>> coefficients = {"c": 1.0, "k": 1.0, "K": jnp.array([1.0, 0.5]), "t": jnp.array([0.0, -2.0])}
        >>> float(ExponentialM1().loss(coefficients, point))
        2.5

    Source: Ye et al., arXiv 2403.16952, form M1.
    """

    name = "exponential_m1"
    local_minima = 204
    draws = 200
    coefficients = (
        _FLOOR,
        _SCALE,
        Coefficient(
            name="K",
            prior=(0.5, 2.0),
            spread=1.5,
            upper=1e3,
            per_domain=True,
            own=1.0,
            meaning="weight of the domain's exponential in the target's loss, that of the target's own domain being 1",
        ),
        _SLOPES,
    )

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """C multiplies 1, k the weighted sum of exponentials."""
        weights = jnp.where(point.is_own, 1.0, nonlinear["K"])
        terms = weights * jnp.exp(nonlinear["t"] * point.mixture)
        return {"c": jnp.ones_like(point.volume), "k": jnp.sum(terms, axis=0)}

    def convex(self, coefficients: Mapping[str, np.ndarray]) -> bool:
        """A sum of exponentials of linear functions, with factors that are not negative."""
        return True

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Start from losses that fall with every proportion; draws rise with some."""
        return {"K": (0.05, 0.5), "t": (-4.0, -1.0)}


@dataclass(frozen=True)
class ExponentialM2(Law):
    """The data mixing law M2: L_i(r) = c_i + k_i sum_j exp(t_ij r_j). Finite everywhere.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import ExponentialM2, Point
        >>> point = Point(mixture=jnp.array([1.0, 0.0]), own=1.0, volume=1.0, model_size=1.0)
        >>> float(ExponentialM2().loss({"c": 1.0, "k": 0.5, "t": jnp.array([0.0, -2.0])}, point))
        2.0

    Source: Ye et al., arXiv 2403.16952, form M2.
    """

    name = "exponential_m2"
    local_minima = 8
    draws = 40
    coefficients = (_FLOOR, _SCALE, _SLOPES)

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """C multiplies 1, k the sum of exponentials."""
        return {"c": jnp.ones_like(point.volume), "k": jnp.sum(jnp.exp(nonlinear["t"] * point.mixture), axis=0)}

    def convex(self, coefficients: Mapping[str, np.ndarray]) -> bool:
        """A sum of exponentials of linear functions, with factors that are not negative."""
        return True

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Start from losses that rise or fall with every proportion."""
        return {"t": (-4.0, -1.0, 0.5, 2.0)}


@dataclass(frozen=True)
class ExponentialM3(Law):
    """The data mixing law M3: L_i(r) = c_i + k_i exp(t_i prod_j d r_j), over d domains.

    Of the source's t_ij only the product matters: it is t_i d^d. Finite everywhere; constant where a domain is absent.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import ExponentialM3, Point
        >>> point = Point(mixture=jnp.array([1.0, 0.0]), own=1.0, volume=1.0, model_size=1.0)
        >>> float(ExponentialM3().loss({"c": 1.0, "k": 0.5, "t": -2.0}, point))
        1.5

    Source: Ye et al., arXiv 2403.16952, form M3.
    """

    name = "exponential_m3"
    local_minima = 16
    coefficients = (_FLOOR, _SCALE, Coefficient(name="t", prior=(0.0, 2.0), lower=-50.0, upper=50.0, proportions=2))

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """C multiplies 1, k the exponential."""
        product = jnp.prod(point.mixture.shape[0] * point.mixture, axis=0)
        return {"c": jnp.ones_like(point.volume), "k": jnp.exp(nonlinear["t"] * product)}

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Start from losses that rise or fall with balance: evenly, or only where it is all but lost."""
        return {"t": (-40.0, -5.0, -0.03, 0.03, 5.0)}
