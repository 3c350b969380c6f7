"""Every command shows an example that can be run, on the table that every installation carries; and shells complete."""

import inspect
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bimixjax import FitResult, datasets, verify
from bimixjax.cli import COMMANDS, run
from bimixjax.cli.console import BAD_INPUT, DONE, Answer


def example(name: str) -> str:
    """The example that the command shows, '' if there is none."""
    found = re.search(r"^Example: (bimix .*)$", inspect.getdoc(COMMANDS[name]) or "", re.MULTILINE)
    return found[1] if found else ""


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example_whose_options_exist(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert example(name).startswith(f"bimix {name} "), "write one into the docstring: `Example: bimix ...`"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    assert run([name, "--help"]) == DONE
    assert f"Example: {example(name)}" in capsys.readouterr().out
    monkeypatch.setattr(COMMANDS[name], "work", lambda self: Answer(document={}, screen=[]))
    assert run(shlex.split(example(name))[1:]) == DONE, capsys.readouterr().err


def test_the_list_of_commands_has_no_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == DONE
    assert "Example" not in capsys.readouterr().out


def test_examples_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that take seconds: a fit, a plan, predictions frozen and judged."""
    monkeypatch.chdir(tmp_path)
    for name in ("fit", "plan", "predict"):
        assert run(shlex.split(example(name))[1:]) == DONE
    assert FitResult.load("fit.json").domains == datasets.load("demo").domains
    planned = pd.read_csv("next.csv").assign(tokens=1e6)
    predicted = np.asarray(FitResult.load("fit.json").predict(planned.filter(like="mixture/").to_numpy(), 1e6))
    for i, name in enumerate(FitResult.load("fit.json").targets):
        planned[f"loss/{name}"] = predicted[:, i] * 1.02
    planned.to_csv("measured.csv", index=False)
    for name in ("score", "verify"):
        assert run(shlex.split(example(name))[1:]) == DONE
    assert "1.96 %" in capsys.readouterr().out
    assert {one.state for one in verify(".") if one.file != "measured.csv"} == {"verified"}
    assert [one.inputs for one in verify("fit.json")] == [("bimixjax:datasets/demo.csv",)]


def test_an_example_takes_the_place_of_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.csv").write_text("run\n")
    for name in ("fit", "compare", "plan"):
        assert run([name, "other.csv", "--example"]) == BAD_INPUT
        assert "got the table other.csv and --example; give one of them" in capsys.readouterr().err
    for name in ("fit", "compare"):
        assert run([name]) == BAD_INPUT
        assert "no table: give the file of one, or --example" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_shell_completes_commands_and_options(tmp_path: Path) -> None:
    script = tmp_path / "bimix.bash"
    assert run(["--tyro-write-completion", "bash", str(script)]) == DONE
    lines = [
        f"source {script}",
        'COMP_WORDS=(bimix opt) COMP_CWORD=1; _tyro_bimix; echo "${COMPREPLY[0]}"',
        'COMP_WORDS=(bimix fit --exa) COMP_CWORD=2; _tyro_bimix; echo "${COMPREPLY[0]}"',
    ]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["optimize", "--example"]
