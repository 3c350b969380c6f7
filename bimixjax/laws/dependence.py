"""What each factor of a law's terms depends on, read from the jaxpr of the law."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Literal

from bimixjax.laws import Law, Point

_VOLUME = "the volume"


@dataclass(frozen=True, kw_only=True)
class Dependence:
    """What the factors of the terms of p linear coefficients depend on.

    Attributes:
        reads: each packed non-linear coefficient [p][f][q].
        varies: the volume [p][f].
    """

    reads: tuple[tuple[tuple[bool, ...], ...], ...]
    varies: tuple[tuple[bool, ...], ...]

    def slopes_by_row(self) -> int:
        """Count the coefficients that are read by a factor that varies with the volume."""
        pairs = zip(self.reads, self.varies, strict=True)
        varying = [reads for factors, varies in pairs for reads, v in zip(factors, varies, strict=True) if v]
        return sum(any(column) for column in zip(*varying, strict=True))


@lru_cache(maxsize=256)
def dependence(law: Law, domains: int) -> Dependence:
    """Trace what the factors of a law of so many domains depend on."""
    parts, shares, one = law.part(linear=False), jnp.full((domains,), 1 / domains), jnp.ones(())

    def factors(inputs: Mapping[str, Array]) -> list[list[Array]]:
        point = Point(
            mixture=shares, own=shares[0], volume=inputs[_VOLUME], model_size=one, is_own=shares > 1, unit=one
        )
        found = law.factors(inputs, point)
        return [[jnp.asarray(factor) for factor in found[c.name]] for c in law.part(linear=True)]

    inputs = {c.name: jnp.ones((domains,) if c.per_domain else ()) for c in parts} | {_VOLUME: one}
    traced, shape = jax.make_jaxpr(factors, return_shape=True)(inputs)
    sources = _sources(traced.jaxpr, dict(zip(traced.jaxpr.invars, map(frozenset, zip(sorted(inputs))), strict=True)))
    read = jax.tree.unflatten(jax.tree.structure(shape), [sources(out) for out in traced.jaxpr.outvars])
    return Dependence(
        reads=tuple(
            tuple(tuple(c.name in known for c in parts for _ in range(c.size(domains))) for known in factors)
            for factors in read
        ),
        varies=tuple(tuple(_VOLUME in known for known in factors) for factors in read),
    )


def _sources(jaxpr: Any, known: Mapping[Any, frozenset[str]]) -> Callable[[Any], frozenset[str]]:
    """Return a function from a variable to the inputs that it is computed from, by whole equations."""
    found = dict(known)

    def of(variable: Any) -> frozenset[str]:
        return frozenset() if isinstance(variable, Literal) else found.get(variable, frozenset())

    for equation in jaxpr.eqns:
        read = frozenset().union(*map(of, equation.invars))
        found.update(dict.fromkeys(equation.outvars, read))
    return of
