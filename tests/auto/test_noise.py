"""The factored noise against the covariance that its docstring states, written out row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bimixjax.auto.noise import Noise, NoiseCovariance, correlation, kernel, places

NOISE = Noise(white=0.006, step=0.005, run=0.003, process=0.02, length=0.7)
RUNS, VOLUMES, LANES = 5, 4, 2
MIXTURES = np.random.default_rng(0).dirichlet(np.ones(3), (LANES, RUNS)).transpose(2, 1, 0)
MASK = (np.random.default_rng(1).random((RUNS, VOLUMES, LANES)) > 0.3).astype(float)
MASK[3] = 0.0
RESIDUALS = np.random.default_rng(2).normal(size=MASK.shape)


def covariance(lane: int) -> tuple[np.ndarray, np.ndarray]:
    """The covariance of all rows [m t, m t], and of the process at the runs [m, m]."""
    root = np.sqrt(MIXTURES[:, :, lane] + 1e-6)
    apart = ((root[:, :, None] - root[:, None]) ** 2).sum(0)
    process = 0.02**2 * np.exp(-apart / (2 * 0.7**2))
    same_run, same_step = np.eye(RUNS)[:, None, :, None], np.eye(VOLUMES)[None, :, None, :]
    whole = process[:, None, :, None] + 0.003**2 * same_run + 0.005**2 * same_step + 0.006**2 * same_run * same_step
    return whole.reshape(RUNS * VOLUMES, -1), process


def explained(lane: int) -> np.ndarray:
    """S^-1 x of the rows that are there, 0 elsewhere [m, t]."""
    there = MASK[:, :, lane].ravel() > 0
    found = np.zeros(there.size)
    found[there] = np.linalg.solve(covariance(lane)[0][np.ix_(there, there)], RESIDUALS[:, :, lane].ravel()[there])
    return found.reshape(RUNS, VOLUMES)


@pytest.fixture(scope="module")
def factored() -> NoiseCovariance:
    """The noise of the rows above."""
    return NoiseCovariance.of(NOISE, MIXTURES, MASK)


def test_products_are_the_quadratic_forms(factored: NoiseCovariance) -> None:
    """x' S^-1 y over the rows that are there, for several columns at once."""
    other = np.random.default_rng(3).normal(size=MASK.shape)
    found = factored.products(np.stack([other, RESIDUALS]))
    for lane in range(LANES):
        wanted = [np.sum(explained(lane) * (column * MASK)[:, :, lane]) for column in (other, RESIDUALS)]
        np.testing.assert_allclose(found[1, :, lane], wanted, rtol=1e-6)
        np.testing.assert_allclose(found[:, 1, lane], wanted, rtol=1e-6)


def test_lanes_of_the_same_rows_may_share_one(factored: NoiseCovariance) -> None:
    one, columns = factored.lanes(np.array([1])), np.stack([RESIDUALS, RESIDUALS**2])
    twice = np.repeat(columns[..., 1:], 2, axis=-1)
    np.testing.assert_allclose(one.products(twice)[..., 0], factored.products(columns)[..., 1], rtol=1e-12)
    for shared, own in zip(one.effects(twice), factored.effects(columns), strict=True):
        np.testing.assert_allclose(shared[..., 1], own[..., 1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("lane", range(LANES))
def test_effects_are_conditional_means(factored: NoiseCovariance, lane: int) -> None:
    """Process and step effects are their covariances with the rows, times S^-1 x."""
    alpha, steps = factored.effects(RESIDUALS * MASK)
    at_runs = np.sum(factored.process * alpha[None], axis=1)[:, lane]
    wanted = explained(lane)
    np.testing.assert_allclose(at_runs, covariance(lane)[1] @ wanted.sum(1), rtol=1e-5)
    np.testing.assert_allclose(steps[:, lane], 0.005**2 * wanted.sum(0), rtol=1e-5)


@pytest.mark.parametrize("lane", range(LANES))
def test_what_the_rows_explain_of_the_process(factored: NoiseCovariance, lane: int) -> None:
    """The variance of the process at a run, less what is left of it, is k' Z' S^-1 Z k."""
    whole, process = covariance(lane)
    there = MASK[:, :, lane].ravel() > 0
    runs = np.repeat(np.eye(RUNS), VOLUMES, axis=0)[there]
    wanted = process @ (runs.T @ np.linalg.solve(whole[np.ix_(there, there)], runs)) @ process
    precision = factored.precision[:, :, lane]
    np.testing.assert_allclose(process @ precision @ process, wanted, rtol=1e-5, atol=1e-12)


def test_the_kernel_is_the_process_times_its_correlation() -> None:
    """What searches evaluate, a point at a time, is what fits do, all runs at once."""
    left, right = MIXTURES[:, :2], MIXTURES[:, 1:]
    with jax.enable_x64(True):
        alike = correlation(NOISE.length, places(left)[:, :, None], places(right)[:, None])
    np.testing.assert_allclose(kernel(NOISE, left, right), NOISE.process**2 * np.asarray(alike), rtol=1e-9)


def test_slopes_of_the_process_are_finite_where_a_domain_is_absent() -> None:
    """A search may stand at a proportion of zero."""

    def at(r: jax.Array) -> jax.Array:
        return correlation(NOISE.length, places(r), places(jnp.array([0.2, 0.3, 0.5])))

    assert np.isfinite(jax.grad(at)(jnp.array([0.0, 0.4, 0.6]))).all()
