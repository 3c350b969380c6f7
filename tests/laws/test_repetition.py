"""The effective volume of repeated tokens, and laws read at it."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from bimixjax import Observations, fit
from bimixjax.laws import BiMix, Exponential, Point, Repeated, WithVolume, effective_volume

COEFFICIENTS = {"alpha": 0.2, "beta": 0.4, "B": 40.0, "C": 1.5}
UNIQUE = (500.0, float("inf"))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def formula(seen, unique, decay=15.387756):
    """The published D', for D above U."""
    return unique + unique * decay * (1 - np.exp(-(seen / unique - 1) / decay))


def test_the_effective_volume_is_the_published_one():
    assert float(effective_volume(400.0, 500.0)) == 400.0
    assert float(effective_volume(7e3, 500.0)) == pytest.approx(formula(7e3, 500.0), rel=1e-14)
    assert float(effective_volume(7e3, 500.0, 3.0)) == pytest.approx(formula(7e3, 500.0, 3.0), rel=1e-14)
    assert float(effective_volume(1e9, 500.0)) == pytest.approx(500 * (1 + 15.387756), rel=1e-12)
    assert float(effective_volume(7e3, float("inf"))) == 7e3


def test_its_slope_is_one_up_to_the_first_repetition_and_falls_from_there():
    slopes = [float(jax.grad(effective_volume)(seen, 500.0)) for seen in (0.0, 400.0, 501.0, 5e3, 5e5)]
    assert slopes[:2] == [1.0, 1.0]
    assert all(ahead < behind for behind, ahead in pairwise(slopes[1:]))
    assert float(jax.grad(effective_volume, argnums=1)(7e3, float("inf"))) == 0.0


def arrays(values) -> dict[str, jax.Array]:
    return {name: jnp.asarray(value) for name, value in values.items()}


def point(r, s, unit=1.0, own=0):
    return Point(jnp.asarray(r), jnp.asarray(r[own]), jnp.asarray(s), jnp.ones(()), jnp.arange(2) == own, unit)


def test_a_law_is_read_at_the_effective_tokens():
    law, r, s = Repeated(BiMix(), UNIQUE), np.array([0.4, 0.6]), 1e4
    parts = np.array([formula(4000.0, 500.0), 6000.0])
    at = law.effective(point(r, s))
    np.testing.assert_allclose(at.mixture, parts / parts.sum(), rtol=1e-14)
    assert float(at.own * at.volume) == pytest.approx(parts[0], rel=1e-14)
    expected = (parts[0] / parts.sum()) ** -0.2 * (40 * parts.sum() ** -0.4 + 1.5)
    assert float(law.loss(arrays(COEFFICIENTS), point(r, s))) == pytest.approx(expected, rel=1e-13)


def test_nothing_changes_before_a_domain_repeats():
    law = Repeated(WithVolume(Exponential()), UNIQUE)
    coefficients = {"c": 1.0, "k": 0.5, "t": jnp.array([0.0, 1.0]), "B": 10.0, "beta": 0.3}
    there = point(np.array([0.4, 0.6]), 1000.0)
    assert float(law.loss(arrays(coefficients), there)) == pytest.approx(
        float(law.inner.loss(arrays(coefficients), there)), rel=1e-15
    )


def test_unique_tokens_are_in_the_unit_of_the_table():
    law, r = Repeated(BiMix(), UNIQUE), np.array([0.4, 0.6])
    raw, scaled = law.effective(point(r, 1e4)), law.effective(point(r, 0.5, unit=2e4))
    np.testing.assert_allclose(scaled.mixture, raw.mixture, rtol=1e-14)
    assert float(scaled.volume * 2e4) == pytest.approx(float(raw.volume), rel=1e-14)


def test_an_absent_domain_leaves_derivatives_finite():
    law = Repeated(WithVolume(Exponential()), UNIQUE)
    coefficients = {"c": 1.0, "k": 0.5, "t": jnp.array([0.0, 1.0]), "B": 10.0, "beta": 0.3}
    slopes = jax.grad(lambda r: law.loss(arrays(coefficients), point(np.array([0.0, 1.0]), 1e4)._replace(mixture=r)))(
        jnp.array([0.0, 1.0])
    )
    assert np.isfinite(slopes).all()


def test_a_fit_recovers_the_law_beneath_the_repetition():
    law, rows = Repeated(BiMix(), UNIQUE), []
    for share in (0.1, 0.3, 0.6, 0.0):
        for s in (500.0, 2000.0, 8000.0, 32000.0):
            r = np.array([share, 1 - share])
            loss = float(law.loss(arrays(COEFFICIENTS), point(r, s))) if share else 9.0
            rows.append({"run": f"{share}", "tokens": s, "mixture/x": share, "mixture/y": 1 - share, "loss/x": loss})
    result = fit(law, Observations.from_frame(pd.DataFrame(rows)), priors=False)
    assert result.zero.tolist() == [4]
    for name, value in COEFFICIENTS.items():
        assert result.coefficients[name][0] == pytest.approx(value, rel=1e-6)
    assert float(result.predict([0.5, 0.5], 32000.0)[0]) == pytest.approx(
        float(law.loss(arrays(COEFFICIENTS), point(np.array([0.5, 0.5]), 32000.0))), rel=1e-8
    )
