"""BiMix against its formula in plain NumPy, and what changes of unit do to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bimixjax.laws import LAWS, BiMix, Point, Units

COEFFICIENTS = {"alpha": 0.13, "beta": 0.45, "B": 0.8, "C": 1.9}


def point(own: float, volume: float) -> Point:
    return Point(
        mixture=jnp.array([own, 1 - own]), own=jnp.asarray(own), volume=jnp.asarray(volume), model_size=jnp.ones(())
    )


def coefficients() -> dict[str, jax.Array]:
    return {name: jnp.asarray(value) for name, value in COEFFICIENTS.items()}


def formula(own, volume, alpha, beta, B, C):
    return own**-alpha * (B * volume**-beta + C)


@pytest.mark.parametrize(("own", "volume"), [(0.5, 1.0), (0.01, 0.1), (1.0, 20.0)])
def test_loss_is_the_published_formula(own, volume):
    with jax.enable_x64(True):
        loss = BiMix().loss(coefficients(), point(own, volume))
        assert float(loss) == pytest.approx(formula(own, volume, **COEFFICIENTS), rel=1e-14)


def test_derivatives_agree_with_finite_differences():
    with jax.enable_x64(True):
        exact = jax.grad(lambda c: BiMix().loss(c, point(0.2, 0.3)))(coefficients())
        for name, value in COEFFICIENTS.items():
            sides = [formula(0.2, 0.3, **{**COEFFICIENTS, name: value + step}) for step in (1e-6, -1e-6)]
            assert float(exact[name]) == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-7)


@pytest.mark.parametrize(("changed", "expected"), [({"C": 0.0}, np.inf), ({"B": 0.0}, np.inf), ({"alpha": 0.0}, 2.7)])
def test_coefficients_of_zero_at_a_share_of_zero(changed, expected):
    with jax.enable_x64(True):
        zeroed = coefficients() | {name: jnp.asarray(value) for name, value in changed.items()}
        assert float(BiMix().loss(zeroed, point(0.0, 1.0))) == pytest.approx(expected)


def test_a_law_diverges_where_its_domain_is_absent():
    assert np.isinf(BiMix().loss(coefficients(), point(0.0, 1.0)))


def test_a_change_of_the_unit_of_volume_leaves_losses():
    with jax.enable_x64(True):
        scaled = BiMix().with_units(coefficients(), Units(jnp.asarray(524_288.0), jnp.ones(())))
        loss = BiMix().loss(scaled, point(0.2, 0.3 * 524_288))
        assert float(loss) == pytest.approx(formula(0.2, 0.3, **COEFFICIENTS), rel=1e-13)


def test_the_own_power_is_the_law():
    with jax.enable_x64(True):
        scale, exponent, _ = BiMix().own_power(coefficients(), point(1.0, 0.3))
        assert float(scale * 0.2**-exponent) == pytest.approx(formula(0.2, 0.3, **COEFFICIENTS), rel=1e-14)


def test_equal_laws_are_equal_so_that_compiled_fits_are_reused():
    assert BiMix() == LAWS["bimix"]
    assert hash(BiMix()) == hash(LAWS["bimix"])


def test_packing_keeps_every_coefficient():
    law = BiMix()
    packed = jnp.array([COEFFICIENTS[name] for name in law.names(("x", "y"))])
    unpacked = law.unpack(packed, law.ordered(), 2)
    assert {name: float(value) for name, value in unpacked.items()} == pytest.approx(COEFFICIENTS)
