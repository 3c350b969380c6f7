"""Damaged files of every format: one `InputError` of one line, or a table that can be right, and no traceback."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from benchmarks.foreign_files import FORMATS
from bimixjax import InputError, import_runs

# What values, types and separators go wrong by; as in `benchmarks/damaged_files.py`, and what tables have besides.
PIECES = (
    *(b"NaN", b"Infinity", b"-1", b"0", b"1e999", b"9" * 400, b"null", b"true", b'""', b"[]", b"{}", b"[" * 2000),
    *(b"\xff\xfe", b"\x00", b"\xc3", b'"', b",", b";", b"-", b"\n", b"%", b"1,000", b"\\ud800", b"*", b" - ", b"/"),
)
Edit = tuple[str, float, int, bytes]
Damage = Callable[[list[Edit], int], str | None]
edit = st.tuples(
    st.sampled_from(("put", "cut", "drop", "double")), st.floats(0, 1), st.integers(1, 40), st.sampled_from(PIECES)
)
edits = st.lists(edit, min_size=1, max_size=4)


def edited(content: bytes, changes: list[Edit]) -> bytes:
    for change, place, length, piece in changes:
        at = int(place * len(content))
        if change == "put":
            # In place of as many bytes, one or none: a value in place of another, or between two.
            content = content[:at] + piece + content[at + length % 4 :]
        elif change == "cut":
            content = content[:at]
        elif change == "drop":
            content = content[:at] + content[at + length :]
        else:
            content = content[: at + length] + content[at:]
    return content


def refusal(paths: list[Path], options: Mapping[str, Any]) -> str | None:
    """In which words files are refused; what is not refused must be a table that holds what a table may hold."""
    try:
        found = import_runs(paths, **options).observations
    except InputError as error:
        return str(error)
    assert np.isfinite(found.proportions).all()
    assert np.allclose(found.proportions.sum(axis=1), 1)
    losses = found.losses[~np.isnan(found.losses)]
    assert len(losses)
    assert (np.isfinite(losses) & (losses > 0)).all()
    return None


@pytest.fixture(params=FORMATS)
def damage(request: pytest.FixtureRequest, tmp_path: Path) -> Damage:
    """Damages one of the files of a format, imports them, and says in which words they are refused."""
    if request.param == "tensorboard":
        pytest.importorskip("tensorboard")
    one = FORMATS[request.param]
    paths = one.make(tmp_path)
    files = sorted(file for path in paths for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())
    whole = {file: file.read_bytes() for file in files}
    assert refusal(paths, one.options) is None

    def damaged(changes: list[Edit], number: int) -> str | None:
        file = files[number % len(files)]
        file.write_bytes(edited(whole[file], changes))
        try:
            return refusal(paths, one.options)
        finally:
            file.write_bytes(whole[file])

    return damaged


def check(damage: Damage, changes: list[Edit], number: int) -> None:
    said = damage(changes, number)
    assert said is None or "\n" not in said.strip()


damaging = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(damaging, max_examples=60)
@given(changes=edits, number=st.integers(0, 5))
def test_a_damaged_file_is_refused_in_one_line_or_gives_a_right_table(
    damage: Damage, changes: list[Edit], number: int
) -> None:
    check(damage, changes, number)


@pytest.mark.exhaustive
@settings(damaging, max_examples=10_000)
@given(changes=edits, number=st.integers(0, 5))
def test_ten_thousand_damaged_files_of_each_format(damage: Damage, changes: list[Edit], number: int) -> None:
    check(damage, changes, number)
