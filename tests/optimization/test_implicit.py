"""Derivatives of an optimum, against differences of searches: by weights, limits, coefficients, with all that binds."""

import dataclasses
import importlib
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bimixjax import LAWS, Budget, FitResult, Limits, objective
from bimixjax.optimization import Objective, differentiable_optimum, search
from bimixjax.solve import LBFGS, Region

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = np.array([0.3, 0.3, 0.2, 0.2])
LIMITS = {
    "none": Limits(),
    "box": Limits(lower={"d1": 0.3}, upper={"d0": 0.35}),
    "groups": Limits(groups={"g": (("d0", "d1"), 0.2, 0.4)}),
    "near": Limits(near=(REFERENCE, 0.02), upper={"d3": 0.22}),
    "hellinger": Limits(near=(REFERENCE, 0.1, "hellinger")),
}


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The benchmark that draws random laws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("searches")


def drawn(bench: ModuleType, name: str) -> FitResult:
    return bench.random_fit(LAWS[name], 4, np.random.default_rng(5), own=(0, 1, 2, 3))


def searched(goal: Objective, region: Region, near: np.ndarray) -> np.ndarray:
    """The optimum near another, by the search's own last steps."""
    with jax.enable_x64(True):
        return search.polished(goal, region.nearest(near), region)[0]


@pytest.mark.parametrize(
    ("name", "limits"),
    [("bimix", "box"), ("bimix", "groups"), ("bimix", "hellinger"), ("joint", "none"), ("joint", "near")],
)
def test_derivatives_are_those_of_differences(bench: ModuleType, name: str, limits: str) -> None:
    goal = objective(drawn(bench, name), budget=Budget(volume=1.0))
    region = LIMITS[limits].region(("d0", "d1", "d2", "d3"))
    with jax.enable_x64(True):
        found = search.best_mixture(goal, region, np.empty((0, 4)), solver=LBFGS(), starts=4)
    assert found is not None
    assert search.settled(found.certificate)
    probe, draw = np.array([1.0, -2.0, 0.5, 3.0]), np.random.default_rng(0)

    def moved(goal: Objective, region: Region, name: str, value: jax.Array | np.ndarray) -> tuple[Objective, Region]:
        if name in ("weights", "volume"):
            return dataclasses.replace(goal, **{name: value}), region
        if name == "values":
            return dataclasses.replace(goal, predictor=dataclasses.replace(goal.predictor, values=value)), region
        if name in ("radius", "reference"):
            assert region.ball is not None
            return goal, dataclasses.replace(region, ball=dataclasses.replace(region.ball, **{name: value}))
        return goal, dataclasses.replace(region, **{name: value})

    of_limits = {"none": [], "box": ["lower", "upper"], "groups": ["most"]}.get(limits, ["radius", "reference"])
    values = {"weights": goal.weights, "volume": goal.volume, "values": goal.predictor.values}
    values |= {one: getattr(region.ball if one in ("radius", "reference") else region, one) for one in of_limits}
    for what, value in values.items():
        value = np.asarray(value, float)
        # Infinite limits stay; a reference stays a mixture.
        way = np.where(np.isfinite(value), draw.normal(size=value.shape), 0.0) * (np.abs(np.nan_to_num(value)) > 0)
        way = way - way.mean() if what == "reference" else way

        def read(value: jax.Array, what: str = what) -> jax.Array:
            return jnp.sum(probe * differentiable_optimum(*moved(goal, region, what, value), found.mixture))

        with jax.enable_x64(True):
            slope = float(jnp.sum(jnp.where(way == 0, 0.0, jax.grad(read)(jnp.asarray(value)) * way)))
        size = 1e-5
        ends = [probe @ searched(*moved(goal, region, what, value + s * size * way), found.mixture) for s in (1, -1)]
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * size), rel=1e-3, abs=1e-4), (what, limits)


def test_value_jit_vmap_and_callers_without_float64(bench: ModuleType) -> None:
    goal = objective(drawn(bench, "bimix_transfer"), budget=Budget(volume=1.0))
    region = LIMITS["groups"].region(("d0", "d1", "d2", "d3"))
    with jax.enable_x64(True):
        found = search.best_mixture(goal, region, np.empty((0, 4)), solver=LBFGS(), starts=4)
    assert found is not None

    def share(weights: jax.Array) -> jax.Array:
        return differentiable_optimum(dataclasses.replace(goal, weights=weights), region, found.mixture)[0]

    weights = jnp.asarray(goal.weights)
    assert float(share(weights)) == pytest.approx(found.mixture[0], abs=1e-15)
    slope = jax.grad(share)(weights)
    np.testing.assert_allclose(jax.jit(jax.grad(share))(weights), slope, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(jax.grad(share))(jnp.stack([weights, weights]))[1], slope, rtol=1e-5)
    # The best mixture does not change with the scale of all weights.
    assert float(slope @ weights) == pytest.approx(0, abs=1e-5)
