"""Descent beside scipy, and where there is nothing to descend to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der

from bimixjax.solve import LBFGS
from bimixjax.solve.descent import _along, _judged, _Place


def valley(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_it_finds_the_end_of_a_bent_valley():
    start = np.linspace(-1.2, 1.0, 6)
    with jax.enable_x64(True):
        end = jax.jit(lambda x: LBFGS().minimize(valley, x))(jnp.asarray(start))
    peer = minimize(rosen, start, jac=rosen_der, method="L-BFGS-B", options={"maxiter": 1000})
    assert bool(end.converged)
    assert float(end.value) < 1e-15
    np.testing.assert_allclose(end.point, np.ones(6), atol=1e-7)
    assert int(end.steps) <= 2 * peer.nit


def test_points_side_by_side_end_as_alone():
    starts = np.random.default_rng(0).uniform(-2, 2, (5, 4))
    with jax.enable_x64(True):
        together = jax.vmap(lambda x: LBFGS().minimize(valley, x))(jnp.asarray(starts))
        alone = [LBFGS().minimize(valley, jnp.asarray(start)) for start in starts]
    np.testing.assert_array_equal(together.steps, [end.steps for end in alone])
    np.testing.assert_allclose(together.point, [end.point for end in alone], rtol=1e-9)


def test_steps_do_not_leave_where_the_function_has_a_value():
    with jax.enable_x64(True):
        end = LBFGS().minimize(lambda x: jnp.sum(x - 1e-3 * jnp.log(x)), jnp.array([5.0, 1e-4]))
    assert bool(end.converged)
    np.testing.assert_allclose(end.point, 1e-3, rtol=1e-6)


def test_a_value_that_rounding_hides_is_told_by_slopes():
    with jax.enable_x64(True):
        search = _along(jnp.ones(1))
        here = _Place(point=jnp.zeros(1), value=jnp.asarray(1.0), gradient=jnp.array([-1e-9]), known=None)
        above = jnp.nextafter(here.value, 2.0)

        def too_long(slope):
            tried = _Place(point=jnp.ones(1), value=above, gradient=jnp.array([slope]), known=None)
            return bool(_judged(here, tried, search)[0])

        assert not too_long(-1e-10)
        assert too_long(2e-9)


def test_a_minimum_is_left_where_it_is():
    with jax.enable_x64(True):
        end = LBFGS().minimize(lambda x: jnp.sum(x**2), jnp.zeros(3))
    assert bool(end.converged)
    np.testing.assert_array_equal(end.point, np.zeros(3))


@pytest.mark.parametrize("function", [lambda x: -jnp.sum(x), lambda x: jnp.nan * jnp.sum(x)])
def test_what_has_no_minimum_does_not_converge(function):
    with jax.enable_x64(True):
        end = LBFGS(max_steps=50).minimize(function, jnp.ones(2))
    assert not bool(end.converged)


def test_the_function_is_traced_once_and_what_else_it_knows_is_kept():
    traced = []

    def evaluate(x):
        traced.append(x)
        return jnp.sum((x - 1) ** 2), 2 * (x - 1), {"squares": x**2}

    with jax.enable_x64(True):
        end = jax.jit(lambda x: LBFGS().descend(evaluate, x))(jnp.zeros(2))
    assert len(traced) == 1
    np.testing.assert_allclose(end.known["squares"], end.point**2)
