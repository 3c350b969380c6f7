"""What the figures of a fit show: each target's measured losses beside the law's, row by row."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Shaped

from bimixjax.fitting.base import Fit
from bimixjax.observations import Observations

# The fewest and most points of a curve, and about how many points all curves of a model size may have.
_POINTS, _MOST_POINTS = (16, 64), 8192


def short(number: float) -> str:
    """Write a model size or a volume as people say it.

    Example:
        >>> short(70e6), short(3e10), short(1500.0)
        ('70M', '30B', '1.5K')
    """
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= scale:
            return f"{number / scale:.4g}{letter}"
    return f"{number:.4g}"


def volume_of(fit: Fit) -> str:
    """Return the unit of a fit's volume in words."""
    return f"volume in {fit.volume_unit}" if fit.volume_unit else "one volume"


def sizes_apart(fit: Fit) -> tuple[float | None, ...]:
    """Return the model sizes that have coefficients of their own; None where all have the same, or there is one."""
    return fit.model_sizes if len(fit.usable) > len(fit.targets) else (None,)


def names_of_lanes(fit: Fit) -> list[tuple[str, ...]]:
    """Return the target of each lane, and its model size where there are several."""
    return [(target,) if size is None else (target, short(size)) for size in sizes_apart(fit) for target in fit.targets]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The law's loss of one run between its first and last volume; `own` is the target's own proportion."""

    own: float
    volume: Float[np.ndarray, " p"]
    loss: Float[np.ndarray, " p"]


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One target (at one model size): what was measured and what the law says at the same n rows.

    Attributes:
        target: its name.
        model_size: parameters, or None where the fit has one size only.
        run: ids.
        volume: s.
        own: the target's own proportion r_i, NaN where the target is no domain.
        measured, predicted: losses, nats per token; NaN or infinite where there is none.
        curves: of the runs with usable rows at more than one volume.
    """

    target: str
    model_size: float | None
    run: Shaped[np.ndarray, " n"]
    volume: Float[np.ndarray, " n"]
    own: Float[np.ndarray, " n"]
    measured: Float[np.ndarray, " n"]
    predicted: Float[np.ndarray, " n"]
    curves: tuple[Curve, ...] = ()

    @property
    def usable(self) -> Bool[np.ndarray, " n"]:
        """Rows with a finite measured and predicted loss."""
        return np.isfinite(self.measured) & np.isfinite(self.predicted)


@dataclass(frozen=True, kw_only=True)
class FittedLosses:
    """All lanes of a fit beside the observations; `law` says in words what was fitted."""

    law: str
    volume_unit: str | None
    lanes: tuple[Lane, ...]

    @classmethod
    def of(cls, fit: Fit, observations: Observations) -> Self:
        """Put a fit's predictions beside the rows of a table with the same domains and targets."""
        sizes = fit.model_sizes if len(fit.model_sizes) > 1 else (None,)
        lanes = [lane for size in sizes for lane in _lanes(fit, observations, size)]
        law = fit.name if fit.name == "auto" else f"the law {fit.name}"
        return cls(law=law, volume_unit=fit.volume_unit, lanes=tuple(lanes))

    @property
    def has_curves(self) -> bool:
        """Whether some run was measured at more than one volume."""
        return any(lane.curves for lane in self.lanes)


def _lanes(fit: Fit, observations: Observations, size: float | None) -> Iterator[Lane]:
    table = observations if size is None else observations.select(model_size=size)
    volume = table.volumes(fit.volume_unit)
    predicted = np.asarray(fit.predict(table.proportions, volume, model_size=size, from_prior=True))
    measured = table.losses[:, [table.targets.index(target) for target in fit.targets]]
    usable = np.isfinite(measured) & np.isfinite(predicted)
    curves = _curves(fit, table, size, usable)
    for i, target in enumerate(fit.targets):
        yield Lane(
            target=target,
            model_size=size,
            run=table.run,
            volume=volume,
            own=table.proportions[:, fit.own[i]] if fit.own[i] >= 0 else np.full(len(table), np.nan),
            measured=measured[:, i],
            predicted=predicted[:, i],
            curves=tuple(curves[i]),
        )


def _curves(fit: Fit, table: Observations, size: float | None, usable: Bool[np.ndarray, "n t"]) -> list[list[Curve]]:
    """Return the curves of each target, all read in one call of `predict`."""
    volume, names = table.volumes(fit.volume_unit), dict.fromkeys(table.run.tolist())
    # A curve starts above zero, where its axis does.
    rows = [np.flatnonzero((table.run == name) & usable.any(axis=1) & (volume > 0)) for name in names]
    rows = [of_run for of_run in rows if len(np.unique(volume[of_run])) > 1]
    found: list[list[Curve]] = [[] for _ in fit.targets]
    if not rows:
        return found
    count = int(np.clip(_MOST_POINTS // len(rows), *_POINTS))
    grid = np.stack([np.geomspace(volume[of_run].min(), volume[of_run].max(), count) for of_run in rows])
    mixtures = np.stack([table.proportions[of_run[0]] for of_run in rows])
    losses = np.asarray(fit.predict(np.repeat(mixtures, count, axis=0), grid.ravel(), model_size=size, from_prior=True))
    losses = losses.reshape(len(rows), count, len(fit.targets))
    for k, of_run in enumerate(rows):
        for i, own in enumerate(fit.own):
            there = volume[of_run[usable[of_run, i]]]
            if len(np.unique(there)) > 1:
                inside = (grid[k] >= there.min() * (1 - 1e-9)) & (grid[k] <= there.max() * (1 + 1e-9))
                share = float(mixtures[k, own]) if own >= 0 else np.nan
                found[i].append(Curve(own=share, volume=grid[k, inside], loss=losses[k, inside, i]))
    return found
