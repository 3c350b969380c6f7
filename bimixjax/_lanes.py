"""From a table to the arrays that a batched fit reads: sizes x targets x rows, padded and masked."""

from dataclasses import dataclass

import numpy as np

from bimixjax._checks import InputError, known
from bimixjax._records import Leaf, record
from bimixjax.laws import LAWS, Law
from bimixjax.observations import Observations, Unit


@record
class Lanes:
    """One lane per model size and target, sizes slowest; rows of weight zero are padding or masked.

    Args:
        group: which size each lane is of [L].
        domain: which domain each lane's target is, or -1 [L].
        unit: how many of the user's units of volume `volume` is in [1, L].
        mixture: r [d, n, S].
        volume: s [n, S], divided by its largest value.
        model_size: N [n, S], divided by its largest value.
        own: the target's own r_i, 0 where the target is no domain [n, L].
        loss: measured losses [n, L].
        weight: weights of the squared relative residuals [n, L].
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


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the axes of `Lanes` stand for, and how many rows were set aside."""

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    own: tuple[int, ...]
    sizes: tuple[float, ...]
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
    names = [name for name, law in LAWS.items() if not law.own_proportion]
    if not names:
        return "Other targets need a law with cross-domain terms, which this version does not have."
    return f"Other targets need a law with cross-domain terms: {', '.join(names)}."


def build(law: Law, observations: Observations, unit: Unit | None, targets: tuple[str, ...]) -> tuple[Lanes, Layout]:
    """Lay a table out in lanes; where the law has no model size, each size becomes lanes of its own."""
    if law.sized and observations.model_size is None:
        raise InputError(f"{observations.source} has no column 'model_size', which {law.name} reads")
    volume = np.ones(len(observations)) if unit is None else observations.volumes(unit)
    scale = float(volume.max())
    size = np.ones(len(observations)) if observations.model_size is None else observations.model_size.astype(float)
    sizes = tuple(float(s) for s in observations.model_sizes)
    apart = sizes and not law.sized
    groups = [np.flatnonzero(size == s) for s in sizes] if apart else [np.arange(len(observations))]
    rows = _pad(groups).T
    present = np.repeat(rows >= 0, len(targets), axis=1)
    loss = _by_lane(observations.losses[:, [observations.targets.index(t) for t in targets]], rows)
    own_index = tuple(observations.domains.index(t) if t in observations.domains else -1 for t in targets)
    own = _by_lane(observations.proportions[:, list(own_index)] * (np.array(own_index) >= 0), rows)
    missing = ~np.isfinite(loss)
    zero = (own == 0) & ~missing & law.diverges_at_zero
    usable = present & ~missing & ~zero
    lanes = Lanes(
        group=np.repeat(np.arange(len(groups)), len(targets)),
        domain=np.tile(own_index, len(groups)),
        unit=np.full((1, loss.shape[1]), scale),
        mixture=np.moveaxis(observations.proportions[rows], -1, 0),
        volume=volume[rows] / scale,
        model_size=size[rows] / size.max(),
        own=np.where(usable, own, 1.0),
        loss=np.where(usable, loss, 1.0),
        weight=usable.astype(float),
    )
    layout = Layout(
        domains=observations.domains,
        targets=targets,
        own=own_index,
        sizes=sizes,
        volume_unit=unit,
        volume_scale=scale,
        size_scale=float(size.max()),
        missing=(missing & present).sum(0),
        zero=(zero & present).sum(0),
    )
    return lanes, layout


def _by_lane(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Columns [rows, T] laid out as [n, S x T]."""
    return columns[rows].reshape(len(rows), -1)


def _pad(groups: list[np.ndarray]) -> np.ndarray:
    """Row numbers [S, n], -1 where a size has fewer than n rows."""
    rows = np.full((len(groups), _padded_length(max(map(len, groups)))), -1)
    for group, line in zip(groups, rows, strict=True):
        line[: len(group)] = group
    return rows


def _padded_length(rows: int) -> int:
    """The smallest of 16, 24, 32, 48, 64, 96, ... that is not below `rows`.

    A fit takes milliseconds and its compilation seconds: tables of nearly one length share a compiled fit.
    """
    power = max(16, 1 << (rows - 1).bit_length())
    return power * 3 // 4 if max(16, rows) <= power * 3 // 4 else power
