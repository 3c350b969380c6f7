"""What a table says at its end: one mixture and one loss per target of each run, all of a size after equal training."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from jaxtyping import Float

from bimixjax._base import checks
from bimixjax._base.checks import InputError
from bimixjax._base.summaries import listed
from bimixjax.observations import Observations

# A run whose loss is this many times the median of its size has diverged: on public tables, where domains that a run
# leaves out are measured too, the factor stays below 3.
_DIVERGED = 5.0
# Losses that are conditioned on at once: a covariance of 32 MiB, and some seconds of one core for each run planned.
MOST_LOSSES = 2_000


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """The runs of a table, each at the volume at which most runs of its size were measured.

    Attributes:
        mixtures: [n, d].
        losses: [n, t], NaN where missing.
        sizes: model sizes [n]; 1 where the table has none.
        volumes: the volume read of each size.
        notes: what was left out, in words.
    """

    mixtures: Float[np.ndarray, "n d"]
    losses: Float[np.ndarray, "n t"]
    sizes: Float[np.ndarray, " n"]
    volumes: Mapping[float, float]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, observations: Observations, targets: Sequence[str]) -> Self:
        """Read the losses of some targets.

        Raises:
            InputError: where no run has all of what is needed, or a loss is not above 0.
        """
        table = observations.take(np.arange(len(observations)), targets)
        sizes = np.ones(len(table)) if table.model_size is None else table.model_size
        volume, there = table.volumes(), np.isfinite(table.losses).any(axis=1)
        rows, read, notes = np.zeros(len(table), bool), {}, list(observations.notes)
        for size in np.unique(sizes[there]).tolist():
            of_size = there & (sizes == size)
            # Of volumes at which equally many runs were measured, the largest.
            counts = Counter(volume[of_size].tolist())
            read[size] = max(counts, key=lambda each: (counts[each], each))
            rows |= of_size & (volume == read[size])
        left = sorted(set(table.run[there].tolist()) - set(table.run[rows].tolist()))
        if left:
            notes.append(f"{len(left)} runs without a loss at the volume of the others were left out: {listed(left)}")
        losses = table.losses[rows]
        low = losses <= 0
        checks.every(~low, lambda i, j: f"loss of {targets[j]!r} is {losses[i, j]:g}; allowed: above 0")
        kept = np.flatnonzero(rows)[~_diverged(losses, sizes[rows], table.run[rows], notes)]
        seen = np.isfinite(table.losses[kept]).sum(axis=0)
        if not seen.all():
            blank = listed(name for name, count in zip(targets, seen, strict=True) if not count)
            raise InputError(f"{observations.source}: no usable loss of {blank}; allowed: one at least of each target")
        found = cls(
            mixtures=table.proportions[kept],
            losses=table.losses[kept],
            sizes=sizes[kept],
            volumes=read,
            notes=tuple(notes),
        )
        return found._reduced()

    def _reduced(self) -> Self:
        """Keep the runs of least mean loss where there are too many to condition on."""
        most = MOST_LOSSES // self.losses.shape[1]
        if len(self.losses) <= most:
            return self
        best = np.sort(np.nanmean(self.losses / np.nanmean(self.losses, axis=0), axis=1).argsort()[:most])
        note = f"of {len(self.losses)} runs the {most} of least loss were used, which tell of the best mixtures most"
        parts = {name: getattr(self, name)[best] for name in ("mixtures", "losses", "sizes")}
        return dataclasses.replace(self, **parts, notes=(*self.notes, note))


def _diverged(losses: np.ndarray, sizes: np.ndarray, runs: np.ndarray, notes: list[str]) -> np.ndarray:
    """Find the runs that have diverged, and note them."""
    out = np.zeros(len(losses), bool)
    for size in np.unique(sizes):
        here = losses[sizes == size]
        middle = [np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else np.nan for column in here.T]
        out[sizes == size] = (here > _DIVERGED * np.array(middle)).any(axis=1)
    if out.any():
        notes.append(f"runs that diverged were left out: {listed(sorted(set(runs[out].tolist())))}")
    return out
