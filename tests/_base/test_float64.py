"""Float64 computations under float32 callers: values, every mode of derivative, and no warnings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bimixjax._base.float64 import in_float64


def cubic(matrix, index, x):
    """A function whose derivatives hold gathers, dots and scatters."""
    y = matrix @ x
    return y.at[0].add(x[index] ** 3)


@pytest.mark.parametrize("x64", [False, True])
def test_derivatives_of_every_mode_and_order(x64):
    rng = np.random.default_rng(0)
    matrix, index, start = rng.normal(size=(2, 3)), np.array(1), rng.normal(size=3)
    slope = matrix.copy()
    slope[0, 1] += 3 * start[1] ** 2
    with jax.enable_x64(x64):

        def call(x):
            with jax.enable_x64(True):
                wide = jnp.asarray(x, jnp.float64)
                return in_float64(cubic)(jnp.asarray(matrix), jnp.asarray(index), wide).astype(x.dtype)

        x = jnp.asarray(start, jnp.float64 if x64 else jnp.float32)
        for jacobian in (jax.jacrev, jax.jacfwd):
            for wrap in (lambda f: f, jax.jit):
                np.testing.assert_allclose(wrap(jacobian(call))(x), slope, rtol=1e-6)
        hessian = jax.jit(jax.hessian(lambda x: call(x)[0]))(x)
        np.testing.assert_allclose(hessian, np.diag([0, 6 * start[1], 0]), rtol=1e-6, atol=1e-6)
        several = jax.vmap(jax.jacrev(call))(jnp.stack([x, x]))
        np.testing.assert_allclose(several[1], slope, rtol=1e-6)


def test_the_computation_is_in_float64():
    with jax.enable_x64(True):
        tiny = jnp.asarray(1e-12)
    difference = in_float64(lambda x: (1.0 + x) - 1.0)(tiny)
    assert float(difference) == pytest.approx(1e-12, rel=1e-3)
    assert jnp.asarray(1.0).dtype == jnp.float32
