"""What each factor of a law's terms depends on, read from the jaxpr of the law."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import Literal

from bimixjax.laws import Law, Point

_VOLUME = "the volume"


def slopes_by_row(reads: Sequence[Sequence[Sequence[bool]]], varies: Sequence[Sequence[bool]]) -> int:
    """Count the coefficients that are read by a factor that varies with the volume; arguments from `dependence`."""
    return int((np.concatenate(reads) & np.concatenate(varies)[:, None]).any(0).sum())


@lru_cache(maxsize=256)
def dependence(law: Law, domains: int) -> tuple[list[list[list[bool]]], list[list[bool]]]:
    """Trace what the factors of the terms of p linear coefficients depend on, under a law of so many domains.

    Returns:
        For each factor of each term, whether it depends on each packed non-linear coefficient [p][f][q], and whether
        on the volume [p][f].
    """
    linear, nonlinear = law.part(linear=True), law.part(linear=False)
    shares, one = jnp.full((domains,), 1 / domains), jnp.ones(())

    def factors(inputs: Mapping[str, Array]) -> list[tuple[Array, ...]]:
        point = Point(
            mixture=shares,
            own=shares[0],
            volume=inputs[_VOLUME],
            model_size=one,
            is_own=shares > 1,
            unit=one,
            unique=shares if law.reads_unique else np.inf,
        )
        found = law.factors(inputs, point)
        return [jax.tree.map(jnp.asarray, found[c.name]) for c in linear]

    inputs = {c.name: jnp.ones((domains,) if c.per_domain else ()) for c in nonlinear} | {_VOLUME: one}
    traced, shape = jax.make_jaxpr(factors, return_shape=True)(inputs)
    # Which inputs, sorted by name as JAX does, each variable is computed from, by whole equations.
    found: dict[Any, np.ndarray] = dict(zip(traced.jaxpr.invars, np.eye(len(inputs), dtype=bool), strict=True))
    nothing = np.zeros(len(inputs), bool)
    for equation in traced.jaxpr.eqns:
        # Literals and constants are computed from nothing.
        known = [nothing if isinstance(v, Literal) else found.get(v, nothing) for v in equation.invars]
        found.update(dict.fromkeys(equation.outvars, np.any([nothing, *known], axis=0)))
    outs = [nothing if isinstance(v, Literal) else found.get(v, nothing) for v in traced.jaxpr.outvars]
    names = [*(c.name for c in law.packed(domains, linear=False)), _VOLUME]
    table = np.array(outs)[:, np.searchsorted(sorted(inputs), names)]
    ends = np.cumsum(list(map(len, shape)))
    parts = np.split(table, ends[:-1])
    return [part[:, :-1].tolist() for part in parts], [part[:, -1].tolist() for part in parts]
