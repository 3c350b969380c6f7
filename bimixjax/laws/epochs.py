"""Laws in epochs: how much a domain's tokens are still worth when they come again, and when they begin to harm."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from bimixjax.laws.law import Basis, Coefficient, Law, Point, Units, power, rescaled
from bimixjax.laws.repetition import effective
from bimixjax.laws.volume import adopt

# How sharply harm sets in about the threshold, in the logarithm of epochs. Set by hand: where it was free, fits to the
# table of arXiv 2606.07597 chose 3 to 7. `experiments/repetition` scores the law.
_SHARPNESS = 6.0

# Medians are those of fits to the subsampled rows of that table, which repeat most, rounded: G 3.2, tau 28, delta .26;
# of R, which these rows leave between 1 and 15, that of plain fits. A table without harm is left with them.
_COEFFICIENTS = (
    Coefficient(name="G", linear=True, prior=(3.0, 2.0)),
    Coefficient(name="R", prior=(5.0, 1.0), lower=0.01, upper=1e4),
    Coefficient(name="tau", prior=(30.0, 0.5), lower=1.0, upper=1e6),
    Coefficient(name="delta", prior=(0.25, 0.5), upper=5.0),
    Coefficient(
        name="h",
        prior=(0.1, 1.5),
        spread=1.0,
        upper=1e3,
        per_domain=True,
        own=1.0,
        meaning="harm that repeating the domain does to the target, beside the target's own domain (1); 0: none",
    ),
)


def overstayed(point: Point, tau: Array, delta: Array) -> Array:
    """Return softplus(6 log((1 + E_j) / (tau U_j^delta))) / 6 of each domain [d], which is 0 where there is no limit.

    Args:
        point: the mixture, volume and unique tokens U, which make epochs E_j = r_j s / U_j.
        tau: threshold of 1 + E at one unit of unique tokens.
        delta: power by which it grows with them.
    """
    limited = jnp.isfinite(point.unique)
    unique = jnp.where(limited, point.unique, 1.0)
    beyond = jnp.log1p(point.mixture * point.volume / unique) - jnp.log(tau) - delta * jnp.log(unique)
    return jnp.where(limited, jnp.logaddexp(0.0, _SHARPNESS * beyond) / _SHARPNESS, 0.0)


@dataclass(frozen=True)
class WithEpochs(Law):
    """Any law in epochs E_j = r_j s / U_j: repeated tokens are worth less and less, and harm beyond a threshold.

    L_i(r, s) = L_inner(r', s') + G_i sum_j h_ij softplus_6(log((1 + E_j) / (tau_i U_j^delta_i)))^2,    h_ii = 1

    The inner law is read at each domain's effective tokens, as in `Repeated`, with R* fitted; the second term is the
    harm. G >= 0 and the inner law's linear coefficients are solved by non-negative least squares, and R, tau and delta
    are shared by the domains. Many unique tokens bear more epochs than few, by the power delta: at 16 times the unique
    tokens a model of 124M parameters stood twice the epochs. softplus_6(x) = log(1 + exp(6 x)) / 6. Where no domain has
    a limit this is the inner law.

    Attributes:
        inner: the law.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import BiMix, Point, WithEpochs
        >>> law = WithEpochs(BiMix())
        >>> inner = {"alpha": 0.1, "beta": 0.3, "B": 300.0, "C": 2.0}
        >>> epochs = {"G": 1.0, "R": 15.0, "tau": 4.0, "delta": 0.0, "h": jnp.array([1.0, 0.1])}
        >>> fresh = Point(jnp.array([0.5, 0.5]), 0.5, 2e11, 1.0, jnp.array([True, False]))
        >>> bool(law.loss(inner | epochs, fresh) == BiMix().loss(inner, fresh))
        True
        >>> repeated = fresh._replace(unique=jnp.array([5e9, jnp.inf]))
        >>> bool(law.loss(inner | epochs, repeated) > BiMix().loss(inner, repeated) + 0.5)
        True

    Source: benefit and harm of MARINER (repository marin-community/marin), with the effective tokens of arXiv
    2305.16264 as the benefit, so that it extrapolates in the volume, and a threshold that grows with the unique tokens.
    """

    inner: Law

    def __post_init__(self) -> None:
        adopt(
            self,
            self.inner,
            name=f"{self.inner.name}_epochs",
            cross_domain=True,
            reads_unique=True,
            coefficients=(*self.inner.coefficients, *_COEFFICIENTS),
        )

    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """Return the basis of the inner law at the effective point, and the harm, which G multiplies."""
        harm = overstayed(point, nonlinear["tau"], nonlinear["delta"]) ** 2
        weighted = jnp.sum(jnp.where(point.is_own, 1.0, nonlinear["h"]) * harm, axis=0)
        return {**self.inner.basis(nonlinear, effective(point, nonlinear["R"])), "G": weighted}

    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Combine those of the inner law with two thresholds."""
        return {**self.inner.starts(), "R": (5.0,), "tau": (10.0, 30.0), "delta": (0.25,), "h": (0.1,)}

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Divide tau by volume^delta, and change the inner law's coefficients as it does."""
        inner = self.inner.with_units(coefficients, units)
        return rescaled({**coefficients, **inner}, power(units.volume, -1.0), tau="delta")
