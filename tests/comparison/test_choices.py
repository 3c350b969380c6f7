"""Choices without a law beside those by laws: against counts by hand on the cells of a comparison."""

from collections.abc import Sequence
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Inventory, Observations
from bimixjax.comparison import LargerSizes, LaterVolumes, RunDesigns, judge
from bimixjax.comparison.choices import best_trained, orders
from bimixjax.comparison.rows import Rows
from bimixjax.solve import Status

RUNS = 12


def table(volumes: Sequence[int] = (100, 200), sizes: Sequence[float] = (1e6,)) -> Observations:
    """Losses of two of three domains, with noise that changes the order of runs between volumes."""
    random = np.random.default_rng(0)
    shares = random.dirichlet([1, 1, 1], RUNS)
    rows = []
    for size, (run, r), step in product(sizes, enumerate(shares), volumes):
        row = {"run": f"n{size:g}-{run:02}", "model_size": size, "step": step}
        row |= {f"mixture/{name}": share for name, share in zip("xyz", r, strict=True)}
        noise = 0.1 * random.standard_normal(2)
        rows.append(row | {f"loss/{name}": 2 + r[i] ** -0.2 + 30 / step + noise[i] for i, name in enumerate("xy")})
    return Observations.from_frame(pd.DataFrame(rows))


@pytest.fixture
def truthful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every law predict what was measured, but one that prefers what is bad."""

    def fit_folds(law, observations, weights, **options):
        shape = (len(weights), 1, len(options["targets"]))
        losses = observations.losses if law.name == "bimix" else 10 - observations.losses
        predicted = np.broadcast_to(losses, (len(weights), *losses.shape))
        ends = np.full(shape, int(Status.CONVERGED))
        return SimpleNamespace(
            predicted=predicted, rows=np.ones(shape, int), status=ends, at_bound=np.zeros(shape, bool)
        )

    monkeypatch.setattr(judge, "fit_folds", fit_folds)


def test_orders_are_those_of_distances_and_of_the_own_shares() -> None:
    observations = table()
    found, missing = orders(observations, ("x", "y"), Inventory({"x": 1e9, "y": 2e9, "z": 1e9}))
    r = observations.proportions
    for name, mixture in (("uniform", [1 / 3] * 3), ("natural", [0.25, 0.5, 0.25])):
        hellinger = [float(bimixjax.mixtures.hellinger(row, np.array(mixture))) for row in r]
        assert np.sqrt(found[name]) == pytest.approx(hellinger, abs=1e-6)
    assert found["zero-run"] == pytest.approx(-np.log(r[:, :2] + 0.001).mean(1))
    assert missing == {}


def test_what_orders_are_missing_is_said() -> None:
    observations = table()
    found, missing = orders(observations, ("task",), Inventory({"x": 1e9}))
    assert list(found) == ["uniform"]
    assert missing["natural"] == "nothing says how many tokens there are of every domain"
    assert missing["zero-run"] == "no target is a domain"


def test_unique_tokens_of_a_table_make_its_natural_mixture() -> None:
    frame = table().to_frame()
    frame[["unique/x", "unique/y", "unique/z"]] = [1e9, 1e9, 2e9]
    same = orders(Observations.from_frame(frame), ("x",), None)[0]
    given = orders(table(), ("x",), Inventory({"x": 1.0, "y": 1.0, "z": 2.0}))[0]
    assert same["natural"] == pytest.approx(given["natural"], abs=1e-15)
    frame.loc[0:1, "unique/x"] = 5e8
    assert "natural" not in orders(Observations.from_frame(frame), ("x",), None)[0]


def test_decision_scores_are_those_of_the_cells(truthful: None) -> None:
    observations = table()
    laws: Any = {"good": "bimix", "bad": "bimix_offset"}
    found: Any = bimixjax.compare(laws, observations, folds=RunDesigns(runs=(4,), draws=3), level=None)
    frame = found.to_frame().set_index("law")
    cells = found.cells()
    means = cells[cells["law"] == "good"].groupby(["fold", "run"])["measured"].mean()
    last = observations.select(volume=(200, None))
    whole = pd.Series(last.losses.mean(1), index=last.run)
    shares = pd.DataFrame(last.proportions, index=last.run)
    scores = {"bad": [], "uniform": [], "zero-run": [], "best run": []}
    for _, held_out in means.groupby("fold"):
        held_out = held_out.droplevel("fold")
        scale = held_out.mean() - held_out.min()
        r = shares.loc[held_out.index]
        choices = {"bad": held_out.idxmax(), "uniform": np.sqrt(r).sum(axis=1).idxmax()}
        choices["zero-run"] = np.log(r[[0, 1]] + 0.001).sum(axis=1).idxmax()
        for name, choice in choices.items():
            scores[name].append((held_out[choice] - held_out.min()) / scale)
        scores["best run"].append((whole.drop(held_out.index).min() - held_out.min()) / scale)
    for name, values in scores.items():
        assert frame["regret_normalized"][name] == pytest.approx(np.mean(values)), name
        assert frame["regret_normalized_se"][name] == pytest.approx(np.std(values, ddof=1) / 3**0.5), name
    assert frame.loc["good", ["regret", "regret_normalized", "top3"]].tolist() == [0, 0, 1]
    assert frame["top3"]["bad"] == 0
    assert frame["baseline"].tolist() == [False, False, True, True, True]
    assert "its choice" not in frame["trust"]["good"]
    assert "its choice is no better than without a law, by zero-run" in frame["trust"]["bad"]


def test_the_best_run_of_a_design_is_the_best_that_it_fits() -> None:
    observations = table()
    rows, objective = Rows.of(observations, "steps", "last"), observations.losses.mean(1)
    split = RunDesigns(runs=(4,), draws=5).split(rows)
    found = best_trained(rows, split, objective)
    for fold, fitted in enumerate(split.fitted):
        judged = split.held_out[fold] & rows.judged
        assert found[fold, judged] == pytest.approx(objective[fitted & rows.judged].min())
        assert np.isnan(found[fold, ~judged]).all()


def test_the_best_run_of_earlier_volumes_is_judged_where_the_others_are() -> None:
    observations = table()
    rows, objective = Rows.of(observations, "steps", "last"), observations.losses.mean(1)
    split = LaterVolumes(cuts=(0.5,)).split(rows)
    early, late = (objective[observations.step == step] for step in (100, 200))
    found = best_trained(rows, split, objective)[0]
    assert np.unique(found[np.isfinite(found)]) == pytest.approx([late[early.argmin()]])
    assert early.argmin() != late.argmin()


def test_the_best_run_of_a_smaller_size_is_judged_at_the_larger() -> None:
    observations = table(sizes=(1e6, 1e7))
    rows, objective = Rows.of(observations, "steps", "last"), observations.losses.mean(1)
    last = observations.step == 200
    small, large = (objective[last & (observations.model_size == size)] for size in (1e6, 1e7))
    found = best_trained(rows, LargerSizes(largest=1e6).split(rows), objective)[0]
    assert np.unique(found[np.isfinite(found)]) == pytest.approx([large[small.argmin()]])
    missing = objective.copy()
    missing[last & (observations.model_size == 1e7) & (objective == large[small.argmin()])] = np.nan
    second = best_trained(rows, LargerSizes(largest=1e6).split(rows), missing)[0]
    assert np.unique(second[np.isfinite(second)]) == pytest.approx([large[np.argsort(small)[1]]])
