"""A table of words and numbers that fits any screen: as it is, transposed, or in parts, but never with a cell cut."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

# Columns of words, which may be broken into lines between words.
WORDS = {"note", "status", "weights"}

# Room for a heading even above narrower numbers, and the least for a column of words.
_HEADING, _LEAST_WORDS = 10, 24

# As many lines as no table has, for what is to be avoided: names that are broken, and worse, what is too wide.
_BROKEN, _TOO_WIDE = 1 << 30, 1 << 60

# What rich puts around a column: an edge or a divider, and padding.
_AROUND = 2


@dataclass
class Sheet:
    """Rows of cells under headings.

    On a screen that is too narrow for it, the table is transposed; where that does not help, its columns are spread
    over parts that all repeat the first ones. There, long headings are shortened, each to a text of its own, and a
    legend says what they stand for.

    Attributes:
        columns: the headings.
        keys: how many columns, from the first, say what a row is.
        rows: their cells.
        transposed_corner: the first heading where the table is transposed; the same where it is empty.
        sections: numbers of the rows below which there is a gap.
    """

    columns: tuple[str, ...]
    keys: int = 1
    transposed_corner: str = ""
    rows: list[tuple[str, ...]] = field(default_factory=list)
    sections: set[int] = field(default_factory=set)

    def add_row(self, *cells: str) -> None:
        """Add a row below."""
        self.rows.append(tuple(cells))

    def add_section(self) -> None:
        """Leave a gap below the last row."""
        self.sections.add(len(self.rows) - 1)

    def is_left(self, column: int) -> bool:
        """Say whether a column is aligned left: the first one, and those of words."""
        return column == 0 or self.columns[column] in WORDS

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield one table, or several and a legend."""
        yield from self.fitted(options.max_width)

    def fitted(self, width: int) -> list[Table | Text]:
        """Return what to print on a screen of `width` columns: of the plans that fit, the one with the fewest lines."""
        sheets = [self, *self.transposed()]
        for sheet in sheets:
            widths = [max(map(cell_len, column)) for column in sheet.by_column()]
            if _total(widths) <= width:
                return [sheet.table(range(len(widths)), widths)]
        named = [(sheet, {}) for sheet in sheets] + [sheet.shortened() for sheet in sheets]
        plans = [_Plan.of(sheet, stands_for, width) for sheet, stands_for in named]
        return min(plans, key=_Plan.lines).drawn()

    def shortened(self) -> "tuple[Sheet, dict[str, str]]":
        """Return the sheet with headings hardly wider than the cells, and what each new one stands for."""
        names = list(self.columns)
        stands_for: dict[str, str] = {}
        for i, (name, *cells) in enumerate(self.by_column()):
            limit = max([_HEADING, *map(cell_len, cells)])
            if i >= self.keys and _longest(name) > limit:
                names[i] = _short(name, limit, names)
                stands_for[names[i]] = name
        return replace(self, columns=tuple(names)), stands_for

    def by_column(self) -> Iterable[tuple[str, ...]]:
        """Return the heading and the cells of each column."""
        return zip(self.columns, *self.rows, strict=True)

    def transposed(self) -> "list[Sheet]":
        """Return the sheet with rows for columns, where it has one key, and numbers only."""
        if self.keys > 1 or WORDS & set(self.columns):
            return []
        head, *below = self.by_column()
        return [Sheet(columns=(self.transposed_corner or head[0], *head[1:]), rows=below)]

    def table(self, columns: Sequence[int], widths: Sequence[int]) -> Table:
        """Return some of the columns, of given widths."""
        made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for i, width in zip(columns, widths, strict=True):
            justify = "left" if self.is_left(i) else "right"
            made.add_column(Text(self.columns[i]), justify=justify, overflow="fold", width=width)
        for number, row in enumerate(self.rows):
            made.add_row(*(Text(row[i]) for i in columns), end_section=number in self.sections)
        return made


@dataclass(frozen=True)
class _Plan:
    """A sheet in parts.

    Attributes:
        sheet: the sheet, maybe with short headings.
        stands_for: the full text of each short heading.
        width: of the screen.
        widths: of its columns.
        parts: the columns of each part.
    """

    sheet: Sheet
    stands_for: dict[str, str]
    width: int
    widths: list[int]
    parts: list[list[int]]

    @classmethod
    def of(cls, sheet: Sheet, stands_for: dict[str, str], width: int) -> "_Plan":
        """Spread the columns over parts; cells of words are wrapped, and so are keys that leave no room for numbers."""
        columns = list(sheet.by_column())
        widths = [max([_longest(name), *map(cell_len, cells)]) for name, *cells in columns]
        for i, (name, *cells) in enumerate(columns):
            if name in WORDS:
                widths[i] = min(widths[i], max([_LEAST_WORDS, *map(_longest, (name, *cells))]))
        room = width - _total(widths[1 : sheet.keys]) - _AROUND * 2 - max(widths[sheet.keys :], default=0)
        widths[0] = max(min(widths[0], room), 1)
        keys = list(range(sheet.keys))
        parts = [keys.copy()]
        for i in range(sheet.keys, len(columns)):
            if parts[-1] != keys and _total([widths[j] for j in (*parts[-1], i)]) > width:
                parts.append(keys.copy())
            parts[-1].append(i)
        for part in parts:
            left = max(width - _total([widths[i] for i in part]), 0)
            for i in part:
                if sheet.columns[i] in WORDS:
                    widths[i] = min(widths[i] + left, max(map(cell_len, columns[i])))
        return cls(sheet, stands_for, width, widths, parts)

    def lines(self) -> int:
        """Estimate how many lines it takes; a legend is worth avoiding."""
        if max(_total([self.widths[i] for i in part]) for part in self.parts) > self.width:
            return _TOO_WIDE
        if max(cell_len(row[0]) for row in self.sheet.rows) > self.widths[0]:
            return _BROKEN
        return len(self.parts) * (len(self.sheet.rows) + 4) + 2 * bool(self.stands_for) + len(self.stands_for)

    def drawn(self) -> list[Table | Text]:
        """Return the parts, and the legend."""
        legend = "; ".join(f"{short}: {name}" for short, name in self.stands_for.items())
        parts = [self.sheet.table(part, [self.widths[i] for i in part]) for part in self.parts]
        return [*parts, *([Text(legend, "dim")] if legend else [])]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _AROUND * len(widths)


def _longest(text: str) -> int:
    """Return the length of the longest word."""
    return max(map(cell_len, text.split()), default=0)


def _short(name: str, limit: int, taken: Sequence[str]) -> str:
    """Leave out the middle of a name, so that what remains is no other heading."""
    kept = limit - 1
    for end in (*range(kept // 2, -1, -1), *range(kept // 2 + 1, kept)):
        short = f"{name[: kept - end]}…{name[len(name) - end :]}"
        if short not in taken:
            return short
    numbered = (f"{name[: kept - 3]}…{number}" for number in count(1))
    return next(short for short in numbered if short not in taken)
