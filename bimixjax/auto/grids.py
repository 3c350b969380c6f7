"""From a table and folds of it to the grids that `auto` fits: one cell per fold and model size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bimixjax.auto.member import Rows
from bimixjax.observations import Observations, Unit

# So many parts of the runs are left out in turn; with more runs than that, a part is several runs.
_PARTS = 16

# No grid has fewer runs, so that tables of few share a compiled program.
_LEAST_RUNS = 4


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Rows of G cells, each a fold at a model size, on grids of runs x volumes that are padded to one shape.

    Args:
        fold, size: of which fold and model size each cell is [G].
        row: which row of the table, or -1 [G, m, t].
        mixture: r [G, d, m].
        volume: s over the cell's largest [G, t].
        scale: the largest volume [G].
        loss: log loss less its mean over the cell's rows [G, m, t, T].
        center: that mean [G, T].
        mask: 1 where a loss is fitted [G, m, t, T].
        part: with which part of the runs each is left out, -1 for padding [G, m].
        own: for each target, which domain it is, or -1 [T].
        donor: log loss at a smaller model size, less its mean; 0 where none is read [G, m, t, T].
    """

    fold: np.ndarray
    size: np.ndarray
    row: np.ndarray
    mixture: np.ndarray
    volume: np.ndarray
    scale: np.ndarray
    loss: np.ndarray
    center: np.ndarray
    mask: np.ndarray
    part: np.ndarray
    own: np.ndarray
    donor: np.ndarray

    @property
    def runs(self) -> np.ndarray:
        """How many runs each cell has [G]."""
        return (self.part >= 0).sum(1)

    @property
    def least_runs(self) -> np.ndarray:
        """On a grid of how many runs, padding included, each cell would have room [G]."""
        return np.array([_padded(runs, _LEAST_RUNS) for runs in self.runs], int)

    def narrow(self, runs: int) -> "Cells":
        """The same on a grid of fewer runs, where cells with more lose some."""
        return replace(
            self,
            row=self.row[:, :runs],
            mixture=self.mixture[..., :runs],
            loss=self.loss[:, :runs],
            mask=self.mask[:, :runs],
            part=self.part[:, :runs],
            donor=self.donor[:, :runs],
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
        return Rows(
            mixture=_last(self.mixture[cell]),
            volume=_last(self.volume[cell]),
            own=self.own[target],
            loss=_last(self.loss[cell, :, :, target]),
            mask=_last(self.masks(lanes)),
            donor=_last(self.donor[cell, :, :, target]),
        )


def _last(values: np.ndarray) -> np.ndarray:
    """Lanes from the first axis to the last."""
    return np.moveaxis(values, 0, -1)


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """The rows of one cell by run and volume [k, v], and these volumes."""

    fold: int
    size: float
    row: np.ndarray
    volumes: np.ndarray


def sizes_of(observations: Observations) -> np.ndarray:
    """The model size of each row; 1 where the table has none [n]."""
    return np.ones(len(observations)) if observations.model_size is None else observations.model_size.astype(float)


def build_cells(observations: Observations, weights: np.ndarray, unit: Unit | None, targets: Sequence[str]) -> Cells:
    """Lay out the rows with weight in each fold [F, n], one cell per fold and size that has any."""
    logs = np.log(observations.losses[:, [observations.targets.index(target) for target in targets]])
    volume, size = observations.volumes(unit), sizes_of(observations)
    there = np.isfinite(logs).any(1)
    run = np.unique(observations.run.astype(str), return_inverse=True)[1]
    grids = [
        _grid(fold, s, rows, run, volume)
        for fold, w in enumerate(weights)
        for s in np.unique(size)
        if len(rows := np.flatnonzero((w > 0) & (size == s) & there))
    ]
    runs = _padded(max((len(grid.row) for grid in grids), default=1), _LEAST_RUNS)
    volumes = max((len(grid.volumes) for grid in grids), default=1)
    shape = (runs, volumes if volumes == 1 else _padded(volumes, 4))
    row = np.stack([_fill(grid.row, shape) for grid in grids]) if grids else np.zeros((0, *shape), int)
    first = row.max(2)
    present = first >= 0
    first = np.where(present, first, first[:, :1])
    mask = (row >= 0)[..., None] & np.isfinite(logs[row])
    center = np.where(mask, logs[row], 0.0).sum((1, 2)) / np.maximum(mask.sum((1, 2)), 1)
    scale = np.array([grid.volumes[-1] for grid in grids])
    ladder = [np.pad(grid.volumes, (0, shape[1] - len(grid.volumes)), mode="edge") for grid in grids]
    return Cells(
        fold=np.array([grid.fold for grid in grids], int),
        size=np.array([grid.size for grid in grids]),
        row=row,
        mixture=np.moveaxis(observations.proportions[first], -1, 1),
        volume=np.array(ladder).reshape(len(grids), shape[1]) / scale[:, None],
        scale=scale,
        loss=np.where(mask, logs[row] - center[:, None, None], 0.0),
        center=center,
        mask=mask.astype(float),
        part=np.array([_parts(k, runs) for k in present.sum(1)], int).reshape(len(grids), runs),
        own=np.array([observations.domains.index(t) if t in observations.domains else -1 for t in targets]),
        donor=np.zeros(mask.shape),
    )


def _grid(fold: int, size: float, rows: np.ndarray, run: np.ndarray, volume: np.ndarray) -> _Grid:
    _, place = np.unique(run[rows], return_inverse=True)
    volumes, when = np.unique(volume[rows], return_inverse=True)
    grid = np.full((place.max() + 1, len(volumes)), -1)
    grid[place, when] = rows
    return _Grid(fold=fold, size=float(size), row=grid, volumes=volumes)


def _fill(row: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.pad(row, [(0, most - there) for most, there in zip(shape, row.shape, strict=True)], constant_values=-1)


def _parts(runs: int, padded: int) -> np.ndarray:
    """The part of each run: its own where there are few, else one of `_PARTS` by a fixed shuffle; -1 for padding."""
    order = np.random.default_rng(0).permutation(runs) if runs > _PARTS else np.arange(runs)
    return np.pad(order % _PARTS, (0, padded - runs), constant_values=-1)


def _padded(count: int, least: int) -> int:
    """The smallest of `least`, and twice, three times, four, six, eight, twelve ... times that, not below `count`."""
    size = least
    while size < count:
        size = size * 3 // 2 if size & (size - 1) == 0 and size > least else _next_power(size)
    return size


def _next_power(size: int) -> int:
    return 1 << size.bit_length()
