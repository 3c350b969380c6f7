"""Every law, and `auto`, through every command: tables of one and two model sizes, of one and many volumes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bimixjax import Auto, Observations, fit
from bimixjax.cli import run
from bimixjax.cli.console import BAD_INPUT, DONE, FAILED
from bimixjax.laws import LAWS

# Sizes and steps of each table; all have targets that are domains, and one that is none.
TABLES = {
    "two sizes": ((1e6, 4e6), (1000, 2000, 4000, 8000)),
    "one size, one volume": ((1e6,), (8000,)),
}
MIXTURES = ((0.2, 0.8), (0.4, 0.6), (0.55, 0.45), (0.8, 0.2))


def frame(sizes: tuple[float, ...], steps: tuple[int, ...]) -> pd.DataFrame:
    """Losses that fall with the share, the volume and the model size, with 0.3 % noise."""
    noise = np.random.default_rng(0)
    rows = []
    for size in sizes:
        for run_id, (web, code) in enumerate(MIXTURES):
            for step in steps:
                level = 1.5 + 20 * step**-0.5 + 5 * size**-0.2
                losses = {"web": level * web**-0.1, "code": level * code**-0.15, "exam": level * np.exp(-0.4 * web)}
                row = {"run": f"{size:g}-{run_id}", "model_size": size, "step": step}
                row |= {"mixture/web": web, "mixture/code": code}
                rows.append(row | {f"loss/{k}": v * np.exp(0.003 * noise.normal()) for k, v in losses.items()})
    return pd.DataFrame(rows)


def strict(printed: str) -> Any:
    """What was printed as strict JSON."""
    return json.loads(printed, parse_constant=pytest.fail)


def cases() -> list[object]:
    """All pairs; on two sizes every law is tried always, the rest takes minutes to compile."""
    return [
        pytest.param(law, name, marks=() if name == "two sizes" else pytest.mark.exhaustive, id=f"{law}, {name}")
        for law in ("auto", *LAWS)
        for name in TABLES
    ]


def compared() -> list[object]:
    """All pairs, of which a few are tried always."""
    always = {("bimix", "two sizes"), ("chinchilla", "two sizes"), ("exponential", "one size, one volume")}
    return [
        pytest.param(law, name, marks=() if (law, name) in always else pytest.mark.exhaustive, id=f"{law}, {name}")
        for law in ("auto", *LAWS)
        for name in TABLES
    ]


@pytest.mark.parametrize(("law", "table"), cases())
def test_a_law_goes_through_fit_predict_and_optimize(
    law: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes, steps = TABLES[table]
    frame(sizes, steps).to_csv("my.csv", index=False)
    of_mixture = law == "auto" or not LAWS[law].own_proportion
    targets = ("web", "code", "exam") if of_mixture else ("web", "code")
    apart = 1 if law != "auto" and LAWS[law].sized else len(sizes)
    sized = ["--model-size", f"{sizes[-1]:g}"] if len(sizes) > 1 else []
    lines = [
        ["fit", "my.csv", "--law", law, "--out", "fit.json"],
        ["predict", "fit.json", "--mixture", "web=0.5,code=0.5", *sized, "--volume", "8000"],
        ["optimize", "fit.json", *sized, "--volume", "8000", "--lower", "web=0.1,code=0.1"],
    ]
    documents = []
    for line in lines:
        assert run(line) in (DONE, FAILED), capsys.readouterr().err
        screen = capsys.readouterr().out
        assert all(target in screen for target in targets)
        assert "nan" not in screen
        assert run([*line, "--json"]) in (DONE, FAILED)
        documents.append(strict(capsys.readouterr().out))
    fitted, predictions, best = documents
    (predicted,) = predictions["predictions"]
    assert len(fitted["lanes"]) == apart * len(targets)
    assert {lane["model_size"] for lane in fitted["lanes"]} == ({None} if apart == 1 else set(sizes))
    assert tuple(predicted["losses"]) == targets
    assert all(0.5 < loss < 10 for loss in predicted["losses"].values())
    assert all(0.5 < loss < 10 for loss in best["losses"])


@pytest.mark.parametrize(("law", "table"), compared())
def test_a_law_goes_through_compare(
    law: str, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    frame(*TABLES[table]).to_csv("my.csv", index=False)
    assert run(["compare", "my.csv", "--laws", law, "--level", "0"]) == DONE
    assert law in capsys.readouterr().out
    assert run(["compare", "my.csv", "--laws", law, "--level", "0", "--json"]) == DONE
    found = strict(capsys.readouterr().out)["laws"]
    assert {row["law"] for row in found} == {law}


@pytest.mark.parametrize("law", ["chinchilla", "capacity"])
def test_one_model_size_says_that_it_tells_nothing_of_others(
    law: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    frame((1e6,), (1000, 2000, 4000, 8000)).to_csv("my.csv", index=False)
    assert run(["fit", "my.csv", "--law", law, "--targets", "web", "--out", "fit.json", "--json"]) == DONE
    said = strict(capsys.readouterr().out)["lanes"][0]["status"]
    assert "one model size, which does not identify how losses depend on it" in said
    assert ("takes 3 distinct model sizes, got 1" in said) == (law == "chinchilla")
    ask = ["predict", "fit.json", "--mixture", "web=0.5,code=0.5", "--volume", "8000", "--json"]
    answers = []
    for size in ([], ["--model-size", "1e6"]):
        assert run([*ask, *size]) == DONE
        answers.append(strict(capsys.readouterr().out)["predictions"][0]["losses"]["web"])
    assert answers[0] == answers[1]
    assert 1 < answers[0] < 5
    assert run([*ask, "--model-size", "2e6"]) == BAD_INPUT
    assert "model size 2e+06 was not fitted; fitted sizes: 1e+06; it takes two to tell" in capsys.readouterr().err


def test_a_law_with_model_size_marks_sizes_beyond_the_fitted_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    observations = Observations.from_frame(frame(*TABLES["two sizes"]))
    fit("bimix_sized", observations).save("bimix_sized.json")
    fit(Auto(members=("offset",), beyond="bimix_sized"), observations, targets=("web", "code")).save("auto.json")
    for name in ("bimix_sized", "auto"):
        ask = ["predict", f"{name}.json", "--mixture", "web=0.5,code=0.5", "--volume", "8000", "--json", "--model-size"]
        losses, marks = [], []
        for size in ("4e6", "1.6e7"):
            assert run([*ask, size]) == DONE
            (found,) = strict(capsys.readouterr().out)["predictions"]
            losses.append(found["losses"]["web"])
            marks.append(found["extrapolated"])
        assert marks == [[], ["web", "code"]]
        assert 1 < losses[1] < losses[0]
        line = ["optimize", f"{name}.json", "--volume", "8000", "--model-size", "1.6e7", "--json"]
        assert run(line) == DONE
        assert strict(capsys.readouterr().out)["extrapolated"] == ["web", "code"]


def test_sizes_that_cannot_be_reached_are_refused_with_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    frame(*TABLES["two sizes"]).to_csv("my.csv", index=False)
    assert run(["fit", "my.csv", "--law", "bimix", "--out", "fit.json"]) == DONE
    capsys.readouterr()
    lines = {
        "predict fit.json --mixture web=0.5,code=0.5 --volume 8000 --model-size 1.6e7": "--beyond LAW",
        "fit my.csv --law bimix --beyond bimix_sized": "--beyond bimix_sized carries fits of auto",
        "fit my.csv --beyond bimix": "does not read the model size",
        "fit my.csv --model-size 1e6 --beyond bimix_sized": "needs two of them",
    }
    for line, words in lines.items():
        assert run(line.split()) == BAD_INPUT
        assert words in capsys.readouterr().err
