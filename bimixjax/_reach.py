"""What a fit covers - model sizes, volumes, proportions - and what may be asked of it."""

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from bimixjax import _checks
from bimixjax.observations import Unit


class Reach(ABC):
    """The base of a fit: it picks the model size and the volume of a prediction, and says where that extrapolates.

    Lanes are sizes x targets, sizes slowest. `proportion_range` [L, d, 2] and `volume_range` [L, 2] hold what was
    fitted, NaN for a lane without an observation.
    """

    targets: tuple[str, ...]
    own: tuple[int, ...]
    volume_unit: Unit | None
    model_sizes: tuple[float, ...]
    proportion_range: Any
    volume_range: Any

    @abstractmethod
    def at(self, model_size: float) -> Self:
        """The fit of one model size."""

    def at_size(self, model_size: float | None) -> Self:
        """The fit to predict with at a model size; an `InputError` where none is given and one is needed."""
        if model_size is not None:
            return self if self._knows_size() else self.at(model_size)
        if len(self.model_sizes) > 1:
            sizes = ", ".join(f"{s:g}" for s in self.model_sizes)
            raise _checks.InputError(f"several model sizes were fitted ({sizes}); say which one with model_size")
        return self

    def size_or_only(self, model_size: float | None) -> float:
        """`model_size`, or where it is None the only size that was fitted; 1 where the table has none."""
        return model_size if model_size is not None else next(iter(self.model_sizes), 1.0)

    def volume_or_only(self, volume: ArrayLike | None) -> ArrayLike:
        """`volume`, or where it is None the only volume that was fitted; an `InputError` where there are several."""
        if volume is not None:
            return volume
        fitted = np.asarray(self.volume_range)
        low, high = np.fmin.reduce(fitted[:, 0]), np.fmax.reduce(fitted[:, 1])
        if low == high:
            return low
        raise _checks.InputError(
            f"the fit covers volumes {low:g} to {high:g} {self.volume_unit}; say which with volume"
        )

    def extrapolates(
        self, mixtures: ArrayLike, volume: ArrayLike | None = None, model_size: float | None = None
    ) -> np.ndarray:
        """Whether each prediction lies outside the fitted proportions or volumes, [n, targets] or [targets].

        For a law of the own proportion only that proportion counts. Arguments as in `predict`.
        """
        one = self.at_size(model_size)
        r, s = np.asarray(mixtures, float), np.asarray(one.volume_or_only(volume), float)
        ranges = np.asarray(one.proportion_range)
        outside = (r[..., None, :] < ranges[:, :, 0] - 1e-9) | (r[..., None, :] > ranges[:, :, 1] + 1e-9)
        outside = outside[..., np.arange(len(self.targets)), list(self.own)] if self._own_only() else outside.any(-1)
        low, high = np.asarray(one.volume_range).T
        return outside | (s[..., None] < low * (1 - 1e-9)) | (s[..., None] > high * (1 + 1e-9))

    def _knows_size(self) -> bool:
        """Whether one formula, fitted to several model sizes, holds for all."""
        return False

    def _own_only(self) -> bool:
        """Whether a target's loss follows from its own proportion alone."""
        return False

    def _place(self, model_size: float) -> int:
        """Which of the sizes fitted apart this is.

        Raises:
            InputError: if that size was not fitted.
        """
        if model_size in self.model_sizes:
            return self.model_sizes.index(model_size)
        sizes = ", ".join(f"{s:g}" for s in self.model_sizes) or "none"
        raise _checks.InputError(f"model size {model_size:g} was not fitted; fitted sizes: {sizes}")
