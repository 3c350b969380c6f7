"""Fits that iterate in float32 end at the costs of float64, and say so as they do."""

from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from bimixjax import InputError, Observations, fit
from bimixjax.fitting import Criterion, bootstrap, devices, fit_folds
from bimixjax.solve import LBFGS, Precision, VarPro

# How near a cost in float32 must be to that of float64, and in how many of the lanes.
NEAR, SHARE = 1e-5, 0.99


def costs(call: Callable[[], object]) -> np.ndarray:
    """What the fit that is called minimized, priors included [L]."""
    ends: list[Any] = []
    solve = devices.solve

    def kept(batch):
        ends.append(solve(batch))
        return ends[-1]

    with mock.patch.object(devices, "solve", kept):
        call()
    return np.asarray(ends[0].solution.cost)


def excess(law: str, observations: Observations, precision: Precision, **settings) -> np.ndarray:
    """How far costs are above those of float64 [L]."""
    double, found = (
        costs(lambda each=each: fit(law, observations, solver=VarPro(precision=each), **settings))
        for each in ("float64", precision)
    )
    return found / double - 1


@pytest.fixture(scope="module")
def transferred() -> Observations:
    """Losses of 3 domains that learn from each other, with noise: 12 runs x 6 volumes at 8 model sizes."""
    random = np.random.default_rng(0)
    mixtures, s = random.dirichlet(np.ones(3), (8, 12, 1)), np.array([1, 2, 4, 8, 16, 32]) / 32
    T = np.exp(random.normal(-2, 0.5, (8, 1, 1, 3, 3)))
    T[..., range(3), range(3)] = 1.0
    rho = (T * mixtures[..., None, :] ** 0.6).sum(-1)
    loss = rho**-0.15 * (0.4 * s[:, None] ** -0.5 + 2) * np.exp(0.005 * random.standard_normal((8, 12, 6, 3)))
    size, run, step = np.broadcast_arrays(np.arange(8)[:, None, None] + 1.0, np.arange(12)[:, None], s * 32000)
    ids = [f"{n:g}-{k}" for n, k in zip(size.ravel(), run.ravel(), strict=True)]
    frame = pd.DataFrame({"run": ids, "model_size": size.ravel(), "step": step.ravel()})
    shares = np.broadcast_to(mixtures, loss.shape)
    for i in range(3):
        frame[f"mixture/d{i}"], frame[f"loss/d{i}"] = shares[..., i].ravel(), loss[..., i].ravel()
    return Observations.from_frame(frame)


@pytest.mark.parametrize("law", ["bimix_transfer", "additive"])
def test_laws_of_many_unknowns_end_at_the_costs_of_float64(law, transferred):
    assert np.mean(excess(law, transferred, "float32") < NEAR) >= SHARE


def test_refined_is_float64(transferred):
    np.testing.assert_allclose(excess("bimix_offset", transferred, "refined"), 0, atol=1e-9)


def test_huber_fits_have_both_precisions(transferred):
    assert excess("bimix", transferred, "float32", criterion=Criterion(huber=0.01)).max() < NEAR


def test_gradient_fits_have_both_precisions(transferred):
    single, double = (
        costs(lambda each=each: fit("bimix", transferred, solver=LBFGS(starts=1, precision=each)))
        for each in ("float32", "float64")
    )
    np.testing.assert_allclose(single, double, rtol=NEAR)


def test_folds_and_resamples_have_both_precisions(transferred):
    weights = np.ones((2, len(transferred)))
    weights[1, :50] = 0
    folds = [
        fit_folds("bimix", transferred, weights, solver=VarPro(precision=precision)).predicted
        for precision in ("float64", "float32")
    ]
    np.testing.assert_allclose(folds[1], folds[0], rtol=1e-4)
    single, refined = (
        bootstrap("bimix", transferred, key=jax.random.key(0), count=20, solver=VarPro(precision=precision))
        for precision in ("float32", "refined")
    )
    # Both draw the same weights.
    np.testing.assert_allclose(single.values, refined.values, rtol=0.05)
    assert set(single.status.ravel()) == {0}


def test_devices_without_float64_iterate_in_float32_and_the_host_does_the_rest(transferred, monkeypatch):
    single = fit("bimix", transferred, solver=VarPro(precision="float32"))
    calls: list[tuple[bool, Any]] = []
    solve = devices._solve

    def seen(batch, devices):
        calls.append((jnp.result_type(float) == "float64", devices[0]))
        return solve(batch, devices)

    monkeypatch.setattr(devices, "_SINGLE_ONLY", ("cpu",))
    monkeypatch.setattr(devices, "_solve", seen)
    found = fit("bimix", transferred)
    assert calls == [(False, jax.devices()[0]), (True, jax.local_devices(backend="cpu")[0])]
    np.testing.assert_allclose(found.cost, single.cost, rtol=1e-9)
    calls.clear()
    fit("bimix", transferred, solver=VarPro(precision="float64"))
    assert calls == [(True, jax.local_devices(backend="cpu")[0])]


@pytest.mark.parametrize("solver", [VarPro, LBFGS])
def test_another_precision_is_an_error(solver: Callable[..., object]):
    with pytest.raises(InputError, match="precision is 'half'; allowed: float64, float32, refined"):
        solver(precision="half")
