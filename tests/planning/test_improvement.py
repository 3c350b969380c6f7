"""Expected improvement against integrals and finite differences."""

import numpy as np
import pytest
from scipy import integrate, stats

from bimixjax import Limits
from bimixjax.planning import improvement
from bimixjax.planning.improvement import Averaged, Improvement, log_h
from bimixjax.planning.process import DOMAINS, TASKS, Constants, MeanLoss, covariances
from bimixjax.planning.space import Space
from tests.planning.test_process import SIZES, both

SHIFT = 1e-6


@pytest.mark.parametrize("z", [-6.0, -1.001, -0.999, 0.0, 2.5])
def test_log_h_is_the_integral(z):
    exact, _ = integrate.quad(lambda e: (z + e) * stats.norm.pdf(e), -z, -z + 12)
    assert log_h(np.array([z]))[0] == pytest.approx(np.log(exact), abs=1e-7)


def test_log_h_goes_on_smoothly_where_its_integral_underflows():
    z = -np.array([9_999.0, 10_001.0, 1e6])
    np.testing.assert_allclose(log_h(z), -(z**2) / 2 - np.log(2 * np.pi) / 2 - 2 * np.log(-z), rtol=1e-12)


@pytest.mark.parametrize("size", [SIZES[0], SIZES[-1]])
def test_gain_and_deviation_are_those_of_the_dense_covariance(size):
    made, oracle, asked = both()
    here = Improvement.of(made, size)
    gain, deviation = here.moments(asked)
    at = SIZES[-1]
    np.testing.assert_allclose(gain, [oracle.mean(here.best, at) - oracle.mean(r, at) for r in asked], atol=2e-6)
    exact = [
        abs(oracle.covariance(r, at, r, size) - oracle.covariance(here.best, at, r, size))
        / np.sqrt(oracle.covariance(r, size, r, size) + made.noise())
        for r in asked
    ]
    np.testing.assert_allclose(deviation, exact, rtol=1e-4)


@pytest.mark.parametrize("size", [SIZES[0], SIZES[-1]])
def test_slopes_are_those_of_finite_differences(size):
    made, _, asked = both()
    here = Improvement.of(made, size)
    for mixture in asked[:3]:
        value, slope = here.with_slope(mixture)
        assert value == pytest.approx(float(here.logs(mixture[None])[0]), rel=1e-9)
        steps = SHIFT * np.eye(len(mixture))
        numeric = (here.logs(mixture + steps) - here.logs(mixture - steps)) / (2 * SHIFT)
        np.testing.assert_allclose(slope, numeric, atol=1e-5 * np.abs(numeric).max())


def of_tasks(constants: Constants) -> MeanLoss:
    draw = np.random.default_rng(4)
    runs, losses = draw.dirichlet(np.ones(3), 4), np.exp(draw.normal(0.5, 0.1, (4, 2)))
    return MeanLoss.of(runs, losses, np.full(2, -1), np.full(2, 0.5), constants)


def test_evidence_is_the_likelihood_per_target():
    found, exact = [], []
    for constants in TASKS.alternatives():
        made, draw = of_tasks(constants), np.random.default_rng(4)
        draw.dirichlet(np.ones(3), 4)
        z = draw.normal(0.5, 0.1, (4, 2))
        covariance = covariances(constants, made.own, made.runs, made.sizes).reshape(8, 8)
        off = (z - z.mean() - made.prior_mean(made.runs)).ravel()
        found.append(made.evidence)
        covariance += 1e-10 * np.eye(8)
        exact.append(-(off @ np.linalg.solve(covariance, off) + np.linalg.slogdet(covariance)[1]) / 2 / 2)
    assert len(set(found)) == 3
    np.testing.assert_allclose(np.diff(found), np.diff(exact), rtol=1e-6)


def test_the_improvement_under_several_processes_is_their_mean():
    parts = tuple(Improvement.of(of_tasks(constants), 0.0) for constants in TASKS.alternatives())
    weights, mixture = np.array([0.2, 0.3, 0.5]), np.array([0.2, 0.3, 0.5])
    here = Averaged(parts=parts, weights=weights)
    mean = sum(w * np.exp(part.logs(mixture[None])[0]) for w, part in zip(weights, parts, strict=True))
    value, slope = here.with_slope(mixture)
    assert value == pytest.approx(np.log(mean), rel=1e-12)
    assert here.logs(mixture[None])[0] == pytest.approx(value, rel=1e-12)
    steps = SHIFT * np.eye(3)
    numeric = (here.logs(mixture + steps) - here.logs(mixture - steps)) / (2 * SHIFT)
    np.testing.assert_allclose(slope, numeric, atol=1e-5 * np.abs(numeric).max())
    assert here.best is parts[2].best


def three_runs() -> MeanLoss:
    runs = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    losses = np.array([2.0, 3.0, 1.5]) * (runs + 0.01) ** -0.1
    return MeanLoss.of(runs, losses, np.arange(3), np.full(3, 1 / 3), DOMAINS)


def space(limits: Limits, candidates=None) -> Space:
    return Space.of(candidates, limits.region(("a", "b", "c")), ("a", "b", "c"), 1, 0)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(lower={"b": 0.3, "c": 0.05}, upper={"a": 0.25, "c": 0.6}),
        Limits(fixed={"a": 0.1}, groups={"rest": (("b",), 0.0, 0.2)}),
        Limits(groups={"two": (("a", "b"), 0.8, 0.9)}, upper={"a": 0.3}),
        Limits(near=([0.6, 0.2, 0.2], 0.05)),
        Limits(near=([0.6, 0.2, 0.2], 0.1, "hellinger"), upper={"b": 0.25}),
    ],
)
def test_climbing_ends_within_the_limits_and_higher_than_any_mixture_of_the_pool(limits):
    here, among = Improvement.of(three_runs(), 0.0), space(limits)
    pool = among.pool(here.best)
    found, value = here.best_of(pool, among.region)
    assert among.region.violation(found) < 1e-9
    assert value >= here.logs(pool).max()
    others = among.region.nearest(np.random.default_rng(5).dirichlet(np.ones(3), 4000))
    assert value >= here.logs(others).max() - 0.02


def test_a_batch_does_not_repeat_itself():
    free = space(Limits())
    chosen = np.array(improvement.batch(free, [three_runs()], {1.0: 1.0}, 4).mixtures)
    apart = 1 - np.sqrt(chosen) @ np.sqrt(chosen).T + np.eye(4)
    assert apart.min() > 1e-4


def test_a_cheap_size_is_preferred_until_it_is_too_dear():
    made, _, asked = both()
    small, large = np.exp(SIZES[0]), np.exp(SIZES[-1])
    among = Space.of(asked, Limits().region(tuple("abcd")), tuple("abcd"), 1, 0)
    cheap = improvement.batch(among, [made], {small: 1e-3, large: 1.0}, 1)
    dear = improvement.batch(among, [made], {small: 1e3, large: 1.0}, 1)
    assert (cheap.sizes, dear.sizes) == ([small], [large])
