"""Roots of decreasing functions, differentiable by the implicit function theorem."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax

# More than a bisection needs.
MOST_STEPS = 200


def root(
    function: Callable[[Array], Array],
    low: Array,
    high: Array,
    start: Array,
    equation: Callable[[Array], Array] | None = None,
) -> Array:
    """Return the x in [low, high] with function(x) = 0, elementwise, by a bracketed Newton search.

    A step that leaves the bracket, or that is more than half as long as the last, is replaced by a bisection (as in
    Numerical Recipes, section 9.4). Where the function has no root in the bracket, x is near one of its ends.

    Args:
        function: decreasing, elementwise.
        low: lower end of the bracket.
        high: upper end.
        start: where the search starts.
        equation: another function with the same root, by which x is differentiated; None: the same. Where it has no
            slope, x has no derivative either.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> def root_of_two(square):
        ...     return root(lambda x: square - x**2, jnp.array(0.0), jnp.array(9.0), jnp.array(4.5))
        >>> round(float(root_of_two(4.0)), 5), round(float(jax.grad(root_of_two)(4.0)), 5)
        (2.0, 0.25)
    """
    eps = jnp.finfo(start.dtype).eps

    def narrow(state: tuple[Array, ...]) -> tuple[Array, ...]:
        low, high, x, last, count, done = state
        y, slope = jax.jvp(function, (x,), (jnp.ones_like(x),))
        low, high = jnp.where(y > 0, x, low), jnp.where(y > 0, high, x)
        newton = x - y / jnp.where(slope < 0, slope, -jnp.inf)
        good = (slope < 0) & (newton >= low) & (newton <= high) & (2 * jnp.abs(newton - x) <= last)
        new = jnp.where(good, newton, (low + high) / 2)
        step, rounding = jnp.abs(new - x), eps * jnp.maximum(1, jnp.abs(x))
        settled = (jnp.abs(y) <= 2 * eps) | (step <= rounding)
        # The last step polishes; a longer one comes of a slope that is rounding.
        stays = done | (settled & (step > 4 * rounding))
        return low, high, jnp.where(stays, x, new), step, count + 1, done | settled

    def search(_: Callable[[Array], Array], start: Array) -> Array:
        state = (low, high, start, jnp.full_like(start, jnp.inf), jnp.asarray(0), jnp.zeros(start.shape, bool))
        return lax.while_loop(lambda s: jnp.any(~s[5]) & (s[4] < MOST_STEPS), narrow, state)[2]

    def tangent(linear: Callable[[Array], Array], change: Array) -> Array:
        slope = linear(jnp.ones_like(change))
        return jnp.where(slope < 0, change / jnp.where(slope < 0, slope, 1.0), 0.0)

    return lax.custom_root(equation or function, lax.stop_gradient(start), search, tangent)
