"""The same tables on a terminal and as Markdown."""

from rich.console import Group
from rich.text import Text

from bimixjax.reports.layout import framed, markdown, table


def test_a_framed_table_becomes_markdown() -> None:
    made = table(["", "loss", "note"])
    made.add_row("web", "3.1*", "at its lower limit")
    assert markdown(framed("Losses", made, "* extrapolated")).splitlines() == [
        "**Losses**",
        "",
        "|  | loss | note |",
        "|:--|--:|:--|",
        "| web | 3.1\\* | at its lower limit |",
        "",
        "\\* extrapolated",
    ]


def test_marks_of_markdown_mean_nothing_in_a_text() -> None:
    assert markdown(Text("a|b <c> d_e")) == "a\\|b \\<c> d\\_e"


def test_lines_stay_lines() -> None:
    assert markdown(Group(Text("one\ntwo"), "three")) == "one\n\ntwo\n\nthree"
