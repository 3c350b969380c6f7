"""A plan: runs to train next, and why."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from bimixjax._base import summaries
from bimixjax._base.checks import InputError
from bimixjax.observations import cells
from bimixjax.observations.columns import MIXTURE

if TYPE_CHECKING:
    from bimixjax.proxy import Design


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Runs to train next, in the order in which they were chosen.

    Attributes:
        runs: ids.
        domains: names, in the order of the columns of `mixtures`.
        mixtures: [k, d].
        index: rows of the candidates, where there were any [k].
        reasons: why each run was chosen.
        improvement: by how much each run, once those before have come out as expected, is expected to lower the least
            mean loss, in nats per token [k]; NaN where no run was measured.
        model_sizes: of each run, where sizes were offered [k].
        method: what the choice rests on, in a sentence.
        notes: what else a reader should know.

    Example:
        >>> import bimixjax
        >>> made = bimixjax.plan(domains=["code", "web"], runs=2)
        >>> made.mixtures.round(2).tolist(), made.reasons[0]
        ([[0.5, 0.5], [0.71, 0.29]], 'number 1 of 897 in the zero-run order')
    """

    runs: tuple[str, ...]
    domains: tuple[str, ...]
    mixtures: Float[np.ndarray, "k d"]
    index: Int[np.ndarray, " k"] | None
    reasons: tuple[str, ...]
    improvement: Float[np.ndarray, " k"]
    model_sizes: Float[np.ndarray, " k"] | None
    method: str
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.runs)

    def __repr__(self) -> str:
        return f"Plan({len(self)} runs over {summaries.listed(self.domains)}; {self.method})"

    def summary(self) -> str:
        """Say in plain text which runs to train, and why."""
        rows = [["", *self.domains, "why"]]
        for run, mixture, reason in zip(self.runs, self.mixtures, self.reasons, strict=True):
            rows.append([run, *(f"{share:.4f}" for share in mixture), reason])
        return "\n".join([self.method, summaries.aligned(rows), *self.notes])

    @classmethod
    def given(cls, design: "Design") -> "Plan":
        """Return a design as a plan that gives no reasons."""
        count = len(design)
        return cls(
            runs=design.runs,
            domains=design.domains,
            mixtures=design.proportions,
            index=None,
            reasons=("of the design given",) * count,
            improvement=np.full(count, np.nan),
            model_sizes=None,
            method="The design given",
            notes=(),
        )

    def named(self, ids: Sequence[str]) -> "Plan":
        """Return the plan with runs named by the ids of all candidates [m]."""
        if self.index is None:
            raise InputError("this plan was not made from candidates; its runs keep their names")
        return dataclasses.replace(self, runs=tuple(ids[row] for row in self.index.tolist()))

    def design(self, seed: int = 0) -> "Design":
        """Return the design that a swarm trains."""
        # Plans are made where no networks are trained, and their libraries are slow to import.
        from bimixjax.proxy import Design

        return Design.make(self.runs, self.domains, self.mixtures, [seed] * len(self))

    def write(self, path: str | Path, seed: int = 0) -> None:
        """Write the design as `.csv` or `.parquet`, as `Design.read` reads it, with model sizes and reasons beside."""
        table: dict[str, object] = {"run": self.runs, "seed": seed}
        table |= {} if self.model_sizes is None else {"model_size": self.model_sizes}
        table |= {MIXTURE + name: self.mixtures[:, i] for i, name in enumerate(self.domains)}
        cells.write(path, pd.DataFrame({**table, "reason": self.reasons}))
