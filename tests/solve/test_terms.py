"""Sums over runs and over rows against the Jacobian of the whole prediction."""

from functools import reduce
from operator import mul

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bimixjax.solve import Problem, Terms

RUNS, VOLUMES, LANES, DOMAINS = 6, 4, 3, 8
# One exponent of the volume, the weights of a sum over domains, and a power of it.
UNKNOWNS = 2 + DOMAINS


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def layout(kind):
    """Mixtures [d, m, 1, 1] and volumes [1, t, 1], [m, t, 1], or one per run [m, 1, 1]."""
    rng = np.random.default_rng(3)
    runs, volumes = (RUNS * VOLUMES, 1) if kind == "rows" else (RUNS, VOLUMES)
    share = rng.dirichlet(np.ones(DOMAINS), (runs, 1, 1)).transpose(3, 0, 1, 2)
    return share, rng.uniform(0.2, 1.0, (1 if kind == "grid" else runs, volumes, 1))


def made(kind, factored):
    """Terms that read nothing, the run, the volume, and both; and their problem."""
    share, volume = layout(kind)

    def factors(theta):
        beta, power, *weights = theta[:, None, None] if theta.ndim == 2 else theta[:, :, None]
        mixed = sum(w * r for w, r in zip(weights, share, strict=True))
        wide = volume**-beta
        terms = [[jnp.ones((1, 1, LANES))], [mixed**power], [wide], [mixed, wide]]
        return terms if factored else [[jnp.prod(jnp.stack(jnp.broadcast_arrays(*each)), axis=0)] for each in terms]

    nothing, volumes = [False] * UNKNOWNS, [True] + [False] * (UNKNOWNS - 1)
    weights, powers = [False, False] + [True] * DOMAINS, [False] + [True] * (UNKNOWNS - 1)
    reads = [[nothing], [powers], [volumes], [weights, volumes]]
    if not factored:
        reads[3] = [[True, False] + [True] * DOMAINS]
    rng, shape = np.random.default_rng(4), (share.shape[1], volume.shape[1], LANES)
    factor = jnp.asarray(rng.uniform(0.5, 1.5, shape)) * (rng.uniform(size=shape) > 0.1)
    target = factor * rng.uniform(2.0, 3.0, shape)
    problem = Problem(
        target=target.reshape(-1, LANES),
        lower=jnp.zeros(UNKNOWNS),
        upper=jnp.full(UNKNOWNS, 10.0),
        linear_prior=None,
        nonlinear_prior=None,
        signed=(True,) * 4,
        logarithmic=(True,) * UNKNOWNS,
    )
    return Terms(factors=factors, reads=reads, scale=factor, problem=problem), factors


@pytest.mark.parametrize("factored", [True, False])
@pytest.mark.parametrize("kind", ["grid", "any layout", "rows"])
def test_the_model_is_that_of_the_whole_jacobian(kind, factored):
    rows, factors = made(kind, factored)
    theta = jnp.asarray(np.random.default_rng(5).uniform(0.3, 0.9, (UNKNOWNS, LANES)))
    found = jax.jit(rows.linearize)(theta)

    def columns(theta):
        whole = [reduce(mul, each) * jnp.ones(rows.scale.shape) * rows.scale for each in factors(theta)]
        return jnp.stack(whole).reshape(4, -1, LANES)

    values, slopes = columns(theta), jax.jacfwd(columns)(theta)
    for lane in range(LANES):
        a, y = np.asarray(values[..., lane]).T, np.asarray(rows.problem.target[:, lane])
        c = np.linalg.lstsq(a, y, rcond=None)[0]
        j = np.einsum("a,anq->nq", c, np.asarray(slopes[:, :, lane, :, lane]))
        inside = j - a @ np.linalg.lstsq(a, j, rcond=None)[0]
        np.testing.assert_allclose(found.linear[:, lane], c, rtol=1e-7)
        np.testing.assert_allclose(found.cost[lane], np.sum((a @ c - y) ** 2), rtol=1e-9)
        np.testing.assert_allclose(found.gradient[:, lane], j.T @ (a @ c - y), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(found.curvature[..., lane], inside.T @ inside, rtol=1e-5, atol=1e-8)
