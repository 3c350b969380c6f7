"""What the documentation shows is run: docstring examples, and the README's python and bimix blocks with output."""

import doctest
import importlib
import inspect
import io
import pkgutil
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

import bimixjax
from bimixjax.cli import run

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(info.name for info in pkgutil.walk_packages(bimixjax.__path__, "bimixjax."))
DOCUMENTED = [name for name in bimixjax.__all__ if callable(getattr(bimixjax, name))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


@pytest.mark.parametrize("name", DOCUMENTED)
def test_public_name_shows_an_example(name: str) -> None:
    assert ">>>" in (inspect.getdoc(getattr(bimixjax, name)) or "")


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = io.StringIO()
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(importlib.import_module(module)):
        runner.run(test, out=report.write)
    assert not runner.failures, report.getvalue()


def readme_blocks() -> list[tuple[str, str]]:
    """Language and text of each fenced block, in order."""
    return FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def run_commands(text: str) -> str:
    """Run each line that starts with `bimix` in this process and return what they print."""
    printed = io.StringIO()
    for line in text.replace("\\\n", " ").splitlines():
        with redirect_stdout(printed):
            assert run(shlex.split(line, comments=True)[1:]) == 0, line
    return printed.getvalue()


def run_python(text: str, names: dict[str, Any]) -> str:
    """Run a block in the namespace of the blocks before it and return what it prints."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(text, "README.md", "exec"), names)
    return printed.getvalue()


def same_text(shown: str, printed: str) -> bool:
    """Whether words agree exactly and numbers to the rounding of another machine."""
    words = [NUMBER.sub("#", text).split() for text in (shown, printed)]
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (shown, printed)]
    return words[0] == words[1] and numbers[0] == pytest.approx(numbers[1], rel=2e-2, abs=1e-8)


def test_readme_does_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks run in one folder, in order; a `text` block shows what the block before it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    names: dict[str, Any] = {"__name__": "readme"}
    printed = ""
    for language, text in readme_blocks():
        if language == "python":
            printed = run_python(text, names)
        elif language == "bash" and text.startswith("bimix "):
            printed = run_commands(text)
        elif language == "text":
            assert same_text(text, printed), f"README shows\n{text}\nbut this was printed\n{printed}"


def test_readme_has_all_kinds_of_blocks() -> None:
    """The test above would pass on an empty page."""
    blocks = readme_blocks()
    assert any(language == "python" for language, _ in blocks)
    assert sum(text.count("bimix ") for language, text in blocks if language == "bash") >= 3
    assert sum(language == "text" for language, _ in blocks) >= 2


def test_comparing_text_sees_words_and_numbers() -> None:
    assert same_text("loss 3.14 at  web", "loss 3.1401 at web")
    assert not same_text("loss 3.14", "loss 3.9")
    assert not same_text("loss 3.14", "cost 3.14")
