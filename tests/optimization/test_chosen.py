"""The mixture that a search chose has limits of its own, which are kept and shown."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Auto, AutoFit, Budget, Observations, OptimalMixture
from bimixjax.cli import run

AT = Budget(volume=8000.0, unit="steps")


def table() -> pd.DataFrame:
    share, step = np.repeat([0.1, 0.9, 0.3, 0.7, 0.5, 0.2], 3), np.tile([1000.0, 3000.0, 8000.0], 6)
    frame = pd.DataFrame({"run": np.repeat([f"run{i}" for i in range(6)], 3), "step": step})
    frame["mixture/x"], frame["mixture/y"] = share, 1 - share
    for target, own in (("x", share), ("y", 1 - share)):
        frame[f"loss/{target}"] = (own + 0.02) ** -0.07 * (2.0 + 1.5 * (step / 8000.0) ** -0.4)
    return frame


@pytest.fixture(scope="module")
def fit() -> AutoFit:
    return bimixjax.fit(Auto(members=("offset", "transfer")), Observations.from_frame(table()))


@pytest.fixture(scope="module")
def best(fit: AutoFit) -> OptimalMixture:
    return bimixjax.optimize(fit, budget=AT, weights={"x": 3.0, "y": 1.0})


def test_limits_are_those_of_the_mean_moved_up(fit: AutoFit, best: OptimalMixture) -> None:
    """By .16 of half their width, in log loss: the mixture of the least prediction is predicted too low."""
    ends = fit.mean_interval(best.proportions, 8000.0, weights=[0.75, 0.25])
    lower, upper = np.log(np.array(ends))
    wanted = np.exp(np.array([lower, upper]) + 0.16 * (upper - lower) / 2)
    np.testing.assert_allclose(np.array(best.objective_interval), wanted, rtol=1e-9)
    assert wanted[0] < best.objective < wanted[1]


def test_files_keep_them_and_older_ones_have_none(best: OptimalMixture, tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    best.save(path)
    assert OptimalMixture.load(path).objective_interval == best.objective_interval
    document = json.loads(path.read_text())
    del document["objective_interval"], document["sha256"]
    path.write_text(json.dumps(document))
    assert OptimalMixture.load(path).objective_interval is None


def test_a_law_alone_has_none() -> None:
    law = bimixjax.fit("bimix_offset", Observations.from_frame(table()))
    assert bimixjax.optimize(law, budget=AT).objective_interval is None


def test_they_are_shown(fit: AutoFit, best: OptimalMixture, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert best.objective_interval is not None
    lower, upper = (f"{end:.4f}" for end in best.objective_interval)
    assert f"weighted mean {best.objective:.4f}; 90 % of measured ones within {lower} to {upper}" in best.summary()
    fit.save(tmp_path / "fit.json")
    assert run(["optimize", str(tmp_path / "fit.json"), "--volume", "8000", "--weight", "x=3,y=1"]) == 0
    said = f"Weighted mean of the best mixture when it is trained: {lower} to {upper} in 90 % of cases"
    assert said in " ".join(capsys.readouterr().out.split())  # however wide the terminal is
    assert run(["optimize", str(tmp_path / "fit.json"), "--volume", "8000", "--weight", "x=3,y=1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(document["objective_interval"], best.objective_interval, rtol=1e-9)
