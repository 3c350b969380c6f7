"""The exact dual and the softmax search against scipy's SLSQP, and the certificate against hand-made cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from bimixjax.solve import LBFGS, Region, certify, power_dual, softmax_search, softmax_search_on_host

DOMAINS = 22


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def problem(seed: int):
    """Scales and exponents of 22 domains."""
    rng = np.random.default_rng(seed)
    return rng.uniform(1, 4, DOMAINS), rng.uniform(0.01, 0.3, DOMAINS)


LIMITS = {
    "none": (np.zeros(DOMAINS), np.ones(DOMAINS)),
    "both": (np.full(DOMAINS, 0.2 / DOMAINS), np.full(DOMAINS, 2 / DOMAINS)),
    "lower": (np.full(DOMAINS, 0.02), np.ones(DOMAINS)),
    "one fixed": (np.where(np.arange(DOMAINS) == 3, 0.3, 0.0), np.where(np.arange(DOMAINS) == 3, 0.3, 1.0)),
}


def slsqp(scale, exponent, lower, upper):
    return minimize(
        lambda r: np.sum(scale * r**-exponent),
        power_start(lower, upper),
        jac=lambda r: -scale * exponent * r ** (-exponent - 1),
        bounds=list(zip(np.maximum(lower, 1e-6), upper, strict=True)),
        constraints={"type": "eq", "fun": lambda r: r.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    ).x


def power_start(lower, upper):
    return lower + (1 - lower.sum()) * (upper - lower) / (upper - lower).sum()


def value(scale, exponent, r):
    return np.sum(scale * np.asarray(r) ** -exponent)


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("seed", range(3))
def test_the_dual_is_the_optimum(limits, seed):
    (scale, exponent), (lower, upper) = problem(seed), LIMITS[limits]
    r = power_dual(*map(jnp.asarray, (scale, exponent, lower, upper)))
    np.testing.assert_allclose(r, slsqp(scale, exponent, lower, upper), atol=1e-6)
    gradient = -scale * exponent * np.asarray(r) ** (-exponent - 1)
    certificate = certify(gradient, np.asarray(r), Region.box(lower, upper))
    assert float(certificate.kkt_residual) < 1e-10
    assert float(certificate.gap) < 1e-10


@pytest.mark.parametrize("limits", LIMITS)
def test_the_softmax_search_agrees_in_objective(limits):
    (scale, exponent), (lower, upper) = problem(0), map(jnp.asarray, LIMITS[limits])
    starts = jax.random.normal(jax.random.key(0), (4, DOMAINS)).at[0].set(0.0)
    ends, minima = softmax_search(
        lambda r: jnp.sum(scale * r**-exponent), lower, None if (upper == 1).all() else upper, starts, LBFGS()
    )
    best = float(jnp.min(minima.value))
    exact = value(scale, exponent, power_dual(jnp.asarray(scale), jnp.asarray(exponent), lower, upper))
    assert best == pytest.approx(exact, rel=1e-8)
    np.testing.assert_allclose(ends.sum(axis=1), 1, atol=1e-12)
    assert bool(jnp.all((ends >= lower - 1e-15) & (ends <= upper + 1e-15)))


@pytest.mark.parametrize("limits", LIMITS)
def test_the_search_on_the_host_takes_the_same_steps(limits):
    """With one share that stays, of one start; the objective is NumPy's."""
    (scale, exponent), (lower, upper) = problem(0), LIMITS[limits]
    starts = jax.random.normal(jax.random.key(0), (4, DOMAINS)).at[0].set(0.0)
    held = np.zeros(starts.shape, bool)
    held[1, 2] = True
    low = np.broadcast_to(np.maximum(lower, 0.01), starts.shape)
    high = None if (upper == 1).all() else np.where(held, low, upper)
    limits = jnp.asarray(low), None if high is None else jnp.asarray(high)
    wanted, _ = softmax_search(lambda r: jnp.sum(scale * r**-exponent), *limits, starts, LBFGS(), jnp.asarray(held))
    found = softmax_search_on_host(
        lambda r: ((scale * r**-exponent).sum(-1), -scale * exponent * r ** (-exponent - 1)),
        low,
        high,
        starts,
        LBFGS(),
        held,
    )
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert found[1, 2] == pytest.approx(low[1, 2])


def test_a_domain_without_effect_gets_its_lower_limit():
    scale, exponent = jnp.array([1.0, 2.0, 0.0]), jnp.array([0.1, 0.0, 0.1])
    r = power_dual(scale, exponent, jnp.array([0.0, 0.1, 0.2]), jnp.ones(3))
    np.testing.assert_allclose(r, [0.7, 0.1, 0.2], atol=1e-12)


def test_what_capped_domains_leave_goes_to_the_others():
    scale, exponent = jnp.array([1.0, 0.0, 0.0]), jnp.array([0.1, 0.1, 0.1])
    r = power_dual(scale, exponent, jnp.zeros(3), jnp.array([0.4, 1.0, 0.5]))
    np.testing.assert_allclose(r, [0.4, 0.4, 0.2], atol=1e-12)


def test_no_effect_at_all_is_still_a_mixture():
    r = power_dual(jnp.zeros(2), jnp.zeros(2), jnp.zeros(2), jnp.ones(2))
    np.testing.assert_allclose(r, [0.5, 0.5])


@pytest.mark.parametrize("spread", [1e-12, 1e12])
def test_extreme_scales_are_solved(spread):
    scale, exponent = jnp.array([1.0, spread]), jnp.array([0.3, 0.01])
    r = power_dual(scale, exponent, jnp.zeros(2), jnp.ones(2))
    pull = scale * exponent * r ** (-exponent - 1)
    np.testing.assert_allclose(pull[0], pull[1], rtol=1e-8)
    assert float(r.sum()) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("limits", ["none", "both"])
def test_the_optimum_is_differentiable(limits):
    (scale, exponent), (lower, upper) = map(jnp.asarray, problem(1)), map(jnp.asarray, LIMITS[limits])
    probe = jnp.asarray(np.random.default_rng(5).normal(size=DOMAINS))

    def read(scale, exponent):
        return probe @ power_dual(scale, exponent, lower, upper)

    for argument in (0, 1):
        exact = jax.grad(read, argnums=argument)(scale, exponent)
        np.testing.assert_allclose(jax.jit(jax.grad(read, argnums=argument))(scale, exponent), exact, rtol=1e-9)
        for i in (0, 7):
            moved = [scale, exponent]
            step = 1e-6 * jnp.zeros(DOMAINS).at[i].set(1)
            ahead = read(*[m + step if k == argument else m for k, m in enumerate(moved)])
            behind = read(*[m - step if k == argument else m for k, m in enumerate(moved)])
            assert float(exact[i]) == pytest.approx(float((ahead - behind) / 2e-6), rel=1e-5, abs=1e-9)


def test_a_batch_is_its_problems():
    scales, exponents = (
        jnp.stack(part) for part in zip(*(map(jnp.asarray, problem(s)) for s in range(3)), strict=True)
    )
    lower, upper = map(jnp.asarray, LIMITS["both"])
    batch = jax.vmap(power_dual, in_axes=(0, 0, None, None))(scales, exponents, lower, upper)
    for i in range(3):
        np.testing.assert_allclose(batch[i], power_dual(scales[i], exponents[i], lower, upper), atol=1e-13)


def certified(gradient, r, lower, upper, **options):
    region = Region.box(np.asarray(lower), np.asarray(upper))
    return certify(np.asarray(gradient), np.asarray(r), region, **options)


def test_the_certificate_measures_what_is_lost():
    certificate = certified([-1.0, -3.0], [0.5, 0.5], np.zeros(2), np.ones(2))
    assert certificate.multiplier == pytest.approx(2.0)
    assert certificate.kkt_residual == pytest.approx(0.5)
    assert certificate.gap == pytest.approx(1.0)


def test_the_certificate_excuses_only_the_right_side_of_a_limit():
    gradient, lower, upper = [-1.0, -2.0, -3.0], [0.2, 0.0, 0.0], [1.0, 1.0, 0.5]
    good = certified(gradient, [0.2, 0.3, 0.5], lower, upper)
    assert good.kkt_residual < 1e-12
    assert good.multiplier == pytest.approx(2.0)
    bad = certified(gradient, [0.5, 0.5, 0.0], lower, upper)
    assert bad.kkt_residual > 0.1
    assert bad.gap > 0.1


def test_the_certificate_sees_a_sum_that_is_not_one():
    assert certified(-np.ones(2), [0.5, 0.4], np.zeros(2), np.ones(2)).kkt_residual >= 0.1 - 1e-12


def test_forward_derivatives_in_the_limits_are_those_of_reverse_mode():
    with jax.enable_x64(True):
        scale, exponent, lower, upper = (
            jnp.array([1.0, 2.0, 0.5]),
            jnp.array([0.3, 0.2, 0.4]),
            jnp.zeros(3),
            jnp.full(3, 0.35),
        )
        for limit in (2, 3):
            forward = jax.jacfwd(power_dual, argnums=limit)(scale, exponent, lower, upper)
            np.testing.assert_allclose(forward, jax.jacrev(power_dual, argnums=limit)(scale, exponent, lower, upper))
            assert np.isfinite(forward).all()


def test_slopes_that_all_vanish_are_held_against_the_least_that_counts():
    inside = [1e-9, -1e-9], [0.5, 0.5], np.zeros(2), np.ones(2)
    assert certified(*inside).kkt_residual > 0.4
    assert certified(*inside, least=0.03).kkt_residual < 1e-7
