"""The columns of an observation table: found, checked, and turned into arrays."""

import dataclasses
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bimixjax._base.checks import InputError, choice, every, not_negative
from bimixjax._base.summaries import listed
from bimixjax.observations import cells
from bimixjax.observations.cells import Table

MIXTURE, LOSS = "mixture/", "loss/"
RUN_COLUMNS = ("model_size", "step", "tokens", "seed")
SUM_TOLERANCE = 1e-2
SAME_TOLERANCE = 1e-6
# Sums this near 1 are left alone, so that what was renormalized once reads back bit for bit.
ROUNDING = 1e-12

Floats = NDArray[np.float64]
Keep = Literal["first", "last"]


@dataclasses.dataclass(frozen=True)
class Runs:
    """The number, from 0, of the run of each row, and the first row of each run."""

    codes: NDArray[np.intp]
    first: NDArray[np.intp]

    @classmethod
    def of(cls, run: NDArray[np.object_]) -> Self:
        """Number the runs in the order of their first rows."""
        codes = pd.factorize(run)[0]
        return cls(codes, np.unique(codes, return_index=True)[1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which rows of a table are read: from `min_volume` on, in the column `volume` or the table's own; `keep` says
    which of the rows of one run and volume.
    """

    min_volume: float | None = None
    volume: str | None = None
    keep: Keep | None = None

    def __post_init__(self) -> None:
        if self.min_volume is not None:
            not_negative("min_volume", self.min_volume)
        if self.keep is not None:
            choice("keep", self.keep, ("first", "last"))

    def once(self, table: Table, key: pd.DataFrame) -> tuple[NDArray[np.intp], str]:
        """The rows that are left where one of each `key`, run and volume, is taken; and what was left out, in words."""
        again = key.duplicated(keep=self.keep or "first").to_numpy()
        if self.keep is None and again.any():
            again = again & table.frame.astype(str).duplicated().to_numpy()
        what = f"the {self.keep} of each run and volume is kept" if self.keep else "each is the same as another"
        return np.flatnonzero(~again), f"{again.sum()} of {len(again)} rows left out: {what}" if again.any() else ""

    def trained(self, table: Table) -> Table:
        """The rows from `min_volume` on; a blank cell stays, to be named where it is read."""
        if self.min_volume is None:
            return table
        column = self.volume or next((name for name in ("tokens", "step") if name in table.frame), None)
        if column is None or column not in table.frame:
            raise InputError(f"{table.source} has no column {column or 'step'!r}; min_volume needs it")
        volumes = table.numbers(column, counts=True)
        below = volumes < self.min_volume
        if below.all():
            raise InputError(
                f"{table.source} has no {column} from {self.min_volume:g} on; most there: {volumes.max():g}"
            )
        return table.take(np.flatnonzero(~below))


def fields(table: Table, chosen: Chosen = Chosen(), *, with_losses: bool = True) -> dict[str, Any]:
    """Return the fields of `Observations`, or raise `InputError` at the first cell that cannot be used.

    Args:
        table: what was read.
        chosen: which of its rows count.
        with_losses: whether there must be losses.
    """
    domains = names(table, MIXTURE)
    measured = with_losses or any(column.startswith(LOSS) for column in table.frame)
    targets = names(table, LOSS) if measured else ()
    table = chosen.trained(table)
    run = run_ids(table)
    numbers = {name: _run_column(table, name) for name in RUN_COLUMNS if name in table.frame}
    runs = Runs.of(run)
    proportions, notes = _proportions(table, domains, runs)
    for name in ("model_size", "seed"):
        if name in numbers:
            _same(table, name, numbers[name], runs, name)
    column, key = _key(runs, numbers)
    kept, left_out = chosen.once(table, key)
    if left_out:
        rest = fields(table.take(kept))
        return rest | {"notes": (left_out, *rest["notes"])}
    _unique(table, column, key)
    return {
        "run": run,
        "domains": domains,
        "targets": targets,
        "proportions": proportions,
        "losses": _losses(table, targets),
        "metadata": _metadata(table),
        "notes": notes,
        "source": table.source,
        **numbers,
    }


def names(table: Table, prefix: str) -> tuple[str, ...]:
    """Return what follows `prefix` in the columns that begin with it; there must be one at least."""
    found = tuple(column.removeprefix(prefix) for column in table.frame if column.startswith(prefix))
    if not all(found) or not found:
        lack = f"a column {prefix!r} without a name behind it" if found else f"no {prefix.rstrip('/')} column"
        raise InputError(
            f"{table.source} has {lack}; needed: {prefix}<name>; columns: {_listed(table.frame)}{_kind(table.frame)}"
        )
    return found


def run_ids(table: Table) -> NDArray[np.object_]:
    """Return the ids of the runs as text; a blank one is an error."""
    if "run" not in table.frame:
        raise InputError(f"{table.source} has no column 'run'; columns: {_listed(table.frame)}{_kind(table.frame)}")
    run = cells.texts(table.column("run")).str.strip().to_numpy(object)
    every(run != "", lambda i: f"{table.place(i, 'run')}: blank; every row needs the id of its run")
    return run


def apart(frame: pd.DataFrame) -> pd.DataFrame:
    """Add model size and seed to the id of each run that has several of them: such rows are of several runs."""
    ids = frame["run"]
    for name in ("model_size", "seed"):
        if name in frame:
            several = frame.groupby("run")[name].transform("nunique").to_numpy() > 1
            ids = ids.where(
                ~several, [f"{run}/{name}-{value:.15g}" for run, value in zip(ids, frame[name], strict=True)]
            )
    return frame.assign(run=ids)


def join(mixtures: Table, losses: Table) -> Table:
    """Put the columns of each run's row in `mixtures` beside every row of that run in `losses`."""
    shared = [name for name in mixtures.frame if name in losses.frame and name != "run"]
    if shared:
        raise InputError(f"{mixtures.source} and {losses.source} both have {', '.join(shared)}; keep each in one")
    ids, wanted = run_ids(mixtures), run_ids(losses)
    seen = pd.Series(ids).duplicated()
    every(~seen.to_numpy(), lambda i: f"{mixtures.place(i, 'run')}: second row of this run; allowed: one row per run")
    _matched(set(wanted) - set(ids), losses, mixtures)
    _matched(set(ids) - set(wanted), mixtures, losses)
    beside = mixtures.take(pd.Index(ids).get_indexer(wanted))
    frame = pd.concat([losses.frame, beside.frame.drop(columns="run")], axis=1)
    return Table(frame, {**beside.origins, **losses.origins})


def with_run(source: str | Path | pd.DataFrame, name: str, on: str) -> Table:
    """Read one of two tables to join; its column `on` becomes `run`."""
    table = cells.from_frame(source, name) if isinstance(source, pd.DataFrame) else cells.read(source)
    if on not in table.frame:
        raise InputError(f"{table.source} has no column {on!r} to join on; columns: {_listed(table.frame)}")
    if on != "run" and "run" in table.frame:
        raise InputError(f"{table.source} has both {on!r} and 'run'; join on 'run' or remove it")
    origins = {"run" if column == on else column: origin for column, origin in table.origins.items()}
    return dataclasses.replace(table, frame=table.frame.rename(columns={on: "run"}), origins=origins)


def whole(values: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers as int64, so that 3000 steps are written as 3000."""
    fits = np.all(np.abs(values) < 2**53) and np.all(values == np.round(values))
    return values.astype(np.int64) if fits else values


def _proportions(table: Table, domains: tuple[str, ...], runs: Runs) -> tuple[Floats, tuple[str, ...]]:
    """Return the mixture of each row's run, [n, d], and a note where some were renormalized."""
    columns = [MIXTURE + name for name in domains]
    given = np.column_stack([table.numbers(column) for column in columns])
    every(
        np.isfinite(given) & (given >= 0),
        lambda i, j: f"{table.place(i, columns[j])}: proportion is {_shown(given[i, j])}; allowed: finite and >= 0",
    )
    for i, column in enumerate(columns):
        _same(table, column, given[:, i], runs, "proportion")
    mixtures = given[runs.first]
    sums = mixtures.sum(axis=1)
    every(
        np.abs(sums - 1) <= SUM_TOLERANCE,
        lambda i: (
            f"{table.place(int(runs.first[i]), columns[0])}: the {len(domains)} proportions sum to {sums[i]:.6g}; "
            f"allowed: 1 within {SUM_TOLERANCE}"
        ),
    )
    off = np.abs(sums - 1) > ROUNDING
    made = np.where(off[:, None], mixtures / sums[:, None], mixtures)
    note = f"renormalized {off.sum()} of {len(sums)} mixtures, largest change {np.abs(made - mixtures).max():.2g}"
    return made[runs.codes], (note,) if off.any() else ()


def _metadata(table: Table) -> pd.DataFrame:
    """Return every column that is none of the table's own."""
    own = {"run", *RUN_COLUMNS}
    others = [name for name in table.frame if name not in own and not str(name).startswith((MIXTURE, LOSS))]
    columns = [cells.plain(table.column(str(name))) for name in others]
    return pd.concat(columns, axis=1) if columns else pd.DataFrame(index=table.frame.index)


def _losses(table: Table, targets: tuple[str, ...]) -> Floats:
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


def _run_column(table: Table, name: str) -> NDArray[Any]:
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


def _same(table: Table, column: str, values: NDArray[Any], runs: Runs, what: str) -> None:
    """Raise where a run has more than one value; each mixture, model size and seed is a run of its own."""
    at_first = values[runs.first][runs.codes]

    def say(i: int) -> str:
        row = table.origins[column].rows[runs.first[runs.codes[i]]] + 1
        return (
            f"{table.place(i, column)}: {what} is {values[i]:.15g}, in the run's first row (data row {row}) "
            f"{at_first[i]:.15g}; allowed: one {what} in a run"
        )

    every(np.abs(values - at_first) <= SAME_TOLERANCE, say)


def _key(runs: Runs, numbers: dict[str, NDArray[Any]]) -> tuple[str, pd.DataFrame]:
    """What tells rows apart, and its column: run and volume, the step, else the tokens, else there is one only."""
    column = next((name for name in ("step", "tokens") if name in numbers), "run")
    volumes = numbers.get(column, np.zeros(len(runs.codes)))
    return column, pd.DataFrame({"run": runs.codes, "volume": volumes})


def _unique(table: Table, column: str, key: pd.DataFrame) -> None:
    """Raise where a (run, volume) occurs twice."""

    def say(i: int) -> str:
        row = table.origins[column].rows[np.argmax((key == key.iloc[i]).all(axis=1))] + 1
        if column == "run":
            kind = "a table without step and tokens has one row per run"
        else:
            kind = f"a run has one row per {column.removesuffix('s')} value"
            kind += "; after a restart, --keep last (in Python keep='last') takes the later one"
        return f"{table.place(i, column)}: the same run and volume as data row {row}; {kind}"

    every(~key.duplicated().to_numpy(), say)


def _matched(alone: set[str], has: Table, lacks: Table) -> None:
    if alone:
        raise InputError(
            f"run {', '.join(map(repr, sorted(alone)))} in {has.source} but not in {lacks.source}; "
            "a join needs every run in both"
        )


def _shown(value: Any) -> str:
    return "blank" if np.isnan(value) else f"{value:.15g}"


def _listed(frame: pd.DataFrame) -> str:
    return listed(frame.columns, most=20)


def _kind(frame: pd.DataFrame) -> str:
    """What a table without the columns that are needed seems to be, and what would make it one that has them."""
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
