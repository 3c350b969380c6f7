"""`bimix plan`: from nothing, from a table, among candidates, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bimixjax import bootstrap
from bimixjax.cli import run
from bimixjax.proxy import Design
from tests.planning.test_plans import DOMAINS, observe, table


def planned(capsys, *line: str) -> dict:
    assert run(["plan", *line, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def losses(tmp_path: Path) -> str:
    path = tmp_path / "runs.csv"
    table(runs=6).to_csv(path, index=False)
    return str(path)


def test_from_nothing_it_writes_a_design_and_says_why(tmp_path, capsys):
    out = tmp_path / "first.csv"
    line = ["plan", "--domains", ",".join(DOMAINS), "--runs", "3", "--inventory", "web=6B,code=3B,math=1B"]
    assert run([*line, "--run-seed", "5", "--out", str(out)]) == 0
    screen = capsys.readouterr().out
    assert "in the zero-run order" in screen
    assert "natural, the baseline" in screen
    design = Design.read(out)
    np.testing.assert_allclose(design.proportions[-1], [0.6, 0.3, 0.1])
    assert design.seeds.tolist() == [5, 5, 5]


def test_from_a_table_with_limits(losses, capsys):
    found = planned(capsys, losses, "--runs", "2", "--upper", "web=0.2", "--weight", "math=2,web=1")
    assert all(run["mixture"]["web"] <= 0.2 for run in found["runs"])
    assert all(run["improvement"] > 0 for run in found["runs"])


def test_groups_epochs_and_a_mixture_nearby(losses, capsys):
    line = ["--inventory", "web=6B,code=3B,math=1B", "--volume", "10B", "--max-epochs", "math=2", "--fixed", "web=0.5"]
    found = planned(capsys, "--domains", ",".join(DOMAINS), *line, "--runs", "3")
    assert all(run["mixture"]["math"] <= 0.2 + 1e-9 for run in found["runs"])
    assert all(run["mixture"]["web"] == pytest.approx(0.5) for run in found["runs"])
    found = planned(capsys, losses, "--runs", "1", "--near", "uniform:0.01", "--group", "two=web+code:0.6")
    shares = np.array(list(found["runs"][0]["mixture"].values()))
    assert shares[:2].sum() <= 0.6 + 1e-9
    assert (shares * np.log(3 * shares)).sum() <= 0.01 + 1e-9


def test_candidates_keep_their_names_whatever_the_order_of_columns(losses, tmp_path, capsys):
    among = pd.DataFrame({"run": ["u", "v", "w"], "mixture/math": [0.8, 0.4, 0.1]})
    among["mixture/web"], among["mixture/code"] = [0.1, 0.3, 0.8], [0.1, 0.3, 0.1]
    among.to_csv(tmp_path / "among.csv", index=False)
    found = planned(capsys, losses, "--runs", "3", "--candidates", str(tmp_path / "among.csv"))
    assert sorted(run["run"] for run in found["runs"]) == ["u", "v", "w"]
    shares = {run["run"]: run["mixture"]["math"] for run in found["runs"]}
    assert shares == pytest.approx({"u": 0.8, "v": 0.4, "w": 0.1})


def test_rows_and_runs_may_be_left_out(tmp_path, capsys):
    pd.concat([table(runs=5).assign(step=step) for step in (0, 10)]).to_csv(tmp_path / "runs.csv", index=False)
    assert run(["plan", str(tmp_path / "runs.csv")]) == 2
    assert "--min-volume" in capsys.readouterr().err
    found = planned(capsys, str(tmp_path / "runs.csv"), "--min-volume", "1", "--exclude-run", "r1", "--runs", "1")
    assert "From 4 measured runs" in found["method"]


def test_sizes_at_their_costs(tmp_path, capsys):
    table(runs=5, sizes=(1e7, 1e8)).to_csv(tmp_path / "runs.csv", index=False)
    found = planned(capsys, str(tmp_path / "runs.csv"), "--runs", "1", "--model-sizes", "10M,100M")
    assert found["runs"][0]["model_size"] == 1e7


def test_a_fit_of_a_single_law_is_refused(tmp_path, capsys):
    bootstrap("bimix_offset", observe(runs=6), key=0, count=2).fit.save(tmp_path / "fit.json")
    assert run(["plan", str(tmp_path / "fit.json")]) == 2
    assert "no draws to plan from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "needs domains"),
        (["--domains", "a,b", "--runs", "0"], "runs is 0"),
        (["--domains", "a,b", "--model-size", "1e8"], "takes no model sizes"),
        (["--domains", "a,b", "--upper", "c=0.5"], "unknown domain 'c'"),
        (["--domains", "a,b", "--inventory", "c=1e9"], "unknown domain 'c'"),
        (["no.csv"], "no.csv"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(line, message, capsys):
    assert run(["plan", *line]) == 2
    assert message in capsys.readouterr().err
