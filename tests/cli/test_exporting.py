"""`bimix export` and `bimix lint`: what they print, write, refuse, and end with."""

import json
import shlex
from pathlib import Path

import pytest

from bimixjax import Budget, FitResult, optimize
from bimixjax.cli import exporting, run
from bimixjax.cli.console import BAD_INPUT, DONE, FAILED
from bimixjax.interchange.trainers import KINDS, TRAINERS

PATHS = "--paths web=gs://b/web/*,books=gs://b/books/*,code=gs://b/code/*"
KNOWN = "--train-tokens 16B --inventory web=8B,books=1B,code=3B"


def bimix(line: str) -> int:
    return run(shlex.split(line))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mixture.json").write_text('{"web": 0.6137, "books": 0.25, "code": 0.1363}')
    return tmp_path


def test_export_writes_what_lint_finds_no_fault_with(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bimix(f"export mixture.json --to levanter {KNOWN} {PATHS} --out levanter.yaml") == DONE
    screen = capsys.readouterr().out
    assert "web    0.61370   0.61377    1.23" in screen
    assert "realized in parts of 0.000488" in screen
    assert Path("levanter.config.yaml").exists()
    assert bimix(f"lint levanter.yaml {KNOWN}") == DONE
    assert "No problem found." in capsys.readouterr().out
    assert bimix("export --config levanter.config.yaml --out again.yaml") == DONE
    assert Path("again.yaml").read_text() == Path("levanter.yaml").read_text()


def test_without_a_file_the_text_is_printed_whole(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert bimix(f"export mixture.json --to maxtext --tokens-per-document 2048 {PATHS}") == DONE
    line = next(line for line in capsys.readouterr().out.splitlines() if "grain_train_files" in line)
    flag = "'grain_train_files=gs://b/web/*,0.6137;gs://b/books/*,0.2500;gs://b/code/*,0.1363'"
    assert line == f"dataset_type=grain grain_file_type=arrayrecord {flag}"


def test_what_optimize_found_is_exported(folder: Path, three_domain_fit: FitResult) -> None:
    best = optimize(three_domain_fit, budget=Budget(volume=16_000))
    best.save("found.json")
    assert bimix("export found.json --to csv --out found.csv") == DONE
    shares = dict(line.split(",") for line in Path("found.csv").read_text().splitlines()[1:])
    assert {name: float(share) for name, share in shares.items()} == pytest.approx(best.as_dict(), abs=1e-9)


def test_a_problem_ends_with_failure_and_stands_in_the_document(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("blend.txt").write_text("0.7 /data/web 0.6 /data/code")
    assert bimix("lint blend.txt --json") == FAILED
    found = json.loads(capsys.readouterr().out)
    assert found["stages"][0]["realized"] == pytest.approx({"web": 0.7 / 1.3, "code": 0.6 / 1.3})
    assert "though each looks like a share" in found["problems"][0]
    assert bimix("lint blend.txt --from nemo") == BAD_INPUT
    assert "files of nemo do not end in '.txt'; allowed: .yaml, .yml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--to hf", "HF datasets draws documents"),
        ("--to levantar", "Did you mean 'levanter'?"),
        ("--to levanter --out a.json", "files of levanter do not end in '.json'"),
        ("--to levanter --then mixture.json", "give both or neither"),
        ("--to levanter --paths web", "allowed: NAME=PATH"),
        ("--to levanter --paths web=a,web=b", "names 'web' twice"),
        ("--to levanter --sequence-length 0", "--sequence-length is '0'; allowed: a whole number above 0"),
        ("--to levanter --train-tokens=-1", "--train-tokens is -1; allowed: a number above 0"),
        ("--to csv --block-size 4096", "a block of sequences is what levanter has"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    line: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bimix(f"export mixture.json {line}") == BAD_INPUT
    assert message in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["mixture.json"]


def test_the_help_names_every_kind_and_suffix() -> None:
    """They stand in the options as text, so that help does not load the trainers."""
    assert ", ".join(KINDS) == exporting.TRAINERS
    assert set(exporting.Export.formats["out"]) == {suffix for each in TRAINERS for suffix in each.suffixes}
