"""Fits that iterate in float32 end at the costs of float64, and say so as they do."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from bimixjax import FitResult, InputError, Observations, _devices, _single, fit
from bimixjax.fitting import Criterion, bootstrap, fit_folds
from bimixjax.solve import LBFGS, VarPro

# How near a cost in float32 must be to that of float64, and in how many of the lanes.
NEAR, SHARE = 1e-5, 0.99


def fits(law: str, observations: Observations, **settings) -> tuple[FitResult, FitResult]:
    """In float64, and in float32."""
    return (
        fit(law, observations, **settings),
        fit(law, observations, solver=VarPro(precision="float32"), **settings),
    )


def excess(single: FitResult, double: FitResult) -> np.ndarray:
    return np.asarray(single.cost) / np.asarray(double.cost) - 1


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


@pytest.mark.parametrize("law", ["bimix_transfer", "additive", "joint"])
def test_laws_of_many_unknowns_end_at_the_costs_of_float64(law, transferred):
    double, single = fits(law, transferred)
    assert np.mean(excess(single, double) < NEAR) >= SHARE


def test_refined_is_float64(transferred):
    double = fit("bimix_offset", transferred)
    refined = fit("bimix_offset", transferred, solver=VarPro(precision="refined"))
    np.testing.assert_allclose(refined.cost, double.cost, rtol=1e-9)
    assert refined.sentences == double.sentences


@pytest.mark.parametrize("solver", [VarPro, LBFGS])
def test_huber_and_gradient_fits_have_both_precisions(solver, transferred):
    double, single = (
        fit("bimix", transferred, criterion=Criterion(huber=0.01), solver=solver(precision=precision))
        for precision in ("float64", "float32")
    )
    assert excess(single, double).max() < 1e-3


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
    solve = _devices._solve

    def seen(work, plan, devices):
        calls.append((bool(jax.config.jax_enable_x64), devices[0]))
        return solve(work, plan, devices)

    monkeypatch.setattr(_single, "_SINGLE_ONLY", ("cpu",))
    monkeypatch.setattr(_devices, "_solve", seen)
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
