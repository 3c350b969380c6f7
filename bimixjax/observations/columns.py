"""The columns of an observation table: found, checked, and turned into arrays."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bimixjax._base.checks import InputError, choice, every, known, not_negative
from bimixjax._base.summaries import listed
from bimixjax.observations import cells
from bimixjax.observations.cells import RawTable
from bimixjax.observations.decay import decay_note

MIXTURE, LOSS, UNIQUE = "mixture/", "loss/", "unique/"
RUN_COLUMNS = ("model_size", "step", "tokens", "seed")
SUM_TOLERANCE = 1e-2
SAME_TOLERANCE = 1e-6
# Sums this near 1 are left alone, so that what was renormalized once reads back bit for bit.
ROUNDING = 1e-12

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Keep = Literal["first", "last"]


def fields(
    table: RawTable,
    *,
    min_volume: float | None = None,
    volume: str | None = None,
    keep: Keep | None = None,
    with_losses: bool = True,
) -> dict[str, Any]:
    """Return the fields of `Observations`, or raise `InputError` at the first cell that cannot be used.

    Args:
        table: the cells as they were read.
        min_volume: leave out the rows below it.
        volume: the column of `min_volume`, by default the table's own.
        keep: which of the rows of one run and volume to take; by default they must be the same in every cell.
        with_losses: whether there must be losses.
    """
    if keep is not None:
        choice("keep", keep, ("first", "last"))
    domains, has_losses = names(table, MIXTURE), any(column.startswith(LOSS) for column in table.frame)
    targets = names(table, LOSS) if with_losses or has_losses else ()
    if min_volume is not None:
        table = _from_volume(table, not_negative("min_volume", min_volume), volume)
    run = run_ids(table)
    numbers = {name: _run_column(table, name) for name in RUN_COLUMNS if name in table.frame}
    codes = pd.factorize(run)[0]
    # The first row of the run of each row.
    first = np.unique(codes, return_index=True)[1][codes]
    proportions, notes = _proportions(table, domains, first)
    unique = _unique(table, domains, first)
    for name in ("model_size", "seed"):
        if name in numbers:
            _require_same(table, name, numbers[name], first, name)
    # Rows differ in run and volume: the step, else the tokens; without both a run has one row.
    column = next((name for name in ("step", "tokens") if name in numbers), "run")
    key = pd.DataFrame({"run": first, "volume": numbers.get(column, np.zeros(len(run)))})
    again = key.duplicated(keep=keep or "first").to_numpy()
    if keep is None and again.any():
        again = again & table.frame.astype(str).duplicated().to_numpy()
    if again.any():
        rest = fields(table.take(np.flatnonzero(~again)), with_losses=with_losses)
        why = f"the {keep} of each run and volume is kept" if keep else "each is the same as another"
        return rest | {"notes": (f"{again.sum()} of {len(again)} rows left out: {why}", *rest["notes"])}
    _require_unique(table, column, key)
    metadata = _metadata(table)
    return {
        "run": run,
        "domains": domains,
        "targets": targets,
        "proportions": proportions,
        "unique": unique,
        "losses": _losses(table, targets),
        "metadata": metadata,
        "notes": (*notes, *decay_note(metadata, run, key["volume"].to_numpy(float))),
        "source": table.source,
        **numbers,
    }


def _from_volume(table: RawTable, min_volume: float, column: str | None) -> RawTable:
    """Take the rows from `min_volume` on; a blank cell stays, to be named where it is read."""
    column = column or next((name for name in ("tokens", "step") if name in table.frame), None)
    if column is None or column not in table.frame:
        raise InputError(
            f"{table.source} has no column {column or 'step'!r}; --min-volume (in Python min_volume) needs it"
        )
    volumes = table.numbers(column, counts=True)
    below = volumes < min_volume
    if below.all():
        raise InputError(f"{table.source} has no {column} from {min_volume:g} on; most there: {volumes.max():g}")
    return table.take(np.flatnonzero(~below))


def names(table: RawTable, prefix: str) -> tuple[str, ...]:
    """Return what follows `prefix` in the columns that begin with it; there must be one at least."""
    found = tuple(column.removeprefix(prefix) for column in table.frame if column.startswith(prefix))
    if not all(found) or not found:
        lack = f"a column {prefix!r} without a name behind it" if found else f"no {prefix.rstrip('/')} column"
        raise InputError(
            f"{table.source} has {lack}; needed: {prefix}<name>; columns: {_listed(table.frame)}{_kind(table.frame)}"
        )
    return found


def run_ids(table: RawTable) -> NDArray[np.object_]:
    """Return the ids of the runs as text; a blank one is an error."""
    if "run" not in table.frame:
        raise InputError(f"{table.source} has no column 'run'; columns: {_listed(table.frame)}{_kind(table.frame)}")
    run = cells.texts(table.column("run")).str.strip().to_numpy(object)
    every(run != "", lambda i: f"{table.place(i, 'run')}: blank; every row needs the id of its run")
    return run


def separate(frame: pd.DataFrame) -> pd.DataFrame:
    """Add model size and seed to the id of each run that has several of them: such rows are of several runs."""
    ids = frame["run"]
    for name in ("model_size", "seed"):
        if name in frame:
            several = frame.groupby("run")[name].transform("nunique").to_numpy() > 1
            ids = ids.where(
                ~several, [f"{run}/{name}-{value:.15g}" for run, value in zip(ids, frame[name], strict=True)]
            )
    return frame.assign(run=ids)


def join(mixtures: RawTable, losses: RawTable) -> RawTable:
    """Put the columns of each run's row in `mixtures` beside every row of that run in `losses`."""
    shared = [name for name in mixtures.frame if name in losses.frame and name != "run"]
    if shared:
        raise InputError(f"{mixtures.source} and {losses.source} both have {', '.join(shared)}; keep each in one")
    ids, wanted = run_ids(mixtures), run_ids(losses)
    again = pd.Series(ids).duplicated().to_numpy()
    every(~again, lambda i: f"{mixtures.place(i, 'run')}: second row of this run; allowed: one row per run")
    for has, lacks, alone in ((losses, mixtures, set(wanted) - set(ids)), (mixtures, losses, set(ids) - set(wanted))):
        if alone:
            raise InputError(
                f"run {', '.join(map(repr, sorted(alone)))} in {has.source} but not in {lacks.source}; "
                "a join needs every run in both"
            )
    beside = mixtures.take(pd.Index(ids).get_indexer(wanted))
    beside = dataclasses.replace(beside, frame=beside.frame.drop(columns="run"))
    return dataclasses.replace(losses, frame=pd.concat([losses.frame, beside.frame], axis=1), joined=beside)


def with_run(source: str | Path | pd.DataFrame, name: str, on: str) -> RawTable:
    """Read one of two tables to join; its column `on` becomes `run`."""
    table = cells.from_frame(source, name) if isinstance(source, pd.DataFrame) else cells.read(source)
    if on not in table.frame:
        raise InputError(f"{table.source} has no column {on!r} to join on; columns: {_listed(table.frame)}")
    if on != "run" and "run" in table.frame:
        raise InputError(f"{table.source} has both {on!r} and 'run'; join on 'run' or remove it")
    return dataclasses.replace(table, frame=table.frame.rename(columns={on: "run"}))


def whole(values: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers as int64, so that 3000 steps are written as 3000."""
    fits = np.all(np.abs(values) < 2**53) and np.all(values == np.round(values))
    return values.astype(np.int64) if fits else values


def _proportions(table: RawTable, domains: tuple[str, ...], first: Rows) -> tuple[Floats, tuple[str, ...]]:
    """Return the mixture of each row's run [n, d], whose `first` row is given, and a note on those renormalized."""
    columns = [MIXTURE + name for name in domains]
    given = np.column_stack([table.numbers(column) for column in columns])
    every(
        np.isfinite(given) & (given >= 0),
        lambda i, j: f"{table.place(i, columns[j])}: proportion is {_shown(given[i, j])}; allowed: finite and >= 0",
    )
    for i, column in enumerate(columns):
        _require_same(table, column, given[:, i], first, "proportion")
    runs = np.unique(first)
    mixtures = given[runs]
    sums = mixtures.sum(axis=1)
    every(
        np.abs(sums - 1) <= SUM_TOLERANCE,
        lambda i: (
            f"{table.place(int(runs[i]), columns[0])}: the {len(domains)} proportions sum to {sums[i]:.6g}; "
            f"allowed: 1 within {SUM_TOLERANCE}"
        ),
    )
    off = np.abs(sums - 1) > ROUNDING
    made = np.where(off[:, None], mixtures / sums[:, None], mixtures)
    note = f"renormalized {off.sum()} of {len(sums)} mixtures, largest change {np.abs(made - mixtures).max():.2g}"
    return made[np.searchsorted(runs, first)], (note,) if off.any() else ()


def _unique(table: RawTable, domains: tuple[str, ...], first: Rows) -> Floats | None:
    """Return the unique tokens of each row's run [n, d], inf where there is no limit; None without such columns."""
    named = [column.removeprefix(UNIQUE) for column in table.frame if column.startswith(UNIQUE)]
    if not named:
        return None
    known("domain", named, domains, f"the columns {UNIQUE}<domain> of {table.source}")
    found = np.full((len(table.frame), len(domains)), np.inf)
    for name in named:
        column = UNIQUE + name
        given = table.numbers(column, counts=True)
        given = np.where(np.isnan(given), np.inf, given)

        def say(i: int, column: str = column, given: Floats = given) -> str:
            got = f"{given[i]:.15g} unique tokens, {given[first[i]]:.15g} in the first row of the run"
            return f"{table.place(i, column)}: {got}; allowed: one number above 0 in a run, or blank for no limit"

        every((given > 0) & (given == given[first]), say)
        found[:, domains.index(name)] = given
    return found


def _metadata(table: RawTable) -> pd.DataFrame:
    """Return every column that is none of the table's own."""
    own = {"run", *RUN_COLUMNS}
    others = [name for name in table.frame if name not in own and not str(name).startswith((MIXTURE, LOSS, UNIQUE))]
    columns = [cells.plain(table.column(str(name))) for name in others]
    return pd.concat(columns, axis=1) if columns else pd.DataFrame(index=table.frame.index)


def _losses(table: RawTable, targets: tuple[str, ...]) -> Floats:
    """Return the losses, [n, t]; blank cells are missing, NaN."""
    columns = [LOSS + name for name in targets]
    losses = np.array([table.numbers(column) for column in columns]).reshape(len(columns), len(table.frame)).T
    every(
        np.isnan(losses) | ((losses > 0) & np.isfinite(losses)),
        lambda i, j: (
            f"{table.place(i, columns[j])}: loss is {_shown(losses[i, j])}; "
            "allowed: finite and above 0, or blank where missing"
        ),
    )
    return losses


def _run_column(table: RawTable, name: str) -> NDArray[Any]:
    values = table.numbers(name, counts=True)
    hint = ""
    if name == "seed":
        ok, allowed = np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2**53), "a whole number"
    else:
        ok, allowed = np.isfinite(values) & (values > 0), "finite and above 0"
        if name in ("step", "tokens"):
            hint = "; --min-volume (in Python min_volume) leaves evaluations before the training out"
    every(
        ok,
        lambda i: (
            f"{table.place(i, name)}: {name} is {_shown(values[i])}; allowed: {allowed}{hint if values[i] == 0 else ''}"
        ),
    )
    return values.astype(np.int64) if name == "seed" else values


def _require_same(table: RawTable, column: str, values: NDArray[Any], first: Rows, what: str) -> None:
    """Raise where a run has more than one value; each mixture, model size and seed is a run of its own."""
    at_first = values[first]

    def say(i: int) -> str:
        row = table.origin(column).rows[first[i]] + 1
        return (
            f"{table.place(i, column)}: {what} is {values[i]:.15g}, in the run's first row (data row {row}) "
            f"{at_first[i]:.15g}; allowed: one {what} in a run"
        )

    every(np.abs(values - at_first) <= SAME_TOLERANCE, say)


def _require_unique(table: RawTable, column: str, key: pd.DataFrame) -> None:
    """Raise where a (run, volume) occurs twice."""

    def say(i: int) -> str:
        row = table.origin(column).rows[np.argmax((key == key.iloc[i]).all(axis=1))] + 1
        if column == "run":
            kind = "a table without step and tokens has one row per run"
        else:
            kind = f"a run has one row per {column.removesuffix('s')} value"
            kind += "; after a restart, --keep last (in Python keep='last') takes the later one"
        return f"{table.place(i, column)}: the same run and volume as data row {row}; {kind}"

    every(~key.duplicated().to_numpy(), say)


def _shown(value: Any) -> str:
    return "blank" if np.isnan(value) else f"{value:.15g}"


def _listed(frame: pd.DataFrame) -> str:
    return listed(frame.columns, most=20)


def _kind(frame: pd.DataFrame) -> str:
    """Guess what a table without the columns that are needed is, and say what would make it one that has them."""
    columns = list(map(str, frame.columns))
    if any(column.endswith(("__MIN", "__MAX")) for column in columns):
        return (
            ". It looks like curves exported from W&B, a column per run and metric; needed: one row per run and step, "
            f"with run, step, {MIXTURE}<domain> and {LOSS}<target>"
        )
    kinds = [column for column in columns if column.lower() in ("domain", "target", "task", "dataset", "metric")]
    if kinds and any(column.lower() in ("loss", "value") for column in columns):
        return (
            f". It looks like a long table, one row per loss; needed: one row per run and step, with a column "
            f"{LOSS}<name> for each name in {kinds[0]!r}"
        )
    losses = [column for column in columns if "loss" in column.lower() and not column.startswith(LOSS)]
    if losses and not any(column.startswith(LOSS) for column in columns):
        return f". Losses seem to be in {losses[0]!r} and the like; rename each to {LOSS}<name>"
    return ""
