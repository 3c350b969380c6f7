"""The command line: what it prints and writes, and how it fails."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from bimixjax import LAWS, FitResult, Observations, OptimalMixture, __version__
from bimixjax._base.records import read_json
from bimixjax.cli import COMMANDS, run
from bimixjax.cli.console import BAD_INPUT, DONE, FAILED
from bimixjax.cli.fitting import Compare
from bimixjax.cli.law_lines import LINES
from bimixjax.optimization import search


@pytest.fixture
def folder(
    three_domains: Observations, three_domain_fit: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A working folder with a table and a fit."""
    monkeypatch.chdir(tmp_path)
    three_domains.write("my.csv")
    three_domain_fit.save("fit.json")
    return tmp_path


def bimix(line: str) -> int:
    return run(line.split())


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_fit_prints_a_table_and_writes_what_it_was_asked_for(
    folder: Path, three_domain_fit: FitResult, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bimix("fit my.csv --law bimix --out new/a.json --figure new/a.png --residuals b.svg") == DONE
    assert names(folder) == {"my.csv", "fit.json", "new/a.json", "new/a.config.yaml", "new/a.png", "b.svg"}
    assert FitResult.load("new/a.json").values == pytest.approx(three_domain_fit.values, rel=1e-9)
    shown = capsys.readouterr().out
    assert "Status, all targets: converged." in shown
    assert "not fitted" in shown
    assert "law." in shown


def test_fit_of_a_single_law_shows_what_resamples_leave_open(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bimix("fit my.csv --law bimix --targets web,code --draws 8 --seed 3") == DONE
    shown = capsys.readouterr().out
    assert "Spread over 8 bootstrap resamples of the runs" in shown
    assert bimix("fit my.csv --law bimix --targets web,code --draws 8 --seed 3 --json") == DONE
    found = json.loads(capsys.readouterr().out)["spread"]
    assert (found["of"], found["count"]) == ("bootstrap resamples of the runs", 8)
    assert [row["target"] for row in found["predictions"]] == ["web", "code"]
    assert all(0 < row["relative_standard_deviation"] < 0.05 for row in found["predictions"])
    assert np.shape(found["standard_errors"]["alpha"]) == (2,)


def test_fit_takes_rows_and_targets_as_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "--min-volume 2000 --max-volume 16000"
    assert bimix(f"fit my.csv --law bimix --json --targets web,code {rows} --no-priors") == DONE
    document = json.loads(capsys.readouterr().out)
    assert [(lane["target"], lane["rows"]) for lane in document["lanes"]] == [("web", 28), ("code", 24)]


def test_a_run_far_outside_is_named_left_out_or_counts_less(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv("my.csv")
    table.loc[(table["run"] == "r2") & (table["step"] >= 8000), ["loss/web", "loss/books", "loss/code"]] = 9.0
    table.to_csv("diverged.csv", index=False)

    def fitted(options: str) -> dict[str, Any]:
        assert bimix(f"fit diverged.csv --law bimix --json {options}") == DONE
        return json.loads(capsys.readouterr().out)

    named = "run r2 (3 of its 6 rows, at 8000, 16000, 32000 steps); leave these out (--exclude-run)"
    squares, huber = fitted(""), fitted("--criterion huber --huber 0.005")
    assert all(any(named in note for note in found["notes"]) for found in (squares, huber))
    without = fitted("--exclude-run r2 --exclude-run r5")
    assert not any("far outside" in note for note in without["notes"])
    assert [lane["rows"] for lane in without["lanes"]] == [30, 29, 24]
    for found, error in ((without, 0.01), (huber, 0.02)):
        alpha = [lane["coefficients"]["alpha"]["value"] for lane in found["lanes"]]
        assert alpha == pytest.approx([0.05, 0.1, 0.2], abs=error)


def test_fit_takes_rows_from_the_training_on_and_the_last_of_a_step(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An evaluation before the training, and a run that went on from a step that it had passed."""
    rows = pd.read_csv("my.csv")
    before, again = rows.head(1).assign(step=0), rows.head(1).copy()
    again["loss/web"] *= 1.1
    pd.concat([before, rows, again]).to_csv("real.csv", index=False)
    errors = {}
    for keep in ("first", "last"):
        assert bimix(f"fit real.csv --law bimix --json --targets web --min-volume 1 --keep {keep}") == DONE
        (lane,) = json.loads(capsys.readouterr().out)["lanes"]
        errors[keep] = lane["mean_relative_error"]
        assert lane["rows"] + lane["rows_missing"] + lane["rows_of_zero_proportion"] == len(rows)
    assert bimix("fit my.csv --law bimix --json --targets web") == DONE
    assert errors["first"] == pytest.approx(json.loads(capsys.readouterr().out)["lanes"][0]["mean_relative_error"])
    assert errors["last"] > 1.2 * errors["first"]


def test_numbers_may_end_in_a_scale(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "optimize fit.json --volume {} --inventory web={},books=1e9,code=2e9 --json"
    assert bimix(line.format("16000", "500000000")) == DONE
    plain = capsys.readouterr().out
    assert bimix(line.format("16k", "0.5B")) == DONE
    assert capsys.readouterr().out == plain
    assert bimix("fit my.csv --law bimix --json --targets web --min-volume 2k --max-volume 16K") == DONE
    assert json.loads(capsys.readouterr().out)["lanes"][0]["rows"] == 28
    assert bimix("fit my.csv --draws 1.5") == BAD_INPUT
    assert "a whole number" in capsys.readouterr().err
    assert bimix("fit my.csv --model-size 70,000,000") == BAD_INPUT
    assert "with k, M, B or T" in capsys.readouterr().err


def test_names_may_hold_a_comma_or_begin_with_a_dash(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.read_csv("my.csv")
    rows.columns = [column.replace("/web", "/web, old").replace("/code", "/-code") for column in rows]
    rows.to_csv("named.csv", index=False)
    targets = ["--targets=-code,books", "--targets", '"web, old"']
    assert run(["fit", "named.csv", "--law", "bimix", *targets, "--out", "n.json"]) == DONE
    assert FitResult.load("n.json").targets == ("-code", "books", "web, old")
    capsys.readouterr()
    mixture = '--mixture="web, old"=0.5,-code=0.25,books=0.25'
    assert run(["predict", "n.json", mixture, "--volume", "16k", "--json"]) == DONE
    (found,) = json.loads(capsys.readouterr().out)["predictions"]
    assert found["mixture"] == {"web, old": 0.5, "books": 0.25, "-code": 0.25}
    Path("limits.yaml").write_text("volume: 16k\nlower: {'web, old': 0.6}\njson: true\n")
    assert bimix("optimize n.json --config limits.yaml") == DONE
    assert json.loads(capsys.readouterr().out)["mixture"]["web, old"] >= 0.6 - 1e-12


def test_help_lists_every_law(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(LINES) == {"auto", *LAWS}
    assert run(["fit", "--help"]) == DONE
    shown = [line.strip(" │") for line in capsys.readouterr().out.splitlines()]
    # One line each, in a terminal of 80 columns.
    assert not [name for name, line in LINES.items() if f"{name}: {line}" not in shown]


def test_compare_takes_the_laws_that_can_describe_the_targets(three_domains: Observations) -> None:
    def chosen(targets: tuple[str, ...] = (), laws: tuple[str, ...] = ()) -> tuple[str, ...]:
        return Compare(table=Path(), targets=targets, laws=laws).chosen_laws(three_domains)

    assert chosen() == ("auto", "bimix", "bimix_offset", "bimix_transfer", "additive")
    assert chosen(("web,law",)) == ("auto", "bimix_transfer", "additive")
    assert chosen(("law",), ("bimix", "auto")) == ("bimix", "auto")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == DONE
    assert capsys.readouterr().out == f"bimix {__version__}\n"
    assert run(["--help"]) == DONE
    assert "--version" in capsys.readouterr().out


def test_a_fit_without_any_usable_row_is_a_failure(folder: Path) -> None:
    table = pd.read_csv("my.csv")
    table.loc[:, [column for column in table if column.startswith("loss/")]] = np.nan
    table.to_csv("empty.csv", index=False)
    assert run(["fit", "empty.csv", "--law", "bimix", "--json"]) == FAILED


def test_compare_shows_writes_and_draws_laws_on_held_out_runs(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    line = "compare my.csv --laws bimix,bimix_offset --targets web,books --folds designs --runs 4 --draws 2 --level 0"
    assert bimix(f"{line} --out new/t.csv --figure e.png --agreement a.png --calibration c.svg") == DONE
    beside = {"new/t.config.yaml", "new/t.csv.provenance.json"}
    assert names(folder) == {"my.csv", "fit.json", "new/t.csv", *beside, "e.png", "a.png", "c.svg"}
    written = pd.read_csv("new/t.csv")
    assert set(written["law"][~written["baseline"]]) == {"bimix", "bimix_offset"}
    assert set(written["law"][written["baseline"]]) == {"uniform", "zero-run", "best run"}
    assert np.max(written["error"]) < 0.1
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("bimix_offset", "best", "2 folds (4 runs fitted)", "Caution"))


def test_compare_for_machines_holds_out_volumes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bimix("compare my.csv --laws bimix --targets web --folds later --cuts 0.5 --level 0 --json") == DONE
    document = json.loads(capsys.readouterr().out)
    (row,) = document["laws"]
    assert [each["law"] for each in document["baselines"]] == ["uniform", "zero-run", "best run"]
    assert (row["law"], row["group"], row["cells"], row["coverage"]) == ("bimix", 0.5, 7, None)
    assert "extrapolates in volume" in row["trust"]


def test_predict_judges_mixtures_of_both_sources(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"run": ["even"], "mixture/web": 0.5, "mixture/code": 0.5}).to_csv("mixtures.csv", index=False)
    line = "predict fit.json --mixtures mixtures.csv --mixture web=0.2,books=0.4,code=0.4 --volume 16000 --json"
    assert bimix(line) == DONE
    even, given = json.loads(capsys.readouterr().out)["predictions"]
    assert even["run"] == "even"
    assert even["mixture"] == {"web": 0.5, "books": 0.0, "code": 0.5}
    assert even["losses"]["books"] is None
    expected = FitResult.load("fit.json").predict(np.array([0.2, 0.4, 0.4]), 16000)
    assert list(given["losses"].values()) == pytest.approx(np.asarray(expected).tolist())


def test_predict_flags_extrapolation_and_writes_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "predict fit.json --mixture web=0.3,books=0.3,code=0.4 --volume 64000 --out out.csv"
    assert bimix(line) == DONE
    assert "* extrapolated: volume 2 x the largest fitted, 32000 steps" in capsys.readouterr().out
    written = pd.read_csv("out.csv")
    assert written["extrapolated/web"].tolist() == [True]
    assert written["step"].tolist() == [64000]
    assert written["extrapolation"].tolist() == ["volume 2 x the largest fitted, 32000 steps"]


def test_predict_scores_a_table_where_it_was_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bimix("predict fit.json --mixtures my.csv --out out.csv") == DONE
    shown = " ".join(capsys.readouterr().out.split())
    assert "Against the losses in the table" in shown
    assert "r0 at 2K steps" in shown
    assert "no limits: a fit of bimix alone" in shown
    written = pd.read_csv("out.csv")
    assert written["step"].tolist() == pd.read_csv("my.csv")["step"].tolist()
    assert bimix("predict fit.json --mixtures my.csv --json") == DONE
    found = json.loads(capsys.readouterr().out)
    fitted = FitResult.load("fit.json")
    code = found["scores"]["targets"][2]
    assert (code["target"], code["rows"], code["silent"]) == ("code", 36, 6)
    assert code["mean_relative_error"] == pytest.approx(fitted.error[2], rel=1e-9)
    assert code["r2"] == pytest.approx(fitted.r2[2], rel=1e-9)
    assert found["scores"]["rank_correlation_of_the_mean"] > 0.9
    assert found["scores"]["mixtures_ranked"] == 41


def test_a_volume_given_moves_the_runs_of_a_table_and_drops_other_losses(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bimix("predict fit.json --mixtures my.csv --volume 8000 --json") == DONE
    found = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in found["predictions"]] == [f"r{i}" for i in range(7)]
    assert found["scores"]["targets"][0]["rows"] == 7
    assert bimix("predict fit.json --mixtures my.csv --volume 9000 --json") == DONE
    assert json.loads(capsys.readouterr().out)["scores"] is None


def test_predict_reads_sizes_and_volumes_of_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pd.read_csv("my.csv")
    large = table.assign(
        run="large-" + table["run"], **{f"loss/{n}": 0.9 * table[f"loss/{n}"] for n in ("web", "books")}
    )
    both = pd.concat([table.assign(model_size=1e8), large.assign(model_size=4e8)], ignore_index=True)
    both.to_csv("both.csv", index=False)
    assert bimix("fit both.csv --law bimix --targets web,books --out both.json") == DONE
    both[["run", "step", "model_size", "mixture/web", "mixture/books", "mixture/code"]].to_csv("ask.csv", index=False)
    assert bimix("predict both.json --mixtures ask.csv --out out.csv") == DONE
    out, fit = pd.read_csv("out.csv"), FitResult.load("both.json")
    assert out["model_size"].tolist() == both["model_size"].tolist()
    last = out.iloc[-1]
    expected = fit.predict(last[["mixture/web", "mixture/books", "mixture/code"]].to_numpy(float), last["step"], 4e8)
    assert last[["predicted/web", "predicted/books"]].to_numpy(float) == pytest.approx(np.asarray(expected))
    capsys.readouterr()
    pd.DataFrame({"run": ["a"], "tokens": [1e9], "mixture/web": 0.5, "mixture/code": 0.5}).to_csv("t.csv", index=False)
    assert bimix("predict fit.json --mixtures t.csv") == BAD_INPUT
    assert "t.csv has tokens, the fit is in steps; add a column 'step' or give --volume" in capsys.readouterr().err


def test_what_was_never_measured_is_refused_unless_priors_are_asked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv("my.csv")
    table[table["step"] == 32000].to_csv("final.csv", index=False)
    assert bimix("fit final.csv --law bimix --out final.json") == DONE
    for line in ("predict final.json --mixture web=.4,books=.3,code=.3", "optimize final.json"):
        capsys.readouterr()
        assert bimix(f"{line} --volume 64000") == BAD_INPUT
        refused = capsys.readouterr().err
        assert "fitted at 32000 steps only" in refused
        assert "--from-prior" in refused
        assert bimix(f"{line} --volume 64000 --from-prior") == DONE
        shown = " ".join(capsys.readouterr().out.split())
        assert "‡ from the prior, since nothing fitted tells of it: volume 2 x the only one fitted" in shown
        assert bimix(f"{line} --volume 64000 --from-prior --json") == DONE
        document = json.loads(capsys.readouterr().out)
        budget = document["budget"] if "budget" in document else document["predictions"][0]["budget"]
        assert budget["from_prior"] is True


def test_optimize_keeps_to_limits_and_shows_baselines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "optimize fit.json --volume 16000 --lower web=0.5 --upper code=0.3,books=0.4 --weight web=1,code=2,books=1"
    line += " --inventory web=1e9,books=1e9,code=2e9 --out best.json --figure best.png"
    assert bimix(line) == DONE
    best = OptimalMixture.load("best.json")
    assert best.as_dict()["web"] == pytest.approx(0.5)
    assert best.weights == pytest.approx([0.25, 0.25, 0.5])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("optimized", "uniform", "natural", "KKT residual", "at its lower limit"))
    assert Path("best.png").stat().st_size > 1000


def test_an_optimum_for_machines_has_its_certificate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bimix("optimize fit.json --volume 16000 --json") == DONE
    document = json.loads(capsys.readouterr().out)
    assert document["kkt_residual"] < 1e-10
    assert sum(document["mixture"].values()) == pytest.approx(1)
    assert [baseline["run"] for baseline in document["baselines"]] == ["uniform", "zero-run", "best run"]
    assert document["notes"][0] == "no natural mixture: no inventory is given"


def test_an_objective_and_guardrails_are_named_on_the_command_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "optimize fit.json --volume 16000 --objective worst --guard code=0.02 --reference web=0.4,books=0.3,code=0.3"
    assert bimix(line) == DONE
    assert "Minimized: worst weighted loss, with code at most 0.02 above" in capsys.readouterr().out
    assert bimix("optimize fit.json --volume 16000 --objective average:0.002 --json") == DONE
    document = json.loads(capsys.readouterr().out)
    assert document["goal"] == "average of the mixtures within 0.2 % of the least weighted mean"
    assert document["worth"]["baselines"]["uniform"]["gain"] <= document["baselines"][0]["losses"]["web"]


def test_sweeps_and_fronts_are_found_and_drawn(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "optimize fit.json --sweep volume=2k..32k:5 --sweep-figure sweep.png --pareto code,web"
    line += " --pareto-figure front.png"
    assert bimix(f"{line} --json") == DONE
    document = json.loads(capsys.readouterr().out)
    assert [round(point["volume"]) for point in document["sweep"]] == [2000, 4000, 8000, 16000, 32000]
    assert document["budget"]["volume"] == pytest.approx(32000)
    assert document["sweep"][-1]["mixture"] == pytest.approx(document["mixture"], abs=1e-6)
    assert set(document["pareto"][0]["losses"]) == {"web", "code"}
    assert all(Path(name).stat().st_size > 1000 for name in ("sweep.png", "front.png"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--sweep size=1..2", "--sweep is 'size=1..2'"),
        ("--sweep volume=2k..1k", "from 2000 to 1000"),
        ("--sweep train-tokens=1e9..1e10", "the fit's volume is in steps"),
        ("--pareto code", "allowed: two targets"),
        ("--sweep-figure a.png", "--sweep-figure draws what --sweep finds"),
        ("--objective best", "--objective is 'best'"),
        ("--objective risk", "risk:KAPPA"),
        ("--objective worst:1", "--objective is 'worst:1'"),
        ("--objective risk:1 --guard web=0.1", "--guard goes with"),
        ("--objective risk:1", "does not say how sure it is"),
        ("--objective excess --reference best", "--reference is 'best'"),
    ],
)
def test_objectives_that_are_none_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str], options: str, words: str
) -> None:
    assert bimix(f"optimize fit.json --volume 16000 {options}") == BAD_INPUT
    assert words in capsys.readouterr().err


def test_a_search_that_is_not_stationary_is_a_failure(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "STATIONARY", (-1.0, -1.0))
    assert bimix("optimize fit.json --volume 16000") == FAILED
    assert "Not found: " in capsys.readouterr().out


def test_shares_without_effect_follow_the_tokens(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "optimize fit.json --volume 16000 --weight web=1 --upper web=0.4 --inventory web=1,books=1e9,code=2e9 --json"
    assert bimix(line) == DONE
    document = json.loads(capsys.readouterr().out)
    assert document["mixture"] == pytest.approx({"web": 0.4, "books": 0.2, "code": 0.4})
    assert document["idle"] == ["books", "code"]


def test_repeated_options_add_up_and_the_last_wins(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "optimize fit.json --volume 16000 --json --lower web=0.1 --lower web=0.6 --lower code=0.2"
    assert bimix(line) == DONE
    mixture = json.loads(capsys.readouterr().out)["mixture"]
    assert mixture["web"] >= 0.6 - 1e-12
    assert mixture["code"] >= 0.2 - 1e-12


def test_the_resolved_config_repeats_the_run(folder: Path) -> None:
    assert bimix("optimize fit.json --volume 16000 --lower web=0.6 --out a.json") == DONE
    assert bimix("optimize --config a.config.yaml --out b.json") == DONE
    assert read_json("a.json") == read_json("b.json")
    written = yaml.safe_load(Path("a.config.yaml").read_text())
    assert (written["command"], written["fit"], written["volume"]) == ("optimize", "fit.json", 16000)


def test_a_sparse_config_gives_way_to_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("sparse.yaml").write_text("priors: false\ntargets: [web, code]\nmin-volume: 2000\n")
    assert bimix("fit my.csv --law bimix --config sparse.yaml --min-volume 4000 --json") == DONE
    document = json.loads(capsys.readouterr().out)
    assert [(lane["target"], lane["rows"]) for lane in document["lanes"]] == [("web", 28), ("code", 24)]


def test_a_config_may_map_names_to_numbers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("limits.yaml").write_text("volume: 16000\nlower: {web: 0.6}\njson: true\n")
    assert bimix("optimize fit.json --config limits.yaml") == DONE
    assert json.loads(capsys.readouterr().out)["mixture"]["web"] >= 0.6 - 1e-12


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fit nothing.csv", "nothing.csv: no such file"),
        ("fit my.csv --law bimx", "law is 'bimx'; allowed: auto, bimix, bimix_offset, bimix_sized"),
        ("fit my.csv --keep last --min-volume 1e9", "my.csv has no step from 1e+09 on"),
        ("fit twice.csv --law bimix", "--keep last"),
        ("fit zero.csv --law bimix", "--min-volume"),
        ("fit my.csv --law bimix --targets law", "'law' is not a training domain"),
        ("fit my.csv --unit tokens", "no column 'tokens'"),
        ("fit my.csv --out fit.txt", "suffix is '.txt'"),
        ("fit my.csv --out .", "suffix is ''"),
        ("fit my.csv --out my.csv/fit.json", "cannot be written"),
        ("fit my.csv --figure my.csv/fit.png", "cannot be written"),
        ("fit my.csv --draws 1", "count is 1; allowed: at least 2"),
        ("fit my.csv --criterion huber", "is for a single law, and --law is auto"),
        ("fit my.csv --law bimix --huber 0.1", "--huber is the threshold of --criterion huber"),
        ("fit my.csv --law bimix --criterion huber --huber 0", "huber is 0.0; allowed: a finite number above 0"),
        ("fit my.csv --exclude-run r9", "unknown run 'r9'"),
        ("fit my.csv --config none.yaml", "none.yaml: no such file"),
        ("fit my.csv --config bad.yaml", "not YAML"),
        ("fit my.csv --config list.yaml", "a mapping of options"),
        ("fit my.csv --config other.yaml", "another command"),
        ("fit my.csv --config unknown.yaml", "unknown option 'lawn'"),
        ("compare my.csv --laws bimx", "law is 'bimx'"),
        ("compare my.csv --laws bimix --at first", "--at has 'first'"),
        ("compare my.csv --laws bimix --folds designs --runs few", "--runs has 'few'"),
        ("compare my.csv --laws bimix --folds designs --runs 2.5", "--runs has '2.5'; allowed: a whole number"),
        ("compare my.csv --laws bimix --folds designs --runs 7", "at most 6"),
        ("compare my.csv --laws bimix --folds larger", "needs --largest"),
        ("compare my.csv --laws bimix --out t.json", "suffix is '.json'"),
        ("predict my.csv --mixture web=1", "not JSON"),
        ("predict fit.json --volume 16000", "no mixture to judge"),
        ("predict fit.json --volume 16000 --mixture wob=1", "unknown domain 'wob'"),
        ("predict fit.json --volume 16000 --mixture web", "allowed: NAME=NUMBER"),
        ("predict fit.json --volume 16000 --mixture web=x", "--mixture web has 'x'; allowed: a number, with k, M, B"),
        ("predict fit.json --volume 16000 --mixture web=inf", "--mixture web has 'inf'"),
        ('predict fit.json --volume 16000 --mixture "web=1', "a double quote that does not close"),
        ("predict fit.json --volume 16000 --mixture web=.5,web=.5", "twice"),
        ("predict fit.json --volume 16000 --mixture web=.5", "sums to 0.5"),
        ("predict fit.json --mixture web=1 --volume 3e9", "1000 to 32000 steps were fitted; is it given in tokens?"),
        ("predict fit.json --mixture web=1", "say which"),
        ("optimize fit.json --volume 16000 --lower web=.7,code=.7", "no mixture keeps to the limits"),
        ("optimize fit.json --volume 16000 --weight law=1", "unknown target 'law'"),
        ("optimize fit.json --volume 16000 --inventory wob=1", "unknown domain 'wob' in the inventory"),
        ("optimize fit.json --volume 16000 --inventory stock.csv", "stock.csv: no such file"),
        ("optimize fit.json --volume 16000 --draws 9", "use bimixjax.bootstrap and bimixjax.optimize_resamples"),
    ],
)
def test_wrong_input_is_one_clean_line(line: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.yaml").write_text("law: [")
    Path("list.yaml").write_text("- law")
    Path("other.yaml").write_text("command: predict")
    Path("unknown.yaml").write_text("lawn: bimix")
    rows = pd.read_csv("my.csv")
    rows.assign(step=rows["step"].mask(rows["step"] == 2000, 4000)).to_csv("twice.csv", index=False)
    rows.assign(step=rows["step"].mask(rows["step"] == 2000, 0)).to_csv("zero.csv", index=False)
    before = names(folder)
    assert bimix(line) == BAD_INPUT
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("bimix: ")
    assert printed.err.count("\n") == 1
    assert words in printed.err
    assert names(folder) == before


def test_outputs_are_checked_before_any_work(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bimix("fit nothing.csv --out my.csv/fit.json") == BAD_INPUT
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["", "fitt my.csv", "fit", "fit my.csv --lore bimix", "fit my.csv --model-size big"])
def test_wrong_usage_is_bad_input_too(line: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bimix(line) == BAD_INPUT
    assert "bimix" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_a_failure(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FitResult, "save", full)
    assert bimix("fit my.csv --law bimix --out new.json") == FAILED
    assert capsys.readouterr().err == "bimix: [Errno 28] No space left on device\n"
    assert not Path("new.json").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == DONE
    lines = [line.strip(" │") for line in capsys.readouterr().out.splitlines()]
    pairs = list(pairwise(lines))
    assert sum(line.startswith("--") for line in lines) >= 3
    assert not [line for line, after in pairs if _is_bare(line) and after.startswith(("--", "╰"))]


def _is_bare(line: str) -> bool:
    """Whether a line of help is an option and its placeholder only, so that words must follow below."""
    return line.startswith("--") and len(line.split()) <= 2


def test_predictions_read_epochs_of_an_inventory_or_of_the_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"run": f"{share}-{stock:g}", "tokens": s, "mixture/web": share, "mixture/code": 1 - share, "unique/web": stock}
        | {"loss/web": share**-0.1 * (100 / s**0.25 + 2) + (0.1 * share * s / stock if share * s > stock else 0)}
        for share in (0.2, 0.5, 0.8)
        for s in (1e9, 4e9, 16e9)
        for stock in (1e9, 64e9)
    ]
    pd.DataFrame(rows).to_csv("epochs.csv", index=False)
    assert bimix("fit epochs.csv --law bimix_repeated --out epochs.json") == DONE
    ask = "predict epochs.json --json --volume 16B --mixture web=0.8,code=0.2"
    found = {}
    for name, more in {"free": "", "web": " --inventory web=1B", "file": " --inventory stock.csv"}.items():
        Path("stock.csv").write_text("domain,tokens\nweb,1B\n")
        capsys.readouterr()
        assert bimix(ask + more) == DONE
        found[name] = json.loads(capsys.readouterr().out)["predictions"]
    assert found["web"] == found["file"] != found["free"]
    assert bimix("predict epochs.json --mixtures epochs.csv --json") == DONE
    of_table = json.loads(capsys.readouterr().out)["predictions"]
    assert bimix("predict epochs.json --mixtures epochs.csv --inventory web=1B --json") == DONE
    of_option = json.loads(capsys.readouterr().out)["predictions"]
    same = [one == other for one, other in zip(of_table, of_option, strict=True)]
    assert True in same
    assert False in same
    assert bimix("optimize epochs.json --volume 16B --inventory web=1B --json") == DONE
    assert bimix("predict fit.json --volume 16000 --mixture web=1 --inventory web=1B") == DONE
    assert "--inventory changes no prediction" in " ".join(capsys.readouterr().out.split())
    assert bimix("predict epochs.json --mixture web=1 --volume 1B --inventory wob=1") == BAD_INPUT
