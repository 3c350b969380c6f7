"""The capacity law: domains share a model's capacity as is best for the mixture."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array, lax

from bimixjax._base.roots import root
from bimixjax.laws.law import Basis, Coefficient, Law, Point, Units, power


def allocate(log_drive: Array, exponent: Array, floor: Array, size: Array) -> Array:
    """Shares of capacity x [d, ...] = max(H, exp((log_drive - log lambda) / (1 + b))) that sum to N + (d - 1) H.

    Args:
        log_drive: log(r_j b_j c_j) [d, ...].
        exponent: b_j > 0 [d, ...].
        floor: H, the least that a domain gets.
        size: N > H.

    Returns:
        x, with first derivatives by the implicit function theorem.
    """

    def shares(price: Array) -> Array:
        return jnp.maximum(jnp.exp((log_drive - price) / (1 + exponent)), floor)

    room, domains = size - floor, log_drive.shape[0]
    # The dearest domain alone would take all there is, or no domain more than an equal part.
    low = jnp.max(log_drive - (1 + exponent) * jnp.log(size), axis=0)
    high = jnp.max(log_drive - (1 + exponent) * jnp.log(room / domains + floor), axis=0)
    low, high = lax.stop_gradient((low, high))
    return shares(root(lambda price: jnp.sum(shares(price) - floor, axis=0) - room, low, high, low))


@dataclass(frozen=True)
class Capacity(Law):
    """The capacity law: a target's loss has a part that model capacity x_i* buys, and one that its own data buys.

    L_i(r, s, N) = c_i / x_i*^b_i + A_i / (s r_i)^a_i + E_i
    x* = argmin sum_j r_j c_j x_j^-b_j  subject to  sum_j x_j = N + (d - 1) H, x_j >= H
       = max(H, (r_j b_j c_j / lambda)^(1 / (1 + b_j)))

    Here c_j = c_i q_j with q_i = 1, so that c_i is linear. d is the number of domains; N is taken as at least twice H.
    At r_i = 0 the law diverges: such rows are masked in a fit and predicted as infinite; a domain j that is absent gets
    x_j = H. The target must be a domain.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import Capacity, Point
        >>> is_own = jnp.array([True, False])
        >>> point = Point(mixture=jnp.array([0.5, 0.5]), own=0.5, volume=8.0, model_size=1.75, is_own=is_own)
        >>> both = {"q": jnp.array([1.0, 1.0]), "b": jnp.array([0.5, 0.5])}
        >>> round(float(Capacity().loss({"c": 1.0, "A": 2.0, "a": 0.5, "E": 1.0, "H": 0.25, **both}, point)), 6)
        3.0

    Source: Dai and Zheng, arXiv 2606.08167 (h is r here and D is s).
    """

    name = "capacity"
    own_proportion = True
    cross_domain = True
    diverges_at_zero = True
    sized = True
    local_minima = 12
    coefficients = (
        Coefficient(name="c", linear=True, prior=(0.5, 2.0)),
        Coefficient(name="A", linear=True, prior=(0.5, 2.0)),
        Coefficient(name="E", linear=True, prior=(2.0, 2.0)),
        Coefficient(name="a", prior=(0.3, 1.0), upper=20.0, volumes=3),
        Coefficient(name="H", prior=(0.01, 1.5), lower=1e-6, upper=0.5),
        Coefficient(
            name="b",
            prior=(0.3, 1.0),
            spread=0.5,
            lower=1e-3,
            upper=10.0,
            per_domain=True,
            meaning="exponent of what capacity gains on the domain, as the target's fit sees it",
        ),
        Coefficient(
            name="q",
            prior=(1.0, 1.5),
            spread=1.0,
            lower=1e-6,
            upper=1e6,
            per_domain=True,
            own=1.0,
            meaning="how strongly the domain competes with the target for capacity, the target's own domain being 1",
        ),
    )

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """C multiplies x*^-b, A multiplies (s r)^-a, E multiplies 1."""
        ratio = jnp.where(point.is_own, 1.0, nonlinear["q"])
        there = point.mixture > 0
        # An absent domain wants so little that any floor is above it; -inf would have no finite derivative.
        log_share = jnp.where(there, jnp.log(jnp.where(there, point.mixture, 1.0)), -700.0)
        size = jnp.maximum(point.model_size, 2 * nonlinear["H"])
        x = allocate(log_share + jnp.log(nonlinear["b"] * ratio), nonlinear["b"], nonlinear["H"], size)
        return {
            "c": jnp.sum(jnp.where(point.is_own, power(x, -nonlinear["b"]), 0.0), axis=0),
            "A": power(point.volume * point.own, -nonlinear["a"]),
            "E": jnp.ones_like(point.volume),
        }

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Small and large exponents."""
        return {"a": (0.15, 0.6), "H": (0.01,), "b": (0.15, 0.6), "q": (0.3, 1.0, 3.0)}

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Multiply A by volume^a, H by model_size, c by model_size^b_i, q by model_size^(b_j - b_i)."""
        own = jnp.sum(jnp.where(units.is_own, coefficients["b"], 0.0), axis=0)
        return {
            **coefficients,
            "A": coefficients["A"] * power(units.volume, coefficients["a"]),
            "H": coefficients["H"] * units.model_size,
            "c": coefficients["c"] * power(units.model_size, own),
            "q": coefficients["q"] * power(units.model_size, coefficients["b"] - own),
        }
