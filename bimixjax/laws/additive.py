"""The additive and the joint law: shares in the loss of the mixture, of the volume and of the model size."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from bimixjax.laws.law import Basis, Coefficient, Law, Point, Units, power, rescaled, share_power

_BETA = Coefficient(name="beta", prior=(0.4, 1.0), upper=20.0, volumes=3)
_ALPHA = Coefficient(name="alpha", prior=(0.3, 1.0), upper=20.0, sizes=3)
_LEVEL = (
    Coefficient(name="E", linear=True, prior=(2.0, 2.0)),
    Coefficient(name="K", linear=True, prior=(0.5, 2.0)),
    Coefficient(name="B", linear=True, prior=(0.5, 2.0), volumes=3),
)
_LEVEL_SIZED = (
    Coefficient(name="E", linear=True, prior=(2.0, 2.0), sizes=3),
    *_LEVEL[1:],
    Coefficient(name="A", linear=True, prior=(0.5, 2.0), sizes=3),
)
_MIXTURE = (
    Coefficient(
        name="C",
        prior=(0.1, 2.0),
        spread=1.5,
        upper=1e4,
        per_domain=True,
        own=1.0,
        meaning="how much the domain lowers the target's loss, beside the target's own domain (1); 0: no help",
    ),
    Coefficient(
        name="g",
        prior=(0.5, 0.7),
        spread=0.3,
        lower=0.02,
        upper=10.0,
        per_domain=True,
        meaning="power of the domain's share in the target's loss; the smaller, the more a first small share does",
    ),
)


def _weighted(weights: Array, shares: Array, point: Point) -> Array:
    """Sum shares with weights, that of the target's own domain being 1."""
    return jnp.sum(jnp.where(point.is_own, 1.0, weights) * shares, axis=0)


@dataclass(frozen=True)
class Additive(Law):
    """The additive law at one model size: the mixture and the volume each add their share.

    L_i(r, s) = E_i + K_i / (sum_j C_ij r_j^g_ij) + B_i / s^beta_i,  C_ij >= 0, C_ii = 1

    The source's C_ij is C_ij / K_i here: taking the target's own as 1 is the gauge. A target that is no domain has no
    own: its K and C are known up to a common factor. A domain with r_j = 0 adds nothing to the sum; the loss diverges
    only where all domains that a target learns from are absent. The best mixture is the same at every volume.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import Additive, Point
        >>> is_own = jnp.array([True, False])
        >>> point = Point(mixture=jnp.array([0.0, 1.0]), own=0.0, volume=16.0, model_size=1.0, is_own=is_own)
        >>> mixture = {"K": 0.5, "C": jnp.array([1.0, 0.5]), "g": jnp.array([0.5, 0.5])}
        >>> float(Additive().loss({"E": 1.0, "B": 2.0, "beta": 0.25, **mixture}, point))
        3.0

    Source: arXiv 2507.09404, Eq. 2.4.
    """

    name = "additive"
    local_minima = 3
    # Where all C and g are equal, K may vanish for a target without an own domain: a saddle.
    draws = 16
    coefficients = (*_LEVEL, _BETA, *_MIXTURE)

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """E multiplies 1, K the inverse sum, B multiplies s^-beta."""
        learnt = _weighted(nonlinear["C"], share_power(point.mixture, nonlinear["g"]), point)
        return {"E": jnp.ones_like(point.volume), "K": 1 / learnt, "B": power(point.volume, -nonlinear["beta"])}

    def convex(self, coefficients: Mapping[str, np.ndarray]) -> bool:
        """The inverse of a sum that is concave, where all g of domains that help are at most 1."""
        return bool(np.all((coefficients["g"] <= 1) | (coefficients["C"] == 0)))

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Little and much learnt from the others, at two powers."""
        return {"beta": (0.2, 0.8), "C": (0.05, 0.5), "g": (0.2, 0.5, 1.0)}

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Multiply B by volume^beta."""
        return rescaled(coefficients, units.volume, B="beta")


@dataclass(frozen=True)
class AdditiveSized(Additive):
    """The additive law with model size: A_i / N^alpha_i is added. E, A and alpha need three sizes.

    L_i(r, s, N) = E_i + K_i / (sum_j C_ij r_j^g_ij) + B_i / s^beta_i + A_i / N^alpha_i,  C_ij >= 0, C_ii = 1

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import AdditiveSized, Point
        >>> is_own = jnp.array([True, False])
        >>> point = Point(mixture=jnp.array([0.0, 1.0]), own=0.0, volume=16.0, model_size=4.0, is_own=is_own)
        >>> mixture = {"K": 0.5, "C": jnp.array([1.0, 0.5]), "g": jnp.array([0.5, 0.5])}
        >>> float(AdditiveSized().loss({"E": 1.0, "B": 2.0, "beta": 0.25, "A": 2.0, "alpha": 0.5, **mixture}, point))
        4.0

    Source: arXiv 2507.09404, Eq. 2.4.
    """

    name = "additive_sized"
    sized = True
    coefficients = (*_LEVEL_SIZED, _BETA, _ALPHA, *_MIXTURE)

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """Return the basis at one size, and N^-alpha for A."""
        return {**super().basis(nonlinear, point), "A": power(point.model_size, -nonlinear["alpha"])}

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Little and much learnt from the others, at two powers."""
        return {**super().starts(), "alpha": (0.3,)}

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Multiply A by model_size^alpha, B by volume^beta."""
        return rescaled(super().with_units(coefficients, units), units.model_size, A="alpha")


def _joint(suffix: str) -> tuple[Coefficient, Coefficient]:
    """Return the weights and the power of a sum of proportions that scales one term."""
    return (
        Coefficient(
            name=f"C{suffix}",
            prior=(1.0, 2.0),
            spread=1.0,
            upper=1e4,
            per_domain=True,
            own=1.0,
            meaning=f"weight of the domain in what multiplies {suffix} of the target, the target's own domain being 1; "
            f"more of it lowers the loss where g{suffix} < 0 and raises it where g{suffix} > 0",
        ),
        Coefficient(name=f"g{suffix}", prior=(0.0, 1.0), lower=-10.0, upper=10.0, proportions=2),
    )


def _scale(term: str, nonlinear: Mapping[str, Array], point: Point) -> Array:
    """Return (sum_j C_j r_j)^g, which scales a term."""
    return power(_weighted(nonlinear[f"C{term}"], point.mixture, point), nonlinear[f"g{term}"])


def _bends_up(exponent: np.ndarray) -> bool:
    """Say whether x^exponent is convex for x >= 0."""
    return bool((exponent <= 0) | (exponent >= 1))


@dataclass(frozen=True)
class Joint(Additive):
    """The joint law at one model size: the mixture also scales what the volume adds.

    L_i(r, s) = E_i + K_i / (sum_j C_ij r_j^g_ij) + B_i (sum_j CB_ij r_j)^gB_i / s^beta_i,  C_ii = CB_ii = 1

    Gauge and behaviour at r_j = 0 as in `Additive`; the source's CB_ij is B_i^(1/gB_i) CB_ij here.

    Example:
        >>> from bimixjax.laws import Joint
        >>> Joint().names(("web", "code"))[3:]
        ('beta', 'C[web]', 'C[code]', 'g[web]', 'g[code]', 'CB[web]', 'CB[code]', 'gB')

    Source: arXiv 2507.09404, Eq. 2.5.
    """

    name = "joint"
    local_minima = 12
    draws = 48
    coefficients = (*_LEVEL, _BETA, *_MIXTURE, *_joint("B"))

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """Multiply the term of B of the additive law by (sum_j CB_j r_j)^gB."""
        volume = power(point.volume, -nonlinear["beta"])
        return {**super().basis(nonlinear, point), "B": (_scale("B", nonlinear, point), volume)}

    def convex(self, coefficients: Mapping[str, np.ndarray]) -> bool:
        """Where that of the additive law is, and the power of what scales each term has no bend downwards."""
        return super().convex(coefficients) and _bends_up(coefficients["gB"])

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Few, as draws do better, with a volume term that falls with the own proportion."""
        return {"beta": (0.4,), "C": (0.1,), "g": (0.3, 1.0), "CB": (0.5,), "gB": (-0.3,)}


@dataclass(frozen=True)
class JointSized(AdditiveSized):
    """The joint law with model size: A_i (sum_j CA_ij r_j)^gA_i / N^alpha_i is added.

    L_i(r, s, N) = E_i + K_i / (sum_j C_ij r_j^g_ij) + B_i (sum_j CB_ij r_j)^gB_i / s^beta_i
                   + A_i (sum_j CA_ij r_j)^gA_i / N^alpha_i,  C_ii = CB_ii = CA_ii = 1

    E, A and alpha need three model sizes.

    Example:
        >>> from bimixjax.laws import JointSized
        >>> JointSized().names(("web", "code"))[-6:]
        ('CB[web]', 'CB[code]', 'gB', 'CA[web]', 'CA[code]', 'gA')

    Source: arXiv 2507.09404, Eq. 2.5.
    """

    name = "joint_sized"
    local_minima = 12
    draws = 48
    coefficients = (*AdditiveSized.coefficients, *_joint("B"), *_joint("A"))

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """Multiply the terms of A and B of the additive law each by its (sum_j C_j r_j)^g."""
        return {
            **super().basis(nonlinear, point),
            "A": (_scale("A", nonlinear, point), power(point.model_size, -nonlinear["alpha"])),
            "B": (_scale("B", nonlinear, point), power(point.volume, -nonlinear["beta"])),
        }

    def convex(self, coefficients: Mapping[str, np.ndarray]) -> bool:
        """Where that of the additive law is, and the power of what scales each term has no bend downwards."""
        return super().convex(coefficients) and all(_bends_up(coefficients[g]) for g in ("gA", "gB"))

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Few, as draws do better, with terms that fall with the own proportion."""
        mixture = {"C": (0.1,), "g": (0.3, 1.0), "CB": (0.5,), "gB": (-0.3,), "CA": (0.5,), "gA": (-0.3,)}
        return {"alpha": (0.3,), "beta": (0.4,), **mixture}
