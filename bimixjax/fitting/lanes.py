"""From a table to the arrays that a batched fit reads: sizes x targets x rows, padded and masked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bimixjax._base.checks import InputError, known
from bimixjax._base.records import Leaf, record
from bimixjax.laws import LAWS, Law
from bimixjax.observations import Observations, Unit

# A grid of runs and volumes may hold this many times as many cells as there are rows: the powers that it saves cost
# more than the empty cells that it adds.
_GRID_WASTE = 1.6


@record
class Lanes:
    """One lane per model size and target, sizes slowest; rows of weight zero are padding or masked.

    Rows have two axes, m x t, so that a power of a proportion is taken once per run: runs x volumes where the runs of a
    size were measured at the same volumes, each power of which is then taken once too; else runs x their rows; and
    where these differ much in number, all rows along m, with t = 1.

    Args:
        group: which size each lane is of [L].
        domain: which domain each lane's target is, or -1 [L].
        unit: how many of the user's units of volume `volume` is in [1, 1, L].
        mixture: r [d, m, 1, S].
        volume: s, divided by its largest value [1, t, S] or [m, t, S].
        model_size: N, divided by its largest value [m, 1, S].
        own: the target's own r_i, 0 where the target is no domain [m, 1, L].
        loss: measured losses [m, t, L].
        weight: weights of the squared residuals [m, t, L].
        run: which run of the table [m, 1, S], or -1.
        row: which row of the table [m, t, S], or -1.
    """

    group: Leaf
    domain: Leaf
    unit: Leaf
    mixture: Leaf
    volume: Leaf
    model_size: Leaf
    own: Leaf
    loss: Leaf
    weight: Leaf
    run: Leaf
    row: Leaf

    @property
    def rows(self) -> int:
        """Rows of a lane, padding included."""
        return self.loss.shape[0] * self.loss.shape[1]

    def flat(self, values: np.ndarray) -> np.ndarray:
        """Values whose axes before the last one broadcast to rows, with the rows along one axis [..., n, L or S]."""
        shape = (*values.shape[:-3], *self.loss.shape[:2], values.shape[-1])
        return np.broadcast_to(values, shape).reshape(*shape[:-3], -1, shape[-1])


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the axes of `Lanes` stand for, and how many rows were set aside."""

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    own: tuple[int, ...]
    sizes: tuple[float, ...]
    runs: int
    volume_unit: Unit | None
    volume_scale: float
    size_scale: float
    missing: np.ndarray
    zero: np.ndarray


def choose_targets(law: Law, observations: Observations, targets: tuple[str, ...] | None) -> tuple[str, ...]:
    """The targets to fit: those asked for, else all that the law can describe."""
    if targets is not None:
        known("target", targets, observations.targets, observations.source)
    chosen = targets if targets is not None else observations.targets
    if not law.own_proportion:
        return chosen
    foreign = tuple(t for t in chosen if t not in observations.domains)
    if targets is not None and foreign:
        raise InputError(
            f"target {', '.join(map(repr, foreign))} is not a training domain; {law.name} predicts a domain's loss "
            f"from that domain's own proportion only. Domains: {', '.join(observations.domains)}. {_other_laws()}"
        )
    own = tuple(t for t in chosen if t in observations.domains)
    if not own:
        raise InputError(
            f"{observations.source}: no target bears a domain's name, so {law.name} has nothing to fit. Targets: "
            f"{', '.join(observations.targets)}; domains: {', '.join(observations.domains)}. {_other_laws()}"
        )
    return own


def _other_laws() -> str:
    mixed = (name for name, law in LAWS.items() if any(c.per_domain or c.proportions > 1 for c in law.coefficients))
    names = [name for name in mixed if not LAWS[name].own_proportion]
    return f"Other targets need auto, or a law with cross-domain terms: {', '.join(names)}."


def build(
    law: Law,
    observations: Observations,
    unit: Unit | None,
    targets: tuple[str, ...],
    weights: np.ndarray | None = None,
) -> tuple[Lanes, Layout]:
    """Lay a table out in lanes; where the law has no model size, each size becomes lanes of its own."""
    table = Table.of(law, observations, unit, targets)
    return table.lanes(table.whole(weights))


@dataclass(frozen=True, kw_only=True)
class Group:
    """The numbers of rows that lanes share, one lane per target, and what each of them counts [n]."""

    rows: np.ndarray
    weight: np.ndarray

    def weight_at(self, row: np.ndarray) -> np.ndarray:
        """The weight of each place that holds one of its rows; 0 where there is none, or -1."""
        order = np.argsort(self.rows)
        found = np.searchsorted(self.rows, row, sorter=order)
        return np.where(row >= 0, np.append(self.weight[order], 0.0)[found], 0.0)


@dataclass(frozen=True, kw_only=True)
class Table:
    """The columns of a table that lanes are made of, with N rows.

    Args:
        observations: the table.
        targets: which losses are fitted.
        own: which domain each target is, or -1.
        volume, model_size, run: of each row, runs numbered [N].
        by_size: the rows that are fitted together.
        diverges: whether the law has no value where the own proportion is zero.
        unit: of the volume.
    """

    observations: Observations
    targets: tuple[str, ...]
    own: tuple[int, ...]
    volume: np.ndarray
    model_size: np.ndarray
    run: np.ndarray
    by_size: tuple[np.ndarray, ...]
    diverges: bool
    unit: Unit | None

    @classmethod
    def of(cls, law: Law, observations: Observations, unit: Unit | None, targets: tuple[str, ...]) -> "Table":
        """The columns that a law reads; an `InputError` where it reads a model size and there is none."""
        if law.sized and observations.model_size is None:
            raise InputError(f"{observations.source} has no column 'model_size', which {law.name} reads")
        count, given = len(observations), observations.model_size
        size = np.ones(count) if given is None else given.astype(float)
        sizes = [] if law.sized else observations.model_sizes
        return cls(
            observations=observations,
            targets=targets,
            own=tuple(observations.domains.index(t) if t in observations.domains else -1 for t in targets),
            volume=np.ones(count) if unit is None else observations.volumes(unit),
            model_size=size,
            run=_numbered(np.column_stack([np.unique(observations.run.astype(str), return_inverse=True)[1], size])),
            by_size=tuple(np.flatnonzero(size == each) for each in sizes) or (np.arange(count),),
            diverges=law.diverges_at_zero,
            unit=unit,
        )

    @property
    def own_shares(self) -> np.ndarray:
        """The proportion of each target's own domain, 0 where it is none [N, T]."""
        return self.observations.proportions[:, list(self.own)] * (np.array(self.own) >= 0)

    def whole(self, weights: np.ndarray | None = None) -> list["Group"]:
        """All rows, by size, with the given weights [N]."""
        each = np.ones(len(self.run)) if weights is None else weights
        return [Group(rows=rows, weight=each[rows]) for rows in self.by_size]

    def lanes(self, groups: Sequence[Group]) -> tuple[Lanes, Layout]:
        """One lane per group and target, groups slowest; volumes and sizes are divided by the table's largest."""
        table, scale, count = self.observations, float(self.volume.max()), len(self.targets)
        row, grid = _places([group.rows for group in groups], self.run, self.volume)
        first = row.max(axis=1, keepdims=True)
        present = np.repeat(row >= 0, count, axis=-1)
        loss = _by_lane(table.losses[:, [table.targets.index(t) for t in self.targets]], row)
        own = _by_lane(self.own_shares, first)
        missing = ~np.isfinite(loss)
        zero = (own == 0) & ~missing & self.diverges
        usable = present & ~missing & ~zero
        weight = np.stack([group.weight_at(row[..., number]) for number, group in enumerate(groups)], axis=-1)
        lanes = Lanes(
            group=np.repeat(np.arange(len(groups)), count),
            domain=np.tile(self.own, len(groups)),
            unit=np.full((1, 1, loss.shape[-1]), scale),
            mixture=np.moveaxis(table.proportions[first], -1, 0),
            volume=self.volume[row.max(axis=0, keepdims=True) if grid else row] / scale,
            model_size=self.model_size[first] / self.model_size.max(),
            own=np.where((own == 0) & self.diverges, 1.0, own),
            loss=np.where(usable, loss, 1.0),
            weight=usable * np.repeat(weight, count, axis=-1),
            run=np.where(first >= 0, self.run[first], -1),
            row=row,
        )
        return lanes, self._layout((missing & present).sum((0, 1)), (zero & present).sum((0, 1)))

    def _layout(self, missing: np.ndarray, zero: np.ndarray) -> Layout:
        return Layout(
            domains=self.observations.domains,
            targets=self.targets,
            own=self.own,
            sizes=tuple(float(s) for s in self.observations.model_sizes),
            runs=int(self.run.max()) + 1,
            volume_unit=self.unit,
            volume_scale=float(self.volume.max()),
            size_scale=float(self.model_size.max()),
            missing=missing,
            zero=zero,
        )


def _by_lane(columns: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Columns [rows, T] laid out as [m, t, S x T]."""
    return columns[row].reshape(*row.shape[:2], -1)


def _numbered(keys: np.ndarray) -> np.ndarray:
    """A number for each of the keys [n] or [n, k], the same for equal ones [n]."""
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def _places(groups: Sequence[np.ndarray], run: np.ndarray, volume: np.ndarray) -> tuple[np.ndarray, bool]:
    """Row numbers [m, t, S], -1 where there is none, and whether they are a grid of runs x volumes.

    Else they are runs x rows of a run, or, where too much of that would be empty, all along the first axis.
    """
    longest = padded_length(max(1, *map(len, groups)))
    runs = [_numbered(run[rows]) for rows in groups]
    volumes = [_numbered(volume[rows]) for rows in groups]
    single = all(
        len(set(zip(r.tolist(), v.tolist(), strict=True))) == len(r) for r, v in zip(runs, volumes, strict=True)
    )
    if single and _cells(runs, volumes) <= _GRID_WASTE * longest:
        return _placed(groups, runs, volumes), True
    places = [_positions(r) for r in runs]
    if _cells(runs, places) <= _GRID_WASTE * longest:
        return _placed(groups, runs, places), False
    return _placed(
        groups, [np.arange(len(rows)) for rows in groups], [np.zeros(len(rows), int) for rows in groups]
    ), False


def _axis(numbers: Sequence[np.ndarray]) -> int:
    return padded_length(1 + max(int(each.max(initial=0)) for each in numbers))


def _cells(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> int:
    return _axis(first) * _axis(second)


def _placed(groups: Sequence[np.ndarray], first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> np.ndarray:
    """The rows of each group, where two axes say."""
    row = np.full((_axis(first), _axis(second), len(groups)), -1)
    for number, (rows, i, k) in enumerate(zip(groups, first, second, strict=True)):
        row[i, k, number] = rows
    return row


def _positions(numbers: np.ndarray) -> np.ndarray:
    """How many before each have its number."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    found = np.empty(len(numbers), int)
    found[order] = np.arange(len(numbers)) - np.searchsorted(ordered, ordered)
    return found


def padded_length(count: int) -> int:
    """The smallest of 1, ..., 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, ... that is not below `count`.

    A fit takes milliseconds and its compilation seconds: tables of nearly one shape share a compiled fit.
    """
    step = 1 << max((count - 1).bit_length() - 3, 0)
    return -(-count // step) * step
