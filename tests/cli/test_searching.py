"""`bimix optimize`: several budgets, and which runs the answer hangs on."""

import json

import numpy as np
import pytest

from bimixjax import Budget, FitResult, Observations, OptimalMixture, optimize
from bimixjax.cli import run
from bimixjax.cli.console import BAD_INPUT, DONE
from bimixjax.loop.influence import Influence


@pytest.fixture
def saved(three_domain_fit: FitResult, tmp_path, monkeypatch: pytest.MonkeyPatch) -> FitResult:
    """The fit, in the file fit.json of a working folder."""
    monkeypatch.chdir(tmp_path)
    three_domain_fit.save("fit.json")
    return three_domain_fit


def test_the_mean_over_several_budgets_counts(saved: FitResult, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["optimize", "fit.json", "--volumes", "2k,16k", "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)
    budgets = [Budget(volume=volume, unit="steps") for volume in (2000, 16000)]
    expected = optimize(saved, budget=budgets)
    assert list(found["mixture"].values()) == pytest.approx(expected.proportions.tolist(), abs=1e-9)
    at_both = [np.mean(np.asarray(saved.predict(expected.proportions, budget.volume))) for budget in budgets]
    assert found["value"] == pytest.approx(np.mean(at_both))
    assert [one["volume"] for one in found["budgets"]] == [2000, 16000]
    # Not the optimum of either alone: at more steps books gain more.
    ends = [optimize(saved, budget=budget).proportions[1] for budget in budgets]
    assert min(ends) < found["mixture"]["books"] < max(ends)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--volumes 2k,16k --volume 2k", "got --volume and --volumes; give one of them"),
        ("--volumes 2k,16k --sweep volume=1k..4k", "--sweep, --pareto and --draws are of one budget"),
        ("--volume 2k --model-sizes 1,2 --pareto web,code", "--sweep, --pareto and --draws are of one budget"),
        ("--volume 2k --influence 3 --objective worst", "--influence is of the weighted mean at one budget"),
        ("--volume 2k --influence 3", "give the table that was fitted as --runs TABLE"),
    ],
)
def test_what_is_of_one_budget_says_so(
    saved: FitResult, line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["optimize", "fit.json", *line.split()]) == BAD_INPUT
    assert words in capsys.readouterr().err


def test_it_says_which_runs_the_mixture_hangs_on(
    saved: FitResult, three_domains: Observations, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With given numbers: `tests/loop/test_influence.py` holds what is computed against refits."""
    asked = []

    def given(fit: FitResult, best: OptimalMixture, rows: Observations, *rest: object) -> Influence:
        asked.append((fit.domains, best.converged, rows.runs, rest[1]))
        numbers = {"shift": np.array([0.0123, 0.001]), "gain": np.array([-0.002, 0.0])}
        return Influence(runs=("0", "5"), **numbers, reference="uniform", of=7, method="as given")

    monkeypatch.setattr("bimixjax.loop.influence.influence_of_runs", given)
    three_domains.write("runs.csv")
    line = ["optimize", "fit.json", "--volume", "16k", "--runs", "runs.csv", "--influence", "3"]
    assert run(line) == DONE
    assert asked == [(saved.domains, True, three_domains.runs, 3)]
    shown = " ".join(capsys.readouterr().out.split())
    assert "Which runs the mixture hangs on" in shown
    assert "0 1.23 % -0.0020" in shown
    assert "nats per token; as given" in shown
    assert run([*line, "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)["influence"]["shift"] == [0.0123, 0.001]
