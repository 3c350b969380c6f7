"""Costs on public losses, without priors, against the lowest of twenty scipy fits with analytic Jacobians."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from bimixjax import LAWS, Observations

ROOT = Path(__file__).resolve().parents[2]
STARTS = 20


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The benchmark that compares all lanes of all laws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("observed_costs")


@pytest.fixture(scope="module")
def public(observations_folder) -> Observations:
    return Observations.read(observations_folder / "pile_5groups.csv")


def compared(bench: ModuleType, public: Observations, name: str, sizes: tuple[float, ...]) -> dict:
    rows = bench.rows_for(LAWS[name], public)
    return bench.compare(LAWS[name], Observations.concat(*(rows.select(model_size=s) for s in sizes)), STARTS)


def few(public: Observations, count: int) -> Observations:
    return public.select(targets=public.own_targets[:count])


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("bimix", (70e6, 305e6)),
        pytest.param("exponential", (70e6, 305e6), marks=pytest.mark.slow),
        pytest.param("exponential_volume", (70e6,), marks=pytest.mark.slow),
        pytest.param("additive", (305e6,), marks=pytest.mark.slow),
    ],
)
def test_no_cost_is_above_the_best_of_twenty_scipy_fits(bench, public, name, sizes):
    found = compared(bench, public, name, sizes)
    assert found["lanes"] == 5 * len(sizes)
    assert found["worst_excess"] <= 1e-6
    assert found["converged"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "targets"), [("bimix_transfer", 5), ("joint", 2)])
def test_laws_with_many_optima_are_as_good(bench, public, name, targets):
    found = compared(bench, few(public, targets), name, (160e6,))
    assert found["lanes"] == targets
    assert found["ok"] == 1.0
