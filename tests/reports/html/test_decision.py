"""The page says what was decided, is valid, needs nothing else, and takes no name for markup."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bimixjax._base import provenance
from bimixjax.loop.decision import Decision
from bimixjax.loop.workflow import LoopResult
from bimixjax.reports import loop
from bimixjax.reports.html import decision, lead, whole_loop

VOID = {"meta", "br", "hr", "img", "input", "link"}
MOST_BYTES = 3_000_000


class Reader(HTMLParser):
    """Collects tags, ids, links and text, and raises where an end does not meet its start."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> names an attribute twice: {names}"
        found = dict(attrs)
        self.ids += [str(found["id"])] if "id" in found else []
        self.links += [str(value) for name, value in attrs if name in ("href", "src")]
        self.links += re.findall(r"url\(([^)]*)\)", " ".join(str(value) for value in found.values()))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> has no start"
        assert self.open.pop() == tag, f"</{tag}> ends another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def read(page: str) -> Reader:
    """Parse a page and check what holds for all: it is whole, small, and asks for nothing."""
    found = Reader()
    found.feed(page)
    found.close()
    assert not found.open
    assert len(found.ids) == len(set(found.ids)), "an id is there twice"
    inside = {f"#{name}" for name in found.ids}
    assert all(link in inside or link.startswith("data:") for link in found.links), found.links
    assert not {"script", "link", "iframe", "object", "img", "base", "foreignobject"} & found.tags
    assert "@import" not in page
    assert "http" not in page
    assert len(page.encode()) < MOST_BYTES
    return found


@pytest.fixture(scope="module")
def page(odd_decision: Decision) -> str:
    return decision.text(odd_decision, provenance.of("report.html"), settings={"volume": "64k"})


def test_a_page_is_whole_and_needs_nothing_else(page: str) -> None:
    found = read(page)
    assert page.count("<svg") == 10
    text = " ".join(found.words)
    for title in (
        "what was wrong",
        "Laws compared",
        "Predicted against",
        "The mixture",
        "flat",
        "hangs",
        "next",
        "from",
    ):
        assert title in text


def test_names_are_text(page: str, odd_decision: Decision) -> None:
    text = "".join(read(page).words)
    for name in (*odd_decision.best.domains, "<additive>", "<b>twice</b>", "near <it>", "entropy <of> tokens"):
        assert name in text
    assert "<script" not in page
    # In figures as well, where they are broken into lines.
    assert re.search(r"<t(ext|span)[^>]*>\$x_1\$ of a corpus</t", page)


def test_the_first_sentence_says_which_how_much_and_how_sure(odd_decision: Decision) -> None:
    said, worth = lead.plain(odd_decision), odd_decision.worth
    largest = odd_decision.best.domains[int(np.argmax(odd_decision.best.proportions))]
    assert said.startswith(f"Train on {largest} {100 * odd_decision.best.proportions.max():.1f} %")
    for name in ("natural", "zero-run"):
        gain = worth.gains[worth.baselines.index(name)]
        assert re.search(rf"{gain:.4f}( nats per token)? below that of the {name} mixture", said)
    assert said.endswith("and it beats both in 100 % of draws from the fit.")
    assert said.count(".") == 1 + len(re.findall(r"\d\.\d", said))


def test_what_is_not_sure_is_said_to_be_so(odd_decision: Decision) -> None:
    better = np.full_like(odd_decision.worth.better, 0.7)
    doubtful = dataclasses.replace(odd_decision, worth=dataclasses.replace(odd_decision.worth, better=better))
    assert "is not sure: it does in 70 % of draws" in lead.plain(doubtful)
    unknown = dataclasses.replace(odd_decision, worth=dataclasses.replace(odd_decision.worth, draws=0))
    assert "by the law alone" in lead.plain(unknown)
    lost = dataclasses.replace(odd_decision, best=dataclasses.replace(odd_decision.best, converged=False))
    assert lead.plain(lost) == "No mixture is recommended: the search did not converge to one."


def test_parts_that_are_not_known_are_left_out_or_said_to_be(odd_decision: Decision) -> None:
    names = ("observations", "comparison", "draws", "moves", "influence", "plan", "inventory", "train_tokens")
    bare = dataclasses.replace(odd_decision, others={}, **dict.fromkeys(names))
    text = " ".join(read(decision.text(bare, provenance.of("report.html"))).words)
    assert "Not computed: the page was made from a saved fit" in text
    assert "the table behind it is not at hand" in text
    assert "What to train next" not in text
    assert odd_decision.influence is not None
    none = dataclasses.replace(odd_decision.influence, runs=(), method="without run <0> it cannot be said")
    lost = dataclasses.replace(bare, influence=none, missing={"plan": "no run keeps to <limits>"})
    text = " ".join(read(decision.text(lost, provenance.of("report.html"))).words)
    assert "Not computed: without run <0> it cannot be said" in text
    assert "Not planned: no run keeps to <limits>" in text


def test_the_page_of_the_loop_opens_with_what_was_measured(tiny_loop: LoopResult, tmp_path: Path) -> None:
    path = whole_loop.write(tiny_loop, tmp_path)
    first = path.read_text()
    text = " ".join(read(first).words)
    assert "trained afresh with 2 seeds" in text
    assert all(line in text for line in loop.verdict(tiny_loop.proof).plain.splitlines())
    whole_loop.write(tiny_loop, tmp_path)
    assert path.read_text() == first
