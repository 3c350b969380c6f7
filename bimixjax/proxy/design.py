"""The plan of a swarm: which mixture and which seed each run has."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bimixjax._base import files
from bimixjax._base.checks import InputError, every

MIXTURE = "mixture/"
SUM_TOLERANCE = 1e-2
ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """Runs, each with a mixture and a seed; built by `make` or `read`, which check it.

    As a table: columns `run`, `seed` (0 where there is none) and `mixture/<domain>`, one row per run.

    Fields:
        runs: ids, each once.
        domains: names, in the order of the columns of `proportions`.
        proportions: r, float64 [n, d], each row on the simplex.
        seeds: int64 [n]; equal seeds start from equal parameters.

    Example:
        >>> design = Design.make(["even", "mostly-code"], ["code", "web"], [[0.5, 0.5], [0.9, 0.1]])
        >>> design.shard(1, 2).runs
        ('mostly-code',)
    """

    runs: tuple[str, ...]
    domains: tuple[str, ...]
    proportions: NDArray[np.float64]
    seeds: NDArray[np.int64]

    @classmethod
    def make(
        cls,
        runs: Sequence[str],
        domains: Sequence[str],
        proportions: ArrayLike,
        seeds: ArrayLike | None = None,
        *,
        where: str = "design",
    ) -> Self:
        """Check and keep what is given; mixtures that sum to 1 within 0.01 are renormalized.

        Raises:
            InputError: no run, a blank or repeated id or domain, a shape that does not fit, a proportion that is
                negative or not finite, a sum that is off, a seed outside 0 to 2^32 - 1; `where` begins the message.
        """
        ids, names = _names(runs, f"{where}: run"), _names(domains, f"{where}: domain")
        mixtures = np.asarray(proportions, np.float64)
        numbers = np.zeros(len(ids)) if seeds is None else np.asarray(seeds)
        for what, array, shape in (
            ("proportions", mixtures, (len(ids), len(names))),
            ("seeds", numbers, (len(ids),)),
        ):
            if array.shape != shape:
                raise InputError(f"{where}: {what} have shape {array.shape}; allowed: {shape}")
        _check_numbers(ids, names, mixtures, numbers, where)
        sums = mixtures.sum(axis=1, keepdims=True)
        mixtures = np.where(np.abs(sums - 1) > ROUNDING, mixtures / sums, mixtures)
        return cls(runs=ids, domains=names, proportions=mixtures, seeds=numbers.astype(np.int64))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a `.csv` table; an `InputError` names the file, and the row and column of what is wrong."""
        try:
            header, *rows = list(csv.reader(io.StringIO(files.read_text(path), newline=""))) or [[]]
        except csv.Error as error:
            raise InputError(f"{path}: not CSV: {error}") from error
        _check_header(header, rows, path)
        table = {name: [row[i].strip() for row in rows] for i, name in enumerate(header)}
        domains = [name.removeprefix(MIXTURE) for name in header if name.startswith(MIXTURE)]
        columns = [_numbers(table[MIXTURE + name], f"{path}, column {MIXTURE + name}") for name in domains]
        seeds = _numbers(table["seed"], f"{path}, column seed") if "seed" in table else None
        return cls.make(table["run"], domains, np.stack(columns, axis=1), seeds, where=str(path))

    def write(self, path: str | Path) -> None:
        """Write the table as `.csv` in one step; reading it gives the same numbers, bit for bit."""
        with files.replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["run", "seed", *(MIXTURE + name for name in self.domains)])
            for run, seed, mixture in zip(self.runs, self.seeds, self.proportions, strict=True):
                writer.writerow([run, int(seed), *map(repr, mixture.tolist())])

    def shard(self, index: int, count: int) -> Self:
        """Return every `count`-th run from the one at `index` on; the `count` shards have each run once."""
        if not 0 <= index < count <= len(self.runs):
            raise InputError(f"shard is {index}/{count}; allowed: 0 <= i < n <= {len(self.runs)}, the number of runs")
        rows = slice(index, None, count)
        return dataclasses.replace(
            self, runs=self.runs[rows], proportions=self.proportions[rows], seeds=self.seeds[rows]
        )

    def __len__(self) -> int:
        return len(self.runs)


def _names(given: Sequence[str], what: str) -> tuple[str, ...]:
    names = tuple(given)
    if not names or not all(names):
        raise InputError(f"{what}: {'blank name' if names else 'none given'}; allowed: at least one, each with a name")
    broken = [name for name in names if len(name.splitlines()) > 1 or name != name.strip()]
    if broken:
        raise InputError(f"{what} {broken[0]!r} has a line break, or blanks around it; allowed: plain names")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"{what} {', '.join(map(repr, repeated))} is there more than once; allowed: once each")
    return names


def _check_numbers(
    runs: tuple[str, ...], domains: tuple[str, ...], mixtures: NDArray[Any], seeds: NDArray[Any], where: str
) -> None:
    every(
        np.isfinite(mixtures) & (mixtures >= 0),
        lambda i, j: (
            f"{where}: run {runs[i]!r}: proportion of {domains[j]!r} is {mixtures[i, j]}; allowed: finite and >= 0"
        ),
    )
    sums = mixtures.sum(axis=1)
    every(
        np.abs(sums - 1) <= SUM_TOLERANCE,
        lambda i: f"{where}: run {runs[i]!r}: proportions sum to {sums[i]:.6g}; allowed: 1 within {SUM_TOLERANCE}",
    )
    every(
        (seeds >= 0) & (seeds < 2**32) & (seeds == np.round(seeds)),
        lambda i: f"{where}: run {runs[i]!r}: seed is {seeds[i]}; allowed: a whole number from 0 to 2^32 - 1",
    )


def _check_header(header: list[str], rows: list[list[str]], path: str | Path) -> None:
    if "run" not in header or not any(name.startswith(MIXTURE) for name in header):
        raise InputError(f"{path}: columns are {', '.join(header) or 'none'}; needed: run and {MIXTURE}<domain>")
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise InputError(f"{path}: column {twice[0]!r} occurs more than once; names must be unique")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{path}, line {number}: {len(row)} cells; allowed: {len(header)}, as in the first line")


def _numbers(cells: list[str], where: str) -> NDArray[np.float64]:
    values = []
    for number, cell in enumerate(cells, start=2):
        try:
            values.append(float(cell))
        except ValueError as error:
            raise InputError(f"{where}, line {number}: {cell!r}; allowed: a number") from error
    return np.array(values)
