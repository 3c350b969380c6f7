"""The rows of a table as schemes see them: of which run, mixture, model size and volume, and which are judged."""

import dataclasses
import math
import re
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from bimixjax._base.checks import InputError, choice, positive
from bimixjax.observations import Observations, Unit

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
At = Literal["last", "all"] | float

# The last volume of a size is one that at least this share of its runs reach: a few longer runs are no horizon.
_SHARED = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """What a split reads of the n rows of a table.

    Args:
        run, mixture: numbers, the same for rows of one run, or of one mixture [n].
        model_size: N, 1 where the table has none [n].
        volume: s [n].
        judged: whether a row is scored where it is held out [n].
        names: the ids of the runs.
    """

    run: NDArray[np.intp]
    mixture: NDArray[np.intp]
    model_size: Floats
    volume: Floats
    judged: Mask
    names: tuple[str, ...]

    @classmethod
    def of(cls, table: Observations, unit: Unit | None, at: At) -> Self:
        """Read a table; `at` says which of the volumes are judged."""
        volume = table.volumes(unit)
        size = np.ones(len(table)) if table.model_size is None else table.model_size.astype(float)
        names, run = np.unique(table.run.astype(str), return_inverse=True)
        mixture = np.unique(table.proportions.round(9), axis=0, return_inverse=True)[1].reshape(-1)
        rows = cls(
            run=run,
            mixture=mixture,
            model_size=size,
            volume=volume,
            judged=np.ones(len(table), bool),
            names=tuple(names.tolist()),
        )
        return dataclasses.replace(rows, judged=rows._judged(at))

    def _judged(self, at: At) -> Mask:
        if at == "last":
            return self.volume == self.last()
        if isinstance(at, str):
            choice("at", at, ("last", "all"))
            return self.judged
        found = self.volume == positive("at", at)
        if not found.any():
            raise InputError(f"no row has volume {at:g}; volumes: {self.volume.min():g} to {self.volume.max():g}")
        return found

    @property
    def sizes(self) -> list[float]:
        """The model sizes, ascending."""
        return np.unique(self.model_size).tolist()

    def last(self) -> Floats:
        """The largest volume that at least half of the runs of a row's size reach, for each row [n]."""
        last = np.zeros(len(self.volume))
        for size in self.sizes:
            own = self.model_size == size
            volumes, runs = self.volume[own], self.run[own]
            needed = _SHARED * len(np.unique(runs))
            last[own] = max(s for s in np.unique(volumes) if len(np.unique(runs[volumes == s])) >= needed)
        return last

    def runs_of(self, size: float) -> list[int]:
        """The runs of a size that have a judged row, sorted by the number at the end of their id."""
        return sorted(set(self.run[self.judged & (self.model_size == size)].tolist()), key=self._order)

    def _order(self, run: int) -> tuple[float, str]:
        digits = re.search(r"\d+$", self.names[run])
        return (float(digits[0]) if digits else math.inf, self.names[run])
