"""`bimix report` and `bimix optimize --report`: a page from a table or a fit, and clear errors before any work."""

import json
from pathlib import Path

import pytest
import yaml

from bimixjax import FitResult, Observations
from bimixjax.cli import run
from bimixjax.cli.console import BAD_INPUT, DONE

QUICK = "--targets web,books,code --volume 64k --no-compare --draws 0 --left-out 0 --plan 0"
STOCK = "--inventory web=8e9,books=1e9,code=3e9"


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


def test_a_page_is_made_from_one_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("entropy.json").write_text(json.dumps({"mixtures": {"conditional": {"web": 0.5, "books": 0.3, "code": 0.2}}}))
    assert bimix(f"report my.csv --law bimix {QUICK} {STOCK} --beside entropy.json --out new/page.html") == DONE
    shown = " ".join(capsys.readouterr().out.split())
    assert shown.startswith("Train on ")
    assert "nats per token below that of the natural mixture" in shown
    assert "Report: new/page.html" in shown
    page = Path("new/page.html").read_text()
    assert "conditional" in page
    assert "SHA-256 of ../my.csv" in page
    assert "bimix report my.csv --law bimix" in page
    assert yaml.safe_load(Path("new/page.config.yaml").read_text())["volume"] == 64000


def test_a_page_is_made_from_a_saved_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bimix(f"report my.csv --fit fit.json {QUICK} --json --out page.html") == DONE
    found = json.loads(capsys.readouterr().out)
    assert found["report"] == "page.html"
    assert found["decision"].startswith("Train on ")
    assert found["optimum"]["converged"]


@pytest.mark.parametrize("runs", ["", " --runs my.csv"])
def test_optimize_writes_a_page_of_what_it_has(folder: Path, capsys: pytest.CaptureFixture[str], runs: str) -> None:
    assert bimix(f"optimize fit.json --volume 64k {STOCK} --report page.html{runs}") == DONE
    assert "Gain in the weighted mean" in capsys.readouterr().out
    page = Path("page.html").read_text()
    assert "Not computed: `bimix report`, and --influence with --runs, leave runs out" in page
    assert ("the table behind it is not at hand" in page) == (not runs)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("report my.csv --out page.txt", ".html"),
        (f"report my.csv --law bimix {QUICK} --beside fit.json", "has no mixtures; allowed"),
        (f"report my.csv --law bimix {QUICK} --draws 1", "at least 2"),
        (f"report half.csv --fit fit.json {QUICK}", "the fit of bimix is not that of half.csv"),
        ("optimize fit.json --volume 64k --report page.md", ".html"),
    ],
)
def test_what_cannot_be_used_is_said(
    folder: Path, three_domains: Observations, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    three_domains.select(volume=(None, 8000), unit="steps").write("half.csv")
    assert bimix(line) == BAD_INPUT
    assert words in capsys.readouterr().err
    assert not list(folder.glob("page*"))
    assert not list(folder.glob("report*"))
