"""Text and tables as HTML, with everything that a user named escaped."""

from collections.abc import Iterable, Sequence
from html import escape


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text; `kind` is its class.

    Example:
        >>> paragraph("1 < 2"), paragraph("less", "note")
        ('<p>1 &lt; 2</p>', '<p class="note">less</p>')
    """
    return f"<p{_classed(kind)}>{escape(text, quote=False)}</p>"


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: Iterable[int] = (0,),
    gaps: Iterable[int] = (),
    strong: Iterable[int] = (),
) -> str:
    """Return a table of plain cells, numbers to the right; the first cell of a row names it.

    Args:
        columns: the headings.
        rows: as many cells each.
        left: numbers of the columns that are aligned left.
        gaps: numbers of the rows below which there is a rule.
        strong: numbers of the columns that stand out.

    Example:
        >>> print(table(["", "loss"], [["<web>", "3.1"]]))
        <table><thead><tr><th scope="col" class="left"></th><th scope="col">loss</th></tr></thead><tbody>
        <tr><th scope="row" class="left">&lt;web&gt;</th><td>3.1</td></tr>
        </tbody></table>
    """
    left, gaps, strong = set(left), set(gaps), set(strong)
    kinds = [" ".join(["left"] * (i in left) + ["strong"] * (i in strong)) for i in range(len(columns))]

    def row(cells: Sequence[str]) -> str:
        first, *others = (escape(cell.strip(), quote=False) for cell in cells)
        head = f'<th scope="row"{_classed(kinds[0])}>{first}</th>'
        return head + "".join(f"<td{_classed(kind)}>{cell}</td>" for kind, cell in zip(kinds[1:], others, strict=True))

    head = "".join(
        f'<th scope="col"{_classed(kind)}>{escape(name.strip(), quote=False)}</th>'
        for kind, name in zip(kinds, columns, strict=True)
    )
    body = [f"<tr{_classed('gap' if i in gaps else '')}>{row(cells)}</tr>" for i, cells in enumerate(rows)]
    return "\n".join([f"<table><thead><tr>{head}</tr></thead><tbody>", *body, "</tbody></table>"])


def _classed(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
