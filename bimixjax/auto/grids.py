"""From a table and folds of it to the grids that `auto` fits: one cell per fold and model size."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float, Int

from bimixjax.auto.member import Rows
from bimixjax.fitting.lanes import numbered, on_grid, row_sizes
from bimixjax.observations import Observations, Unit

# So many parts of the runs are left out in turn; with more runs than that, a part is several runs.
_PARTS = 16

_ALL = slice(None)


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Rows of G cells, each a fold at a model size, on grids of runs x volumes that are padded to one shape.

    Attributes:
        fold, size: the fold and model size of each cell.
        row: the row of the table, or -1.
        mixture: r.
        volume: s over the cell's largest.
        scale: the largest volume.
        loss: log loss less its mean over the cell's rows.
        center: that mean.
        mask: 1 where a loss is fitted.
        part: the part of the runs with which each run is left out, -1 for padding.
        own: the domain that each target is, or -1.
        donor: log loss at a smaller model size, less its mean; 0 where none is read.
        unique: unique tokens of each run in the unit of `volume`, infinite for no limit; None where there is none.
    """

    fold: Int[np.ndarray, " G"]
    size: Float[np.ndarray, " G"]
    row: Int[np.ndarray, "G m t"]
    mixture: Float[np.ndarray, "G d m"]
    volume: Float[np.ndarray, "G t"]
    scale: Float[np.ndarray, " G"]
    loss: Float[np.ndarray, "G m t T"]
    center: Float[np.ndarray, "G T"]
    mask: Float[np.ndarray, "G m t T"]
    part: Int[np.ndarray, "G m"]
    own: Int[np.ndarray, " T"]
    donor: Float[np.ndarray, "G m t T"]
    unique: Float[np.ndarray, "G d m"] | None = None

    @property
    def runs(self) -> np.ndarray:
        """How many runs each cell has [G]."""
        return (self.part >= 0).sum(1)

    def cut(self, cells: slice = _ALL, runs: slice = _ALL, volumes: slice = _ALL) -> "Cells":
        """Take some cells, on a smaller grid, where cells with more runs or volumes lose some."""
        return Cells(
            fold=self.fold[cells],
            size=self.size[cells],
            row=self.row[cells, runs, volumes],
            mixture=self.mixture[cells, :, runs],
            volume=self.volume[cells, volumes],
            scale=self.scale[cells],
            loss=self.loss[cells, runs, volumes],
            center=self.center[cells],
            mask=self.mask[cells, runs, volumes],
            part=self.part[cells, runs],
            own=self.own,
            donor=self.donor[cells, runs, volumes],
            unique=None if self.unique is None else self.unique[cells, :, runs],
        )

    def distinct(self, lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first of all lanes [L, 3] that are the same, whatever their fold, and which of these each of them is."""
        cell, target, part = lanes.T
        donor = np.ascontiguousarray(self.donor[cell, :, :, target]).view(np.int64)
        row, donor = (values.reshape(len(lanes), -1) for values in (self.row[cell], donor))
        _, first, which = np.unique(
            np.column_stack([target, part, row, donor]), axis=0, return_index=True, return_inverse=True
        )
        order = np.argsort(first)
        return first[order], np.argsort(order)[which.reshape(-1)]

    def lanes(self) -> np.ndarray:
        """Cell, target and no part left out (-1) of every lane that has rows [L, 3]."""
        cell, target = np.nonzero(self.mask.any((1, 2)))
        return np.column_stack([cell, target, np.full(len(cell), -1)])

    def left_out(self, lanes: np.ndarray) -> np.ndarray:
        """Lanes [L, 3] once for each part of their runs, with the number of the lane in front [P, 4].

        Targets vary fastest, since they share the places of their rows.
        """
        parts = self.part.max(1)[lanes[:, 0]] + 1
        number = np.repeat(np.arange(len(lanes)), parts)
        part = np.concatenate([np.arange(count) for count in parts]) if len(parts) else np.zeros(0, int)
        found = np.column_stack([number, lanes[number, :2], part])
        return found[np.lexsort((found[:, 2], found[:, 3], found[:, 1]))]

    def masks(self, lanes: np.ndarray) -> np.ndarray:
        """1 where a row of some lanes [B, 3] is fitted [B, m, t]."""
        cell, target, part = lanes.T
        kept = (self.part[cell] >= 0) & (self.part[cell] != part[:, None])
        return self.mask[cell, :, :, target] * kept[:, :, None]

    def rows(self, lanes: np.ndarray) -> Rows:
        """What the kernel reads of some lanes [B, 3]."""
        cell, target, _ = lanes.T
        last = partial(np.moveaxis, source=0, destination=-1)
        return Rows(
            mixture=last(self.mixture[cell]),
            volume=last(self.volume[cell]),
            own=self.own[target],
            loss=last(self.loss[cell, :, :, target]),
            mask=last(self.masks(lanes)),
            donor=last(self.donor[cell, :, :, target]),
            unique=None if self.unique is None else last(self.unique[cell]),
        )


def build_cells(observations: Observations, weights: np.ndarray, unit: Unit | None, targets: Sequence[str]) -> Cells:
    """Lay out the rows with weight in each fold [F, n], one cell per fold and model size that has any."""
    logs = np.log(observations.losses[:, [observations.targets.index(target) for target in targets]])
    volume, size = observations.volumes(unit), row_sizes(observations)
    run = np.unique(observations.run.astype(str), return_inverse=True)[1]
    there = np.isfinite(logs).any(1)
    cells = [
        (fold, s, rows)
        for fold, weight in enumerate(weights)
        for s in np.unique(size)
        if len(rows := np.flatnonzero((weight > 0) & (size == s) & there))
    ]
    groups = [rows for _, _, rows in cells]
    ladders = [np.unique(volume[rows], return_inverse=True) for rows in groups]
    places = [numbered(run[rows]) for rows in groups]
    runs = max((1 + int(place.max()) for place in places), default=1)
    volumes = max((len(ladder) for ladder, _ in ladders), default=1)
    shape = (runs, volumes)
    row = np.moveaxis(on_grid(groups, places, [when for _, when in ladders], shape, -1), -1, 0)
    first = row.max(2)
    present = first >= 0
    first = np.where(present, first, first[:, :1])
    mask = (row >= 0)[..., None] & np.isfinite(logs[row])
    center = np.where(mask, logs[row], 0.0).sum((1, 2)) / np.maximum(mask.sum((1, 2)), 1)
    scale = np.array([ladder[-1] for ladder, _ in ladders])
    padded = [np.pad(ladder, (0, shape[1] - len(ladder)), mode="edge") for ladder, _ in ladders]
    return Cells(
        fold=np.array([fold for fold, _, _ in cells], int),
        size=np.array([s for _, s, _ in cells], float),
        row=row,
        mixture=np.moveaxis(observations.proportions[first], -1, 1),
        volume=np.array(padded).reshape(len(cells), shape[1]) / scale[:, None],
        scale=scale,
        loss=np.where(mask, logs[row] - center[:, None, None], 0.0),
        center=center,
        mask=mask.astype(float),
        part=np.array([_parts(count, runs) for count in present.sum(1)], int).reshape(len(cells), runs),
        own=np.array([observations.domains.index(t) if t in observations.domains else -1 for t in targets]),
        donor=np.zeros(mask.shape),
        unique=unique_in(observations, unit, first, scale),
    )


def unique_in(
    observations: Observations, unit: Unit | None, row: Int[np.ndarray, "G m"], scale: Float[np.ndarray, " G"]
) -> Float[np.ndarray, "G d m"] | None:
    """Return the unique tokens of rows of the table in units of the cells' volumes.

    None where there is no limit, or the volume is not in tokens, of which unique ones make epochs.
    """
    if unit != "tokens" or observations.unique is None or not observations.has_inventory:
        return None
    return np.moveaxis(observations.unique[row], -1, 1) / scale[:, None, None]


def _parts(runs: int, padded: int) -> Int[np.ndarray, " m"]:
    """The part of each run: its own where there are few, else one of `_PARTS` by a fixed shuffle; -1 for padding."""
    order = np.random.default_rng(0).permutation(runs) if runs > _PARTS else np.arange(runs)
    return np.pad(order % _PARTS, (0, padded - runs), constant_values=-1)
