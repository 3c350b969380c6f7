"""The page shows every table and links to figures that are there."""

import re
from pathlib import Path

import pytest

from bimixjax.loop.workflow import LoopResult
from bimixjax.reports import loop, page

IMAGE = re.compile(r"!\[[^\]]+\]\(([^)]+)\)")


@pytest.fixture(scope="module")
def written(tiny_loop: LoopResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page.write(tiny_loop, tmp_path_factory.mktemp("page"))


def test_the_figures_lie_beside_the_page(written: Path) -> None:
    named = IMAGE.findall(written.read_text())
    assert named == ["losses.png", "extrapolation.png", "generalization.png", "proportions.png", "proof.png"]
    assert {path.name for path in written.parent.iterdir()} == {*named, "report.md"}
    assert all((written.parent / name).read_bytes().startswith(b"\x89PNG") for name in named)


def test_the_page_has_the_verdict_and_every_table(written: Path, tiny_loop: LoopResult) -> None:
    text = written.read_text()
    assert all(line in text for line in loop.verdict(tiny_loop.proof).plain.splitlines())
    assert all(f"| {run} |" in text for run in tiny_loop.design.runs)
    assert text.count("|:--|") == 8
    assert "8 models of" in text
    assert "ignores that domains help each other" in text


def test_the_same_result_gives_the_same_page(written: Path, tiny_loop: LoopResult) -> None:
    assert page.text(tiny_loop) == written.read_text()
