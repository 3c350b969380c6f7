"""`bimix optimize`: several budgets, and which runs the answer hangs on."""

import json

import numpy as np
import pytest

from bimixjax import Budget, FitResult, optimize
from bimixjax.cli import run
from bimixjax.cli.console import BAD_INPUT, DONE


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
    ],
)
def test_what_is_of_one_budget_says_so(
    saved: FitResult, line: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["optimize", "fit.json", *line.split()]) == BAD_INPUT
    assert words in capsys.readouterr().err
