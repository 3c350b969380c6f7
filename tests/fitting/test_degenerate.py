"""Targets of which the table tells little or nothing: what their status says, and that nothing else is touched."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from bimixjax import FitResult, Observations, fit
from bimixjax.fitting import lanes

STEPS = (1000, 2000, 4000, 8000)
RUNS = 6
# Each is measured where its name says, has the loss or the proportions that it says, or is an ordinary target.
TARGETS = ("whole", "run", "volume", "volumes", "constant", "absent", "same", "missing", "single", "few", "rest")


def frame(*, degenerate: bool = True) -> pd.DataFrame:
    """Losses with noise in 6 runs of 4 volumes; every target bears the name of its domain."""
    random = np.random.default_rng(2)
    shares = random.dirichlet(np.full(len(TARGETS), 3.0), RUNS)
    rest, same, absent = (TARGETS.index(name) for name in ("rest", "same", "absent"))
    if degenerate:
        shares[:, rest] += shares[:, same] + shares[:, absent] - 0.05
        shares[:, same], shares[:, absent] = 0.05, 0.0
    table = pd.DataFrame({"run": np.repeat(range(RUNS), len(STEPS)).astype(str), "step": np.tile(STEPS, RUNS)})
    for i, name in enumerate(TARGETS):
        own = np.repeat(shares[:, i], len(STEPS))
        table[f"mixture/{name}"] = own
        noise = np.exp(0.003 * random.standard_normal(len(own)))
        table[f"loss/{name}"] = np.maximum(own, 0.01) ** -0.15 * (30 * table["step"] ** -0.5 + 2) * noise
    if degenerate:
        first, step = table["run"] == "0", table["step"]
        kept = {
            "run": first,
            "volume": step == 1000,
            "volumes": step <= 2000,
            "missing": step < 0,
            "single": first & (step == 1000),
            "few": first & (step <= 4000),
        }
        for name, rows in kept.items():
            table.loc[~rows, f"loss/{name}"] = np.nan
        table["loss/constant"] = 3.0
    return table


def fitted(law: str, *, priors: bool = False, degenerate: bool = True) -> FitResult:
    return fit(law, Observations.from_frame(frame(degenerate=degenerate)), targets=TARGETS, priors=priors)


bimix = cache(lambda **options: fitted("bimix", **options))


def sentence(result: FitResult, target: str) -> str:
    return result.sentences[result.targets.index(target)]


def errors(result: FitResult, target: str) -> np.ndarray:
    """Relative errors of the predictions where the target was measured and its law does not diverge."""
    table = frame()
    lane, mixtures = result.targets.index(target), table[[f"mixture/{name}" for name in TARGETS]].to_numpy()
    predicted = np.asarray(result.predict(mixtures, table["step"].to_numpy(), from_prior=True))[:, lane]
    loss = table[f"loss/{target}"].to_numpy()
    return np.abs(predicted / loss - 1)[np.isfinite(loss)]


def lost(result: FitResult, target: str) -> set[str]:
    """Coefficients that are not identified."""
    known = result.identified[result.targets.index(target)]
    return {name for name, told in zip(result.names, known, strict=True) if not told}


ALONE = {"alpha", "B", "C"}
FLAT = {"B", "C", "beta"}
ONE_SHARE = (
    "alpha not identified: takes 2 distinct proportions, got 1; "
    "B, C not identified: the observations determine only combinations of them, alpha"
)
NEITHER = (
    "converged; too few observations: 1 for 4 coefficients; alpha not identified: takes 2 distinct proportions, got 1; "
    "B, C, beta not identified: takes 3 distinct volumes, got 1"
)
UNKNOWN = {
    "whole": ("converged", set()),
    "run": (f"converged; {ONE_SHARE}", ALONE),
    "volume": ("converged; B, C, beta not identified: takes 3 distinct volumes, got 1", FLAT),
    "volumes": ("converged; B, C, beta not identified: takes 3 distinct volumes, got 2", FLAT),
    "same": (f"converged; {ONE_SHARE}", ALONE),
    "single": (NEITHER, ALONE | FLAT),
    "few": (f"converged; too few observations: 3 for 4 coefficients; {ONE_SHARE}", ALONE),
    "rest": ("converged", set()),
}


@pytest.mark.parametrize("target", UNKNOWN)
def test_the_sentence_says_what_is_not_known_and_why(target):
    expected, unknown = UNKNOWN[target]
    assert sentence(bimix(), target) == expected
    assert lost(bimix(), target) == unknown


def test_a_constant_loss_leaves_its_shape_open_and_the_rest_at_bounds():
    said = sentence(bimix(), "constant")
    assert said.startswith("converged; the losses are the same for all mixtures; beta not identified")
    assert said.endswith("B at a bound; alpha at a bound")
    np.testing.assert_allclose(errors(bimix(), "constant"), 0, atol=1e-9)


@pytest.mark.parametrize("target", ["absent", "missing"])
def test_a_target_without_usable_rows_has_no_coefficients(target):
    lane = TARGETS.index(target)
    assert bimix().sentences[lane] == "no usable observation"
    assert np.isnan(bimix().values[lane]).all()
    assert bimix().rows[lane] == 0
    assert (bimix().zero[lane], bimix().missing[lane]) == ((24, 0) if target == "absent" else (0, 24))


@pytest.mark.parametrize("target", UNKNOWN)
def test_what_is_known_predicts_where_it_was_measured(target):
    assert (errors(bimix(), target) < 0.012).all()
    assert (errors(bimix(priors=True), target) < 0.02).all()


@pytest.mark.parametrize("target", ["run", "volume", "volumes", "same", "single", "few"])
def test_with_priors_the_same_coefficients_rest_on_them(target):
    assert lost(bimix(priors=True), target) == UNKNOWN[target][1]
    assert "not identified, set by the prior" in sentence(bimix(priors=True), target)
    lane = TARGETS.index(target)
    assert np.isfinite(bimix(priors=True).values[lane]).all()


def test_ordinary_targets_are_not_touched_by_the_others():
    ordinary = bimix(degenerate=False)
    lane = TARGETS.index("whole")
    np.testing.assert_allclose(bimix().values[lane], ordinary.values[lane], rtol=1e-10)
    np.testing.assert_allclose(bimix().cost[lane], ordinary.cost[lane], rtol=1e-12)
    assert set(ordinary.sentences) == {"converged"}


def test_rows_of_no_grid_get_the_same_statuses(monkeypatch):
    monkeypatch.setattr(lanes, "_GRID_WASTE", 0.0)
    rows = fitted("bimix")
    # Where the loss is constant, B = 0 and beta means nothing: it stays wherever it was when B vanished.
    same = [target for target in TARGETS if target != "constant"]
    assert [sentence(rows, target) for target in same] == [sentence(bimix(), target) for target in same]
    np.testing.assert_allclose(rows.cost, bimix().cost, rtol=1e-9, atol=1e-24)


@pytest.mark.parametrize("priors", [False, True])
def test_a_table_of_one_observation(priors):
    table = pd.DataFrame({"run": ["a"], "mixture/x": [0.3], "mixture/y": [0.7], "loss/x": [2.5], "loss/y": [3.5]})
    result = fit("bimix", Observations.from_frame(table), priors=priors)
    assert all("too few observations: 1 for 4 coefficients" in said for said in result.sentences)
    assert not result.identified.any()
    np.testing.assert_allclose(result.predict([0.3, 0.7]), [2.5, 3.5], rtol=0.01 if priors else 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["bimix_offset", "bimix_transfer", "additive", "exponential_volume"])
def test_laws_with_more_coefficients_end_as_well(law):
    result = fitted(law)
    for target in TARGETS:
        if target == "missing":
            assert sentence(result, target) == "no usable observation"
            continue
        assert sentence(result, target).startswith("converged")
        assert (errors(result, target) < 0.02).all()
        few = result.rows[result.targets.index(target)] < np.isnan(result.law.fixed(len(TARGETS), 0)).sum()
        assert few == ("too few observations" in sentence(result, target))
    for target in ("run", "volume", "single", "few"):
        assert "not identified" in sentence(result, target)
        assert lost(result, target)
    for target in ("volume", "volumes", "single"):
        assert {"B", "beta"} <= lost(result, target)


def swarm(broken: dict[str, float], *, count: int = 12) -> Observations:
    """Runs of one volume, some of which report another loss for everything."""
    shares = np.random.default_rng(1).dirichlet([3.0, 3.0], count)
    table = pd.DataFrame({"run": [f"r{k}" for k in range(count)]})
    for i, name in enumerate("xy"):
        table[f"mixture/{name}"], table[f"loss/{name}"] = shares[:, i], 3 * shares[:, i] ** -0.2
    for run, loss in broken.items():
        table.loc[table["run"] == run, ["loss/x", "loss/y"]] = loss
    return Observations.from_frame(table)


def test_whole_runs_far_outside_are_named_where_there_is_one_volume():
    (note,) = fit("bimix", swarm({"r3": 11.0, "r7": 0.7})).notes
    assert "run r3 (all its rows: 1), run r7 (all its rows: 1);" in note
    assert fit("bimix", swarm({})).notes == ()


def test_of_few_rows_none_is_called_an_outlier():
    assert fit("bimix", swarm({"r3": 11.0}, count=7)).notes == ()
