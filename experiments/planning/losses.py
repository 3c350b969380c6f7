"""The losses of a table's runs as arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bimixjax import Observations
from experiments.planning.config import Table


@dataclass(frozen=True, kw_only=True, eq=False)
class Runs:
    """The runs of a table: mixtures [m, d], losses [m, t], and the domain of each target or -1 [t]."""

    table: Table
    observations: Observations
    mixtures: np.ndarray
    losses: np.ndarray
    own: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """The mean loss over targets of each run [m]."""
        return self.losses.mean(axis=1)

    def regret(self, chosen: list[int]) -> float:
        """Return (least mean loss of the runs chosen - least of all) / (mean of all - least of all)."""
        least = self.mean.min()
        return float((self.mean[chosen].min() - least) / (self.mean.mean() - least))


def read(folder: Path, table: Table, targets: str = "own") -> Runs:
    """Read the runs that have every loss, in the order of their ids; targets "own" are domains, "others" are not."""
    whole = Observations.read(folder / f"{table.file}.csv")
    of_domains = whole.own_targets
    names = [name for name in whole.targets if (name in of_domains) == (targets == "own" and not table.tasks)]
    volume = None if table.step is None else (table.step, table.step)
    whole = whole.select(model_size=table.model_size, targets=names, volume=volume, unit="steps" if volume else None)
    rows = np.flatnonzero(np.isfinite(whole.losses).all(axis=1))
    whole = whole.take(rows[np.argsort(whole.run[rows].astype(str))])
    own = np.array([whole.domains.index(name) if name in whole.domains else -1 for name in whole.targets])
    return Runs(table=table, observations=whole, mixtures=whole.proportions, losses=whole.losses, own=own)
