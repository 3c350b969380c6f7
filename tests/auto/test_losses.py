"""Losses on the host against the same compiled: values, and derivatives pulled back to the mixtures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Auto, AutoFit, Observations
from bimixjax.auto.losses import AutoLosses

SETTINGS = Auto(members=("offset", "transfer", "power_linear", "mean"))


def table(shares: np.ndarray, level: float) -> pd.DataFrame:
    random, steps = np.random.default_rng(len(shares)), np.array([1000.0, 3000.0, 9000.0])
    share, step = np.repeat(shares, 3), np.tile(steps, len(shares))
    loss = level * (share + 0.01) ** -0.07 * (2.0 + 1.5 * (step / 9000.0) ** -0.4)
    columns = {"run": np.repeat(np.arange(len(shares)), 3).astype(str), "step": step}
    columns |= {"mixture/x": share, "mixture/y": 1 - share}
    noise = np.exp(0.02 * random.standard_normal((2, len(step))))
    return pd.DataFrame(columns | {"loss/x": loss * noise[0], "loss/task": (3.0 - share) * noise[1]})


@pytest.fixture(scope="module")
def fit() -> AutoFit:
    """Two model sizes, of which the smaller lends to the larger."""
    small = table(np.linspace(0.1, 0.9, 6), 1.0).assign(model_size=1e6)
    large = table(np.array([0.2, 0.5, 0.8]), 0.9).assign(model_size=1e7)
    frame = pd.concat([small, large.assign(run="large " + large["run"])], ignore_index=True)
    return bimixjax.fit(SETTINGS, Observations.from_frame(frame))


def predictor(fit: AutoFit, size: float, **change) -> AutoLosses:
    found = fit.at(size).predictor()
    return dataclasses.replace(found, size=dataclasses.replace(found.size, **change))


@pytest.mark.parametrize("size", [1e6, 1e7])
@pytest.mark.parametrize("narrow", [False, True], ids=["sane", "some far off"])
def test_the_host_agrees_with_what_is_compiled(fit: AutoFit, size: float, narrow: bool) -> None:
    """Also where members keep a part of their weight only, for which the fitted range is made narrow."""
    losses = predictor(fit, size, **({"log_range": np.array([[0.6, 0.6], [0.62, 0.62]])} if narrow else {}))
    r = np.array([[0.3, 0.7], [1.0, 0.0], [0.95, 0.05], [1e-6, 1.0]])
    s, weights = np.array([9000.0, 5000.0, 3000.0, 9000.0]), np.array([0.3, 0.7])
    host = losses.on_host
    assert host is not None
    with jax.enable_x64(True):
        value, pull = host.with_pull(r, s)
        wanted = jax.vmap(losses)(*map(jnp.asarray, (r, s)))
        slopes = jax.vmap(jax.grad(lambda r, s: jnp.sum(weights * losses(r, s))))(*map(jnp.asarray, (r, s)))
    np.testing.assert_allclose(value, wanted, rtol=1e-12)
    np.testing.assert_allclose(host.values(r, s), wanted, rtol=1e-12)
    np.testing.assert_allclose(pull(np.broadcast_to(weights, value.shape)), slopes, rtol=1e-8, atol=1e-10)


def test_draws_have_to_be_compiled(fit: AutoFit) -> None:
    drawn = bimixjax.sample(fit, key=0, count=2).resample(0).at_size(1e6).predictor()
    assert drawn.on_host is None


def test_predictions_of_the_host_have_the_shapes_of_compiled_ones(fit: AutoFit) -> None:
    """One mixture or many, at one volume or as many."""
    r = np.array([[0.3, 0.7], [0.6, 0.4]])
    for mixtures, volume in ((r[0], 3000.0), (r, 3000.0), (r, [3000.0, 9000.0]), (r[0], [3000.0, 9000.0])):
        plain = fit.predict(mixtures, volume, 1e7)
        traced = jax.jit(lambda r, volume=volume: fit.predict(r, volume, 1e7))(mixtures)
        assert plain.shape == traced.shape
        np.testing.assert_allclose(plain, traced, rtol=1e-6)


def test_no_share_is_asked_about_as_next_to_none(fit: AutoFit) -> None:
    """Powers of the own share, infinite at 0, else drop out of the average there, and nowhere near it."""
    shares = np.array([0.0, 1e-9, 1e-8, 1e-7])
    r, losses = np.stack([shares, 1 - shares], axis=1), predictor(fit, 1e6)
    host = losses.on_host
    assert host is not None
    with jax.enable_x64(True):
        value, pull = host.with_pull(r, np.full(4, 9000.0))
        slopes = pull(np.ones_like(value))
        compiled = jax.vmap(losses, (0, None))(jnp.asarray(r), jnp.asarray(9000.0))
    np.testing.assert_allclose(value, np.broadcast_to(value[-1], value.shape), rtol=1e-3)
    np.testing.assert_allclose(compiled, value, rtol=1e-12)
    lower, upper = (np.asarray(each) for each in fit.interval(r, 9000.0, 1e6))
    np.testing.assert_allclose(upper - lower, np.broadcast_to((upper - lower)[-1], lower.shape), rtol=1e-3)
    assert np.isfinite(slopes).all()


def test_shares_that_a_run_had_are_asked_about_as_they_are() -> None:
    fit = bimixjax.fit(SETTINGS, Observations.from_frame(table(np.array([0.0, 0.2, 0.5, 0.8]), 1.0)))
    assert isinstance(fit, AutoFit)
    asked = fit.predictor().size.asked(np.array([[0.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(asked, [[0.0, 1.0], [1.0, 1e-6]], rtol=1e-9)
