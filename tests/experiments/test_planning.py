"""The study of planned runs on made-up losses, where the best run is known, and the constants that it learned."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bimixjax import Observations
from bimixjax._base.records import read_json
from bimixjax.planning.process import DOMAINS, TASKS
from experiments.planning import choices, constants, run
from experiments.planning.config import TABLES
from experiments.planning.losses import Runs


@pytest.fixture
def runs() -> Runs:
    """Thirty mixtures of three domains, whose losses are powers of their own shares."""
    mixtures = np.random.default_rng(0).dirichlet(np.ones(3), 30)
    losses = np.array([2.0, 3.0, 4.0]) * (mixtures + 0.01) ** -0.1
    table = {"run": [f"r{i:02}" for i in range(30)]}
    table |= {f"mixture/{name}": mixtures[:, i] for i, name in enumerate("abc")}
    table |= {f"loss/{name}": losses[:, i] for i, name in enumerate("abc")}
    observations = Observations.from_frame(pd.DataFrame(table))
    return Runs(table=TABLES[0], observations=observations, mixtures=mixtures, losses=losses, own=np.arange(3))


@pytest.mark.parametrize("method", choices.METHODS | choices.DESIGNS)
def test_every_method_chooses_so_many_different_runs(runs, method):
    choose = (choices.METHODS | choices.DESIGNS)[method]
    chosen = choose(runs, DOMAINS, 6, 3)
    assert len(set(chosen)) == 6
    if choices.depends_on_draw(method):
        assert chosen != choose(runs, DOMAINS, 6, 4)


def test_planned_runs_find_what_random_ones_miss(runs):
    planned, drawn = (
        np.mean([runs.regret(choices.METHODS[method](runs, DOMAINS, 5, draw)) for draw in range(10)])
        for method in ("2 random, then one by one", "random")
    )
    assert planned < 0.5 * drawn


def test_d_optimal_runs_span_the_simplex(runs):
    chosen = runs.mixtures[choices.d_optimal(runs, 3, 0)]
    others = [np.linalg.det(runs.mixtures[[0, i, j]]) for i in range(1, 30) for j in range(1, 30)]
    assert abs(np.linalg.det(chosen)) > 0.5 * np.max(np.abs(others))


def test_the_summary_averages_draws_then_tables(tmp_path: Path):
    rows = [("a", "random", 4, draw, draw / 10) for draw in (0, 10, 12)] + [("b", "random", 4, 11, 0.3)]
    pd.DataFrame(rows, columns=run.COLUMNS).to_csv(tmp_path / "rows.csv", index=False)
    found = run.summarize(tmp_path / "rows.csv").iloc[0]
    assert found["mean"] == pytest.approx((1.1 + 0.3) / 2)
    assert found["mean_of_all_draws"] == pytest.approx((2.2 / 3 + 0.3) / 2)


def test_the_gradient_of_the_likelihood_is_that_of_finite_differences(runs):
    logs, step = constants.flat(constants.START), 1e-4
    few = runs.mixtures[:6], runs.losses[:6], runs.own
    _, gradient = constants.likelihood(logs, *few)
    for place in range(len(logs)):
        ends = [constants.likelihood(logs + sign * step * np.eye(len(logs))[place], *few)[0] for sign in (1, -1)]
        assert gradient[place] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(("name", "used"), [("domains", DOMAINS), ("tasks", TASKS)])
def test_the_constants_of_the_package_are_those_learned(name, used):
    learned = read_json(constants.FILE)[f"{constants.EVERY}, {name}"]
    for field, value in dataclasses.asdict(used).items():
        if field != "size_length":
            assert np.ravel(value) == pytest.approx(np.ravel(learned[field]), rel=0.03)
