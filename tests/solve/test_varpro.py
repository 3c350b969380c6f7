"""Variable projection and the gradient solver against scipy's trust region on made-up and real losses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import least_squares

from bimixjax.solve import LBFGS, Problem, Status, Terms, VarPro

STARTS = np.array([[0.1, beta] for beta in (0.15, 0.6, 1.5)])
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


def columns(theta, data):
    """Those of B and C at theta [2, B], for data [n, B] of proportions, volumes and losses."""
    r, s, y = data
    own = r ** -theta[0]
    return [own * s ** -theta[1] / y, own / y]


def terms(data, made):
    """The problems as sums of terms, all rows along the first axis."""
    r, s, y = (values[:, None] for values in data)

    def factors(theta):
        alpha, beta = theta[:, None, None] if theta.ndim == 2 else theta[:, :, None]
        return [[r**-alpha * s**-beta], [r**-alpha]]

    reads = [[[True, True]], [[True, False]]]
    return Terms(factors=factors, reads=reads, scale=1 / y, problem=made)


def problem(lanes, rows, prior=0.0) -> Problem:
    """`prior` is the precision of a prior on every unknown."""
    return Problem(
        target=jnp.ones((rows, lanes)),
        lower=jnp.zeros(2),
        upper=jnp.asarray(UPPER),
        linear_prior=(jnp.ones(2), jnp.full(2, prior)),
        nonlinear_prior=(jnp.log(jnp.array([0.1, 0.4])), jnp.full(2, prior)),
        signed=(False, False),
        logarithmic=(True, True),
    )


def solve(solver, *lanes, prior=0.0):
    """The solver's answers for lanes of (r, s, y), lanes last."""
    data = tuple(jnp.stack(part, axis=-1) for part in zip(*lanes, strict=True))
    made = problem(len(lanes), len(lanes[0][0]), prior)

    def run(data):
        if isinstance(solver, VarPro):
            return solver.solve(terms(data, made), jnp.asarray(STARTS))
        return solver.solve(columns, data, made, jnp.asarray(STARTS))

    return jax.jit(run)(data)


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
    "long range": {"span": 200.0},
}


@pytest.mark.parametrize("case", CASES)
def test_cost_is_never_above_that_of_scipy(case):
    rng = np.random.default_rng(7)
    lanes = [losses(rng, **CASES[case]) for _ in range(4)]
    end = solve(VarPro(), *lanes)
    for cost, lane in zip(end.cost, lanes, strict=True):
        assert float(cost) <= oracle(*lane) * (1 + 1e-6)
    assert (end.status == Status.CONVERGED).all()


def test_the_gradient_solver_agrees():
    rng = np.random.default_rng(3)
    lanes = [losses(rng, floor=floor) for floor in (2.0, 0.0)]
    gradient, projected = solve(LBFGS(), *lanes), solve(VarPro(), *lanes)
    np.testing.assert_allclose(gradient.cost, projected.cost, rtol=1e-6)


@pytest.mark.parametrize("solver", [VarPro(), LBFGS()])
def test_priors_are_minimized_with_the_rows(solver):
    lane = losses(np.random.default_rng(5), mixtures=2, volumes=3)
    assert float(solve(solver, lane, prior=0.01).cost[0]) == pytest.approx(oracle(*lane, prior=0.01), rel=1e-6)


def test_a_vanishing_floor_is_reached_exactly():
    r, s, _ = losses(np.random.default_rng(1))
    end = solve(VarPro(), (r, s, r**-0.1 * 2 * s**-0.3))
    np.testing.assert_allclose(end.nonlinear[:, 0], [0.1, 0.3], rtol=1e-8)
    assert float(end.linear[1, 0]) < 1e-8


def test_lanes_are_independent():
    r, s, y = losses(np.random.default_rng(11))
    end = solve(VarPro(), (r, s, y), (r, s, np.full_like(y, np.nan)), (r, s, y * 1.7))
    assert end.status.tolist() == [Status.CONVERGED, Status.NOT_FINITE, Status.CONVERGED]
    np.testing.assert_allclose(end.nonlinear[:, 0], end.nonlinear[:, 2], rtol=1e-9)
    np.testing.assert_allclose(end.linear[:, 0] * 1.7, end.linear[:, 2], rtol=1e-9)


def test_the_step_limit_is_a_status():
    end = solve(VarPro(max_steps=1), losses(np.random.default_rng(2)))
    assert int(end.status[0]) == Status.STEP_LIMIT


FAR_STARTS = np.array([[0.1, 0.3], [0.1, 4.0], [3.0, 0.3], [3.0, 4.0]])


def raced(solver, lanes, starts=FAR_STARTS, width=3):
    """The ends of lanes of (r, s, y) whose starts race, `width` lanes side by side."""
    data = tuple(jnp.stack(part, axis=-1) for part in zip(*lanes, strict=True))
    whole = problem(len(lanes), len(lanes[0][0]), 0.0)

    def at(numbers):
        some = dataclasses.replace(whole, target=whole.target[:, numbers])
        return terms(tuple(values[:, numbers] for values in data), some)

    numbers = jnp.minimum(jnp.arange(-(-len(lanes) // width) * width), len(lanes) - 1).reshape(-1, width)
    ends = jax.jit(lambda: solver.race(at, lambda _: jnp.asarray(starts), numbers))()
    return jax.tree.map(lambda leaf: leaf[..., : len(lanes)], ends)


@jax.jit
def alone(lane, start):
    """The end of one lane from one start."""
    data, whole = tuple(jnp.asarray(part)[:, None] for part in lane), problem(1, len(lane[0]), 0.0)
    return VarPro().solve(terms(data, whole), jnp.asarray(start)[None])


@pytest.mark.slow
def test_the_best_start_of_a_race_ends_where_it_would_alone():
    rng = np.random.default_rng(21)
    lanes = [losses(rng, noise=0.03) for _ in range(7)]
    ends = raced(VarPro(starts=4), lanes)
    best = [min((alone(lane, start) for start in FAR_STARTS), key=lambda end: float(end.cost[0])) for lane in lanes]
    np.testing.assert_allclose(ends.cost, [float(end.cost[0]) for end in best], rtol=1e-12)
    np.testing.assert_allclose(ends.nonlinear, np.stack([end.nonlinear[:, 0] for end in best], axis=1), rtol=1e-7)
    assert (ends.status == Status.CONVERGED).all()


def test_turns_do_not_change_the_steps_of_a_start():
    lane = losses(np.random.default_rng(22), noise=0.03, span=2.0)
    whole, in_turns = alone(lane, FAR_STARTS[3]), raced(VarPro(), [lane], starts=FAR_STARTS[3:])
    assert int(whole.steps[0]) > 8
    assert int(in_turns.steps[0]) == int(whole.steps[0])
    np.testing.assert_allclose(in_turns.nonlinear, whole.nonlinear, rtol=1e-7)


def test_a_race_stops_at_the_step_limit():
    lane = losses(np.random.default_rng(22), noise=0.03, span=2.0)
    end = raced(VarPro(starts=4, max_steps=3), [lane])
    assert int(end.status[0]) == Status.STEP_LIMIT
    assert int(end.steps[0]) == 3


def test_a_race_leaves_lanes_without_a_finite_cost():
    r, s, y = losses(np.random.default_rng(23))
    ends = raced(VarPro(starts=4), [(r, s, np.full_like(y, np.nan)), (r, s, y)])
    assert ends.status.tolist() == [Status.NOT_FINITE, Status.CONVERGED]
