"""What a mixture hangs on: runs left out and moved shares, against fits and losses computed anew."""

import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import FitResult, Observations, OptimalMixture
from bimixjax.loop import influence
from bimixjax.loop.influence import STEP, jackknife, left_out, moves

AT = bimixjax.Budget(volume=32_000, unit="steps")
TARGETS = ("web", "books", "code")
UNIFORM = "uniform", np.full(3, 1 / 3)


@pytest.fixture(scope="module")
def table(three_domains: Observations) -> Observations:
    return three_domains.select(targets=TARGETS)


@pytest.fixture(scope="module")
def fit(table: Observations) -> FitResult:
    return bimixjax.fit("bimix", table)


@pytest.fixture(scope="module")
def best(fit: FitResult) -> OptimalMixture:
    return bimixjax.optimize(fit, budget=AT)


def mean(fit: FitResult, mixture: np.ndarray) -> float:
    return float(np.mean(np.asarray(fit.predict(mixture, AT.volume))))


def anew(fit: FitResult, best: OptimalMixture, table: Observations, run: str) -> tuple[float, float]:
    """Shift of the best mixture and change of its gain over uniform, without a run."""
    rest = bimixjax.fit("bimix", table.select(without_runs=[run]))
    moved = bimixjax.optimize(rest, budget=AT).proportions
    before, after = (mean(each, UNIFORM[1]) - mean(each, best.proportions) for each in (fit, rest))
    return float(np.abs(moved - best.proportions).sum() / 2), after - before


def test_moves_cost_what_the_law_says(fit: FitResult, best: OptimalMixture) -> None:
    found = moves(fit, best)
    assert len(found.cost) == 6
    assert (np.diff(found.cost) >= 0).all()
    assert found.size == pytest.approx(np.full(6, STEP))
    for giver, taker, cost in zip(found.giver, found.taker, found.cost, strict=True):
        moved = best.proportions.copy()
        moved[best.domains.index(giver)] -= STEP
        moved[best.domains.index(taker)] += STEP
        assert cost == pytest.approx(mean(fit, moved) - best.objective, rel=1e-6)


def test_moves_keep_to_the_limits(fit: FitResult) -> None:
    limits = bimixjax.Limits(fixed={"web": 0.3}, upper={"code": 0.3})
    found = moves(fit, bimixjax.optimize(fit, budget=AT, limits=limits))
    assert "web" not in (*found.giver, *found.taker)
    assert set(zip(found.giver, found.taker, strict=True)) <= {("code", "books"), ("books", "code")}


def test_slopes_estimate_what_refits_without_a_run_find() -> None:
    """To first order in the weight of one run of thirty: a third off for the run of most influence, less for others."""
    draw = np.random.default_rng(2)
    shares, powers = draw.dirichlet(np.full(3, 3.0), 30), np.array([0.1, 0.2, 0.3])
    losses = 2 * shares**-powers * np.exp(0.01 * draw.standard_normal(shares.shape))
    columns = {"run": [f"r{k}" for k in range(30)]}
    columns |= {f"mixture/{name}": shares[:, i] for i, name in enumerate(TARGETS)}
    columns |= {f"loss/{name}": losses[:, i] for i, name in enumerate(TARGETS)}
    table = Observations.from_frame(pd.DataFrame(columns))
    fit = bimixjax.fit("bimix", table)
    best = bimixjax.optimize(fit)
    found = jackknife(fit, best, table, UNIFORM)
    assert sorted(found.runs) == sorted(table.runs)
    chosen, estimated, exact = [0, 1, 3, 12], [], []
    for k in chosen:
        rest = bimixjax.fit("bimix", table.select(without_runs=[found.runs[k]]))
        moved = bimixjax.optimize(rest).proportions
        both = np.stack([best.proportions, UNIFORM[1]])
        before, after = (np.diff(np.asarray(one.predict(both)).mean(1))[0] for one in (fit, rest))
        exact.append([np.abs(moved - best.proportions).sum() / 2, after - before])
        estimated.append([found.shift[k], found.gain[k]])
    # Of the largest change in each column.
    error = np.abs(np.array(estimated) - exact) / np.abs(exact).max(0)
    assert error.max() < 0.4
    assert np.median(error) < 0.15


def test_the_nearest_runs_are_left_out(
    fit: FitResult, best: OptimalMixture, table: Observations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a single law in place of `auto`, which takes long to fit."""
    monkeypatch.setattr(influence, "fit_law", lambda _, rest, **options: bimixjax.fit("bimix", rest, **options))
    found = left_out(fit, best, table, UNIFORM, 3)  # pyright: ignore[reportArgumentType]
    distance = {
        run: np.sum((np.sqrt(table.select(runs=[run]).proportions[0]) - np.sqrt(best.proportions)) ** 2)
        for run in table.runs
    }
    assert set(found.runs) == set(sorted(distance, key=lambda run: distance[run])[:3])
    assert (np.diff(found.shift) <= 0).all()
    assert (found.reference, found.of) == ("uniform", 7)
    assert "only the 3 runs" in found.method
    for run, shift, gain in zip(found.runs, found.shift, found.gain, strict=True):
        assert (shift, gain) == pytest.approx(anew(fit, best, table, run), rel=1e-3, abs=1e-7)


def test_a_run_without_which_there_is_no_fit_is_named(
    fit: FitResult, best: OptimalMixture, table: Observations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise bimixjax.InputError("too little is left")

    monkeypatch.setattr(influence, "fit_law", refused)
    found = left_out(fit, best, table, UNIFORM, 2)  # pyright: ignore[reportArgumentType]
    assert found.runs == ()
    assert "it cannot be said" in found.method
