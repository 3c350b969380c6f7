"""In which numbers a solver iterates, and what it then takes for rounding.

Costs and gradients are sums over residuals, which keep in float32 the digits that differences of sums of squares lose.
What remains: a float32 cost is off by some 1e-5 of it, a float32 gradient hardly at all. So in float32 costs that near
count as one, and it is the gradient that says when to stop. In float64 nothing here differs from its plain limit.
"""

from typing import Any, Literal, get_args

import jax.numpy as jnp
import numpy as np

from bimixjax._base import checks

Precision = Literal["float64", "float32", "refined"]

# Roundings of a number that a share has at least to be, to be told from them.
_ROUNDINGS = 2

# What stands for the logarithm of nothing, whatever the type: that of the least float64.
LOG_OF_NOTHING = float(np.log(np.finfo(np.float64).tiny))


def check(precision: Precision | None) -> None:
    """Raise `InputError` unless this names a precision, or is None."""
    if precision is not None:
        checks.choice("precision", precision, get_args(Precision))


def single(dtype: Any) -> bool:
    """Whether numbers have fewer digits than float64."""
    return jnp.finfo(dtype).bits < 64


def share(wanted: float, dtype: Any) -> float:
    """A small share of something, but no smaller than rounding lets one see."""
    return max(wanted, _ROUNDINGS * float(jnp.finfo(dtype).eps))


def slack(roundings: int, dtype: Any) -> float:
    """So many roundings of one number in float32, and none in float64, where what is larger counts as larger."""
    return roundings * float(jnp.finfo(dtype).eps) if single(dtype) else 0.0


def least(dtype: Any) -> float:
    """The least number whose inverse can be squared in float32; in float64 the least at all."""
    tiny = float(jnp.finfo(dtype).tiny)
    return tiny**0.5 if single(dtype) else tiny
