"""Linear algebra in lanes against NumPy and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import nnls

from bimixjax.solve import linear


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("size", [1, 2, 4, 9, 40])
def test_every_lane_is_solved(size):
    root = np.random.default_rng(size).normal(size=(3, size + 2, size))
    matrices, right = root.transpose(0, 2, 1) @ root, np.random.default_rng(0).normal(size=(3, size, 2))
    lanes_last = [jnp.moveaxis(jnp.asarray(x), 0, -1) for x in (matrices, right)]
    x, full = linear.solve(*lanes_last)
    assert full.all()
    np.testing.assert_allclose(jnp.moveaxis(x, -1, 0), np.linalg.solve(matrices, right), rtol=1e-8)


@pytest.mark.parametrize("size", [2, 9, 40])
def test_a_singular_lane_is_told_apart(size):
    matrices = jnp.stack([jnp.eye(size), jnp.ones((size, size))], axis=-1)
    x, full = linear.solve(matrices, jnp.ones((size, 1, 2)))
    assert full.tolist() == [True, False]
    np.testing.assert_allclose(x[:, 0, 0], np.ones(size))


def test_masked_and_diagonal_keep_lanes_apart():
    matrix, keep = jnp.arange(8.0).reshape(2, 2, 2), jnp.array([[True, True], [False, True]])
    assert linear.masked(matrix, keep)[..., 0].tolist() == [[0.0, 0.0], [0.0, 1.0]]
    assert linear.masked(matrix, keep)[..., 1].tolist() == [[1.0, 3.0], [5.0, 7.0]]
    assert linear.diagonal(jnp.array([[1.0, 2.0], [3.0, 4.0]]))[..., 1].tolist() == [[2.0, 0.0], [0.0, 4.0]]


@pytest.mark.parametrize("size", [2, 3, 4])
def test_nonnegative_least_squares_is_that_of_scipy(size):
    rng = np.random.default_rng(size)
    for _ in range(30):
        matrix, right = rng.normal(size=(9, size)), rng.normal(size=9)
        ours = linear.nonnegative_least_squares(
            jnp.asarray(matrix.T @ matrix), jnp.asarray(matrix.T @ right), (False,) * size
        )
        np.testing.assert_allclose(ours, nnls(matrix, right)[0], atol=1e-10)


def test_signed_unknowns_may_be_negative():
    matrix, right = np.random.default_rng(0).normal(size=(9, 2)), np.ones(9)
    free = linear.nonnegative_least_squares(
        jnp.asarray(matrix.T @ matrix), jnp.asarray(-matrix.T @ right), (True, True)
    )
    np.testing.assert_allclose(free, np.linalg.lstsq(matrix, -right)[0], rtol=1e-9)


def test_equal_columns_leave_one_of_them():
    ours = linear.nonnegative_least_squares(jnp.full((2, 2), 4.0), jnp.full(2, 8.0), (False, False))
    assert float(ours.sum()) == pytest.approx(2.0)
    assert int((ours > 0).sum()) == 1
