"""Measured losses: one row per run and checkpoint, read from and written to one tidy table."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bimixjax._base.checks import InputError, choice, known, positive
from bimixjax._base.summaries import listed
from bimixjax.observations import cells, columns as _columns
from bimixjax.observations.columns import LOSS, MIXTURE, RUN_COLUMNS, UNIQUE, Floats, Keep

Unit = Literal["steps", "tokens"]
# In the order of preference.
UNITS: dict[Unit, str] = {"tokens": "tokens", "steps": "step"}


# A plain dataclass, not a record: tables are read and budgets stated without JAX.
@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """The volume and model size at which a mixture is judged.

    Attributes:
        volume: s, how much training, in `unit`.
        unit: "steps" or "tokens".
        model_size: parameters of the model.
        from_prior: whether to judge by priors alone where the rows fitted have one mixture or too few volumes.

    Raises:
        InputError: where a number is not finite and above 0, or the unit is another.

    Example:
        >>> from bimixjax import Budget
        >>> Budget(volume=30_000, unit="steps").volume
        30000
    """

    volume: float | None = None
    unit: Unit | None = None
    model_size: float | None = None
    from_prior: bool = False

    def __post_init__(self) -> None:
        for name in ("volume", "model_size"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))
        if self.unit is not None:
            choice("unit", self.unit, UNITS)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Observations:
    """Losses of n rows (run x checkpoint) over d domains and t targets.

    Columns of the table: `run`; optional `model_size` (parameters), `step`, `tokens`, `seed`; `mixture/<domain>`;
    `loss/<target>` (nats per token); optional `unique/<domain>`, the tokens that a run had to draw from, blank for no
    limit. Any other column is metadata and is kept. Missing losses are NaN. Proportions are checked and renormalized to
    sum to 1; `notes` says so. Build one with `read`, `from_frame` or `join`.

    Example:
        >>> import pandas as pd
        >>> from bimixjax import Observations
        >>> table = pd.DataFrame({"run": ["r1", "r2"], "mixture/code": [0.2, 0.6], "mixture/web": [0.8, 0.4],
        ...                       "loss/web": [3.1, 3.4]})
        >>> observations = Observations.from_frame(table)
        >>> observations.domains, observations.own_targets, len(observations)
        (('code', 'web'), ('web',), 2)
    """

    run: NDArray[np.object_]
    domains: tuple[str, ...]
    targets: tuple[str, ...]
    proportions: Floats
    losses: Floats
    step: Floats | None = None
    tokens: Floats | None = None
    model_size: Floats | None = None
    seed: NDArray[np.int64] | None = None
    unique: Floats | None = None
    metadata: pd.DataFrame
    notes: tuple[str, ...] = ()
    source: str = "frame"

    @classmethod
    def read(
        cls, path: str | Path, *, min_volume: float | None = None, unit: Unit | None = None, keep: Keep | None = None
    ) -> Self:
        """Read a table from a file.

        Args:
            path: `.parquet`, or `.csv`, `.tsv`, `.csv.gz`, `.tsv.gz` with commas, tabs or semicolons between cells; in
                the last two kinds of file, decimals may have a comma.
            min_volume: leave out rows with less training than this, such as an evaluation before the training.
            unit: of `min_volume`; by default tokens where the table has them, else steps.
            keep: which of the rows with one run and volume to take, the "first" or the "last", as after a restart. By
                default such rows are an error, unless they are the same in every cell.

        Raises:
            InputError: for what is wrong, with its file, row, column and run.
        """
        table, volume = cells.read(path), _column(unit)
        return cls(**_columns.fields(table, min_volume=min_volume, volume=volume, keep=keep))

    @classmethod
    def of_mixtures(cls, path: str | Path) -> Self:
        """Read a table of mixtures as `read` does, with or without losses."""
        return cls(**_columns.fields(cells.read(path), with_losses=False))

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        source: str = "frame",
        min_volume: float | None = None,
        unit: Unit | None = None,
        keep: Keep | None = None,
    ) -> Self:
        """Take the table from a pandas frame; `source` is its name in messages, the rest as in `read`.

        Example:
            >>> import pandas as pd
            >>> from bimixjax import Observations
            >>> table = {"run": ["r1"] * 4, "step": [0, 10, 20, 20], "mixture/web": [1.0] * 4}
            >>> table = pd.DataFrame(table | {"loss/web": [9.0, 4.0, 3.1, 3.0]})
            >>> Observations.from_frame(table, min_volume=1, keep="last").losses.ravel().tolist()
            [4.0, 3.0]
        """
        table, volume = cells.from_frame(frame, source), _column(unit)
        return cls(**_columns.fields(table, min_volume=min_volume, volume=volume, keep=keep))

    @classmethod
    def join(cls, mixtures: str | Path | pd.DataFrame, losses: str | Path | pd.DataFrame, *, on: str = "run") -> Self:
        """Join a table of mixtures (one row per run) and a table of losses by the run's id in column `on`.

        Rows meet by id, never by position. An id that is twice in `mixtures`, or in one table only, is an error.

        Example:
            >>> import pandas as pd
            >>> from bimixjax import Observations
            >>> mixtures = pd.DataFrame({"run": ["r1", "r2"], "mixture/code": [0.2, 0.6], "mixture/web": [0.8, 0.4]})
            >>> losses = pd.DataFrame({"run": ["r2", "r1"], "loss/web": [3.4, 3.1]})
            >>> Observations.join(mixtures, losses).proportions[:, 0].tolist()
            [0.6, 0.2]
        """
        tables = _columns.with_run(mixtures, "mixtures", on), _columns.with_run(losses, "losses", on)
        return cls(**_columns.fields(_columns.join(*tables)))

    @classmethod
    def concat(cls, first: "Observations", *others: "Observations") -> Self:
        """Put tables with the same domains below each other; a target that one lacks is missing there.

        Runs of one id in several tables are one run, unless their model sizes or seeds differ: then the id of each gets
        its own added, as in `r1/model_size-70000000`.
        """
        for other in others:
            if set(other.domains) != set(first.domains):
                raise InputError(
                    f"{other.source} has domains {', '.join(other.domains)}; {first.source} has "
                    f"{', '.join(first.domains)}; allowed: the same domains in every table"
                )
        every = (first, *others)
        source = " + ".join(dict.fromkeys(one.source for one in every))
        frame = _columns.separate(pd.concat([one.to_frame() for one in every], ignore_index=True))
        whole = cls.from_frame(frame, source=source)
        notes = dict.fromkeys(note for one in (*every, whole) for note in one.notes)
        return dataclasses.replace(whole, notes=tuple(notes))

    def to_frame(self) -> pd.DataFrame:
        """Return the table as a pandas frame, as `write` writes it."""
        columns: dict[str, object] = {"run": pd.Series(self.run, dtype=object).astype(str)}
        columns |= {name: _columns.whole(values) for name in RUN_COLUMNS if (values := getattr(self, name)) is not None}
        columns |= {MIXTURE + name: self.proportions[:, i] for i, name in enumerate(self.domains)}
        if self.unique is not None:
            blank = np.where(np.isinf(self.unique), np.nan, self.unique)
            columns |= {UNIQUE + name: blank[:, i] for i, name in enumerate(self.domains)}
        columns |= {LOSS + name: self.losses[:, i] for i, name in enumerate(self.targets)}
        return pd.concat([pd.DataFrame(columns), self.metadata], axis=1)

    def write(self, path: str | Path) -> None:
        """Write the table as `.csv` or `.parquet` in one step; reading it gives the same numbers, bit for bit."""
        cells.write(path, self.to_frame())

    def __len__(self) -> int:
        return len(self.run)

    def __repr__(self) -> str:
        unit = self.volume_unit()
        volumes = self.volumes(unit)
        where = f"; {volumes.min():g} to {volumes.max():g} {unit}" if unit else ""
        sizes = f"; model sizes {listed(f'{size:g}' for size in self.model_sizes)}" if self.model_sizes else ""
        names = f"domains {listed(self.domains)}; targets {listed(self.targets)}"
        return f"Observations({len(self.runs)} runs, {len(self)} rows; {names}{where}{sizes}; from {self.source})"

    @property
    def runs(self) -> tuple[str, ...]:
        """The ids of the runs, in the order of their first rows."""
        return tuple(dict.fromkeys(self.run.tolist()))

    @property
    def model_sizes(self) -> tuple[float, ...]:
        """The model sizes, ascending; () where the table has none."""
        return () if self.model_size is None else tuple(np.unique(self.model_size).tolist())

    @property
    def own_targets(self) -> tuple[str, ...]:
        """The targets that bear a domain's name: each is that domain's own loss."""
        return tuple(target for target in self.targets if target in self.domains)

    @property
    def has_inventory(self) -> bool:
        """Whether some run had a limited number of tokens of some domain."""
        return self.unique is not None and bool(np.isfinite(self.unique).any())

    def volume_unit(self, requested: Unit | None = None) -> Unit | None:
        """Return the unit of volume to use: the one requested, else tokens, else steps, else None (one volume)."""
        there: list[Unit] = [unit for unit, column in UNITS.items() if getattr(self, column) is not None]
        if requested is None:
            return there[0] if there else None
        choice("volume unit", requested, UNITS)
        if requested not in there:
            raise InputError(
                f"{self.source} has no column {UNITS[requested]!r}; units there: {', '.join(there) or 'none'}"
            )
        return requested

    def volumes(self, unit: Unit | None = None) -> Floats:
        """Return the volume s of each row, shape [n], in `unit`; ones where the table has one volume only."""
        chosen = self.volume_unit(unit)
        return np.ones(len(self)) if chosen is None else getattr(self, UNITS[chosen])

    def select(
        self,
        *,
        model_size: float | None = None,
        runs: Iterable[str] | None = None,
        without_runs: Iterable[str] = (),
        targets: Iterable[str] | None = None,
        volume: tuple[float | None, float | None] | None = None,
        unit: Unit | None = None,
    ) -> Self:
        """Return the rows that meet every condition given, with the targets named.

        Args:
            model_size: parameters of the model.
            runs: ids of runs.
            without_runs: ids of runs to leave out.
            targets: names of targets, in the order wanted.
            volume: lowest and highest volume, both included, in `unit`; None leaves an end open.
            unit: "steps" or "tokens"; default as in `volume_unit`.

        Raises:
            InputError: where the table has no such size, run, target or volume; it names those that exist.
        """
        keep = np.ones(len(self), bool)
        if model_size is not None:
            if self.model_size is None or model_size not in self.model_size:
                sizes = ", ".join(f"{size:.15g}" for size in self.model_sizes) or "none (no column 'model_size')"
                raise InputError(f"{self.source} has no model size {model_size!r}; sizes there: {sizes}")
            keep &= self.model_size == model_size
        if runs is not None:
            keep &= self._of_runs(runs)
        keep &= ~self._of_runs(without_runs)
        if volume is not None:
            keep &= self._between(*volume, unit)
        if not keep.any():
            raise InputError(f"{self.source}: no row meets all of the conditions together")
        return self.take(np.flatnonzero(keep), targets)

    def split(self, held_out: Iterable[str]) -> tuple[Self, Self]:
        """Return (train, test): every row of the runs held out is in test, all others in train."""
        out = self._of_runs(held_out)
        if out.all() or not out.any():
            raise InputError(
                f"held_out names {'every run' if out.all() else 'no run'} of {self.source}; "
                f"allowed: at least one of its {len(self.runs)} runs, and not all"
            )
        return self.take(np.flatnonzero(~out)), self.take(np.flatnonzero(out))

    def take(self, rows: NDArray[np.intp], targets: Iterable[str] | None = None) -> Self:
        """Return the rows of the given numbers, with the targets named.

        Raises:
            InputError: for a target that is not there.
        """
        names = self.targets if targets is None else _names(targets)
        known("target", names, self.targets, self.source)
        columns = [self.targets.index(name) for name in names]
        optional = {
            name: values[rows] for name in (*RUN_COLUMNS, "unique") if (values := getattr(self, name)) is not None
        }
        return dataclasses.replace(
            self,
            run=self.run[rows],
            targets=names,
            proportions=self.proportions[rows],
            losses=self.losses[rows][:, columns],
            metadata=self.metadata.iloc[rows].reset_index(drop=True),
            **optional,
        )

    def _of_runs(self, runs: Iterable[str]) -> NDArray[np.bool_]:
        chosen = _names(runs)
        known("run", chosen, self.runs, self.source)
        return np.asarray(pd.Series(self.run, dtype=object).isin(chosen))

    def _between(self, low: float | None, high: float | None, unit: Unit | None) -> NDArray[np.bool_]:
        volumes = self.volumes(unit)
        within = (volumes >= (0 if low is None else low)) & (volumes <= (np.inf if high is None else high))
        if not within.any():
            raise InputError(
                f"{self.source} has no volume from {low} to {high} {self.volume_unit(unit) or '(no unit)'}; "
                f"volumes there: {volumes.min():g} to {volumes.max():g}"
            )
        return within


def _column(unit: Unit | None) -> str | None:
    if unit is None:
        return None
    choice("unit", unit, UNITS)
    return UNITS[unit]


def _names(names: Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
