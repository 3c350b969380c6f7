"""Mixtures within limits of shares, groups and a ball, against quadratic and linear programs, and brute force."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from bimixjax.solve import Ball, Region, certify, polish, power_dual
from bimixjax.solve.region import Divergence

DOMAINS = 22


def region(seed: int) -> Region:
    """Boxes, three groups with totals and seven domains in none, about a random mixture."""
    draw = np.random.default_rng(seed)
    inside, group = draw.dirichlet(np.ones(DOMAINS)), np.repeat([0, 1, 2, 3], [5, 5, 5, 7])
    totals = np.bincount(group, inside)[:3]
    return Region(
        lower=np.where(draw.random(DOMAINS) < 0.4, inside * draw.random(DOMAINS), 0.0),
        upper=np.where(draw.random(DOMAINS) < 0.4, np.minimum(1, inside * (1 + draw.random(DOMAINS))), 1.0),
        group=group,
        least=np.append(totals * draw.uniform(0.8, 1, 3), -np.inf),
        most=np.append(totals * draw.uniform(1, 1.2, 3), np.inf),
    )


def rows(of: Region) -> tuple[np.ndarray, np.ndarray]:
    sums = (of.group == np.arange(3)[:, None]).astype(float)
    return np.concatenate([sums, -sums]), np.concatenate([of.most[:3], -of.least[:3]])


def about(of: Region, seed: int, radius: float, divergence: Divergence = "kl") -> Region:
    """The same with a ball about another mixture."""
    reference = np.random.default_rng(100 + seed).dirichlet(np.ones(DOMAINS))
    center = of.in_proportion(reference)
    ball = Ball(reference=reference, radius=0.0, center=center, divergence=divergence)
    ball = Ball(reference=reference, radius=float(ball.of(center)) + radius, center=center, divergence=divergence)
    return Region(**{name: getattr(of, name) for name in ("lower", "upper", "group", "least", "most")}, ball=ball)


@pytest.mark.parametrize("seed", range(4))
def test_the_cheapest_mixture_is_that_of_a_linear_program(seed: int) -> None:
    of, slope = region(seed), np.random.default_rng(50 + seed).normal(size=DOMAINS)
    found = of.cheapest(slope)
    assert of.violation(found) < 1e-15
    matrix, ends = rows(of)
    wanted = linprog(
        slope, matrix, ends, np.ones((1, DOMAINS)), [1.0], bounds=np.stack([of.lower, of.upper], axis=1)
    ).fun
    assert slope @ found == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_nearest_mixture_is_stationary_for_the_distance(seed: int) -> None:
    of, x = region(seed), np.random.default_rng(50 + seed).normal(size=(3, DOMAINS)) / 5
    for one, found in zip(x, of.nearest(x), strict=True):
        assert of.violation(found) < 1e-15
        assert certify(2 * (found - one), found, of, least=1e-3).gap < 1e-12
        np.testing.assert_allclose(of.nearest(found), found, atol=1e-15)


@pytest.mark.parametrize("seed", range(4))
def test_the_mixture_in_proportion_is_the_one_of_least_divergence(seed: int) -> None:
    of = region(seed)
    reference = np.random.default_rng(seed).dirichlet(np.ones(DOMAINS))
    found = of.in_proportion(reference)
    assert of.violation(found) < 1e-15
    for ball in (
        Ball(reference=reference, radius=1.0, center=found, divergence=which) for which in ("kl", "hellinger")
    ):
        assert certify(ball.slopes(found), found, of).gap < 1e-12


def test_absent_domains_take_only_what_the_others_cannot() -> None:
    of = Region.box(np.zeros(4), np.array([0.3, 0.2, 1.0, 0.5]))
    np.testing.assert_allclose(of.in_proportion(np.array([0.5, 0.5, 0.0, 0.0])), [0.3, 0.2, 1 / 3, 1 / 6])


@pytest.mark.parametrize("divergence", ["kl", "hellinger"])
def test_a_ball_is_entered_at_its_surface(divergence: Divergence) -> None:
    of = about(region(1), 1, 0.02, divergence)
    x = np.random.default_rng(5).dirichlet(np.full(DOMAINS, 0.3), 20)
    found = of.nearest(x)
    assert of.ball is not None
    assert max(map(of.violation, found)) < 1e-15
    np.testing.assert_allclose(of.ball.of(found), of.ball.radius, rtol=1e-12)
    r, step = found[0], 1e-7 * np.eye(DOMAINS)
    slopes = [(of.ball.of(r + e) - of.ball.of(r - e)) / 2e-7 for e in step]
    np.testing.assert_allclose(np.diff(of.ball.slopes(r)), np.diff(slopes), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_the_dual_within_groups_is_exact(seed: int) -> None:
    """KKT to rounding, the best of SLSQP, and what Newton steps make of another start."""
    of, draw = region(seed), np.random.default_rng(seed)
    scale, exponent = draw.uniform(1, 4, DOMAINS), draw.uniform(0.01, 0.3, DOMAINS)
    with jax.enable_x64(True):
        r = np.asarray(power_dual(scale, exponent, of.lower, of.upper, of.group, of.least, of.most))

    def value(r: np.ndarray) -> np.ndarray:
        return np.sum(scale * np.maximum(r, 1e-12) ** -exponent, axis=-1)

    def slope(r: np.ndarray) -> np.ndarray:
        return -scale * exponent * np.maximum(r, 1e-12) ** (-exponent - 1)

    known = certify(slope(r), r, of)
    assert known.kkt_residual < 1e-12
    assert abs(known.gap) < 1e-12
    matrix, ends = rows(of)
    start = of.nearest(np.full(DOMAINS, 1 / DOMAINS))
    oracle = minimize(
        value,
        start,
        jac=slope,
        bounds=np.stack([np.maximum(of.lower, 1e-9), of.upper], axis=1),
        constraints=[
            {"type": "eq", "fun": lambda r: r.sum() - 1, "jac": np.ones_like},
            {"type": "ineq", "fun": lambda r: ends - matrix @ r, "jac": lambda r: -matrix},
        ],
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    ).x
    assert value(r) <= value(of.nearest(oracle)) + 1e-12
    polished, found = polish(value, slope, start, of, 0.0)
    assert found.kkt_residual < 1e-12
    assert value(polished) == pytest.approx(value(r), rel=1e-13)


@pytest.mark.parametrize("divergence", ["kl", "hellinger"])
@pytest.mark.parametrize("seed", range(3))
def test_within_a_ball_the_gap_bounds_what_is_lost(seed: int, divergence: Divergence) -> None:
    """Of a convex function: at the end it is nothing, and on the way no less than what is lost."""
    of, draw = about(region(seed), seed, 0.01, divergence), np.random.default_rng(seed)
    scale, exponent = draw.uniform(1, 4, DOMAINS), draw.uniform(0.01, 0.3, DOMAINS)

    def value(r: np.ndarray) -> np.ndarray:
        return np.sum(scale * np.maximum(r, 1e-12) ** -exponent, axis=-1)

    def slope(r: np.ndarray) -> np.ndarray:
        return -scale * exponent * np.maximum(r, 1e-12) ** (-exponent - 1)

    assert of.ball is not None
    best, known = polish(value, slope, np.asarray(of.ball.center), of, 0.0)
    assert known.kkt_residual < 1e-7
    assert known.pull > 0
    assert abs(known.gap) < 1e-6
    for other in of.nearest(draw.dirichlet(np.ones(DOMAINS), 20)):
        assert value(other) - value(best) <= certify(slope(other), other, of).gap + 1e-12
        assert value(other) >= value(best) - known.gap


def test_domains_without_effect_fill_what_a_group_lacks() -> None:
    group, least, most = np.array([0, 0, 1, 1]), np.array([0.5, -np.inf]), np.array([1.0, np.inf])
    with jax.enable_x64(True):
        r = power_dual(
            np.array([1.0, 0, 1, 0]), np.full(4, 0.1), np.zeros(4), np.array([0.2, 1, 0.3, 1]), group, least, most
        )
    np.testing.assert_allclose(r, [0.2, 0.3 + 0.2 / 3, 0.3, 0.4 / 3], atol=1e-12)  # .2 left, by room


def test_the_certificate_sees_a_group_that_should_let_go() -> None:
    """At its greatest total a group whose shares are worth less than the others' is not at rest."""
    of = Region(
        lower=np.zeros(3),
        upper=np.ones(3),
        group=np.array([0, 0, 1]),
        least=np.full(2, -np.inf),
        most=np.array([0.5, np.inf]),
    )
    at = np.array([0.25, 0.25, 0.5])
    assert certify(np.array([-2.0, -2.0, -1.0]), at, of).kkt_residual < 1e-15
    assert certify(np.array([-1.0, -1.0, -2.0]), at, of).kkt_residual > 0.1


def test_the_dual_has_the_derivatives_of_differences_in_limits_of_groups() -> None:
    of, draw = region(2), np.random.default_rng(2)
    scale, exponent = draw.uniform(1, 4, DOMAINS), draw.uniform(0.01, 0.3, DOMAINS)
    probe = draw.normal(size=DOMAINS)
    with jax.enable_x64(True):

        def read(most: np.ndarray, upper: np.ndarray) -> jax.Array:
            return jnp.asarray(probe) @ power_dual(scale, exponent, of.lower, upper, of.group, of.least, most)

        found = jax.grad(read, argnums=(0, 1))(of.most, of.upper)
        for argument, places in ((0, range(3)), (1, (0, 7, 20))):
            for i in places:
                step = 1e-6 * np.eye(len((of.most, of.upper)[argument]))[i]
                ends = [read(*(x + s * step if k == argument else x for k, x in enumerate((of.most, of.upper))))
                        for s in (1, -1)]  # fmt: skip
                assert float(found[argument][i]) == pytest.approx(float(ends[0] - ends[1]) / 2e-6, abs=1e-6)
