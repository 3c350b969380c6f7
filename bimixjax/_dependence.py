"""What each term of a law depends on, told from how the law is computed."""

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
    """What the term of each of p linear coefficients depends on.

    Args:
        reads: each packed non-linear coefficient [p][q].
        varies: the volume [p].
    """

    reads: tuple[tuple[bool, ...], ...]
    varies: tuple[bool, ...]


@lru_cache(maxsize=256)
def dependence(law: Law, domains: int) -> Dependence:
    """What the terms of a law of so many domains depend on."""
    parts, shares, one = law.part(linear=False), jnp.full((domains,), 1 / domains), jnp.ones(())

    def terms(inputs: Mapping[str, Array]) -> list[Array]:
        point = Point(
            mixture=shares, own=shares[0], volume=inputs[_VOLUME], model_size=one, is_own=shares > 1, unit=one
        )
        found = law.basis(inputs, point)
        return [found[c.name] for c in law.part(linear=True)]

    inputs = {c.name: jnp.ones((domains,) if c.per_domain else ()) for c in parts} | {_VOLUME: one}
    traced = jax.make_jaxpr(terms)(inputs).jaxpr
    sources = _sources(traced, dict(zip(traced.invars, map(frozenset, zip(sorted(inputs))), strict=True)))
    return Dependence(
        reads=tuple(
            tuple(c.name in sources(out) for c in parts for _ in range(c.size(domains))) for out in traced.outvars
        ),
        varies=tuple(_VOLUME in sources(out) for out in traced.outvars),
    )


def _sources(jaxpr: Any, known: Mapping[Any, frozenset[str]]) -> Callable[[Any], frozenset[str]]:
    """From a variable to the inputs that it is computed from; what an equation's parts do is not looked at."""
    found = dict(known)

    def of(variable: Any) -> frozenset[str]:
        return frozenset() if isinstance(variable, Literal) else found.get(variable, frozenset())

    for equation in jaxpr.eqns:
        read = frozenset().union(*map(of, equation.invars))
        found.update(dict.fromkeys(equation.outvars, read))
    return of
