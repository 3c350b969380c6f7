"""Runs left out in closed form, against covariances written out row by row and conditioned on the other parts."""

import numpy as np

from bimixjax.auto.left_out import counted_twice, leave_out
from bimixjax.auto.member import Linearized
from bimixjax.auto.noise import Noise, NoiseCovariance

NOISE = Noise(white=0.006, step=0.005, run=0.003, process=0.02, length=0.7)
RUNS, VOLUMES, LANES, UNKNOWNS = 7, 3, 2, 4
RANDOM = np.random.default_rng(0)
MIXTURE = RANDOM.dirichlet(np.ones(3), RUNS).T
MASK = (RANDOM.random((RUNS, VOLUMES)) > 0.2).astype(float)
PART = np.array([0, 1, 2, 0, 1, 2, -1])
MASK[PART < 0] = 0.0
SLOPES = 0.02 * RANDOM.normal(size=(UNKNOWNS, RUNS, VOLUMES, LANES))
LOSS, VALUE = RANDOM.normal(size=(2, RUNS, VOLUMES, LANES)) * 0.02
Z = RANDOM.normal(size=(UNKNOWNS, LANES))


def factored() -> NoiseCovariance:
    return NoiseCovariance.of(NOISE, MIXTURE[..., None], MASK[..., None])


def covariance() -> np.ndarray:
    """Of the noise of all rows [m t, m t]."""
    root = np.sqrt(MIXTURE + 1e-6)
    apart = ((root[:, :, None] - root[:, None]) ** 2).sum(0)
    process = 0.02**2 * np.exp(-apart / (2 * 0.7**2)) + 0.003**2 * np.eye(RUNS)
    same_run, same_step = np.eye(RUNS)[:, None, :, None], np.eye(VOLUMES)[None, :, None, :]
    whole = process[:, None, :, None] + 0.005**2 * same_step + 0.006**2 * same_run * same_step
    return whole.reshape(RUNS * VOLUMES, -1)


def about() -> tuple[Linearized, np.ndarray]:
    """Fits at Z, which need not be optima, and the roots of their covariances."""
    curvature = np.einsum("imtL,jmtL->Lij", factored().inverse(SLOPES), SLOPES) + np.eye(UNKNOWNS)
    spread = np.moveaxis(np.linalg.inv(np.linalg.cholesky(curvature)), 0, -1)
    return Linearized(z=Z, value=VALUE, slopes=SLOPES), spread


def test_parts_left_out_are_conditional_means_and_variances() -> None:
    """Of a Gaussian process with the noise's covariance and the slopes', about the law made linear."""
    mean, variance = leave_out(factored(), PART, LOSS, *about())
    variance = variance - counted_twice(factored()) * (PART >= 0)[:, None, None]
    part, there = np.repeat(PART, VOLUMES), MASK.ravel() > 0
    for lane in range(LANES):
        slopes = SLOPES[..., lane].reshape(UNKNOWNS, -1)
        whole = covariance() + slopes.T @ slopes
        expected = VALUE[..., lane].ravel() - Z[:, lane] @ slopes
        missed = LOSS[..., lane].ravel() - expected
        for b in range(3):
            out, kept = np.flatnonzero((part == b) & there), np.flatnonzero((part != b) & there)
            gain = whole[np.ix_(out, kept)] @ np.linalg.inv(whole[np.ix_(kept, kept)])
            left = np.diag(whole[np.ix_(out, out)] - gain @ whole[np.ix_(kept, out)])
            np.testing.assert_allclose(mean[..., lane].ravel()[out], expected[out] + gain @ missed[kept], rtol=1e-6)
            np.testing.assert_allclose(variance[..., lane].ravel()[out], left, rtol=1e-6)


def test_lanes_of_other_rows_are_left_out_as_each_alone() -> None:
    """Two lanes with masks of their own together, against each with its own noise."""
    masks = np.stack([MASK, MASK * (np.arange(VOLUMES) > 0)], axis=-1)
    both = leave_out(NoiseCovariance.of(NOISE, MIXTURE[..., None], masks), PART, LOSS, *about())
    for lane in range(LANES):
        at = np.array([lane])
        own = NoiseCovariance.of(NOISE, MIXTURE[..., None], masks[..., at])
        alone = leave_out(own, PART, LOSS[..., at], about()[0].lanes(at), about()[1][..., at])
        there = masks[..., lane] > 0
        np.testing.assert_allclose(both[:, there, lane], alone[:, there, 0], rtol=1e-9)


def test_what_is_counted_twice_is_what_variance_at_adds() -> None:
    """var(process) + var(step for known run effects) - var(process + step), each conditioned row by row."""
    rows, there = MASK.size, MASK.ravel() > 0
    same_step = 0.005**2 * np.tile(np.eye(VOLUMES), (RUNS, RUNS))
    process = covariance() - same_step - 0.006**2 * np.eye(rows) - np.kron(0.003**2 * np.eye(RUNS), np.ones((3, 3)))

    def left(one: np.ndarray) -> np.ndarray:
        cross = one[:, there]
        return np.diag(one - cross @ np.linalg.solve(covariance()[np.ix_(there, there)], cross.T))

    alone = np.tile(0.006**2 * 0.005**2 / (0.006**2 + MASK.sum(0) * 0.005**2), RUNS)
    wanted = left(process) + alone - left(process + same_step)
    np.testing.assert_allclose(counted_twice(factored()).ravel(), wanted, rtol=1e-6)


def test_the_inverse_covariance_is_that_of_the_rows_that_are_there() -> None:
    """S0^-1 x, 0 elsewhere."""
    x, there = LOSS[..., 0], MASK.ravel() > 0
    found = np.asarray(factored().inverse(x[..., None])).ravel()
    wanted = np.linalg.solve(covariance()[np.ix_(there, there)], x.ravel()[there])
    np.testing.assert_allclose(found[there], wanted, rtol=1e-6)
    np.testing.assert_allclose(found[~there], 0.0, atol=1e-12)
