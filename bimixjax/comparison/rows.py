"""The rows of a table as schemes see them: of which run, mixture, model size and volume, and which are judged."""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Literal, Self

import numpy as np
from jaxtyping import Bool, Float, Int

from bimixjax._base.checks import InputError, choice, positive
from bimixjax.observations import Observations, Unit

Mask = Bool[np.ndarray, " n"]
At = Literal["last", "all"] | float

# The last volume of a size is one that at least this share of its runs reach: a few longer runs are no horizon.
_SHARED = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """What a split reads of the n rows of a table.

    Attributes:
        run, mixture: numbers, the same for rows of one run, or of one mixture.
        model_size: N, 1 where the table has none.
        volume: s.
        judged: whether a row is scored where it is held out.
        names: the ids of the runs.
    """

    run: Int[np.ndarray, " n"]
    mixture: Int[np.ndarray, " n"]
    model_size: Float[np.ndarray, " n"]
    volume: Float[np.ndarray, " n"]
    judged: Mask
    names: tuple[str, ...]

    @classmethod
    def of(cls, table: Observations, unit: Unit | None, at: At) -> Self:
        """Read a table; `at` says which of the volumes are judged."""
        names, run = np.unique(table.run.astype(str), return_inverse=True)
        rows = cls(
            run=run,
            mixture=np.unique(table.proportions.round(9), axis=0, return_inverse=True)[1].reshape(-1),
            model_size=np.ones(len(table)) if table.model_size is None else table.model_size.astype(float),
            volume=table.volumes(unit),
            judged=np.ones(len(table), bool),
            names=tuple(names.tolist()),
        )
        if isinstance(at, str) and choice("at", at, ("last", "all")) == "all":
            return rows
        judged = rows.volume == (rows.last() if isinstance(at, str) else positive("at", at))
        if not judged.any():
            low, high = rows.volume.min(), rows.volume.max()
            raise InputError(f"no row has volume {at:g}; volumes: {low:g} to {high:g}")
        return dataclasses.replace(rows, judged=judged)

    @property
    def sizes(self) -> list[float]:
        """The model sizes, ascending."""
        return np.unique(self.model_size).tolist()

    def fitted_by_size(self, fitted: Mask) -> Iterator[tuple[Mask, Mask]]:
        """Yield the rows of each model size, and those fitted at it, or at all sizes where none of it is fitted."""
        for size in self.sizes:
            own = self.model_size == size
            yield own, fitted & own if (fitted & own).any() else fitted

    def last(self) -> Float[np.ndarray, " n"]:
        """Return the largest volume that at least half of the runs of a row's size reach, for each row.

        Where runs of many lengths have one row each, none is reached by half of them: then the largest of all.
        """
        last = np.zeros(len(self.volume))
        for size in self.sizes:
            own = self.model_size == size
            volumes, runs = self.volume[own], self.run[own]
            needed = _SHARED * len(np.unique(runs))
            shared = (s for s in np.unique(volumes) if len(np.unique(runs[volumes == s])) >= needed)
            last[own] = max(shared, default=volumes.max())
        return last

    def runs_of(self, size: float) -> list[int]:
        """Return the runs of a size that have a judged row, sorted by the number at the end of their id."""

        def order(run: int) -> tuple[float, str]:
            digits = re.search(r"\d+$", self.names[run])
            return float(digits[0]) if digits else math.inf, self.names[run]

        return sorted(set(self.run[self.judged & (self.model_size == size)].tolist()), key=order)
