"""The exact dual on the host: certified, within all limits, and what the compiled one finds."""

import jax
import numpy as np
import pytest

from bimixjax.solve import Region, certify, power_dual, power_dual_on_host

DOMAINS, GROUPS = 12, 4


def problem(draw: np.random.Generator, *, grouped: bool) -> tuple[np.ndarray, np.ndarray, Region]:
    """Scales over three decades, some of them zero, and limits about a random mixture, some of them equal to it."""
    scale, exponent = np.exp(draw.normal(0, 1.5, DOMAINS)), draw.uniform(0.01, 2.0, DOMAINS)
    scale[draw.random(DOMAINS) < 0.2] = 0.0
    inside = draw.dirichlet(np.full(DOMAINS, 0.5))
    lower = np.where(draw.random(DOMAINS) < 0.5, inside * draw.integers(0, 2, DOMAINS), 0.0)
    upper = np.where(draw.random(DOMAINS) < 0.5, np.minimum(1.0, inside * draw.uniform(1, 3, DOMAINS)), 1.0)
    if not grouped:
        return scale, exponent, Region.box(lower, upper)
    group = draw.permutation(np.arange(DOMAINS) % GROUPS)
    totals = np.bincount(group, inside, GROUPS)
    least = np.where(draw.random(GROUPS) < 0.5, totals * draw.random(GROUPS), -np.inf)
    most = np.where(draw.random(GROUPS) < 0.5, totals * draw.uniform(1, 2, GROUPS), np.inf)
    # The last group is that of domains that no group names.
    least[-1], most[-1] = -np.inf, np.inf
    return scale, exponent, Region(lower=lower, upper=upper, group=group, least=least, most=most)


def on_host(scale: np.ndarray, exponent: np.ndarray, within: Region) -> np.ndarray:
    groups = (within.group, within.least, within.most) if within.grouped else ()
    return power_dual_on_host(scale, exponent, within.lower, within.upper, *groups)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_dual_on_the_host_is_certified(grouped: bool) -> None:
    draw = np.random.default_rng(0)
    for _ in range(100):
        scale, exponent, within = problem(draw, grouped=grouped)
        r = on_host(scale, exponent, within)
        assert within.violation(r) < 1e-12
        slopes = -scale * exponent * np.where(scale > 0, r, 1.0) ** (-exponent - 1)
        # Narrow groups have prices of their own, many times that of the whole.
        assert certify(slopes, r, within, least=np.abs(slopes).max()).kkt_residual < 1e-12


@pytest.mark.parametrize("grouped", [False, True])
def test_the_dual_on_the_host_is_the_compiled_one(grouped: bool) -> None:
    draw = np.random.default_rng(1)
    with jax.enable_x64(True):
        compiled = jax.jit(power_dual)
        for _ in range(30):
            scale, exponent, within = problem(draw, grouped=grouped)
            groups = (within.group, within.least, within.most) if grouped else ()
            wanted = np.asarray(compiled(scale, exponent, within.lower, within.upper, *groups))
            np.testing.assert_allclose(on_host(scale, exponent, within), wanted, rtol=1e-9, atol=1e-13)


def test_terms_that_are_all_zero_leave_the_room_to_all() -> None:
    zero, one = np.zeros(3), np.ones(3)
    found = power_dual_on_host(zero, one, np.array([0.4, 0.0, 0.0]), one)
    np.testing.assert_allclose(found, [0.4 + 0.36 / 2.6, 0.6 / 2.6, 0.6 / 2.6])
