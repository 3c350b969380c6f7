"""One file that was read: cells under the names that it gives them, and numbers under the roles that rules give."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from bimixjax._base.checks import InputError, every
from bimixjax._base.summaries import listed
from bimixjax.interchange import naming
from bimixjax.interchange.naming import Rule
from bimixjax.observations import cells
from bimixjax.observations.cells import RawTable
from bimixjax.observations.columns import LOSS, MIXTURE, UNIQUE

Column = Float[np.ndarray, " n"]

ACCURACY, META = "accuracy/", "meta/"
# Shares and accuracies in percent exceed 1 by more than any rounding; their sum is 100 as near as shares sum to 1.
PERCENT = 100.0
_HIGHER = "; if higher is better, say so with --map NAME=accuracy/..., if it is none, leave it out"
# What people write between thousands beside the comma, which `RawTable.numbers` takes out itself.
_GAPS = re.compile(r"(?<=\d)[ _'\u00a0\u202f](?=\d{3}(?:\D|$))")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Cells of one file, and what its reader knows of them.

    Attributes:
        kind: the format in which the reader took them.
        table: the cells, each knowing its place.
        rules: what the reader takes columns for.
        run: the id of the run, where no column has one.
        in_order: whether later rows were written later, so that a step that goes back is a restart.
        notes: what a user should know of the reading.
    """

    kind: str
    table: RawTable
    rules: tuple[Rule, ...] = ()
    run: str | None = None
    in_order: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Named:
    """The numbers of one part under their roles.

    Attributes:
        part: where they are from.
        run: the id of each row's run [n].
        volumes: `step` and `tokens`, NaN where blank.
        settings: one value for a run: `model_size`, `seed`, `mixture/<domain>`, `unique/<domain>`; NaN where blank.
        losses: by target, NaN where missing; lower is better in each.
        meta: columns that are kept and never fitted.
        unused: columns without a role.
        columns: the column of each role.
        notes: what was done to the numbers.
    """

    part: Part
    run: NDArray[np.object_]
    volumes: Mapping[str, Column]
    settings: Mapping[str, Column]
    losses: Mapping[str, Column]
    meta: Mapping[str, pd.Series]
    unused: tuple[str, ...]
    columns: Mapping[str, str] = field(repr=False)
    notes: tuple[str, ...] = ()

    def place(self, index: int, role: str) -> str:
        """Name file, row and column of a number, and its run."""
        return self.part.table.place(index, self.columns[role])


def named(part: Part, given: Sequence[Rule]) -> Named:
    """Read the numbers of a part under the roles of its columns.

    Raises:
        InputError: for a cell that is no number where one belongs, a loss that is not above 0, an accuracy that is
            none, or rows without the id of a run.
    """
    roles = naming.roles(list(part.table.frame), given, part.rules, part.table.name)
    columns = {role: column for column, role in roles.items()}
    run = _runs(part, columns.get("run"))
    table = part.table
    if "run" not in table.frame:
        # So that every place names it.
        table = replace(table, frame=table.frame.assign(run=run))
    losses, notes = _losses(table, columns)
    errors, more = _errors(table, columns)
    # Errors are found where the accuracies stand.
    columns |= {f"{LOSS}{name}": columns[f"{ACCURACY}{name.removeprefix('1-')}"] for name in errors}
    twice = sorted(losses.keys() & errors.keys())
    if twice:
        raise InputError(f"{table.name} has two columns for {listed(map(repr, twice))}; leave one out with --map NAME=")
    counted = [role for role in columns if role in ("model_size", "seed") or role.startswith(UNIQUE)]
    settings = {role: counts(table, columns[role]) for role in counted}
    settings |= {role: shares(table, columns[role]) for role in columns if role.startswith(MIXTURE)}
    return Named(
        part=replace(part, table=table),
        run=run,
        volumes={role: counts(table, columns[role]) for role in ("step", "tokens") if role in columns},
        settings=settings,
        losses=losses | errors,
        meta={role.removeprefix(META): table.column(columns[role]) for role in columns if role.startswith(META)},
        unused=tuple(column for column in part.table.frame if column not in roles),
        columns=columns,
        notes=(*part.notes, *notes, *more),
    )


def shares(table: RawTable, column: str) -> Column:
    """Return a column of shares, `12.5%` as 0.125, blank cells as NaN; a negative one is an error."""
    found = _percent(table, column)
    every(
        ~((found < 0) | np.isinf(found)),
        lambda i: f"{table.place(i, column)}: the share is {found[i]:.15g}; allowed: finite and >= 0, or blank",
    )
    return found


def counts(table: RawTable, column: str) -> Column:
    """Return a column of counts, blank cells as NaN; one below 0 is an error.

    Commas, spaces, underscores or apostrophes may stand between thousands.
    """
    values = table.column(column)
    if not pd.api.types.is_numeric_dtype(values.dtype):
        table = _with(table, column, cells.texts(values).map(lambda cell: _GAPS.sub("", cell)))
    found = table.numbers(column, counts=True)
    every(
        ~((found < 0) | np.isinf(found)),
        lambda i: f"{table.place(i, column)}: got {found[i]:.15g}; allowed: finite and >= 0, or blank",
    )
    return found


def _losses(table: RawTable, columns: Mapping[str, str]) -> tuple[dict[str, Column], list[str]]:
    """Return the losses by target; one that is infinite, as where a run diverged, is missing."""
    losses: dict[str, Column] = {}
    infinite = 0
    for role, column in columns.items():
        if not role.startswith(LOSS):
            continue
        found = table.numbers(column)
        infinite += int(np.isinf(found).sum())
        found = np.where(np.isinf(found), np.nan, found)

        def say(i: int, column: str = column, found: Column = found) -> str:
            return f"{table.place(i, column)}: the loss is {found[i]:.15g}; allowed: above 0, or blank{_HIGHER}"

        every(~(found <= 0), say)
        losses[role.removeprefix(LOSS)] = found
    return losses, [f"{table.name}: {infinite} infinite losses are taken as missing"] if infinite else []


def _errors(table: RawTable, columns: Mapping[str, str]) -> tuple[dict[str, Column], list[str]]:
    """Return 1 - accuracy for each accuracy, under the name `1-<name>`: lower is better, as in every target.

    Where one accuracy of the table is above 1, all are taken as percent.
    """
    found = {role: _percent(table, column) for role, column in columns.items() if role.startswith(ACCURACY)}
    notes: list[str] = []
    if any((values > 1).any() for values in found.values()):
        notes.append(f"{table.name}: accuracies are percent there")
        found = {role: values / PERCENT for role, values in found.items()}
    errors: dict[str, Column] = {}
    for role, values in found.items():

        def say(i: int, role: str = role, values: Column = values) -> str:
            got = f"{table.place(i, columns[role])}: the accuracy is {values[i]:.15g} of 1"
            return f"{got}; allowed: 0 to 1, or 0 to 100 in the whole table"

        every(np.isnan(values) | ((values >= 0) & (values <= 1)), say)
        # No error at all is no number that a relative residual can be of.
        errors[f"1-{role.removeprefix(ACCURACY)}"] = np.where(values < 1, 1 - values, np.nan)
    perfect = sum(int((values == 1).sum()) for values in found.values())
    if errors:
        notes.append(
            f"{table.name}: higher is better in {listed(role.removeprefix(ACCURACY) for role in found)}; kept as the "
            f"error {listed(errors)}, so that lower is better as in every target: a share of wrong answers, not nats"
        )
    if perfect:
        notes.append(f"{table.name}: {perfect} accuracies of 1 leave no error to fit and are taken as missing")
    return errors, notes


def _percent(table: RawTable, column: str) -> Column:
    """Return a column of numbers in which all cells, or none, have a percent sign."""
    values = table.column(column)
    if pd.api.types.is_numeric_dtype(values.dtype):
        return table.numbers(column)
    texts = cells.texts(values).str.strip()
    signed = texts.str.endswith("%").to_numpy(bool)
    if not signed.any():
        return table.numbers(column)
    blank = texts.str.lower().isin(cells.BLANK).to_numpy(bool)
    every(signed | blank, lambda i: f"{table.place(i, column)}: got {texts[i]!r} where others have a percent sign")
    return _with(table, column, texts.str.removesuffix("%").str.strip()).numbers(column) / PERCENT


def _with(table: RawTable, column: str, values: pd.Series) -> RawTable:
    return replace(table, frame=table.frame.assign(**{column: values}))


def _runs(part: Part, column: str | None) -> NDArray[np.object_]:
    table = part.table
    if column is None:
        if part.run is None:
            has = listed(map(repr, table.frame), most=20)
            raise InputError(
                f"{table.name} has no column with the id of a run; name it, as with --map NAME=run; columns: {has}"
            )
        return np.full(len(table.frame), part.run, object)
    values = table.column(column)
    if pd.api.types.is_float_dtype(values.dtype) and ((values == values.round()) & (values.abs() < 2**53)).all():
        # 3.0 of Parquet and 3 of CSV are one run.
        values = values.astype("int64")
    found = cells.texts(values).str.strip().to_numpy(object)
    every(found != "", lambda i: f"{table.place(i, column)}: blank; every row needs the id of its run")
    return found
