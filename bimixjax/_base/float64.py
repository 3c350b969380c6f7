"""Compute functions in float64 whatever the caller's setting, derivatives of every order and mode included."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero


def in_float64(function: Callable[..., Array]) -> Callable[..., Array]:
    """Make a function of a few small float64 arrays safe to call, and to differentiate, while x64 is off.

    Entering `enable_x64` in the function is not enough: reverse mode transposes it after the context has ended, and
    operations such as gather and dot then ask for float64 while it is off. Here a derivative is the
    function's Jacobian, computed inside the context, times the tangent, by operations whose transposes need no context.
    The Jacobian is made by this same rule, hence derivatives of any order.

    The function may close over constants only. Array arguments that are not floating point get no derivative.
    """

    @jax.custom_jvp
    def call(*arguments: Array) -> Array:
        with jax.enable_x64(True):
            return function(*arguments)

    def differentiate(primals: tuple[Array, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
        value = call(*primals)
        moved = [i for i, tangent in enumerate(tangents) if not isinstance(tangent, SymbolicZero)]
        with jax.enable_x64(True):
            change = jnp.zeros_like(value)
            for i in moved:
                jacobian = in_float64(jax.jacfwd(function, argnums=i))(*primals)
                axes = tuple(range(value.ndim, jacobian.ndim))
                change += jnp.sum(jacobian * tangents[i], axis=axes)
        return value, change

    call.defjvp(differentiate, symbolic_zeros=True)
    return call
