"""What resamples of the runs, or draws from a fit of `auto`, leave open of coefficients and predictions."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float

from bimixjax.estimation import AutoResampled, Resampled
from bimixjax.observations import Observations

DRAWS, RESAMPLES = "draws from the posterior of the fit", "bootstrap resamples of the runs"

# The share of draws that limits hold.
LEVEL = 0.9
WITHIN = f"{100 * LEVEL:.0f} % of draws"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Standard deviations over resamples of a table's runs, or over draws of what a fit of `auto` leaves open.

    Attributes:
        found: the fit and its resamples or draws.
        model_sizes: of the table; one None where it has none.
        predictions: of each target's predicted loss, as a share of it, in the mean over the runs of a model size, each
            at its last volume; NaN where nothing is predicted.
    """

    found: Resampled | AutoResampled
    model_sizes: tuple[float | None, ...]
    predictions: Float[np.ndarray, "sizes t"]

    @classmethod
    def of(cls, found: Resampled | AutoResampled, observations: Observations) -> Self:
        """Predict where the runs of the table ended, in every resample or draw."""
        sizes = observations.model_sizes or (None,)
        shares = [_of_size(found, observations.select(model_size=size), size) for size in sizes]
        return cls(found=found, model_sizes=sizes, predictions=np.stack(shares))

    @property
    def drawn(self) -> bool:
        """Whether it is of draws, which `AutoFit.interval` agrees with but for the noise of a measured loss."""
        return isinstance(self.found, AutoResampled) and self.found.drawn

    @property
    def source(self) -> str:
        """What there are many of, in words."""
        return DRAWS if self.drawn else RESAMPLES


def _of_size(
    found: Resampled | AutoResampled, observations: Observations, size: float | None
) -> Float[np.ndarray, " t"]:
    volume = observations.volumes(found.fit.volume_unit)
    last = [max(np.flatnonzero(observations.run == run), key=volume.__getitem__) for run in observations.runs]
    losses = found.predict(observations.proportions[last], volume[last], size, from_prior=True)
    known = np.isfinite(losses).all(0)
    usable = np.where(known, losses, 1.0)
    share, count = np.std(usable, axis=0, ddof=1) / np.mean(usable, axis=0), known.sum(0)
    return np.divide(share.sum(0), count, out=np.full(count.shape, np.nan), where=count > 0)
