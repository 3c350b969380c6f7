"""The plan of a swarm: which mixture, which seed and which model each run has."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from bimixjax._base.checks import InputError, choice, every
from bimixjax.observations import cells, columns
from bimixjax.observations.columns import MIXTURE, ROUNDING, SUM_TOLERANCE
from bimixjax.proxy.model import PRESETS

# Shares that differ by less are those of one mixture: of a million sequences, one has another domain.
SAME = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """Plan of n runs over d domains, a mixture and a seed for each; `make` and `read` build it and check it.

    As a table it has one row per run, with the columns `run`, `seed` (0 where there is none), `mixture/<domain>` and,
    where it holds several models, `model`.

    Attributes:
        runs: ids, all distinct; with models, distinct in each of them.
        domains: names, in the order of the columns of `proportions`.
        proportions: r, each row on the simplex.
        seeds: equal seeds initialize equal parameters.
        models: a preset of `ModelConfig` for each run; None: that of the swarm's settings.
        shared: ids that are there with several models; tables add the model's size to them, as `Observations.concat`.

    Example:
        >>> design = Design.make(["even", "mostly-code"], ["code", "web"], [[0.5, 0.5], [0.9, 0.1]])
        >>> design.shard(1, 2).runs
        ('mostly-code',)
        >>> design.of_models(["0.1m", "1m"]).models
        ('0.1m', '0.1m', '1m', '1m')
    """

    runs: tuple[str, ...]
    domains: tuple[str, ...]
    proportions: Float[np.ndarray, "n d"]
    seeds: Int[np.ndarray, " n"]
    models: tuple[str, ...] | None = None
    shared: frozenset[str] = frozenset()

    @classmethod
    def make(
        cls,
        runs: Sequence[str],
        domains: Sequence[str],
        proportions: ArrayLike,
        seeds: ArrayLike | None = None,
        models: Sequence[str] | None = None,
        *,
        where: str = "design",
    ) -> Self:
        """Build a design; mixtures that sum to 1 within 0.01 are renormalized.

        Raises:
            InputError: no run, a blank or repeated id or domain, a shape that does not fit, a proportion that is
                negative or not finite, a sum that is off, a seed outside 0 to 2^32 - 1, a model that is no preset;
                `where` begins the message.
        """
        names = _require_names(domains, f"{where}: domain")
        if models is None:
            ids = _require_names(runs, f"{where}: run")
        else:
            if len(models) != len(runs):
                raise InputError(f"{where}: there are {len(models)} models for {len(runs)} runs; allowed: one for each")
            for model in dict.fromkeys(models):
                choice(f"{where}: model", model, PRESETS)
                _require_names([run for run, of in zip(runs, models, strict=True) if of == model], f"{where}: run")
            ids = tuple(runs)
        mixtures = np.asarray(proportions, np.float64)
        numbers = np.zeros(len(ids)) if seeds is None else np.asarray(seeds)
        for what, array, shape in (("proportions", mixtures, (len(ids), len(names))), ("seeds", numbers, (len(ids),))):
            if array.shape != shape:
                raise InputError(f"{where}: {what} have shape {array.shape}; allowed: {shape}")
        of = [f"{where}: run {run!r}:" for run in ids]
        ok = np.isfinite(mixtures) & (mixtures >= 0)
        every(ok, lambda i, j: f"{of[i]} proportion of {names[j]!r} is {mixtures[i, j]}; allowed: finite and >= 0")
        sums = mixtures.sum(axis=1)
        ok = np.abs(sums - 1) <= SUM_TOLERANCE
        every(ok, lambda i: f"{of[i]} proportions sum to {sums[i]:.6g}; allowed: 1 within {SUM_TOLERANCE}")
        ok = (numbers >= 0) & (numbers < 2**32) & (numbers == np.round(numbers))
        every(ok, lambda i: f"{of[i]} seed is {numbers[i]}; allowed: a whole number from 0 to 2^32 - 1")
        off = np.abs(sums - 1)[:, None] > ROUNDING
        mixtures = np.where(off, mixtures / sums[:, None], mixtures)
        made = cls(runs=ids, domains=names, proportions=mixtures, seeds=numbers.astype(np.int64))
        shared = frozenset(run for run, count in Counter(ids).items() if count > 1)
        return made if models is None else dataclasses.replace(made, models=tuple(models), shared=shared)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a table as `Observations.read` does: text, compressed or not, or Parquet; other columns are ignored.

        Raises:
            InputError: where the table cannot be read or `make` refuses it; it names the file and, of a cell, its
                row, column and run.
        """
        table = cells.read(path)
        domains = columns.names(table, MIXTURE)
        proportions = np.column_stack([table.numbers(MIXTURE + name) for name in domains])
        seeds = table.numbers("seed") if "seed" in table.frame else None
        models = cells.texts(table.column("model")).str.strip().tolist() if "model" in table.frame else None
        return cls.make(columns.run_ids(table).tolist(), domains, proportions, seeds, models, where=str(path))

    def write(self, path: str | Path) -> None:
        """Write the table as `.csv` or `.parquet` in one step; reading it gives the same numbers, bit for bit."""
        mixtures = {MIXTURE + name: self.proportions[:, i] for i, name in enumerate(self.domains)}
        models = {} if self.models is None else {"model": self.models}
        cells.write(path, pd.DataFrame({"run": self.runs, "seed": self.seeds, **models, **mixtures}))

    def settle(self, path: str | Path) -> Self:
        """Return the design at `path`, which is this one but for rounding; write this one where there is none.

        Mixtures that are computed anew, with another number of threads, may differ in their last digits; a swarm goes
        on with exactly those that it was begun with.

        Raises:
            InputError: where another design is there.
        """
        if not Path(path).exists():
            self.write(path)
            return self
        there = type(self).read(path)
        for name in ("domains", "runs", "models"):
            if getattr(there, name) != getattr(self, name):
                raise InputError(
                    f"{path} holds another design: its {name} differ; allowed: the same, or another folder"
                )
        moved = np.abs(there.proportions - self.proportions).max(axis=1)
        for i in np.flatnonzero((moved > SAME) | (there.seeds != self.seeds))[:1]:
            what = "seed" if there.seeds[i] != self.seeds[i] else f"mixture by {moved[i]:.2g}"
            raise InputError(
                f"{path} holds another design: run {self.runs[i]!r} differs in its {what}; allowed: the same, or "
                "another folder"
            )
        return there

    def of_models(self, models: Sequence[str]) -> Self:
        """Return the design that trains each run with each of the models; its batches are the same for all of them."""
        count = len(models)
        return type(self).make(
            self.runs * count,
            self.domains,
            np.tile(self.proportions, (count, 1)),
            np.tile(self.seeds, count),
            [model for model in models for _ in self.runs],
        )

    def by_model(self) -> dict[str, Self]:
        """Return the designs of each model, without their models, in the order of their first runs."""
        models = np.array(self.models or (), object)
        return {
            model: dataclasses.replace(self._rows(np.flatnonzero(models == model)), models=None)
            for model in dict.fromkeys(self.models or ())
        }

    def shard(self, index: int, count: int) -> Self:
        """Return every `count`-th run from the one at `index` on; the `count` shards have each run once."""
        if not 0 <= index < count <= len(self.runs):
            raise InputError(f"shard is {index}/{count}; allowed: 0 <= i < n <= {len(self.runs)}, the number of runs")
        return self._rows(np.arange(index, len(self.runs), count))

    def _rows(self, rows: Int[np.ndarray, " m"]) -> Self:
        runs, models = ([names[i] for i in rows] for names in (self.runs, self.models or self.runs))
        models = tuple(models) if self.models else None
        return dataclasses.replace(
            self, runs=tuple(runs), proportions=self.proportions[rows], seeds=self.seeds[rows], models=models
        )

    def __len__(self) -> int:
        return len(self.runs)


def _require_names(given: Sequence[str], what: str) -> tuple[str, ...]:
    """Return distinct, plain names, at least one."""
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
