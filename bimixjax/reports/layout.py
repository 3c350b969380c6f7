"""How tables and their numbers look: on a terminal by rich, and the same tables as Markdown."""

from collections.abc import Iterable, Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from bimixjax.reports.sheet import Sheet


def table(columns: Sequence[str], rows: Iterable[Iterable[str]] = (), *, keys: int = 1) -> Sheet:
    """Return a table, of which the first `keys` columns say what a row is."""
    return Sheet(columns=tuple(columns), keys=keys, rows=list(map(tuple, rows)))


def decimal(value: float, digits: int = 4, *, otherwise: str = "-") -> str:
    """Return a number with so many digits behind the point; `otherwise` where it is not finite."""
    return f"{value:.{digits}f}" if np.isfinite(value) else otherwise


def percent(share: float) -> str:
    """Return a share as a percentage, `1.23 %`; `-` where it is not finite."""
    return f"{100 * share:.2f} %" if np.isfinite(share) else "-"


def framed(title: str, content: Sheet, caption: str | None = None) -> Group:
    """Put a title above and a caption below that are as wide as the screen, not as the table."""
    return Group(Text(title, "bold"), content, *([Text(caption, "dim"), ""] if caption else []))


def markdown(part: RenderableType) -> str:
    """Return a text, a table, or a group of them, as Markdown.

    Example:
        >>> print(markdown(table(["", "loss"], [["web", "3.1"]])))
        |  | loss |
        |:--|--:|
        | web | 3.1 |
    """
    if isinstance(part, Group):
        return "\n\n".join(filter(None, map(markdown, part.renderables)))
    if isinstance(part, Sheet):
        rule = [":--" if part.is_left(i) else "--:" for i in range(len(part.columns))]
        head, *lines = [f"| {' | '.join(map(_escaped, cells))} |" for cells in (part.columns, *part.rows)]
        return "\n".join([head, f"|{'|'.join(rule)}|", *lines])
    if isinstance(part, Text) and part.style == "bold":
        return f"**{part.plain}**"
    return _escaped(str(part)).replace("\n", "\n\n")


def _escaped(text: str) -> str:
    """Keep what means something to Markdown from doing so."""
    for mark in "\\|*_<":
        text = text.replace(mark, f"\\{mark}")
    return text.strip()
