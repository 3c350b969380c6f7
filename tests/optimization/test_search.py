"""Searches against brute force under every law, at vertices and inside; what is shared, refused and not found."""

import dataclasses
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from bimixjax import LAWS, Budget, InputError, Limits, Observations, OptimalMixture, fit, optimize
from bimixjax._base.records import read_json, write_json
from bimixjax.fitting.result import FitResult
from bimixjax.laws import Coefficient, Law
from bimixjax.mixtures import lattice, nearest
from bimixjax.optimization import search
from bimixjax.optimization.search import STATIONARY

ROOT = Path(__file__).resolve().parents[2]
GRID = lattice(3, 100)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The benchmark that draws random laws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("searches")


@pytest.mark.parametrize("name", LAWS)
def test_no_mixture_of_a_fine_grid_is_better(bench: ModuleType, name: str) -> None:
    """One target of three domains, of any law: within limits, and without."""
    law, draw = LAWS[name], np.random.default_rng(1)
    budget = Budget(volume=1.0, model_size=1.0 if law.sized else None)
    for limits in (None, None, Limits(lower={"d1": 0.05}, upper={"d0": 0.6, "d2": 0.7})):
        of_law = bench.random_fit(law, 3, draw, own=(0,))
        best = optimize(of_law, budget=budget, limits=limits)
        allowed = GRID[[best.allows(r) for r in GRID]]
        losses = np.asarray(of_law.predict(allowed, 1.0, budget.model_size))[:, 0]
        assert best.objective <= np.nanmin(losses) + 1e-9
        assert best.allows(best.proportions)
        if name != "capacity":  # whose slopes jump where a domain's capacity reaches its floor
            assert best.converged


class Bent(Law):
    """A loss with two valleys, at both ends of the own share, or with none where it is not finite."""

    name = "bent"
    own_proportion = True
    coefficients = (Coefficient(name="k", linear=True, prior=(1.0, 1.0)),)

    def basis(self, nonlinear, point):
        return {"k": self.of_share(point.own)}

    def of_share(self, share):
        return 1 + share * (1 - share) + 0.01 * share

    def starts(self):
        return {}


class Broken(Bent):
    name = "broken"

    def of_share(self, share):
        return jnp.log(share - 2)


class Kinked(Bent):
    name = "kinked"

    def of_share(self, share):
        return 1 + jnp.abs(share - 0.4)


def of_law(bench: ModuleType, law: Law) -> FitResult:
    one = bench.random_fit(law, 3, np.random.default_rng(0), own=(0,))
    return dataclasses.replace(one, values=np.ones_like(one.values))


def test_a_vertex_is_reached_exactly_and_idle_domains_follow_the_reference(bench: ModuleType) -> None:
    bent = of_law(bench, Bent())
    best = optimize(bent, reference={"d1": 0.25, "d2": 0.75})
    assert best.proportions.tolist() == [0.0, 0.25, 0.75]
    assert best.converged
    assert (best.kkt_residual, best.gap) <= STATIONARY
    assert best.idle == ("d1", "d2")
    capped = optimize(bent, reference=[0.0, 0.25, 0.75], limits=Limits(upper={"d2": 0.5}))
    np.testing.assert_allclose(capped.proportions, [0, 0.5, 0.5], atol=1e-12)


def test_what_weighted_domains_cannot_take_follows_the_reference(bench: ModuleType) -> None:
    bimix = bench.random_fit(LAWS["bimix"], 4, np.random.default_rng(0), own=(0,))
    limits = Limits(upper={"d0": 0.4})
    alike = optimize(bimix, limits=limits)
    np.testing.assert_allclose(alike.proportions, [0.4, 0.2, 0.2, 0.2])
    assert alike.idle == ("d1", "d2", "d3")
    follows = optimize(bimix, limits=limits, reference={"d1": 0.6, "d2": 0.3, "d0": 0.1})
    np.testing.assert_allclose(follows.proportions, [0.4, 0.4, 0.2, 0.0])
    assert "mixture kept near to" not in follows.summary()
    near = optimize(bimix, limits=Limits(near=([0.1, 0.4, 0.4, 0.1], 0.05)), reference=[0.25] * 4)
    np.testing.assert_allclose(near.proportions[1:] / near.proportions[1], [1, 1, 0.25])
    assert "depends on d1, d2, d3: what falls there is shared as in the mixture kept near to" in near.summary()
    with pytest.raises(InputError, match="unknown domain 'x' in reference"):
        optimize(bimix, reference={"x": 1.0})
    with pytest.raises(InputError, match=r"reference has shape \(2,\); allowed: \[4\]"):
        optimize(bimix, reference=[0.5, 0.5])


def test_where_no_mixture_matters_the_reference_is_chosen(bench: ModuleType) -> None:
    chinchilla = bench.random_fit(LAWS["chinchilla"], 3, np.random.default_rng(0), own=(0,))
    best = optimize(chinchilla, budget=Budget(model_size=1.0), reference=[0.5, 0.3, 0.2])
    np.testing.assert_allclose(best.proportions, [0.5, 0.3, 0.2])
    assert best.idle == best.domains


def test_an_objective_that_is_not_finite_is_refused_with_the_target(bench: ModuleType) -> None:
    with pytest.raises(InputError, match=r"finite at no mixture.*these losses are not: d0 \(nan\)"):
        optimize(of_law(bench, Broken()))
    bimix = bench.random_fit(LAWS["bimix"], 3, np.random.default_rng(0), own=(0,))
    for method in ("dual", "softmax"):
        with pytest.raises(InputError, match=r"d0=0, .*these losses are not: d0 \(inf\)"):
            optimize(bimix, limits=Limits(upper={"d0": 0.0}), method=method)


def test_what_is_not_stationary_has_not_converged(bench: ModuleType) -> None:
    assert not optimize(of_law(bench, Kinked())).converged


def test_a_domain_with_one_share_only_is_fixed(bench: ModuleType) -> None:
    bimix = bench.random_fit(LAWS["bimix_transfer"], 3, np.random.default_rng(0))
    best = optimize(bimix, limits=Limits(lower={"d2": 0.3}, upper={"d2": 0.3}))
    assert best.fixed == ("d2",)
    assert best.proportions[2] == 0.3
    assert best.converged
    assert not best.allows([0.2, 0.2, 0.6])
    np.testing.assert_allclose(best.nearest([0.2, 0.2, 0.6]), [0.35, 0.35, 0.3])


def test_a_fit_knows_the_mixtures_that_it_saw(tmp_path: Path) -> None:
    table = {"run": list("aabc"), "step": [1, 2, 1, 1], "mixture/x": [0.2, 0.2, 0.6, 0.9]}
    table |= {"mixture/y": [0.8, 0.8, 0.4, 0.1], "loss/x": [3.0, 2.9, 2.5, np.nan]}
    found = fit("bimix", Observations.from_frame(pd.DataFrame(table)))
    np.testing.assert_allclose(found.mixtures, [[0.2, 0.8], [0.6, 0.4]])
    found.save(tmp_path / "fit.json")
    np.testing.assert_array_equal(FitResult.load(tmp_path / "fit.json").mixtures, found.mixtures)
    older = read_json(tmp_path / "fit.json")
    del older["mixtures"]
    assert FitResult.loaded(older, "older").fitted_mixtures.shape == (0, 2)


def test_a_mixture_saved_without_limits_has_none(bench: ModuleType, tmp_path: Path) -> None:
    best = optimize(of_law(bench, LAWS["bimix"]))
    best.save(tmp_path / "best.json")
    found = read_json(tmp_path / "best.json")
    del found["lower"], found["upper"]
    write_json(tmp_path / "best.json", found)
    assert OptimalMixture.load(tmp_path / "best.json").upper.tolist() == [1.0, 1.0, 1.0]


def test_the_nearest_mixture_within_limits_is_that_of_a_grid() -> None:
    draw, lower, upper = np.random.default_rng(0), np.array([0.1, 0.0, 0.2]), np.array([0.6, 0.5, 0.9])
    allowed = GRID[np.all((lower - 1e-12 <= GRID) & (upper + 1e-12 >= GRID), axis=1)]
    x = draw.normal(size=(50, 3))
    found = nearest(x, lower, upper)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-14)
    assert np.all((found >= lower) & (found <= upper))
    of_grid = ((allowed[None] - x[:, None]) ** 2).sum(-1).min(1)
    assert np.all(((found - x) ** 2).sum(-1) <= of_grid + 1e-12)


@pytest.mark.parametrize(("name", "kind"), [("dcpt", "none"), ("joint", "groups"), ("additive", "box")])
def test_no_start_of_slsqp_ends_lower(bench: ModuleType, name: str, kind: str) -> None:
    """Of random laws within random limits; the benchmark does many more."""
    row = bench.against_slsqp(name, kind, problems=3)
    assert row["worst"] <= 1e-6
    assert row["worst_broken"] <= 1e-12
    assert row["stationary"] == 3


def test_an_end_that_leads_lower_than_the_best_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A descent stopped at a share of .7, above the best at .5, and followed to its end it goes to .9, below it."""
    losses = {0.5: 1.0, 0.7: 1.2, 0.9: 0.5}
    leads = {0.7: 0.9}

    def polished(goal: object, r: np.ndarray, *_: object) -> tuple[np.ndarray, str]:
        share = leads.get(round(float(r[0]), 9), float(r[0]))
        return np.array([share, 1 - share]), f"certificate at {share}"

    monkeypatch.setattr(search, "values_at", lambda goal, r: np.array([losses[round(float(x), 9)] for x in r[:, 0]]))
    monkeypatch.setattr(search, "polished", polished)
    monkeypatch.setattr(search, "settled", lambda found: True)
    ends: Any = np.array([[0.5, 0.5], [0.7, 0.3]])
    given: Any = None
    best, found, same, second = search._compared(given, ends[0], given, ends, given)
    assert (best[0], found) == (0.9, "certificate at 0.9")
    assert not same.any()
    assert second == 0.5
