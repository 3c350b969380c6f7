"""A table on a narrow screen is transposed or spread over parts; no cell is cut and no heading is there twice."""

import io

import numpy as np
import pytest
from rich.console import Console

from bimixjax.reports.sheet import Sheet


def text(sheet: Sheet, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        console.print(sheet)
    return captured.get()


def matrix(rows: list[str], columns: list[str], **options) -> Sheet:
    """A different number in every cell."""
    sheet = Sheet(columns=("", *columns), **options)
    for i, name in enumerate(rows):
        sheet.add_row(name, *(f"{i}.{j:04}" for j in range(len(columns))))
    return sheet


def heads(shown: str) -> list[list[str]]:
    """The words above each rule."""
    lines = shown.splitlines()
    return [lines[i - 1].split() for i, line in enumerate(lines) if line.strip().startswith("─")]


def test_a_table_that_fits_is_shown_as_it_is() -> None:
    lines = [line.split() for line in text(matrix(["web", "code"], ["x", "y"]), 80).splitlines() if line.strip()]
    assert lines[0] == ["x", "y"]
    assert lines[2:] == [["web", "0.0000", "0.0001"], ["code", "1.0000", "1.0001"]]


def test_one_with_many_columns_and_few_rows_istransposed() -> None:
    columns = [f"a_target_of_a_long_name_{i}" for i in range(9)]
    lines = [line.split() for line in text(matrix(["web", "code"], columns), 80).splitlines() if line.strip()]
    assert lines[0] == ["web", "code"]
    assert lines[2:] == [[name, f"0.{i:04}", f"1.{i:04}"] for i, name in enumerate(columns)]


def test_atransposed_table_says_what_is_across() -> None:
    sheet = matrix(["web", "code"], [f"a_target_of_a_long_name_{i}" for i in range(9)], transposed_corner="turned")
    assert heads(text(sheet, 80)) == [["turned", "web", "code"]]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_large_one_is_spread_over_parts_with_a_legend(width: int) -> None:
    rows = [f"domain_from_a_common_crawl_{i:02}" for i in range(17)]
    columns = [f"benchmark_of_knowledge_{i:02}_perplexity" for i in range(13)]
    sheet = matrix(rows, columns)
    shown = text(sheet, width)
    assert max(map(len, shown.splitlines())) <= width
    parts = heads(shown)
    names = [name for part in parts for name in part]
    assert len(set(names)) == len(names) == 13
    assert all(shown.count(name) >= len(parts) for name in rows)
    flat = " ".join(shown.split())
    assert all(f": {name}" in flat for name in columns)
    assert all(f" {cell} " in f" {flat} " for row in sheet.rows for cell in row)


def test_short_headings_are_unique_and_differ_from_whole_ones() -> None:
    alike = [f"{'x' * 30}{i:02}{'y' * 30}" for i in range(40)]
    sheet, stands_for = matrix(["a"], [*alike, f"{'x' * 5}…{'y' * 4}"]).shortened()
    assert len(set(sheet.columns)) == len(sheet.columns)
    assert sorted(stands_for.values()) == sorted(alike)
    assert max(map(len, sheet.columns)) <= 10


def test_words_are_wrapped_and_numbers_are_not() -> None:
    sheet = Sheet(columns=("", "loss ± error", "note"))
    sheet.add_row(
        "web", "1234.5678 ± 0.0012", "a note that is so long that no screen of eighty columns could hold it in a line"
    )
    for width in (60, 70, 80):
        shown = text(sheet, width)
        assert max(map(len, shown.splitlines())) <= width
        assert "1234.5678 ± 0.0012" in shown
        assert len(heads(shown)) == 1


def test_parts_repeat_all_columns_that_say_what_a_row_is() -> None:
    sheet = Sheet(columns=("", "size", *(f"c{i}" for i in range(12))), keys=2)
    sheet.add_row("web", "70M", *(f"{i}.0000" for i in range(12)))
    shown = text(sheet, 60)
    assert all(head[0] == "size" for head in heads(shown))
    assert len(heads(shown)) == shown.count("web") == shown.count("70M") > 1


def test_a_name_wider_than_the_screen_is_wrapped() -> None:
    shown = text(matrix(["n" * 90], ["x" * 90]), 60)
    assert shown.count("n") == 90
    assert "x" * 60 in shown
    assert "0.0000" in shown


@pytest.mark.parametrize("width", [60, 73, 80, 100, 120, 200])
def test_no_cell_is_ever_cut(width: int) -> None:
    random = np.random.default_rng(width)
    for _ in range(30):
        rows = [f"{'r' * random.integers(1, 40)}{i}" for i in range(random.integers(1, 20))]
        columns = [f"{'c' * random.integers(1, 50)}{i}" for i in range(random.integers(1, 20))]
        sheet = matrix(rows, columns)
        shown = text(sheet, width)
        assert max(map(len, shown.splitlines())) <= width
        words = shown.split()
        assert all(words.count(cell) == 1 for row in sheet.rows for cell in row[1:])
        assert all(name in shown for name in (*rows, *columns))
