"""Variable projection and the gradient solver against scipy's trust region on made-up and real losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares

from bimixjax.solve import LBFGS, Problem, Quadratic, Status, VarPro

STARTS = np.array([[a, b] for a in (0.01, 0.05, 0.15, 0.5) for b in (0.05, 0.2, 0.5, 1.0, 2.0)])
UPPER = np.array([10.0, 20.0])


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def losses(rng, *, mixtures=5, volumes=20, noise=0.005, floor=2.0, span=10.0):
    """A grid of losses with relative noise: proportions r, volumes s in (0, 1], losses y."""
    r = np.repeat(rng.uniform(0.02, 0.6, mixtures), volumes)
    s = np.tile(np.linspace(1 / span, 1, volumes), mixtures)
    alpha, beta = rng.uniform(0.02, 0.3), rng.uniform(0.2, 0.9)
    clean = r**-alpha * (rng.uniform(0.1, 0.6) * max(floor, 1) * s**-beta + floor)
    return r, s, clean * (1 + noise * rng.normal(size=len(r)))


def solve(solver, r, s, y, prior=0.0):
    """The solver's answer; `prior` is the precision of a prior on every unknown."""
    quadratic = Quadratic(mean=jnp.ones(2), precision=jnp.full(2, prior))
    log_prior = Quadratic(mean=jnp.log(jnp.array([0.1, 0.4])), precision=jnp.full(2, prior))
    problem = Problem(
        target=jnp.ones(len(y)),
        lower=jnp.zeros(2),
        upper=jnp.asarray(UPPER),
        linear_prior=quadratic,
        nonlinear_prior=log_prior,
    )

    def columns(theta):
        return jnp.stack([r ** -theta[0] * s ** -theta[1], r ** -theta[0]], axis=1) / y[:, None]

    return jax.jit(lambda starts: solver.solve(columns, problem, starts, (False, False)))(jnp.asarray(STARTS))


def oracle(r, s, y, prior=0.0, starts=8):
    """The lowest cost that scipy's TRF finds from several starts."""

    def residuals(x):
        rows = r ** -x[2] * (x[0] * s ** -x[3] + x[1]) / y - 1
        if not prior:
            return rows
        return np.concatenate([rows, prior * (x[:2] - 1), prior * (np.log(x[2:]) - np.log([0.1, 0.4]))])

    rng = np.random.default_rng(0)
    ends = [
        least_squares(
            residuals,
            rng.uniform([0.1, 0.1, 0.02, 0.1], [2, 3, 0.5, 1.5]),
            bounds=(0, np.inf),
            xtol=1e-15,
            ftol=1e-15,
            gtol=1e-15,
            max_nfev=2000,
        )
        for _ in range(starts)
    ]
    return min(2 * end.cost for end in ends)


CASES = {
    "base": {},
    "few points": {"mixtures": 3, "volumes": 5, "noise": 0.01},
    "much noise": {"noise": 0.03},
    "no floor": {"floor": 0.0, "noise": 0.01},
    "short range": {"span": 2.0, "noise": 0.01},
    "one start of volume": {"span": 200.0},
}


@pytest.mark.parametrize("case", CASES)
def test_cost_is_never_above_that_of_scipy(case):
    rng = np.random.default_rng(7)
    for _ in range(4):
        data = losses(rng, **CASES[case])
        end = solve(VarPro(), *data)
        assert float(end.cost) <= oracle(*data) * (1 + 1e-6)
        assert int(end.status) == Status.CONVERGED


@pytest.mark.parametrize("case", ["base", "few points", "no floor"])
def test_the_gradient_solver_agrees(case):
    data = losses(np.random.default_rng(3), **CASES[case])
    gradient, projected = solve(LBFGS(), *data), solve(VarPro(), *data)
    assert float(gradient.cost) == pytest.approx(float(projected.cost), rel=1e-6)


@pytest.mark.parametrize("solver", [VarPro(), LBFGS()])
def test_priors_are_minimized_with_the_rows(solver):
    data = losses(np.random.default_rng(5), mixtures=2, volumes=3)
    assert float(solve(solver, *data, prior=0.01).cost) == pytest.approx(oracle(*data, prior=0.01), rel=1e-6)


def test_a_vanishing_floor_is_reached_exactly():
    r, s, _ = losses(np.random.default_rng(1))
    end = solve(VarPro(), r, s, r**-0.1 * 2 * s**-0.3)
    np.testing.assert_allclose(end.nonlinear, [0.1, 0.3], rtol=1e-8)
    assert float(end.linear[1]) < 1e-8


def test_lanes_are_independent():
    rng = np.random.default_rng(11)
    r, s, y = losses(rng)
    other = y * 1.7

    def columns(loss, theta):
        return jnp.stack([r ** -theta[0] * s ** -theta[1], r ** -theta[0]], axis=1) / loss[:, None]

    nothing = Quadratic(mean=jnp.zeros(2), precision=jnp.zeros(2))
    problem = Problem(
        target=jnp.ones(len(y)),
        lower=jnp.zeros(2),
        upper=jnp.asarray(UPPER),
        linear_prior=nothing,
        nonlinear_prior=nothing,
    )
    batch = jax.vmap(
        lambda loss: VarPro().solve(lambda t: columns(loss, t), problem, jnp.asarray(STARTS), (False, False))
    )(jnp.stack([y, np.full_like(y, np.nan), other]))
    assert np.array_equal(np.asarray(batch.status), [Status.CONVERGED, Status.NOT_FINITE, Status.CONVERGED])
    np.testing.assert_allclose(batch.nonlinear[0], batch.nonlinear[2], rtol=1e-9)
    np.testing.assert_allclose(batch.linear[0] * 1.7, batch.linear[2], rtol=1e-9)


def test_the_step_limit_is_a_status():
    end = solve(VarPro(max_steps=1), *losses(np.random.default_rng(2)))
    assert int(end.status) == Status.STEP_LIMIT
