"""From a table to the arrays that a batched fit reads: runs x volumes x lanes, padded and masked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from bimixjax._base.arrays import Stored
from bimixjax._base.checks import InputError, known
from bimixjax._base.records import record
from bimixjax.laws import LAWS, Law
from bimixjax.observations import Observations, Unit

# A grid of runs and volumes may hold this many times as many cells as there are rows: the powers that it saves cost
# more than the empty cells that it adds. Set by hand; no benchmark varies it.
_GRID_WASTE = 1.6

# The rows that lanes share, one lane per target, and what each of them counts.
Group = tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]


@record
class Lanes:
    """One lane per model size and target, sizes slowest; rows of weight zero are padding or masked.

    Rows have two axes, m x t, so that a power of a proportion is taken once per run: runs x volumes where the runs of a
    size were measured at the same volumes, each power of which is then taken once too; else runs x their rows; and
    where these differ much in number, all rows along m, with t = 1.

    Attributes:
        group: the size of each lane, as a number.
        domain: the domain that each lane's target is, or -1.
        unit: how many of the user's units of volume `volume` is in.
        mixture: r.
        volume: s, divided by its largest value [1, t, S] or [m, t, S].
        model_size: N, divided by its largest value.
        own: the target's own r_i, 0 where the target is no domain.
        loss: measured losses.
        weight: weights of the squared residuals.
        run: the run of the table, as a number, or -1.
        row: the row of the table, or -1.
        unique: what there is of each domain, in units of `volume`; None where the law or the table knows no limit.
    """

    group: Int[Stored, " L"]
    domain: Int[Stored, " L"]
    unit: Float[Stored, "1 1 L"]
    mixture: Float[Stored, "d m 1 S"]
    volume: Float[Stored, "m_or_1 t S"]
    model_size: Float[Stored, "m 1 S"]
    own: Float[Stored, "m 1 L"]
    loss: Float[Stored, "m t L"]
    weight: Float[Stored, "m t L"]
    run: Int[Stored, "m 1 S"]
    row: Int[Stored, "m t S"]
    unique: Float[Stored, "d m 1 S"] | None = None

    @property
    def rows(self) -> int:
        """Rows of a lane, padding included."""
        return self.loss.shape[0] * self.loss.shape[1]

    def flat(self, values: Stored) -> np.ndarray:
        """Broadcast values [..., m, t, L or S] to all rows, and lay these along one axis [..., n, L or S]."""
        shape = (*values.shape[:-3], *self.loss.shape[:2], values.shape[-1])
        return np.broadcast_to(values, shape).reshape(*shape[:-3], -1, shape[-1])

    def places(self) -> Int[np.ndarray, "n S"]:
        """Number the pairs of volume and model size of the rows of each size, equal ones alike."""
        pairs = zip(self.flat(self.volume).T, self.flat(self.model_size).T, strict=True)
        return np.stack([numbered(np.column_stack(pair)) for pair in pairs], axis=1)


def choose_targets(law: Law, observations: Observations, targets: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the targets to fit: those asked for, else all that the law can describe."""
    if targets is not None:
        known("target", targets, observations.targets, observations.source)
    chosen, domains = observations.targets if targets is None else targets, observations.domains
    if not law.own_proportion:
        return chosen
    own = tuple(t for t in chosen if t in domains)
    if own and targets in (None, own):
        return own
    mixed = (name for name, law in LAWS.items() if any(c.per_domain or c.proportions > 1 for c in law.coefficients))
    others = ", ".join(name for name in mixed if not LAWS[name].own_proportion)
    advice = f"Other targets need auto, or a law with cross-domain terms: {others}."
    if targets:
        foreign = ", ".join(repr(t) for t in targets if t not in domains)
        raise InputError(
            f"target {foreign} is not a training domain; {law.name} predicts a domain's loss "
            f"from that domain's own proportion only. Domains: {', '.join(domains)}. {advice}"
        )
    raise InputError(
        f"{observations.source}: no target bears a domain's name, so {law.name} has nothing to fit. Targets: "
        f"{', '.join(observations.targets)}; domains: {', '.join(domains)}. {advice}"
    )


@dataclass(frozen=True, kw_only=True)
class Table:
    """The columns of a table of N rows that lanes are made of.

    Attributes:
        observations: the table.
        targets: the names of the losses that are fitted.
        own: the domain that each target is, or -1.
        losses: of the targets, NaN where missing.
        own_share: the proportion of each target's own domain, 0 where it is none.
        volume, model_size: of each row.
        run: of each row, as a number.
        by_size: the rows that are fitted together.
        diverges: whether the law has no value where the own proportion is zero.
        unit: of the volume.
        unique: the unique tokens of each row, where the law reads them and the table has any.
    """

    observations: Observations
    targets: tuple[str, ...]
    own: tuple[int, ...]
    losses: Float[np.ndarray, "N T"]
    own_share: Float[np.ndarray, "N T"]
    volume: Float[np.ndarray, " N"]
    model_size: Float[np.ndarray, " N"]
    run: Int[np.ndarray, " N"]
    by_size: tuple[Int[np.ndarray, " n"], ...]
    diverges: bool
    unit: Unit | None
    unique: Float[np.ndarray, "N d"] | None = None

    @classmethod
    def of(cls, law: Law, observations: Observations, unit: Unit | None, targets: tuple[str, ...]) -> "Table":
        """Take the columns that a law reads.

        Raises:
            InputError: where the law reads a model size and there is none, or tokens and the volume is in steps.
        """
        if law.sized and observations.model_size is None:
            raise InputError(f"{observations.source} has no column 'model_size', which {law.name} reads")
        size, domains = row_sizes(observations), observations.domains
        own = [domains.index(t) if t in domains else -1 for t in targets]
        sizes = [] if law.sized else observations.model_sizes
        # Rows of one id at two model sizes are two runs.
        ids = np.unique(observations.run.astype(str), return_inverse=True)[1]
        return cls(
            observations=observations,
            targets=targets,
            own=tuple(own),
            losses=observations.losses[:, [observations.targets.index(t) for t in targets]],
            own_share=observations.proportions[:, own] * (np.array(own) >= 0),
            volume=np.ones(len(size)) if unit is None else observations.volumes(unit),
            model_size=size,
            run=numbered(np.column_stack([ids, size])),
            by_size=tuple(np.flatnonzero(size == each) for each in sizes) or (np.arange(len(size)),),
            diverges=law.diverges_at_zero,
            unit=unit,
            unique=unique_tokens(law, observations, unit),
        )

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return int(self.run.max()) + 1

    @property
    def scales(self) -> tuple[Float[np.ndarray, ""], Float[np.ndarray, ""]]:
        """The largest volume and model size, by which those of lanes are divided."""
        return np.asarray(self.volume.max()), np.asarray(self.model_size.max())

    def groups(self, weights: Float[np.ndarray, " N"] | None = None) -> list[Group]:
        """Group all rows by model size, with the given weights."""
        each = np.ones(len(self.run)) if weights is None else weights
        return [(rows, each[rows]) for rows in self.by_size]

    def unusable(self, row: Int[Stored, "m t S"]) -> tuple[Bool[np.ndarray, "m t L"], Bool[np.ndarray, "m t L"]]:
        """Find the rows of lanes without a loss, and those with a proportion of zero where the law diverges."""
        place = np.asarray(row)
        present = np.repeat(place >= 0, len(self.targets), axis=-1)
        missing = present & ~np.isfinite(_by_lane(self.losses, place))
        zero = self.diverges & present & ~missing & (_by_lane(self.own_share, place) == 0)
        return missing, zero

    def lanes(self, groups: Sequence[Group]) -> Lanes:
        """Lay out one lane per group and target, groups slowest."""
        count, (volume_scale, size_scale) = len(self.targets), self.scales
        row, weight, is_grid = _places(groups, self.run, self.volume)
        first = row.max(axis=1, keepdims=True)
        missing, zero = self.unusable(row)
        usable = np.repeat(row >= 0, count, axis=-1) & ~missing & ~zero
        own = _by_lane(self.own_share, first)
        return Lanes(
            group=np.repeat(np.arange(len(groups)), count),
            domain=np.tile(self.own, len(groups)),
            unit=np.full((1, 1, usable.shape[-1]), volume_scale),
            mixture=np.moveaxis(self.observations.proportions[first], -1, 0),
            volume=self.volume[row.max(axis=0, keepdims=True) if is_grid else row] / volume_scale,
            model_size=self.model_size[first] / size_scale,
            own=np.where((own == 0) & self.diverges, 1.0, own),
            loss=np.where(usable, _by_lane(self.losses, row), 1.0),
            weight=usable * np.repeat(weight, count, axis=-1),
            run=np.where(first >= 0, self.run[first], -1),
            row=row,
            unique=None if self.unique is None else np.moveaxis(self.unique[first], -1, 0) / volume_scale,
        )


def unique_tokens(law: Law, observations: Observations, unit: Unit | None) -> Float[np.ndarray, "N d"] | None:
    """Return the unique tokens of each row where a law reads them; None where it does not, or there is no limit.

    Raises:
        InputError: where the volume is not in tokens.
    """
    if not law.reads_unique or not observations.has_inventory:
        return None
    require_tokens(law.name, unit, f"the columns unique/<domain> of {observations.source}")
    return observations.unique


def require_tokens(law: str, unit: Unit | None, what: str) -> None:
    """Raise unless a volume is in tokens, of which unique ones make epochs."""
    if unit != "tokens":
        got = "has no unit" if unit is None else f"is in {unit}"
        raise InputError(f"law {law} reads {what}, which are in tokens; the volume {got}; allowed: fit it in tokens")


def row_sizes(observations: Observations) -> Float[np.ndarray, " N"]:
    """Return the model size of each row; 1 where the table has none."""
    given = observations.model_size
    return np.ones(len(observations)) if given is None else given.astype(float)


def _by_lane(columns: np.ndarray, row: Int[np.ndarray, "m t S"]) -> np.ndarray:
    """Lay columns [N, T] out as [m, t, S x T]."""
    return columns[row].reshape(*row.shape[:2], -1)


def _places(
    groups: Sequence[Group], run: Int[np.ndarray, " N"], volume: Float[np.ndarray, " N"]
) -> tuple[Int[np.ndarray, "m t S"], Float[np.ndarray, "m t S"], bool]:
    """Return row numbers, -1 where there is none, their weights, and whether they are a grid of runs x volumes.

    Else they are runs x rows of a run, or, where too much of that would be empty, all along the first axis.
    """
    rows, weights = zip(*groups, strict=True)
    most = _GRID_WASTE * padded_length(max(1, *map(len, rows)))
    runs, volumes = [numbered(run[each]) for each in rows], [numbered(volume[each]) for each in rows]
    layouts = [
        (runs, [_count_before(each) for each in runs]),
        ([np.arange(len(each)) for each in rows], [0 * each for each in rows]),
    ]
    # A cell of a grid holds one row.
    if all(len(np.unique(np.column_stack(pair), axis=0)) == len(pair[0]) for pair in zip(runs, volumes, strict=True)):
        layouts.insert(0, (runs, volumes))
    # The first that is not too empty, else the last.
    while True:
        first, second = layouts.pop(0)
        m, t = 1 + np.concatenate(first).max(initial=0), 1 + np.concatenate(second).max(initial=0)
        shape = padded_length(int(m)), padded_length(int(t))
        if math.prod(shape) <= most or not layouts:
            break
    row = on_grid(rows, first, second, shape, -1)
    return row, on_grid(weights, first, second, shape, 0.0), second is volumes


def on_grid(
    values: Sequence[np.ndarray],
    first: Sequence[Int[np.ndarray, " n"]],
    second: Sequence[Int[np.ndarray, " n"]],
    shape: tuple[int, ...],
    empty: float,
) -> np.ndarray:
    """Put the values of each of S groups where two axes say, and `empty` elsewhere [m, t, S]."""
    grid = np.full((*shape, len(values)), empty)
    for number, (each, i, k) in enumerate(zip(values, first, second, strict=True)):
        grid[i, k, number] = each
    return grid


def numbered(keys: np.ndarray) -> Int[np.ndarray, " n"]:
    """Number the keys [n] or [n, k] in ascending order from 0, equal ones alike."""
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def _count_before(numbers: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Count for each number the equal ones before it."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    found = np.empty(len(numbers), int)
    found[order] = np.arange(len(numbers)) - np.searchsorted(ordered, ordered)
    return found


def padded_length(count: int, digits: int = 3) -> int:
    """Return the smallest number of at most so many binary digits, zeros behind them, that is not below `count`.

    A fit takes milliseconds and its compilation seconds: tables of nearly one shape share a compiled fit.

    Example:
        >>> [padded_length(count) for count in (7, 8, 9, 11, 17)], [padded_length(count, 2) for count in (4, 5, 9)]
        ([7, 8, 10, 12, 20], [4, 6, 12])
    """
    step = 1 << max((count - 1).bit_length() - digits, 0)
    return -(-count // step) * step
