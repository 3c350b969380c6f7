"""Parts of a page: the tables that a screen shows as HTML, figures as SVG that lives with light and dark, sections."""

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.console import Group, RenderableType
from rich.text import Text

from bimixjax import __version__
from bimixjax._base import hypertext
from bimixjax.reports.figures import OTHERS, PALETTE
from bimixjax.reports.sheet import Sheet

# Colors of a figure and the names under which the style sheet has them for light and dark.
INK, SOFT, LINE = "#1b1f24", "#5b6570", "#d9dee3"
_NAMED = {"#000000": "ink", INK: "ink", SOFT: "soft", LINE: "line", "#ffffff": "paper"}
# Those of marks have their own number: light ones are darker on white, dark ones lighter on black.
_MARKS = {color.lower() for color in (*PALETTE, *OTHERS)} - {"#888888"}

# More columns than these are turned into rows.
_MOST_COLUMNS = 9
# Letters of a cell that is still a number.
_LONGEST_NUMBER = 24

_STYLE = Path(__file__).with_name("style.css")
_DROPPED = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
_ID = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'(?:xlink:)?href="#([^"]*)"|url\(#([^)]*)\)')
# The page has its own.
_FONTS = re.compile(r" ?font-family: [^;\"]*;?")
_COLOR = re.compile(r"#[0-9a-f]{6}\b")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page with a heading.

    Attributes:
        name: of its place, for links.
        title: what it says, in words.
        parts: HTML, one after the other.
    """

    name: str
    title: str
    parts: tuple[str, ...]

    @property
    def html(self) -> str:
        """The section as HTML."""
        return "\n".join([f'<section id="{self.name}">', f"<h2>{escape(self.title)}</h2>", *self.parts, "</section>"])


def shown(part: RenderableType) -> str:
    """Return a text, a table, or a group of them as a screen shows it, as HTML.

    Example:
        >>> from rich.text import Text
        >>> shown(Text("in nats", "dim")), shown("1 < 2")
        ('<p class="gloss">in nats</p>', '<p>1 &lt; 2</p>')
    """
    if isinstance(part, Group):
        inside = [text for text in map(shown, part.renderables) if text]
        framed = any(isinstance(one, Sheet) for one in part.renderables)
        return "\n".join(['<div class="framed">', *inside, "</div>"] if framed else inside)
    if isinstance(part, Sheet):
        return _sheet(part)
    text = part.plain if isinstance(part, Text) else str(part)
    kind = {"bold": "title", "dim": "gloss"}.get(str(part.style) if isinstance(part, Text) else "", "")
    return "\n".join(hypertext.paragraph(line, kind) for line in text.splitlines() if line.strip())


def _sheet(sheet: Sheet) -> str:
    turned = sheet.transposed()
    if len(sheet.columns) > _MOST_COLUMNS and turned and len(turned[0].columns) < len(sheet.columns):
        sheet = turned[0]
    columns = list(sheet.by_column())
    left = [i for i, cells in enumerate(columns) if i < sheet.keys or sheet.is_left(i) or _are_words(cells[1:])]
    return scrolled(hypertext.table(sheet.columns, sheet.rows, left=left, gaps=sheet.sections))


def _are_words(cells: Sequence[str]) -> bool:
    """Say whether cells are sentences rather than numbers with their limits, `0.126 to 0.274`."""
    return any(len(cell) > _LONGEST_NUMBER for cell in cells)


def pair(*parts: str) -> str:
    """Put parts side by side where there is room for it, else below each other."""
    return "\n".join(['<div class="pair">', *(f"<div>{part}</div>" for part in parts if part), "</div>"])


def side_by_side(*tables: str) -> str:
    """Put tables side by side where they fit as they are, else below each other."""
    return "\n".join(['<div class="tables">', *(f"<div>{table}</div>" for table in tables), "</div>"])


def scrolled(table: str) -> str:
    """Put a table into a box that scrolls by itself where the screen is too narrow for it."""
    return f'<div class="scroll" tabindex="0">{table}</div>'


def figure(drawings: Sequence[Figure], name: str, caption: str, *, alternative: str = "") -> str:
    """Return drawings side by side, as many as there is room for, with one caption below.

    Args:
        drawings: by matplotlib; of one size, best near 4 inches wide, so that a phone shows their text as it is.
        name: of the figure, which no other on the page has.
        caption: one sentence or two.
        alternative: what they show, for who cannot see them; by default the caption.
    """
    label = escape(alternative or caption)
    images = [svg(one, f"{name}-{i}") for i, one in enumerate(drawings)]
    grid = "\n".join(f'<div class="drawing">{image}</div>' for image in images)
    kind = "several" if len(images) > 1 else "one"
    return (
        f'<figure id="{escape(name)}" role="group" aria-label="{label}"><div class="{kind}">{grid}</div>\n'
        f"<figcaption>{escape(caption, quote=False)}</figcaption></figure>"
    )


def svg(drawing: Figure, name: str) -> str:
    """Return a drawing as SVG to stand within a page: text as text, colors by name, no two ids alike.

    `name` begins all ids. Text takes the page's font, which must not be wider than matplotlib's own, DejaVu Sans.
    """
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name, "svg.image_inline": True}
    written = io.StringIO()
    with mpl.rc_context(settings):
        drawing.savefig(written, format="svg", transparent=True, dpi=144, metadata={"Date": None})
    text = _FONTS.sub("", _DROPPED.sub("", written.getvalue())).strip().replace("xlink:href", "href")
    used = {match[1] or match[2] for match in _REFERENCE.finditer(text)}
    text = _ID.sub(lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", text)
    text = text.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    text = _COLOR.sub(lambda match: _variable(match[0]), text)
    width, height = (float(size) * 96 for size in drawing.get_size_inches())
    opening = (
        f'<svg viewBox="0 0 {width * 0.75:g} {height * 0.75:g}" style="max-width:{width:.0f}px" aria-hidden="true">'
    )
    return opening + text[text.index(">", text.index("<svg")) + 1 :]


def _variable(color: str) -> str:
    if color in _NAMED:
        return f"var(--{_NAMED[color]})"
    return f"var(--mark-{color[1:]})" if color in _MARKS else color


def page(title: str, lead: Iterable[str], sections: Iterable[Section]) -> str:
    """Return a whole page: what to decide, links to its sections, and these.

    Args:
        title: of the window and above the page.
        lead: HTML that opens the page.
        sections: in order.
    """
    parts = list(sections)
    links = "\n".join(f'<li><a href="#{part.name}">{escape(part.title, quote=False)}</a></li>' for part in parts)
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f'<meta name="generator" content="bimixjax {__version__}">',
            f"<title>{escape(title, quote=False)}</title>",
            f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n<main>",
            f'<header>\n<p class="kicker">{escape(title, quote=False)}</p>',
            *lead,
            f'<nav aria-label="Sections"><ul>\n{links}\n</ul></nav>\n</header>',
            *(part.html for part in parts),
            "</main>\n</body>\n</html>\n",
        ]
    )
