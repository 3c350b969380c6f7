"""Predictions frozen before runs are measured, and their scores."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Budget, FitResult, InputError, Observations
from bimixjax.cli import run
from bimixjax.cli.console import BAD_INPUT, DONE
from bimixjax.reports.frozen import MEAN, Frozen
from bimixjax.reports.predictions import Asked

RUNS = tuple(f"n{i}" for i in range(6))
SHARES = np.random.default_rng(1).dirichlet([5.0, 5.0, 5.0], 6)


def asked(volume: float | None = 16000) -> Asked:
    return Asked.of(dict(zip(RUNS, SHARES, strict=True)), Budget(volume=volume))


@pytest.fixture
def frozen(three_domain_fit: FitResult) -> Frozen:
    return Frozen.of(three_domain_fit, asked(), {"web": 3.0, "code": 1.0})


def measured(frozen: Frozen) -> Any:
    """Losses near the predicted ones, at the volume and at another; rows and columns in another order."""
    random = np.random.default_rng(2)
    table = pd.DataFrame({"run": RUNS, "step": 16000})
    for i in (2, 0, 1):
        table[f"mixture/{frozen.domains[i]}"] = SHARES[:, i]
        table[f"loss/{frozen.targets[i]}"] = frozen.losses[:, i] * np.exp(0.01 * random.standard_normal(6))
    return pd.concat([table, table.assign(step=8000)]).sample(frac=1, random_state=0)


def test_scores_are_those_of_the_rows_that_belong_together(frozen: Frozen) -> None:
    table = measured(frozen)
    table.loc[(table["run"] == "n3") & (table["step"] == 16000), "loss/books"] = np.nan
    several: Any = pd.concat([table, table[table["run"] == "n0"].assign(run="stranger")])
    several = several[(several["run"] != "n5") | (several["step"] != 16000)]
    found = frozen.score(Observations.from_frame(several))
    assert (found.missing, found.others) == (("n5",), ("stranger",))
    there = several[several["step"] == 16000].set_index("run").reindex(list(RUNS[:5]))
    expected: Any = pd.DataFrame(frozen.losses[:5, :3], list(RUNS[:5]), list(frozen.targets))
    losses: Any = there[[f"loss/{name}" for name in frozen.targets]].set_axis(frozen.targets, axis=1)
    means = losses["web"] * 0.75 + losses["code"] * 0.25, expected["web"] * 0.75 + expected["code"] * 0.25
    errors = [*((expected - losses).abs() / losses).mean(), ((means[1] - means[0]).abs() / means[0]).mean()]
    scores = found.scores
    assert scores.targets == (*frozen.targets, MEAN)
    assert scores.error == pytest.approx(errors)
    # The mean needs no books, which have no weight.
    assert scores.rows.tolist() == [5, 4, 5, 5]
    assert scores.rank == pytest.approx(means[0].corr(means[1], method="spearman"))
    assert np.isnan(scores.coverage).all()


def test_a_volume_may_be_a_little_off_and_a_mixture_is_the_one_frozen(frozen: Frozen) -> None:
    near, far = (measured(frozen).assign(step=step) for step in (16010, 16100))
    assert frozen.score(Observations.from_frame(near, keep="first")).scores.rows.tolist() == [6, 6, 6, 6]
    with pytest.raises(InputError, match="none of the losses that were frozen, such as loss/web of run 'n0' at 16000"):
        frozen.score(Observations.from_frame(far, keep="first"))
    other = near.copy()
    other["mixture/web"], other["mixture/code"] = near["mixture/code"], near["mixture/web"]
    with pytest.raises(InputError, match="run 'n0' has the mixture .* frozen was"):
        frozen.score(Observations.from_frame(other, keep="first"))


def test_what_is_saved_is_read_again_and_nothing_else(
    frozen: Frozen, three_domain_fit: FitResult, tmp_path: Path
) -> None:
    path = tmp_path / "f.json"
    whole = replace(frozen, losses=np.where(np.arange(4) == 1, np.inf, frozen.losses))
    whole.save(path)
    again = Frozen.load(path)
    assert (again.runs, again.budgets, again.targets) == (frozen.runs, frozen.budgets, frozen.targets)
    assert again.proportions.tolist() == frozen.proportions.tolist()
    # What was not predicted counts as such.
    assert again.score(Observations.from_frame(measured(frozen))).scores.silent.tolist() == [0, 6, 0, 0]
    text = path.read_text()
    path.write_text(text.replace("0.75", "0.25"))
    with pytest.raises(InputError, match="was changed after it was written"):
        Frozen.load(path)
    path.write_text(json.dumps({name: value for name, value in json.loads(text).items() if name != "sha256"}))
    with pytest.raises(InputError, match="no field sha256"):
        Frozen.load(path)
    three_domain_fit.save(path)
    with pytest.raises(InputError, match="holds no frozen predictions"):
        Frozen.load(path)


def test_limits_of_targets_and_of_the_mean_are_the_fits() -> None:
    table = {"run": list("abcdef"), "mixture/x": [0.1, 0.3, 0.5, 0.6, 0.7, 0.9]}
    table["mixture/y"] = [1 - share for share in table["mixture/x"]]
    noise = np.random.default_rng(0).standard_normal((2, 6))
    for name, each in zip("xy", noise, strict=True):
        table[f"loss/{name}"] = (3 - np.array(table[f"mixture/{name}"]) + 0.01 * each).tolist()
    fit = bimixjax.fit(bimixjax.Auto(members=("offset",)), Observations.from_frame(pd.DataFrame(table)))
    shares = np.array([[0.4, 0.6], [0.2, 0.8]])
    where = Asked.of({"p": shares[0], "q": shares[1]}, Budget())
    frozen = Frozen.of(fit, where, {"x": 1.0, "y": 3.0})
    for kind, ends, of_mean in zip(
        ("lower", "upper"), fit.interval(shares), fit.mean_interval(shares, weights=[0.25, 0.75]), strict=True
    ):
        assert getattr(frozen, kind) == pytest.approx(np.column_stack([ends, of_mean]))
    later = Observations.from_frame(
        pd.DataFrame(
            {"run": ["p", "q"], "mixture/x": shares[:, 0], "mixture/y": shares[:, 1]}
            | {"loss/x": [frozen.upper[0, 0] * 1.01, frozen.losses[1, 0]], "loss/y": frozen.losses[:, 1]}
        )
    )
    assert frozen.score(later).scores.coverage.tolist() == [0.5, 1.0, 1.0]


def test_commands_freeze_and_score(
    three_domain_fit: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    three_domain_fit.save("fit.json")
    plan = pd.DataFrame({"run": RUNS} | {f"mixture/{n}": SHARES[:, i] for i, n in enumerate(three_domain_fit.domains)})
    plan.to_csv("next.csv", index=False)
    freeze = "predict fit.json --mixtures {} --volume 16k --freeze f.json"
    assert run(freeze.format("next.csv").split()) == DONE
    assert "publish its SHA-256" in capsys.readouterr().out.replace("\n", " ")
    frozen = Frozen.load("f.json")
    table = measured(frozen)
    table.to_csv("measured.csv", index=False)
    assert run(["score", "f.json", "--on", "measured.csv", "--out", "s.json"]) == DONE
    shown = capsys.readouterr().out
    assert "weighted mean" in shown
    assert "Frozen by: bimix predict fit.json --mixtures next.csv" in shown
    (row,) = [row for row in json.loads(Path("s.json").read_text())["scores"]["targets"] if row["target"] == "web"]
    there = table[table["step"] == 16000].set_index("run").loc[list(RUNS), "loss/web"]
    assert row["mean_relative_error"] == pytest.approx((frozen.losses[:, 0] / there - 1).abs().mean())
    for line, words in {
        freeze.format("measured.csv"): "is measured already",
        "predict fit.json --mixture web=1 --volume 16k --freeze f.json": "takes runs by their ids",
        "predict fit.json --mixtures next.csv --volume 16k --weight web=1": "--freeze",
    }.items():
        assert run(line.split()) == BAD_INPUT
        assert words in capsys.readouterr().err
