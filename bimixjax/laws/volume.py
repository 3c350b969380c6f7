"""A power of the volume, added to a law that has none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jax import Array

from bimixjax.laws.law import Basis, Coefficient, Law, Point, Units, power


def adopt(wrapper: Law, inner: Law, **changed: Any) -> None:
    """Give a frozen wrapper the class attributes of the law that it wraps, save those that it changes."""
    facts = (
        "gauge",
        "own_proportion",
        "cross_domain",
        "diverges_at_zero",
        "sized",
        "reads_unique",
        "local_minima",
        "draws",
        "coefficients",
    )
    for name, value in {**{fact: getattr(inner, fact) for fact in facts}, **changed}.items():
        object.__setattr__(wrapper, name, value)


@dataclass(frozen=True)
class WithVolume(Law):
    """A law of the mixture only, plus a power of the volume: L(r, s) = L_inner(r) + B / s^beta.

    Without it, such a law describes losses at one volume.

    Attributes:
        inner: the law of the mixture.

    Example:
        >>> from bimixjax.laws import Exponential, WithVolume
        >>> WithVolume(Exponential()).name, WithVolume(Exponential()).names(("web", "code"))
        ('exponential_volume', ('c', 'k', 'B', 't[web]', 't[code]', 'beta'))

    Source: the volume term of arXiv 2203.15556, Eq. 2.
    """

    inner: Law = field()

    def __post_init__(self) -> None:
        own = (
            Coefficient(name="B", linear=True, prior=(1.0, 2.0), volumes=3),
            Coefficient(name="beta", prior=(0.4, 1.0), upper=20.0, volumes=3),
        )
        adopt(self, self.inner, name=f"{self.inner.name}_volume", coefficients=(*self.inner.coefficients, *own))

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """Add s^-beta for B to the terms of the inner law."""
        return {**self.inner.basis(nonlinear, point), "B": power(point.volume, -nonlinear["beta"])}

    def convex(self, coefficients: Mapping[str, np.ndarray]) -> bool:
        """Where the law of the mixture is."""
        return self.inner.convex(coefficients)

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Combine those of the inner law with three exponents."""
        return {**self.inner.starts(), "beta": (0.15, 0.4, 0.9)}

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Multiply B by volume^beta."""
        inner = self.inner.with_units(coefficients, units)
        return {**inner, "B": coefficients["B"] * power(units.volume, coefficients["beta"])}
