"""One table from a file or frame: cells as they were written, and words for the place of each."""

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from bimixjax._base.checks import InputError, choice, every
from bimixjax._base.files import replacing

BLANK = ("", "na", "n/a", "nan", "null", "none")
FORMATS = (".csv", ".parquet")
# What else is read; commas, tabs or semicolons may separate cells in each.
TEXTS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")

_BETWEEN = (",", "\t", ";")
_POINT, _COMMA = (re.compile(rf"[+-]?\d*{mark}\d+(?:[eE][+-]?\d+)?") for mark in (r"\.", ","))
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")
# An index without a name, as pandas stores it.
_UNNAMED = re.compile(r"__index_level_\d+__")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RawTable:
    """Cells as they were read, and where.

    Attributes:
        frame: the cells.
        name: of the file (or frame) that they came from.
        rows: the data row in it, from 0, of each row of `frame`.
        is_csv: whether it is text, with a header above the first data row.
        decimal_comma: whether decimals are written with a comma.
        joined: where other columns of `frame` came from, which a join put beside these.
    """

    frame: pd.DataFrame
    name: str
    rows: NDArray[np.int64]
    is_csv: bool = False
    decimal_comma: bool = False
    joined: "RawTable | None" = None

    @property
    def source(self) -> str:
        """Name all files that columns come from."""
        return self.name if self.joined is None else f"{self.name} + {self.joined.name}"

    def origin(self, column: str) -> "RawTable":
        """Return the table that a column was read as part of."""
        return self.joined if self.joined is not None and column in self.joined.frame else self

    def place(self, index: int, column: str) -> str:
        """Name the file, the data row, the column and, where there is one, the run."""
        origin = self.origin(column)
        row = int(origin.rows[index]) + 1
        line = f" (line {row + 1})" if origin.is_csv else ""
        run = f", run {str(self.frame['run'].iloc[index])!r}" if "run" in self.frame else ""
        return f"{origin.name}, data row {row}{line}, column {column!r}{run}"

    def column(self, name: str) -> pd.Series:
        """Return one column as it was read."""
        return pd.Series(self.frame[name])

    def numbers(self, column: str, *, counts: bool = False) -> NDArray[np.float64]:
        """Return a column as float64, blank cells as NaN; text where a number belongs is an error.

        In a column of counts, commas may stand between thousands.
        """
        values = self.column(column)
        if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
            return values.to_numpy(np.float64, na_value=np.nan)
        cells = texts(values).str.strip()
        cells = cells.mask(cells.str.lower().isin(BLANK), "nan")
        if self.origin(column).decimal_comma:
            cells = cells.str.replace(",", ".")
        elif counts:
            cells = cells.mask(cells.str.fullmatch(_THOUSANDS), cells.str.replace(",", ""))
        try:
            return pa.array(cells, pa.string()).cast(pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:

            def say(i: int) -> str:
                cell = cells.iloc[i]
                as_written = _THOUSANDS.fullmatch(cell) or _COMMA.fullmatch(cell)
                hint = "; write decimals with a point, and nothing between thousands" if as_written else ""
                return f"{self.place(i, column)}: got {cell!r}{hint or ', a number belongs here'}"

            every(np.array([_is_number(cell) for cell in cells]), say)
            return cells.to_numpy(object).astype(np.float64)

    def take(self, rows: NDArray[np.int64]) -> "RawTable":
        """Return the given rows, each still knowing its place."""
        frame = self.frame.iloc[rows].reset_index(drop=True)
        joined = None if self.joined is None else self.joined.take(rows)
        return dataclasses.replace(self, frame=frame, rows=self.rows[rows], joined=joined)


def from_frame(frame: pd.DataFrame, name: str, *, is_csv: bool = False, decimal_comma: bool = False) -> RawTable:
    """Make a table of a frame: names stripped and unique, at least one row."""
    if "run" in frame.index.names and "run" not in frame.columns:
        frame = frame.reset_index()
    columns = [str(column).strip() for column in frame.columns]
    twice = sorted(set(pd.Index(columns)[pd.Index(columns).duplicated()]))
    if twice:
        raise InputError(f"{name}: column {', '.join(map(repr, twice))} occurs more than once; names must be unique")
    rows = np.flatnonzero((frame != "").any(axis=1)) if is_csv else np.arange(len(frame))
    if not len(rows):
        raise InputError(f"{name}: no data rows; columns: {', '.join(columns) or 'none'}")
    frame = frame.iloc[rows].set_axis(columns, axis=1).reset_index(drop=True)
    return RawTable(frame=frame, name=name, rows=rows, is_csv=is_csv, decimal_comma=decimal_comma)


def read(path: str | Path) -> RawTable:
    """Read a table of text, compressed or not, or a Parquet file."""
    path = Path(path)
    is_text = path.name.endswith(TEXTS)
    if not is_text:
        choice(f"{path}: the file's suffix", path.suffix, (*TEXTS, ".parquet"))
    try:
        if is_text:
            frame, decimal_comma = _read_text(path)
        else:
            table = parquet.read_table(path)
            # Text that is not UTF-8 would otherwise raise only where a cell is used.
            table.validate(full=True)
            # Columns as they are stored, without what pandas says of them: an index is a column too.
            stored = table.replace_schema_metadata(None).to_pandas()
            frame = stored.drop(columns=[name for name in stored.columns if _UNNAMED.fullmatch(str(name))])
            decimal_comma = False
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except InputError:
        raise
    except Exception as error:  # damaged bytes raise anything inside pyarrow
        raise InputError(f"{path}: not a readable {path.suffix[1:]} file: {' '.join(str(error).split())}") from error
    return from_frame(frame, str(path), is_csv=is_text, decimal_comma=decimal_comma)


def write(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV or Parquet in one step, floats in full precision."""
    suffix = choice(f"{path}: the file's suffix", Path(path).suffix, FORMATS)
    with replacing(path) as temporary:
        frame.to_csv(temporary, index=False) if suffix == ".csv" else frame.to_parquet(temporary, index=False)


def texts(values: pd.Series) -> pd.Series:
    """Return the cells as text, missing ones as ''."""
    if isinstance(values.dtype, pd.StringDtype):
        return values.fillna("").astype(str)
    return values.astype(object).where(values.notna(), "").astype(str)


def plain(values: pd.Series) -> pd.Series:
    """Return a column of metadata as int64, float64, bool or text, the same for CSV, Parquet and frames.

    Text becomes a number or a truth value only where nothing is lost: '007' and '1.50' stay text.
    """
    if pd.api.types.is_float_dtype(values.dtype) and values.notna().any():
        return values.astype(np.float64)
    cells = texts(values).to_numpy(object)
    if set(cells) <= {"True", "False"}:
        return pd.Series(cells == "True", name=values.name)
    for number in (int, float):
        made = _lossless(cells, number)
        if made is not None:
            return pd.Series(made, name=values.name)
    return pd.Series(cells, name=values.name).astype(str)


def _lossless(cells: NDArray[np.object_], number: type[int] | type[float]) -> NDArray[np.generic] | None:
    blank = cells == ""
    if blank.all() or (number is int and blank.any()):
        return None
    filled = np.where(blank, "nan", cells)
    try:
        made = np.array([number(cell) for cell in filled], np.int64 if number is int else np.float64)
    except (ValueError, OverflowError):
        return None
    return made if [repr(value) for value in made.tolist()] == filled.tolist() else None


def _read_text(path: Path) -> tuple[pd.DataFrame, bool]:
    """Read every cell, the header too, as text, and find whether decimals have a comma.

    A line with too few or too many cells is an error.
    """
    # The mark that the header has most often outside of quotes separates cells.
    with pa.input_stream(path, compression="detect") as file, io.TextIOWrapper(file, encoding="utf-8-sig") as lines:
        header = re.sub(r'"[^"]*"', "", next(iter(lines), ""))
    mark = max(_BETWEEN, key=header.count)
    read = csv.ReadOptions(autogenerate_column_names=True, use_threads=False)
    # Blank lines are read, and dropped later, so that rows keep the numbers that they have in the file.
    parse = csv.ParseOptions(delimiter=mark, newlines_in_values=True, ignore_empty_lines=False)
    with csv.open_csv(path, read_options=read, parse_options=parse) as head:
        as_text = {name: pa.string() for name in head.schema.names}
    convert = csv.ConvertOptions(column_types=as_text, strings_can_be_null=False)
    cells = csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert).to_pandas()
    names = [str(name) or f"Unnamed: {i}" for i, name in enumerate(cells.iloc[0])]
    frame = cells.iloc[1:].set_axis(names, axis=1).reset_index(drop=True)
    if mark == ",":
        return frame, False
    # Decimals have a comma where some numbers have one, and none has a point.
    stripped = [frame.iloc[:, i].str.strip() for i in range(frame.shape[1])]
    comma, point = (any(column.str.fullmatch(form).any() for column in stripped) for form in (_COMMA, _POINT))
    return frame, comma and not point


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
