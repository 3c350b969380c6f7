"""`bimix import`: what it takes, prints and writes."""

import json
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
import yaml

from benchmarks.foreign_files import FORMATS
from bimixjax import Observations
from bimixjax.cli import run
from bimixjax.cli.console import BAD_INPUT, DONE
from bimixjax.cli.importing import Kind
from bimixjax.interchange import KINDS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a pair of olmix's files and a log of MaxText beside its mixtures."""
    monkeypatch.chdir(tmp_path)
    for name in ("olmix", "maxtext"):
        FORMATS[name].make(tmp_path)
    return tmp_path


def test_the_kinds_of_the_option_are_those_that_are_read() -> None:
    assert get_args(Kind) == KINDS


@pytest.mark.parametrize("columns", ["80", "120"])
def test_what_was_recognized_and_what_was_not_used_is_said(
    columns: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert run(["import", "ratios.csv", "metrics.csv", "--out", "runs.csv"]) == DONE
    shown = capsys.readouterr().out
    assert "Imported 2 runs, 2 rows: 2 domains, 2 targets" in shown
    assert [line.split() for line in shown.splitlines() if ".csv" in line] == [
        ["ratios.csv", "olmix", "ratios"],
        ["metrics.csv", "olmix", "metrics"],
    ]
    assert "Not used: index." in shown
    assert max(map(len, shown.splitlines())) <= int(columns)
    assert Observations.read("runs.csv").own_targets == ("web", "code")


def test_options_are_written_and_repeat_the_import(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "import metrics.jsonl mixtures.csv --from maxtext --tokens-per-document web=3k,code=1k --out runs.csv"
    assert run([*words.split(), "--map", "learning/loss=loss/train"]) == DONE
    first = Path("runs.csv").read_bytes()
    found = yaml.safe_load(Path("runs.config.yaml").read_text())
    assert (found["from"], found["files"]) == ("maxtext", ["metrics.jsonl", "mixtures.csv"])
    Path("runs.csv").unlink()
    capsys.readouterr()
    assert run(["import", "--config", "runs.config.yaml", "--json"]) == DONE
    assert Path("runs.csv").read_bytes() == first
    document = json.loads(capsys.readouterr().out)
    assert document["files"][0] == {"file": "metrics.jsonl", "kind": "maxtext"}
    assert document["targets"] == ["train", "eval"]
    assert pd.read_csv("runs.csv")["mixture/web"].tolist() == pytest.approx([0.9, 0.9, 2 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("", "no file to import"),
        ("none.csv", "none.csv: no such file"),
        ("ratios.csv", "no column is taken for losses"),
        ("ratios.csv metrics.csv --map web", "--map has 'web'; allowed: PATTERN=ROLE"),
        ("metrics.jsonl mixtures.csv", "the shares are of documents"),
        ("metrics.jsonl mixtures.csv --tokens-per-document web=many", "--tokens-per-document web has 'many'"),
    ],
)
def test_wrong_input_is_one_clean_line(words: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["import", *words.split(), "--out", "runs.csv"]) == BAD_INPUT
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("bimix: ")
    assert printed.err.count("\n") == 1
    assert said in printed.err
    assert not Path("runs.csv").exists()
