"""What the figures of a fit show: each target's measured losses beside the law's, row by row."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bimixjax.fitting import FitResult
from bimixjax.observations import Observations
from bimixjax.stacking import AutoFit

Floats = NDArray[np.float64]


def short(number: float) -> str:
    """A model size or a volume as people say it.

    Example:
        >>> short(70e6), short(3e10), short(1500.0)
        ('70M', '30B', '1.5K')
    """
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= scale:
            return f"{number / scale:.4g}{letter}"
    return f"{number:.4g}"


def sizes_apart(fit: FitResult | AutoFit) -> tuple[float | None, ...]:
    """The model sizes that have coefficients of their own; None where all have the same, or there is one."""
    apart = isinstance(fit, AutoFit) or not fit.law.sized
    return fit.model_sizes if apart and len(fit.model_sizes) > 1 else (None,)


def names_of_lanes(fit: FitResult | AutoFit) -> list[tuple[str, ...]]:
    """The target of each lane, and its model size where there are several."""
    return [(target,) if size is None else (target, short(size)) for size in sizes_apart(fit) for target in fit.targets]


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One target (at one model size): what was measured and what the law says at the same n rows.

    Args:
        target: its name.
        model_size: parameters, or None where the fit has one size only.
        run: ids [n].
        volume: s [n].
        own: the target's own proportion r_i [n], NaN where the target is no domain.
        measured, predicted: losses [n], nats per token; NaN or infinite where there is none.
    """

    target: str
    model_size: float | None
    run: NDArray[np.object_]
    volume: Floats
    own: Floats
    measured: Floats
    predicted: Floats

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Rows with a finite measured and predicted loss."""
        return np.isfinite(self.measured) & np.isfinite(self.predicted)

    def curves(self) -> Iterator[NDArray[np.intp]]:
        """The usable rows of each run that has any, by volume."""
        for run in dict.fromkeys(self.run[self.usable]):
            rows = np.flatnonzero(self.usable & (self.run == run))
            yield rows[np.argsort(self.volume[rows], kind="stable")]


@dataclass(frozen=True, kw_only=True)
class FittedLosses:
    """All lanes of a fit beside the observations; `law` says in words what was fitted."""

    law: str
    volume_unit: str | None
    lanes: tuple[Lane, ...]

    @classmethod
    def of(cls, fit: FitResult | AutoFit, observations: Observations) -> Self:
        """Put a fit's predictions beside the rows of a table with the same domains and targets."""
        sizes = fit.model_sizes if len(fit.model_sizes) > 1 else (None,)
        lanes = [lane for size in sizes for lane in _lanes(fit, observations, size)]
        law = "auto" if isinstance(fit, AutoFit) else f"the law {fit.law.name}"
        return cls(law=law, volume_unit=fit.volume_unit, lanes=tuple(lanes))

    @property
    def has_curves(self) -> bool:
        """Whether some run was measured at more than one volume."""
        return any(len(curve) > 1 for lane in self.lanes for curve in lane.curves())


def _lanes(fit: FitResult | AutoFit, observations: Observations, size: float | None) -> Iterator[Lane]:
    table = observations if size is None else observations.select(model_size=size)
    volume = table.volumes(fit.volume_unit)
    predicted = np.asarray(fit.predict(table.proportions, volume, model_size=size))
    for i, target in enumerate(fit.targets):
        yield Lane(
            target=target,
            model_size=size,
            run=table.run,
            volume=volume,
            own=table.proportions[:, fit.own[i]] if fit.own[i] >= 0 else np.full(len(table), np.nan),
            measured=table.losses[:, table.targets.index(target)],
            predicted=predicted[:, i],
        )
