"""The unrolled linear algebra against NumPy and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

from bimixjax.solve import _tiny


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("size", [1, 2, 4])
def test_cholesky_solves(size):
    root = np.random.default_rng(size).normal(size=(size + 2, size))
    matrix, right = root.T @ root, np.arange(1.0, size + 1)
    factor, full = _tiny.cholesky(jnp.asarray(matrix))
    assert bool(full)
    np.testing.assert_allclose(_tiny.substitute(factor, jnp.asarray(right)), np.linalg.solve(matrix, right), rtol=1e-9)


def test_cholesky_sees_a_singular_matrix():
    assert not bool(_tiny.cholesky(jnp.ones((2, 2)))[1])


@pytest.mark.parametrize("size", [2, 3, 4])
def test_nonnegative_least_squares_is_that_of_scipy(size):
    rng = np.random.default_rng(size)
    for _ in range(30):
        matrix, right = rng.normal(size=(9, size)), rng.normal(size=9)
        ours, support = _tiny.nonnegative_least_squares(
            jnp.asarray(matrix.T @ matrix), jnp.asarray(matrix.T @ right), (False,) * size
        )
        np.testing.assert_allclose(ours, nnls(matrix, right)[0], atol=1e-10)
        assert np.array_equal(np.asarray(support), np.asarray(ours) > 0)


def test_signed_unknowns_may_be_negative():
    matrix, right = np.random.default_rng(0).normal(size=(9, 2)), np.ones(9)
    free, _ = _tiny.nonnegative_least_squares(
        jnp.asarray(matrix.T @ matrix), jnp.asarray(-matrix.T @ right), (True, True)
    )
    np.testing.assert_allclose(free, np.linalg.lstsq(matrix, -right)[0], rtol=1e-9)


def test_equal_columns_leave_one_of_them():
    ours, support = _tiny.nonnegative_least_squares(jnp.full((2, 2), 4.0), jnp.full(2, 8.0), (False, False))
    assert float(ours.sum()) == pytest.approx(2.0)
    assert int(support.sum()) == 1
