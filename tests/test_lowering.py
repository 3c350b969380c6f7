"""The compiled fit and searches lower for CPU, CUDA and TPU; no such device is needed to see it."""

from contextlib import suppress
from dataclasses import replace
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax import export

from bimixjax import LAWS, Budget, Observations, fit, objective
from bimixjax.fitting import devices, lanes
from bimixjax.fitting.batch import solve_lanes
from bimixjax.fitting.criterion import Criterion
from bimixjax.fitting.lanes import Table
from bimixjax.fitting.problem import Batch, start_grid
from bimixjax.fitting.resamples import Bootstrap
from bimixjax.fitting.views import brief, describe
from bimixjax.solve import LBFGS, VarPro, softmax_search

PLATFORMS = ["cpu", "cuda", "tpu"]


@pytest.fixture(scope="module")
def observations() -> Observations:
    """Losses of two domains in two runs."""
    frame = pd.DataFrame({"run": ["a"] * 3 + ["b"] * 3, "step": [1, 4, 16] * 2})
    frame["mixture/x"] = np.repeat([0.25, 0.5], 3)
    frame["mixture/y"] = 1 - frame["mixture/x"]
    for domain in "xy":
        frame[f"loss/{domain}"] = frame[f"mixture/{domain}"] ** -0.5 * (2 * frame["step"] ** -0.5 + 1)
    return Observations.from_frame(frame)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("view", [describe, brief])
@pytest.mark.parametrize("law", ["bimix", "additive"])
@pytest.mark.parametrize("solver", [VarPro(), LBFGS()])
def test_the_fit_lowers(observations, law, solver, view):
    laid_out = Table.of(LAWS[law], observations, "steps", ("x", "y"))
    batch = Batch(
        law=LAWS[law],
        solver=solver,
        criterion=Criterion(huber=0.01),
        view=view,
        chunk=2,
        lanes=laid_out.lanes(laid_out.groups()),
        resamples=Bootstrap(key=jax.random.key(0), count=3, runs=2),
        starts=start_grid(LAWS[law], 2),
        units=(jnp.ones(()), jnp.ones(())),
        strength=jnp.ones(()),
    )

    def run(batch: Batch, first: jax.Array) -> list[jax.Array]:
        return jax.tree.leaves(solve_lanes(batch, first, batch.chunk))

    arguments = jax.tree.map(jnp.asarray, (batch, np.arange(0, 6, 2)))
    lowered = export.export(jax.jit(run), platforms=PLATFORMS)(*arguments)
    assert tuple(lowered.platforms) == tuple(PLATFORMS)


FAMILIES = ["bimix", "bimix_offset", "bimix_sized", "bimix_transfer", "bimix_transfer_sized", "additive", "joint_sized"]
FAMILIES += ["exponential", "log_linear", "power_linear", "exponential_volume", "chinchilla", "kaplan", "dcpt"]
FAMILIES += ["capacity"]


@pytest.mark.parametrize("waste", [1.6, 0.0], ids=["grid", "rows"])
@pytest.mark.parametrize("law", FAMILIES)
def test_the_fit_in_float32_lowers_without_float64(law, waste, observations, monkeypatch):
    monkeypatch.setattr(lanes, "_GRID_WASTE", waste)
    frame = observations.to_frame().assign(model_size=1e6)
    batch = devices.narrowed(_call(law, Observations.from_frame(frame)))
    assert batch.lanes.volume.shape[0] == (1 if waste else 6)
    with jax.enable_x64(False):
        assert_no_float64(batch)


def test_resamples_and_gradients_in_float32_lower_without_float64(observations):
    resamples = Bootstrap(key=jax.random.key(0), count=2, runs=2)
    settings = {"solver": LBFGS(), "criterion": Criterion(huber=0.01), "resamples": resamples}
    with jax.enable_x64(False):
        assert_no_float64(devices.narrowed(replace(_call("bimix", observations), **settings)))


def _call(law: str, observations: Observations) -> Batch:
    """What a fit hands to the compiled solver."""
    calls: list[Batch] = []

    def recorded(batch: Batch):
        calls.append(batch)
        raise InterruptedError

    with mock.patch.object(devices, "solve", recorded), suppress(InterruptedError):
        fit(law, observations)
    return calls[0]


def assert_no_float64(batch: Batch) -> None:
    """The call lowers for all platforms, and holds no number in float64."""

    def run(batch: Batch) -> list[jax.Array]:
        return jax.tree.leaves(solve_lanes(batch, jnp.zeros(1, int), len(batch)))

    exported = export.export(jax.jit(run), platforms=PLATFORMS)(jax.tree.map(jnp.asarray, batch))
    assert tuple(exported.platforms) == tuple(PLATFORMS)
    assert "f32" in exported.mlir_module()
    assert "f64" not in exported.mlir_module()


def test_the_searches_lower(observations):
    goal = objective(fit("bimix", observations), budget=Budget(volume=16, unit="steps"))
    lower, upper, starts = jnp.zeros(2), jnp.array([0.6, 1.0]), jnp.zeros((2, 2))
    searches = (
        lambda lower, upper: goal.optimal_proportions(lower, upper),
        lambda lower, upper: jax.tree.leaves(softmax_search(goal, lower, upper, starts, LBFGS())),
        lambda lower, upper: jax.tree.leaves(softmax_search(goal, lower, None, starts, LBFGS())),
    )
    for search in searches:
        assert tuple(export.export(jax.jit(search), platforms=PLATFORMS)(lower, upper).platforms) == tuple(PLATFORMS)
