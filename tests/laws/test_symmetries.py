"""What laws and their fits do when losses are scaled or shifted, domains renamed, and units changed."""

from collections.abc import Mapping
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import bimixjax.laws
from bimixjax import FitResult, Observations, fit
from bimixjax.fitting import Criterion
from bimixjax.laws import LAWS, Law, Point

DOMAINS = ("x", "y", "z")
STEPS = np.array([1000, 2000, 4000, 8000, 16000])
RENAMED = {"x": "z", "y": "x", "z": "y"}
NAMES = sorted(LAWS)
# What each law that has one adds to every loss.
FLOORS = {
    **{name: "E" for name in NAMES if name.startswith(("additive", "joint", "chinchilla", "dcpt", "capacity"))},
    **{name: "c" for name in NAMES if name.startswith(("exponential", "log_linear"))},
}
FITTED = [
    "bimix",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("bimix_offset", "bimix_transfer", "additive", "exponential_volume", "power_linear_volume")
    ),
]


def coefficients(law: Law) -> dict[str, jax.Array]:
    """The medians of the priors, every domain's a little apart, and off zero."""
    named = {}
    for c in law.coefficients:
        value = c.prior[0] if c.logarithmic else c.prior[0] + 0.1
        named[c.name] = jnp.asarray(value * (1 + 0.1 * np.arange(3)) if c.per_domain else value)
    return named


def loss(law: Law, values: Mapping[str, jax.Array]) -> float:
    r = jnp.array([0.2, 0.5, 0.3])
    point = Point(mixture=r, own=r[1], volume=jnp.asarray(0.3), model_size=jnp.asarray(0.4), is_own=jnp.arange(3) == 1)
    return float(law.loss(values, point))


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_is_as_large_as_its_linear_coefficients(name):
    law = LAWS[name]
    with jax.enable_x64(True):
        values = coefficients(law)
        scaled = values | {c.name: 3.5 * values[c.name] for c in law.part(linear=True)}
        assert loss(law, scaled) == pytest.approx(3.5 * loss(law, values), rel=1e-14)


@pytest.mark.parametrize("name", FLOORS)
def test_a_floor_shifts_the_loss(name):
    law, floor = LAWS[name], FLOORS[name]
    with jax.enable_x64(True):
        values = coefficients(law)
        shifted = values | {floor: values[floor] + 0.7}
        assert loss(law, shifted) - loss(law, values) == pytest.approx(0.7, rel=1e-12)


@pytest.mark.parametrize("name", [n for n in dir(bimixjax.laws) if isinstance(getattr(bimixjax.laws, n), type)])
def test_every_public_law_has_an_example(name):
    thing = getattr(bimixjax.laws, name)
    if issubclass(thing, Law) and thing.__name__ not in ("Law",):
        assert "Example:" in (thing.__doc__ or "")
        assert "Source:" in (thing.__doc__ or "")


@cache
def table() -> pd.DataFrame:
    """Losses with noise of y, which depend on all domains, in 12 runs of 5 volumes."""
    random = np.random.default_rng(4)
    r = np.repeat(random.dirichlet(np.full(3, 2.0), 12).clip(0.02), len(STEPS), axis=0)
    r /= r.sum(1, keepdims=True)
    frame = pd.DataFrame({"run": np.repeat(range(12), len(STEPS)).astype(str), "step": np.tile(STEPS, 12)})
    frame = frame.assign(**{f"mixture/{name}": r[:, i] for i, name in enumerate(DOMAINS)})
    rho = np.sum(np.array([0.3, 1.0, 0.1]) * r**0.6, axis=1)
    noise = np.exp(0.003 * random.standard_normal(len(r)))
    return frame.assign(**{"loss/y": rho**-0.2 * (30 * frame["step"] ** -0.5 + 2) * noise})


def fitted(name: str, frame: pd.DataFrame, criterion: Criterion = Criterion()) -> FitResult:  # noqa: B008 - frozen
    return fit(name, Observations.from_frame(frame), priors=False, criterion=criterion)


def at_rows(result: FitResult, frame: pd.DataFrame) -> np.ndarray:
    mixtures = frame[[f"mixture/{name}" for name in result.domains]].to_numpy()
    return np.asarray(result.predict(mixtures, frame["step"].to_numpy()))[:, 0]


@pytest.mark.parametrize("name", FITTED)
def test_losses_in_other_units_scale_the_linear_coefficients_only(name):
    whole, scaled = fitted(name, table()), fitted(name, table().assign(**{"loss/y": lambda t: 1.7 * t["loss/y"]}))
    linear = len([1 for c in whole.law.part(linear=True) for _ in range(c.size(3))])
    np.testing.assert_allclose(scaled.cost, whole.cost, rtol=1e-9)
    np.testing.assert_allclose(at_rows(scaled, table()), 1.7 * at_rows(whole, table()), rtol=1e-6)
    errors = np.sqrt(np.diag(whole.covariance[0]))
    known = ~np.isnan(errors) & (errors < np.abs(whole.values[0]))
    factor = np.where(np.arange(len(known)) < linear, 1.7, 1.0)
    assert known.sum() >= 4
    np.testing.assert_allclose((scaled.values - factor * whole.values)[0, known] / errors[known], 0.0, atol=1e-3)


@pytest.mark.parametrize("name", FITTED)
def test_the_order_and_names_of_domains_change_nothing(name):
    renamed = table().rename(columns=lambda c: f"{c[:-1]}{RENAMED[c[-1]]}" if "/" in c else c)
    ordered = renamed.reindex(columns=["run", "step", *(f"mixture/{name}" for name in DOMAINS), "loss/x"])
    moved, whole = fitted(name, ordered), fitted(name, table())
    np.testing.assert_allclose(moved.cost, whole.cost, rtol=1e-7)
    np.testing.assert_allclose(at_rows(moved, renamed), at_rows(whole, table()), rtol=1e-5)


@pytest.mark.parametrize("name", FITTED)
def test_the_unit_of_volume_changes_no_prediction(name):
    other = table().assign(step=lambda t: 250 * t["step"])
    far, whole = fitted(name, other), fitted(name, table())
    np.testing.assert_allclose(far.cost, whole.cost, rtol=1e-9)
    np.testing.assert_allclose(at_rows(far, other), at_rows(whole, table()), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["additive", "exponential_volume"])
def test_a_shift_of_absolute_losses_is_one_of_the_floor(name):
    criterion = Criterion(residual="absolute")
    shifted = table()
    shifted = shifted.assign(**{"loss/y": shifted["loss/y"] + 0.5})
    whole, moved = fitted(name, table(), criterion), fitted(name, shifted, criterion)
    np.testing.assert_allclose(at_rows(moved, table()), at_rows(whole, table()) + 0.5, rtol=1e-6)
    np.testing.assert_allclose(moved.values[0, 0], whole.values[0, 0] + 0.5, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_the_sum_of_coefficients_times_products_of_factors(name):
    law, r = LAWS[name], jnp.array([0.2, 0.5, 0.3])
    volume, size = jnp.asarray(0.7), jnp.asarray(0.4)
    point = Point(mixture=r, own=r[0], volume=volume, model_size=size, is_own=jnp.arange(3) == 0)
    values = coefficients(law)
    factors = law.factors(values, point)
    assert set(factors) == {c.name for c in law.part(linear=True)}
    whole = sum(values[key] * np.prod(each) for key, each in factors.items())
    np.testing.assert_allclose(whole, law.loss(values, point), rtol=1e-6)
