"""JSON as others write it: lines of objects, nested configurations, NaN and Infinity for numbers that are none."""

import gzip
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bimixjax._base.checks import InputError
from bimixjax.observations import cells
from bimixjax.observations.cells import RawTable

# Text among which a logger writes JSON.
LOGS = (".log", ".txt")


def lines(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], tuple[str, ...]]:
    """Read the objects of a file of JSON lines, or of a log whose lines end in JSON, with the number of each from 0.

    In a log (.log, .txt) text before the first brace, such as a logger's time, is passed over, and so are lines that
    are no JSON. A last line that is cut off, as where a run was killed, is left out with a note.

    Raises:
        InputError: for a line of another file that is no JSON object.
    """
    strict = path.suffix not in LOGS
    found: list[tuple[int, dict[str, Any]]] = []
    text = _text(path)
    several = text.splitlines()
    for number, line in enumerate(several):
        start = 0 if strict else line.find("{")
        if start < 0 or not line.strip():
            continue
        is_cut = number == len(several) - 1 and number > 0 and not text.endswith("\n")
        parsed = _parsed(path, line[start:], number + 1, strict=strict and not is_cut)
        if isinstance(parsed, dict):
            found.append((number, parsed))
        elif strict and is_cut:
            return found, (f"{path}: the last line is cut off, as where a run was killed, and is left out",)
        elif strict:
            raise InputError(f"{path}, line {number + 1}: no JSON object; allowed: one in each line")
    return found, ()


def read(path: Path) -> Any:
    """Read one JSON file."""
    return _parsed(path, _text(path), None, strict=True)


def flattened(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the numbers and texts of nested objects, with / between the names; lists are left out.

    Example:
        >>> flattened({"data": {"train_weights": {"web": 0.5}}, "lr": {"value": 0.1, "desc": None}, "tags": ["a"]})
        {'data/train_weights/web': 0.5, 'lr': 0.1}
    """
    found: dict[str, Any] = {}
    for key, item in value.items():
        inner = item["value"] if isinstance(item, Mapping) and set(item) == {"value", "desc"} else item
        if isinstance(inner, Mapping):
            found |= flattened(inner, f"{prefix}{key}/")
        elif isinstance(inner, str | int | float) and not isinstance(inner, bool):
            found[f"{prefix}{key}"] = inner
    return found


def table_of(rows: Sequence[Mapping[str, Any]], name: str, lines: Sequence[int] | None = None) -> RawTable:
    """Make a table of flat rows, of numbers beyond floating point too; `lines` says where each was, from 0."""
    frame = pd.DataFrame([{key: _plain(value) for key, value in row.items()} for row in rows])
    table = cells.from_frame(frame, name)
    where = np.arange(len(rows)) if lines is None else np.asarray(lines)
    return RawTable(frame=table.frame, name=name, rows=where.astype(np.int64))


def _plain(value: Any) -> Any:
    """Return a number as pandas can hold it: a whole one beyond 64 bits as a float, or as text."""
    if isinstance(value, int) and abs(value) >= 2**53:
        return float(value) if abs(value) < 10**300 else str(value)
    return value


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read()
        return content.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def _parsed(path: Path, text: str, line: int | None, *, strict: bool) -> Any:
    where = f"{path}, line {line}" if line else str(path)
    try:
        found = json.loads(text)
        # Half of a character, which JSON can hold and no file of text.
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        if not strict:
            return None
        raise InputError(f"{where}: not JSON at line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise InputError(f"{where}: nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{where}: not JSON that can be read: {error}") from error
    return found
