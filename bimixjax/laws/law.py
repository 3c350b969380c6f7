"""What a law is: a formula for one target's loss at one observation, and the coefficients that it takes."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import mul
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from bimixjax.laws.prior import Prior


class Point(NamedTuple):
    """One observation as a law sees it: mixture, volume and model size, and which domain the target is.

    In a fit every field has further axes behind, runs, volumes and lanes, that broadcast against the coefficients'.

    Attributes:
        mixture: r [d].
        own: the target's own r_i, 0 where the target is no domain.
        volume: s.
        model_size: N.
        is_own: for each domain, whether it is the target [d]; False for a target that is no domain.
        unit: in how many of the user's units of volume s is given.
        unique: U, what there is of each domain to be drawn from, in the unit of s [d], infinite for no limit; one
            number for all. Only laws that say `reads_unique` get more than infinity.
    """

    mixture: Array
    own: Array
    volume: Array
    model_size: Array
    is_own: ArrayLike = False
    unit: ArrayLike = 1.0
    unique: ArrayLike = math.inf


class Units(NamedTuple):
    """A change of units.

    Attributes:
        volume: how many new units of volume one old unit is.
        model_size: how many new units of model size one old unit is.
        is_own: for each domain, whether it is the target [d].
    """

    volume: ArrayLike
    model_size: ArrayLike
    is_own: ArrayLike = False


def power(base: ArrayLike, exponent: ArrayLike) -> Array:
    """Return base^exponent for base >= 0 and exponent not 0, as exp(exponent log base).

    In a fit the base is data: its logarithm is taken once, not in every iteration.

    Example:
        >>> from bimixjax.laws import power
        >>> round(float(power(4.0, -0.5)), 6)
        0.5
    """
    return jnp.exp(exponent * jnp.log(base))


def share_power(share: ArrayLike, exponent: ArrayLike) -> Array:
    """Return share^exponent for share >= 0 and exponent > 0; at 0 it is 0, and so are its derivatives.

    Example:
        >>> from bimixjax.laws import share_power
        >>> [round(float(share_power(share, 0.5)), 6) for share in (0.0, 0.25)]
        [0.0, 0.5]
    """
    present = jnp.asarray(share) > 0
    return jnp.where(present, power(jnp.where(present, share, 1.0), exponent), 0.0)


def rescaled(coefficients: Mapping[str, Array], base: ArrayLike, **exponents: str) -> dict[str, Array]:
    """Multiply the named coefficients by base^exponent, each exponent being the coefficient of that name."""
    grown = dict(coefficients)
    for name, exponent in exponents.items():
        grown[name] = coefficients[name] * power(base, coefficients[exponent])
    return grown


# For each linear coefficient, the term that it multiplies: an array, or a tuple of factors whose product it is.
Basis = Mapping[str, Array | tuple[Array, ...]]


@dataclass(frozen=True, kw_only=True)
class Coefficient:
    """One coefficient of a law: its name, its place in the formula, its bounds and its weak prior.

    A solver reads volumes and model sizes divided by the largest ones fitted, and losses in nats per token; bounds and
    priors are in those units. The prior is normal on a linear coefficient, so that zero stays reachable, and on one
    that may be negative; on the others it is log-normal. `prior` is its (mean, standard deviation), or (median,
    standard deviation of the logarithm).

    Attributes:
        name: symbol in the formula, as in the source.
        linear: whether the loss is linear in it, given the others.
        prior: the weak prior that makes small designs well-posed.
        lower, upper: bounds; an infinite bound is none.
        per_domain: whether there is one value per training domain.
        own: the fixed value of the target's own domain; None where it is fitted as the others are.
        spread: where given, the prior keeps these values about their own common mean, which is fitted; this is their
            standard deviation about it, and `prior` is that of the mean.
        proportions, volumes, sizes: how many distinct own proportions, volumes and model sizes it takes to identify it.
        meaning: where there is one value per domain, how to read it: which domain helps which target.
        weak_prior: `prior` and `spread` in one.

    Example:
        >>> from bimixjax.laws import Coefficient
        >>> Coefficient(name="alpha", prior=(0.1, 1.5), upper=10.0, proportions=2).logarithmic
        True
        >>> Coefficient(name="T", prior=(0.1, 1.5), per_domain=True).size(domains=5)
        5
    """

    name: str
    linear: bool = False
    prior: tuple[float, float]
    lower: float = 0.0
    upper: float = math.inf
    per_domain: bool = False
    own: float | None = None
    spread: float | None = None
    proportions: int = 1
    volumes: int = 1
    sizes: int = 1
    meaning: str = ""
    weak_prior: Prior = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weak_prior", Prior(*self.prior, self.spread))

    def size(self, domains: int) -> int:
        """Count its numbers."""
        return domains if self.per_domain else 1

    @property
    def logarithmic(self) -> bool:
        """Say whether its prior is log-normal."""
        return not self.linear and self.lower >= 0


@dataclass(frozen=True)
class Law(ABC):
    """A formula L(c; r, s, N) for one target's loss, linear in some of its coefficients.

    A subclass states its name, version and coefficients, and writes `basis` for one observation, with domains along
    axis 0 and all else elementwise: the same lines then serve whole batches by broadcasting. Its own settings, if any,
    are dataclass fields. The loss is a sum over the linear coefficients, each times its basis term:

        L(c; r, s, N) = sum_k c_k basis_k(r, s, N)

    A law with `own_proportion` reads the target's own proportion, so that the target must be a domain; it reads the
    others too where it says `cross_domain`, as laws without `own_proportion` may. One that `diverges_at_zero` is not
    defined where the own proportion is zero. A law that is `sized` reads the model size; under the others each size is
    fitted by itself. A cost with several local minima is minimized from as many of the best starts as `local_minima`
    says, chosen among those that `starts` gives and `draws` more about the priors. One that `reads_unique` reads how
    many unique tokens there are of each domain, which make epochs of a share.

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.laws import Coefficient, Law, Point, power
        >>> class Faded(Law):
        ...     name = "faded"
        ...     coefficients = (
        ...         Coefficient(name="B", linear=True, prior=(1.0, 2.0)), Coefficient(name="beta", prior=(0.4, 1.0))
        ...     )
        ...     def basis(self, nonlinear, point):
        ...         return {"B": (1 - point.own, power(point.volume, -nonlinear["beta"]))}
        ...     def starts(self):
        ...         return {"beta": (0.2, 0.8)}
        >>> point = Point(mixture=jnp.array([0.25, 0.75]), own=0.25, volume=16.0, model_size=1.0)
        >>> float(Faded().loss({"B": 4.0, "beta": 0.5}, point))
        0.75
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    coefficients: ClassVar[tuple[Coefficient, ...]]
    gauge: ClassVar[Mapping[str, float]] = {}
    own_proportion: ClassVar[bool] = False
    cross_domain: ClassVar[bool] = False
    diverges_at_zero: ClassVar[bool] = False
    sized: ClassVar[bool] = False
    reads_unique: ClassVar[bool] = False
    local_minima: ClassVar[int] = 1
    draws: ClassVar[int] = 0

    @abstractmethod
    def basis(self, nonlinear: Mapping[str, Array], point: Point) -> Basis:
        """Return what multiplies each linear coefficient at one observation, given the non-linear coefficients.

        A term is an array or the tuple of its factors. A fit computes a factor that is free of the volume once per run,
        so a term with one factor of the mixture and one of the volume is fitted faster as a tuple.
        """

    @abstractmethod
    def starts(self) -> Mapping[str, tuple[float, ...]]:
        """Return values of each non-linear coefficient, from whose product grid a fit chooses its starts."""

    def factors(self, nonlinear: Mapping[str, Array], point: Point) -> dict[str, tuple[Array, ...]]:
        """Return the factors of each term of `basis`, of which there may be one."""
        terms = self.basis(nonlinear, point)
        return {name: term if isinstance(term, tuple) else (term,) for name, term in terms.items()}

    def loss(self, coefficients: Mapping[str, Array], point: Point) -> Array:
        """Return the loss in nats per token at one observation."""
        loss = 0.0 * point.volume
        for name, factors in self.factors(coefficients, point).items():
            loss = loss + coefficients[name] * reduce(mul, factors)
        return loss

    def with_units(self, coefficients: Mapping[str, Array], units: Units) -> Mapping[str, Array]:
        """Return the coefficients of the same law in smaller units; unchanged unless the law says how."""
        return coefficients

    def own_power(self, coefficients: Mapping[str, Array], point: Point) -> tuple[Array, Array, Array]:
        """Return (c, a, e), for a law whose loss is c (r_i + e)^-a in the own proportion and free of all others."""
        raise TypeError(f"{self.name} is not a power of the own proportion")

    def convex(self, coefficients: Mapping[str, np.ndarray]) -> bool:
        """Say whether a loss with these coefficients is known to be convex in the mixture; False unless a law says."""
        return False

    def part(self, *, linear: bool) -> tuple[Coefficient, ...]:
        """Return the linear or the non-linear coefficients, in their order."""
        return tuple(c for c in self.coefficients if c.linear == linear)

    def ordered(self) -> tuple[Coefficient, ...]:
        """Return all coefficients in the order of a packed vector: the linear ones, then the others."""
        return self.part(linear=True) + self.part(linear=False)

    def packed(self, domains: int, *, linear: bool | None = None) -> tuple[Coefficient, ...]:
        """Return the coefficient of each number of a packed vector, or of its linear or non-linear part."""
        parts = self.ordered() if linear is None else self.part(linear=linear)
        return tuple(c for c in parts for _ in range(c.size(domains)))

    def names(self, domains: Sequence[str]) -> tuple[str, ...]:
        """Return a name for each number of a packed vector, such as `alpha` or `T[web]`."""
        return tuple(
            name
            for c in self.ordered()
            for name in ([f"{c.name}[{domain}]" for domain in domains] if c.per_domain else [c.name])
        )

    def fixed(self, domains: int, own: int) -> np.ndarray:
        """Return the fixed numbers of a packed vector when the target is domain `own` (-1 for none), NaN elsewhere."""
        return np.array(
            [
                c.own if c.own is not None and number == own else np.nan
                for c in self.ordered()
                for number in range(c.size(domains))
            ],
            float,
        )

    def unpack(self, vector: Array, parts: Sequence[Coefficient], domains: int) -> dict[str, Array]:
        """Split a packed vector into named coefficients: scalars, or [domains] where there is one per domain."""
        named, start = {}, 0
        for c in parts:
            stop = start + c.size(domains)
            named[c.name] = vector[start:stop] if c.per_domain else vector[start]
            start = stop
        return named
