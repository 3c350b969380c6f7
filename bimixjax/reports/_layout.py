"""How tables look: on a terminal by rich, and the same tables as Markdown."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

LEFT = {"note", "status", "weights"}


def table(columns: Sequence[str]) -> Table:
    """Return an empty table; the first column and those of words are aligned left."""
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, column in enumerate(columns):
        made.add_column(column, justify="left" if i == 0 or column in LEFT else "right")
    return made


def framed(title: str, content: Table, caption: str | None = None) -> Group:
    """A title above and a caption below that are as wide as the screen, not as the table."""
    return Group(Text(title, "bold"), content, *([Text(caption, "dim"), ""] if caption else []))


def markdown(part: RenderableType) -> str:
    """Return a text, a table, or a group of them, as Markdown.

    Example:
        >>> made = table(["", "loss"])
        >>> made.add_row("web", "3.1")
        >>> print(markdown(made))
        |  | loss |
        |:--|--:|
        | web | 3.1 |
    """
    if isinstance(part, Group):
        return "\n\n".join(filter(None, map(markdown, part.renderables)))
    if isinstance(part, Table):
        return _markdown_table(part)
    if isinstance(part, Text) and part.style == "bold":
        return f"**{part.plain}**"
    return _escaped(str(part)).replace("\n", "\n\n")


def _markdown_table(part: Table) -> str:
    head = [str(column.header) for column in part.columns]
    rule = ["--:" if column.justify == "right" else ":--" for column in part.columns]
    rows = zip(*(map(str, column.cells) for column in part.columns), strict=True)
    lines = [f"| {' | '.join(map(_escaped, cells))} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])


def _escaped(text: str) -> str:
    """Keep what means something to Markdown from doing so."""
    for mark in "\\|*_<":
        text = text.replace(mark, f"\\{mark}")
    return text.strip()
