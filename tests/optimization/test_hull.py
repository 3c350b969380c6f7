"""The hull of the fitted mixtures as a limit: against SLSQP over weights, linear programs and closed forms."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import bimixjax
from bimixjax import Budget, FitResult, InputError, Limits, Observations, OptimalMixture, datasets, optimize
from bimixjax.cli import run
from bimixjax.cli.console import BAD_INPUT
from bimixjax.loop.proposals import propose
from bimixjax.loop.settings import settle
from bimixjax.optimization import NearOptimal, WorstTarget, differentiable_optimum, objective
from bimixjax.solve import Hull

DOMAINS = ("a", "b", "c")
# All runs have little of c, of which the law wants more.
RUNS = np.array([[0.7, 0.25, 0.05], [0.3, 0.65, 0.05], [0.5, 0.4, 0.1], [0.6, 0.25, 0.15], [0.2, 0.6, 0.2]])
SCALES, POWERS = np.array([2.0, 2.5, 3.0]), np.array([0.1, 0.15, 0.3])


def mean(r: np.ndarray) -> float:
    return float((SCALES * r**-POWERS).mean())


@pytest.fixture(scope="module")
def fit() -> FitResult:
    frame = pd.DataFrame({"run": [f"r{k}" for k in range(len(RUNS))]})
    for i, d in enumerate(DOMAINS):
        frame[f"mixture/{d}"], frame[f"loss/{d}"] = RUNS[:, i], SCALES[i] * RUNS[:, i] ** -POWERS[i]
    return bimixjax.fit("bimix", Observations.from_frame(frame), priors=False)


def over_weights(value, lower: np.ndarray) -> float:
    """The least value of averages of runs that keep to lower limits, by SLSQP."""
    draw = np.random.default_rng(0)
    ends = [
        minimize(
            lambda w: value(w @ RUNS),
            start,
            bounds=[(0, 1)] * len(RUNS),
            constraints=[
                {"type": "eq", "fun": lambda w: w.sum() - 1},
                {"type": "ineq", "fun": lambda w: w @ RUNS - lower},
            ],
            options={"ftol": 1e-13, "maxiter": 500},
        )
        for start in draw.dirichlet(np.ones(len(RUNS)), 5)
    ]
    return min(float(end.fun) for end in ends if end.success)


@pytest.mark.parametrize("lower", [{}, {"a": 0.35}])
def test_the_best_average_of_runs_is_found(fit: FitResult, lower: dict[str, float]) -> None:
    free = optimize(fit, limits=Limits(lower=lower))
    assert free.beyond_hull is not None
    assert free.beyond_hull > 0.01
    best = optimize(fit, limits=Limits(lower=lower, hull=True))
    exact = over_weights(mean, np.array([lower.get(d, 0.0) for d in DOMAINS]))
    assert best.objective == pytest.approx(exact, abs=1e-9)
    assert best.beyond_hull == pytest.approx(0, abs=1e-9)
    assert best.region.violation(best.proportions) < 1e-9
    assert (best.held, best.converged, best.convex) == (("hull",), True, True)
    # No vertex of the polytope promises more than the gap, to first order.
    assert best.gap < 1e-6
    assert free.objective < best.objective - 1e-4


def test_a_hull_that_does_not_bind_changes_nothing(fit: FitResult) -> None:
    limits = Limits(lower={"a": 0.5}, fixed={"c": 0.1})
    free, best = (optimize(fit, limits=each) for each in (limits, dataclasses.replace(limits, hull=True)))
    np.testing.assert_array_equal(best.proportions, free.proportions)
    assert (best.held, best.method) == ((), "dual")


def test_mixtures_some_way_beyond_the_runs(fit: FitResult) -> None:
    best = optimize(fit, limits=Limits(hull=0.03))
    assert best.beyond_hull == pytest.approx(0.03, abs=1e-9)
    tried = np.random.default_rng(0).dirichlet(np.ones(3), 200)
    hull = Hull(mixtures=RUNS, reach=0.0, center=RUNS[0])
    better = tried[[mean(r) < best.objective - 1e-9 for r in tried]]
    assert len(better)
    assert min(hull.beyond(r) for r in better) > 0.03
    assert optimize(fit, limits=Limits(hull=0.5)).proportions == pytest.approx(optimize(fit).proportions, abs=1e-12)


def test_what_is_inside_is_told_by_both_measures_alike() -> None:
    draw = np.random.default_rng(1)
    for reach in (0.0, 0.1):
        hull = Hull(mixtures=RUNS, reach=reach, center=RUNS.mean(0))
        for r in draw.dirichlet(np.ones(3), 40):
            assert (hull.beyond(r) <= reach + 1e-9) == (hull.missed(r) <= 1e-9)
        outside = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
        drawn = hull.drawn_in(outside)
        assert max(abs(hull.beyond(r) - reach) for r in drawn) < 1e-8


def test_the_worst_target_within_the_runs(fit: FitResult) -> None:
    best = optimize(fit, objective=WorstTarget(), limits=Limits(hull=True))
    exact = over_weights(lambda r: float((SCALES * r**-POWERS).max()), np.zeros(3))
    assert best.value == pytest.approx(exact, abs=1e-7)
    assert best.held == ("hull",)


def test_sweeps_keep_within_the_runs(fit: FitResult) -> None:
    front = bimixjax.pareto(fit, "a", "c", points=3, limits=Limits(hull=True))
    hull = Hull(mixtures=RUNS, reach=0.0, center=RUNS[0])
    assert max(hull.beyond(r) for r in front.proportions) < 1e-9
    assert front.converged.all()


def test_the_hull_is_kept_in_the_file(fit: FitResult, tmp_path) -> None:
    best = optimize(fit, limits=Limits(hull=True))
    best.save(tmp_path / "best.json")
    again = OptimalMixture.load(tmp_path / "best.json")
    np.testing.assert_equal(vars(again), vars(best))
    assert again.allows(RUNS[2])
    assert not again.allows([0.1, 0.1, 0.8])
    assert again.allows(again.nearest([0.1, 0.1, 0.8]))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(hull=True, lower={"c": 0.3}), r"lower c=0.3, hull \(averages of 5 mixtures\) conflict"),
        (Limits(hull=0.01, fixed={"c": 0.22}), r"fixed c=0.22, hull \(0.01 from averages of 5 mixtures\) conflict"),
        (Limits(hull=True, near=(RUNS[0], 0.1)), "near and hull both keep mixtures"),
        (Limits(hull=1.0), "hull is 1; allowed"),
        (Limits(hull=-0.1), "hull is -0.1; allowed"),
    ],
)
def test_limits_that_do_not_go_with_the_runs_are_named(fit: FitResult, limits: Limits, words: str) -> None:
    with pytest.raises(InputError, match=words):
        optimize(fit, limits=limits)


def test_where_no_hull_is_known_it_is_refused(fit: FitResult) -> None:
    limits = Limits(hull=True)
    with pytest.raises(InputError, match="here there are none; leave hull out"):
        limits.region(DOMAINS)
    with pytest.raises(InputError, match="leave one of them out"):
        optimize(fit, objective=NearOptimal(), limits=limits)
    best = optimize(fit, limits=limits)
    with jax.enable_x64(True), pytest.raises(InputError, match="has no derivatives here"):
        differentiable_optimum(objective(fit, budget=Budget()), best.region, best.proportions)


def test_the_command_line_keeps_within_the_runs(fit: FitResult, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    fit.save(tmp_path / "fit.json")
    assert run(["optimize", str(tmp_path / "fit.json"), "--within-runs", "0"]) == 0
    assert "hull" in capsys.readouterr().out
    assert run(["optimize", str(tmp_path / "fit.json"), "--within-runs", "0", "--lower", "c=.3"]) == BAD_INPUT
    assert "lower c=0.3, hull (averages of 5 mixtures) conflict" in capsys.readouterr().err


def test_proposals_keep_within_the_runs_and_plans_take_no_hull() -> None:
    table, limits = datasets.load("demo"), Limits(hull=True)
    weights = np.eye(len(table.targets))[0]
    found = propose(table, ["bimix", "log-linear-kl"], weights=weights, limits=limits)
    hull = Hull(mixtures=table.proportions, reach=0.0, center=RUNS[0])
    assert hull.beyond(found.of[0].proportions) < 1e-8
    assert "takes no limit of a distance" in found.missing["log-linear-kl"]
    with pytest.raises(InputError, match="a plan is for runs beyond those that were fitted"):
        bimixjax.plan(table, runs=1, limits=limits)


def test_a_folder_begun_before_there_was_a_hull_goes_on(tmp_path) -> None:
    settings = {"limits": dataclasses.asdict(Limits(lower={"a": 0.1}))}
    before = {name: value for name, value in settings["limits"].items() if name != "hull"}
    settle(tmp_path / "begun.json", {"limits": before})
    settle(tmp_path / "begun.json", settings)
    with pytest.raises(InputError, match="begun with another limits"):
        settle(tmp_path / "begun.json", {"limits": dataclasses.asdict(Limits(lower={"a": 0.1}, hull=True))})
