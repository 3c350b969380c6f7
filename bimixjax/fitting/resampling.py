"""The bootstrap over runs: a fit, and the same with other weights of the runs, many times."""

import dataclasses
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from bimixjax._base import checks, summaries
from bimixjax._base.arrays import Stored
from bimixjax._base.records import read_json, record, write_json
from bimixjax._base.schema import Spot, numbers, record as record_of
from bimixjax.fitting.base import Fit
from bimixjax.fitting.files import check_bounds
from bimixjax.fitting.points import losses_at
from bimixjax.fitting.result import FitResult
from bimixjax.laws import Law
from bimixjax.observations import Unique
from bimixjax.solve import Status


class Resamples(ABC):
    """A fit, and the same again with other weights of its runs, R times.

    Attributes:
        fit: of the runs as they are.
    """

    fit: Any

    @abstractmethod
    def __len__(self) -> int:
        """Count the resamples."""

    @abstractmethod
    def resample(self, index: int | Array) -> Fit:
        """Return the fit of one resample; inside a transform, any index."""

    @abstractmethod
    def _predictions(self, one: Any, r: Array, s: Array, model_size: float | None, inventory: Unique | None) -> Array:
        """Predict with every resample of the lanes of `one` size [R, ...], in float64."""

    def predict(
        self,
        mixtures: ArrayLike,
        volume: ArrayLike | None = None,
        model_size: float | None = None,
        *,
        inventory: Unique | None = None,
        from_prior: bool = False,
    ) -> np.ndarray:
        """Predict with every resample, in nats per token [R, ...]; arguments and errors as in `Fit.predict`."""
        one, r, s, _ = self.fit.checked_points(mixtures, volume, model_size, from_prior=from_prior)
        with jax.enable_x64(True):
            return np.asarray(self._predictions(one, r, s, model_size, inventory))

    def interval(
        self,
        mixtures: ArrayLike,
        volume: ArrayLike | None = None,
        model_size: float | None = None,
        *,
        level: float = 0.9,
        inventory: Unique | None = None,
        from_prior: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the limits that hold the share `level` of the resamples' predictions, in the middle.

        They hold the uncertainty from the choice of runs, not the misfit of the law.

        Args:
            mixtures: as in `predict` of the fit.
            volume: as in `predict` of the fit.
            model_size: as in `predict` of the fit.
            level: above 0 and below 1.
            inventory: as in `predict` of the fit.
            from_prior: as in `predict` of the fit.

        Returns:
            Lower and upper losses in nats per token, each shaped as `fit.predict` gives them.

        Raises:
            InputError: as `predict` of the fit; and for another level.
        """
        checks.share("level", level)
        losses = self.predict(mixtures, volume, model_size, inventory=inventory, from_prior=from_prior)
        # Between losses without bound, which some laws have at a share of 0, numpy finds no number.
        with np.errstate(invalid="ignore"):
            found = np.quantile(losses, [(1 - level) / 2, (1 + level) / 2], axis=0)
        lower, upper = np.where(np.isnan(found) & ~np.isnan(losses).any(0), np.inf, found)
        return lower, upper


@record
class Resampled(Resamples):
    """A fit, and its coefficients in R resamples of its runs.

    Attributes:
        fit: of the runs as they are.
        values: coefficients in the order of `fit.names`, in each resample and lane [R, L, k].
        status: how each of these fits ended [R, L].

    Example:
        >>> import bimixjax, jax
        >>> import pandas as pd
        >>> table = {"run": list("abcd"), "mixture/x": [0.2, 0.4, 0.6, 0.8], "mixture/y": [0.8, 0.6, 0.4, 0.2]}
        >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table | {"loss/x": [4.4, 3.3, 2.5, 2.3]}))
        >>> found = bimixjax.bootstrap("bimix", observations, key=jax.random.key(0), count=20)
        >>> found.predict([0.5, 0.5]).shape, bool(0 < found.standard_errors["alpha"][0] < 0.2)
        ((20, 1), True)
    """

    fit: FitResult
    values: Float[Stored, "R L k"]
    status: Int[Stored, "R L"]

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Resampled({self.fit!r}; {len(self)} resamples of the runs)"

    def summary(self) -> str:
        """Say in plain text what was fitted, and how its coefficients vary over resamples."""
        return summaries.spread(self)

    @property
    def standard_errors(self) -> dict[str, np.ndarray]:
        """Standard deviation over resamples of each coefficient, by name, in lanes [L]."""
        deviation = np.std(np.asarray(self.values), axis=0, ddof=1)
        return {name: deviation[:, i] for i, name in enumerate(self.fit.names)}

    @property
    def correlation(self) -> np.ndarray:
        """Correlation over resamples of the coefficients of each lane [L, k, k]; NaN for one that never moves."""
        off = np.asarray(self.values) - np.mean(self.values, axis=0)
        covariance = np.einsum("rli,rlj->lij", off, off)
        scale = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        product = scale[:, :, None] * scale[:, None]
        return np.divide(covariance, product, out=np.full(product.shape, np.nan), where=product > 0)

    def resample(self, index: int | Array) -> FitResult:
        """Return the fit with the coefficients of one resample, and all else as it is."""
        return dataclasses.replace(self.fit, values=self.values[index])

    def _predictions(
        self, one: FitResult, r: Array, s: Array, model_size: float | None, inventory: Unique | None
    ) -> Array:
        start = 0 if one is self.fit else self.fit.model_sizes.index(model_size or 0.0) * len(self.fit.targets)
        predictor = one.predictor(model_size, inventory=inventory)
        each = jax.vmap(lambda values: losses_at(dataclasses.replace(predictor, values=values), r, s))
        return each(jnp.asarray(self.values)[:, start : start + len(self.fit.targets)])

    def save(self, path: str | Path) -> None:
        """Write one strict JSON file: that of the fit, which it can be read as, with the resamples beside it."""
        document = {**self.fit.saved(), "resampled": {"values": self.values, "status": self.status}}
        write_json(path, document, hashed=True)

    @classmethod
    def load(cls, path: str | Path, law: Law | None = None) -> "Resampled":
        """Read a file written by `save`; `law` is needed where it is not one of `LAWS`.

        Raises:
            InputError: as `FitResult.load`; and if the file has a fit only.
        """
        whole = read_json(path)
        fit = FitResult.loaded(whole, path, law)
        found = checks.fields(whole, ["resampled"], path)["resampled"]
        spot = Spot(file=str(path), lengths=dict(zip(("lanes", "coefficients"), fit.values.shape, strict=True)))
        read = record_of(_TABLE)(found, spot.at("resampled"))
        unfitted = np.isnan(fit.values)
        if (np.isnan(read["values"]) & ~unfitted).any():
            raise spot.at("resampled").at("values").wrong(None, "numbers in a lane that was fitted")
        spot.lengths["domains"] = len(fit.domains)
        packed = read["values"].reshape(-1, fit.values.shape[1])
        lanes = {"values": packed, "volume_range": np.asarray(fit.volume_range)}
        check_bounds(fit.law, np.resize(fit.own, len(packed)), lanes, fit.model_sizes, spot)
        return cls(fit=fit, **read)


_TABLE = {
    "values": numbers("resamples", "lanes", "coefficients", null=True),
    "status": numbers("resamples", "lanes", of=int, low=min(Status), high=max(Status)),
}
