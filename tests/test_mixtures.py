"""The simplex: definitions, invariants on random input, and derivatives against finite differences."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.spatial.distance
import scipy.special
from hypothesis import given, settings, strategies as st
from jax.test_util import check_grads

from bimixjax import InputError, mixtures

TOLERANCE = {jnp.float32: 1e-6, jnp.float64: 2e-15}


def limits(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Limits that some mixture keeps to: wide, narrow and, for one domain, fixed."""
    center = rng.dirichlet(np.ones(n))
    lower = center * rng.random(n)
    upper = center + (1 - center) * rng.random(n) ** 4
    lower[0] = upper[0] = center[0]
    return lower, upper


def test_uniform_and_natural() -> None:
    assert mixtures.uniform(8).tolist() == [0.125] * 8
    assert mixtures.natural(np.array([3, 0, 1])).tolist() == [0.75, 0, 0.25]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mixtures.uniform(0), "n is 0; allowed: a whole number from 1"),
        (lambda: mixtures.natural([1, -1]), r"tokens\[1\] is -1.0; allowed: finite and >= 0"),
        (lambda: mixtures.natural([0, 0]), "allowed: at least one above 0"),
        (lambda: mixtures.lattice(3, 0), "parts is 0; allowed: a whole number from 1"),
        (lambda: mixtures.lattice(22, 30), "a lattice of 22 domains and 30 parts has .* points; allowed: 10000000"),
        (lambda: mixtures.dirichlet(jax.random.key(0), [1, 0], 3), r"concentration\[1\] is 0.0"),
        (lambda: mixtures.dirichlet(jax.random.key(0), [1, 1], 0), "runs is 0"),
        (lambda: mixtures.project([[0.5, 0.5], [0.5, math.nan]]), r"x\[1, 1\] is nan; allowed: finite numbers"),
    ],
)
def test_refused(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()


@given(st.integers(1, 5), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_lattice_has_every_point_once(n: int, parts: int) -> None:
    points = mixtures.lattice(n, parts)
    expected = [p for p in itertools.product(range(parts + 1), repeat=n) if sum(p) == parts]
    assert sorted(map(tuple, (points * parts).round(9).tolist())) == sorted(expected)


def test_dirichlet_has_the_mean_and_variance_of_its_concentration() -> None:
    concentration = np.array([0.5, 1.5, 3.0])
    drawn = mixtures.dirichlet(jax.random.key(1), concentration, 20_000)
    mean = concentration / 5
    np.testing.assert_allclose(drawn.mean(0), mean, atol=5e-3)
    np.testing.assert_allclose(drawn.var(0), mean * (1 - mean) / 6, rtol=0.05)


@pytest.mark.parametrize("concentration", [1e-8, 1e-3, 1.0, 1e8])
def test_dirichlet_neither_underflows_nor_misses_the_simplex(concentration: float) -> None:
    drawn = mixtures.dirichlet(jax.random.key(2), np.full(6, concentration), 500)
    assert np.isfinite(drawn).all()
    assert (drawn >= 0).all()
    np.testing.assert_allclose(drawn.sum(1), 1, rtol=0, atol=1e-15)


def test_small_concentrations_reach_every_vertex_alike() -> None:
    winners = mixtures.dirichlet(jax.random.key(3), np.full(4, 1e-6), 4000).argmax(1)
    np.testing.assert_allclose(np.bincount(winners, minlength=4) / 4000, 0.25, atol=0.03)


def test_a_key_gives_one_design_whatever_the_precision_around_it() -> None:
    with jax.enable_x64(False):
        single = mixtures.dirichlet(jax.random.key(4), [0.5, 0.5, 2.0], 5)
    with jax.enable_x64(True):
        double = mixtures.dirichlet(jax.random.key(4), [0.5, 0.5, 2.0], 5)
    assert single.dtype == np.float64
    np.testing.assert_array_equal(single, double)
    assert not np.array_equal(single, mixtures.dirichlet(jax.random.key(5), [0.5, 0.5, 2.0], 5))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_projection_is_on_the_simplex_and_optimal(values: list[float]) -> None:
    x = np.array(values)
    with jax.enable_x64(True):
        r = np.asarray(mixtures.project(x))
    assert (r >= 0).all()
    assert abs(r.sum() - 1) < 1e-14
    # r is nearest iff x - r is largest, and equal, on the domains that r uses.
    pull = x - r
    assert (pull[r > 0] >= pull.max() - 1e-9).all()


def test_projection_of_large_numbers_sums_to_one() -> None:
    x = 1e6 + np.random.default_rng(7).random((20, 7))
    with jax.enable_x64(True):
        np.testing.assert_allclose(mixtures.project(x).sum(1), 1, rtol=0, atol=1e-15)


def test_projection_leaves_mixtures_alone() -> None:
    points = mixtures.lattice(4, 8)
    with jax.enable_x64(True):
        np.testing.assert_allclose(mixtures.project(points), points, rtol=0, atol=1e-15)


def test_projection_agrees_with_a_quadratic_program() -> None:
    x = np.array([0.4, -0.2, 0.9, 0.3])
    unit = {"type": "eq", "fun": lambda r: r.sum() - 1}
    found = scipy.optimize.minimize(
        lambda r: ((r - x) ** 2).sum(), np.full(4, 0.25), bounds=[(0, 1)] * 4, constraints=unit, tol=1e-14
    )
    with jax.enable_x64(True):
        np.testing.assert_allclose(mixtures.project(x), found.x, atol=1e-7)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_projection_keeps_the_precision_of_the_caller(dtype: Any) -> None:
    with jax.enable_x64(dtype == jnp.float64):
        assert mixtures.project(np.zeros((2, 3), dtype)).dtype == dtype


def test_projection_under_jit_shows_what_it_cannot_refuse() -> None:
    assert np.isnan(jax.jit(mixtures.project)(jnp.array([0.5, jnp.nan]))).all()


def test_distances_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(6), (2, 7))
    with jax.enable_x64(True):
        np.testing.assert_allclose(mixtures.total_variation(p, q), np.abs(p - q).sum(1) / 2, rtol=1e-14)
        hellinger = [
            scipy.spatial.distance.euclidean(np.sqrt(a), np.sqrt(b)) / math.sqrt(2) for a, b in zip(p, q, strict=True)
        ]
        np.testing.assert_allclose(mixtures.hellinger(p, q), hellinger, rtol=1e-14)
        np.testing.assert_allclose(mixtures.kl(p, q), scipy.special.rel_entr(p, q).sum(1), rtol=1e-12)
        assert mixtures.kl(p, q[0]).shape == (7,)


def test_distances_at_the_edge_of_the_simplex() -> None:
    assert float(mixtures.kl([0.5, 0.5, 0.0], [0.5, 0.5, 0.0])) == 0
    assert float(mixtures.kl([0.5, 0.5], [1.0, 0.0])) == math.inf
    assert float(mixtures.total_variation([1, 0], [0, 1])) == 1


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_softmax_map_and_its_inverse(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    lower = np.array([0.1, 0.0, 0.3, 0.05])
    with jax.enable_x64(dtype == jnp.float64):
        z = jnp.asarray(rng.normal(size=(20, 4)), dtype)
        r = mixtures.softmax_map(z, lower)
        assert r.dtype == dtype
        np.testing.assert_allclose(r.sum(1), 1, rtol=0, atol=TOLERANCE[dtype])
        assert (r >= lower.astype(r.dtype)).all()
        inverse = mixtures.softmax_inverse(r, lower)
        np.testing.assert_allclose(inverse, z - z.mean(1, keepdims=True), atol=1e4 * TOLERANCE[dtype])


def test_softmax_map_with_nothing_left_to_share() -> None:
    lower = np.array([0.7, 0.2, 0.1, 0.0])
    with jax.enable_x64(True):
        r = np.asarray(mixtures.softmax_map(np.zeros(4), lower))
    np.testing.assert_allclose(r, lower, rtol=0, atol=2e-16)
    assert (r >= 0).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("spread", [1e-3, 1.0, 30.0, 1000.0])
def test_box_map_keeps_to_limits_and_sums_to_one(dtype: Any, spread: float) -> None:
    rng = np.random.default_rng(2)
    with jax.enable_x64(dtype == jnp.float64):
        for n in (2, 5, 22):
            lower, upper = limits(rng, n)
            z = jnp.asarray(spread * rng.normal(size=(30, n)), dtype)
            r = mixtures.box_map(z, lower, upper)
            assert r.dtype == dtype
            np.testing.assert_allclose(r.sum(1), 1, rtol=0, atol=TOLERANCE[dtype])
            slack = jnp.finfo(dtype).eps
            assert (np.asarray(r) >= lower - slack).all()
            assert (np.asarray(r) <= upper + slack).all()


@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.floats(-2, 3))
@settings(max_examples=60, deadline=None)
def test_box_map_on_any_feasible_limits(seed: int, n: int, exponent: float) -> None:
    rng = np.random.default_rng(seed)
    lower, upper = limits(rng, n)
    with jax.enable_x64(True):
        r = np.asarray(mixtures.box_map(10**exponent * rng.normal(size=n), lower, upper))
    assert abs(r.sum() - 1) < 4e-15
    # lower + (upper - lower) may itself round to the number after upper.
    assert ((r >= lower) & (r <= np.nextafter(upper, 2))).all()


def test_box_map_inverse() -> None:
    rng = np.random.default_rng(3)
    lower, upper = limits(rng, 6)
    with jax.enable_x64(True):
        r = mixtures.box_map(rng.normal(size=(10, 6)), lower, upper)
        z = mixtures.box_inverse(r, lower, upper)
        assert (z[:, 0] == 0).all()
        np.testing.assert_allclose(mixtures.box_map(z, lower, upper), r, rtol=0, atol=1e-15)


def test_wide_limits_leave_a_logistic_map() -> None:
    """For two domains without limits, r_1 = sigmoid((z_1 - z_2)/2)."""
    with jax.enable_x64(True):
        r = mixtures.box_map([3.0, 1.0], [0.0, 0.0], [1.0, 1.0])
        np.testing.assert_allclose(r[0], scipy.special.expit(1.0), rtol=1e-15)


@pytest.mark.parametrize(
    ("lower", "upper"),
    [([0.2] * 5, [0.2] * 5), ([0.2] * 5, [1.0] * 5), ([0.0] * 5, [0.2] * 5), ([0.2, 0, 0, 0, 0.8], [1.0] * 5)],
)
def test_limits_that_leave_one_mixture(lower: list[float], upper: list[float]) -> None:
    z = np.array([0.3, -4.0, 1.0, 9.0, 0.0])
    only = lower if sum(upper) > 1 else upper
    with jax.enable_x64(True):
        np.testing.assert_allclose(mixtures.box_map(z, lower, upper), only, rtol=0, atol=1e-15)
        slope = jax.jacobian(mixtures.box_map)(z, jnp.array(lower), jnp.array(upper))
        np.testing.assert_allclose(slope, 0, atol=1e-15)


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_box_map_derivatives_agree_with_finite_differences(argument: int) -> None:
    rng = np.random.default_rng(4)
    with jax.enable_x64(True):
        inputs = [jnp.asarray(a) for a in (3 * rng.normal(size=5), *limits(rng, 5))]

        def moved(x: jax.Array) -> jax.Array:
            z, lower, upper = (x if i == argument else fixed for i, fixed in enumerate(inputs))
            return mixtures.box_map(z, lower, upper)

        check_grads(moved, (inputs[argument],), order=2, atol=1e-5, rtol=1e-5, eps=1e-5)


def test_box_map_slope_in_closed_form() -> None:
    """dr_i/dz_j = s_i (delta_ij - s_j / sum s) with s = (upper - lower) sigmoid'(z - t)."""
    rng = np.random.default_rng(5)
    lower, upper = limits(rng, 6)
    with jax.enable_x64(True):
        z = jnp.asarray(rng.normal(size=6))
        r = np.asarray(mixtures.box_map(z, lower, upper))
        jacobian = jax.jacobian(lambda x: mixtures.box_map(x, lower, upper))(z)
    width = np.where(upper > lower, upper - lower, 1)
    s = (r - lower) * (upper - r) / width
    np.testing.assert_allclose(jacobian, np.diag(s) - np.outer(s, s) / s.sum(), rtol=0, atol=1e-15)


def test_box_map_under_vmap_of_all_arguments() -> None:
    rng = np.random.default_rng(6)
    with jax.enable_x64(True):
        sets = [limits(rng, 5) for _ in range(8)]
        lower, upper = (jnp.array(part) for part in zip(*sets, strict=True))
        z = jnp.asarray(20 * rng.normal(size=(8, 5)))

        def cost(z: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
            return jnp.sum(mixtures.box_map(z, lower, upper) ** 2)

        value, slope = jax.jit(jax.vmap(jax.value_and_grad(cost)))(z, lower, upper)
        for i in range(8):
            one, one_slope = jax.value_and_grad(cost)(z[i], lower[i], upper[i])
            np.testing.assert_allclose(value[i], one, rtol=1e-14)
            np.testing.assert_allclose(slope[i], one_slope, rtol=0, atol=1e-14)


@pytest.mark.parametrize("x64", [False, True])
def test_maps_keep_the_precision_of_the_caller(x64: bool) -> None:
    with jax.enable_x64(x64), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        lower, upper = np.zeros(3), np.ones(3)
        for z in (np.zeros((2, 3), np.float32), np.zeros((2, 3)), np.zeros((2, 3), int)):
            expected = jnp.asarray(z).dtype if z.dtype.kind == "f" else jnp.zeros(0).dtype
            for r in (
                mixtures.softmax_map(z, lower),
                mixtures.box_map(z, lower, upper),
                mixtures.softmax_inverse(z + z.dtype.type(1), lower),
                mixtures.box_inverse(z + z.dtype.type(1), lower, 2 * upper),
            ):
                assert r.dtype == expected
