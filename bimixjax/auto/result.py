"""A fit of `auto`: predictions with intervals, and the weights of the members."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from bimixjax._base import checks, notebooks, summaries
from bimixjax._base.records import read_json, record, static, write_json
from bimixjax._base.schema import Kind, Spot, each, maybe, record as record_of, texts
from bimixjax.auto.averaging import reach
from bimixjax.auto.beyond import Beyond, Carried
from bimixjax.auto.files import read_size, saved_size
from bimixjax.auto.losses import AutoLosses
from bimixjax.auto.members import named_members
from bimixjax.auto.one_size import AutoSize
from bimixjax.auto.reading import read
from bimixjax.fitting.base import Fit
from bimixjax.fitting.coverage import Coverage
from bimixjax.fitting.extrapolation import Extrapolation, outside_of
from bimixjax.fitting.files import NAMES, names_of
from bimixjax.observations import Unique, Unit

# The version of the file format, and of the priors by which a file's standardized coefficients are read.
_VERSION = 3

# Distinct volumes that identify the members' common term in the volume, B s^-beta + C.
_VOLUMES = 3


@record
class AutoFit(Fit):
    """Several laws fitted to each target and averaged, with what is known about the average.

    Attributes:
        domains, targets: names; `targets` lists the columns of `predict`.
        own: for each target, which domain it is, or -1.
        volume_unit: "steps", "tokens", or None where the table has no volume.
        model_sizes: sizes fitted separately, in parameters; empty where the table has no size.
        sentences: per size and target, what the average is made of and how it did on runs left out.
        notes: what else a reader should know.
        sizes: what was fitted at each size.
        beyond: a law that extrapolates to other sizes, if one was asked for.

    Example:
        >>> import pandas as pd
        >>> import bimixjax
        >>> table = {"run": ["a", "b", "c"], "mixture/x": [0.25, 1.0, 0.5], "mixture/y": [0.75, 0.0, 0.5]}
        >>> table |= {"loss/x": [4.0, 2.0, 2.8]}
        >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table))
        >>> fit = bimixjax.fit(bimixjax.Auto(members=("offset",)), observations)
        >>> lower, upper = fit.interval([0.4, 0.6])
        >>> bool(lower[0] < fit.predict([0.4, 0.6])[0] < upper[0])
        True
    """

    domains: tuple[str, ...] = static()
    targets: tuple[str, ...] = static()
    own: tuple[int, ...] = static()
    volume_unit: Unit | None = static()
    model_sizes: tuple[float, ...] = static()
    sentences: tuple[str, ...] = static()
    notes: tuple[str, ...] = static()
    sizes: tuple[AutoSize, ...]
    beyond: Beyond | None = None
    gives_intervals = True

    def __repr__(self) -> str:
        return f"AutoFit({summaries.reach(self)})"

    def summary(self) -> str:
        """Say in plain text what each target's average is made of, and how it did on runs left out."""
        return summaries.averaged(self)

    def _repr_html_(self) -> str:
        return notebooks.averaged(self)

    @property
    def members(self) -> dict[str, Any]:
        """The weights of the members by name: [targets], or [sizes, targets] where there are several sizes."""
        names = dict.fromkeys(name for size in self.sizes for name in size.member_names)
        return {name: self._of_sizes(lambda size, name=name: size.weights_of(name)) for name in names}

    @property
    def donors(self) -> dict[float, float]:
        """The model size whose losses are a covariate of another: from the larger to the smaller."""
        return {float(size.model_size): float(size.lent.size.model_size) for size in self.sizes if size.lent}

    @property
    def left_out_error(self) -> np.ndarray:
        """Mean absolute error of log losses on runs left out: [targets], or [sizes, targets]; NaN of a single run.

        A single run that is left out is predicted by the priors alone: that is no error of a fit.
        """
        return self._of_sizes(lambda size: np.where(size.run_counts > 1, size.left_out_error, np.nan))

    @property
    def rows(self) -> np.ndarray:
        """Observations used: [targets], or [sizes, targets]."""
        return self._of_sizes(lambda size: size.rows)

    @property
    def proportion_range(self) -> np.ndarray:
        """The lowest and highest fitted proportion of each domain [L, d, 2]."""
        return np.concatenate([np.asarray(size.proportion_range) for size in self.sizes])

    @property
    def volume_range(self) -> np.ndarray:
        """The lowest and highest fitted volume [L, 2]."""
        return np.concatenate([np.asarray(size.volume_range) for size in self.sizes])

    @property
    def most_epochs(self) -> Float[np.ndarray, "L d"] | None:
        """The most epochs of each domain in the rows of each lane; None where no member reads them."""
        return np.concatenate([size.most_epochs for size in self.sizes]) if self.reads_unique else None

    @property
    def coverage(self) -> Coverage:
        """Which mixtures and volumes the rows of each lane constrain."""
        each = [size.coverage for size in self.sizes]
        return Coverage(**{n: np.concatenate([getattr(one, n) for one in each]) for n in Coverage.__dataclass_fields__})

    @property
    def _volumes_needed(self) -> int:
        return _VOLUMES

    @property
    def name(self) -> str:
        """The name by which `fit` knows it."""
        return "auto"

    @property
    def usable(self) -> Bool[np.ndarray, " L"]:
        """Whether each lane has observations."""
        return np.concatenate([np.asarray(size.rows) for size in self.sizes]) > 0

    @property
    def converged(self) -> Bool[np.ndarray, " L"]:
        """Whether each lane has observations: an average needs no member of its own to converge."""
        return self.usable

    @property
    def fitted_mixtures(self) -> Float[np.ndarray, "m d"]:
        """The mixtures of the fitted rows of a fit of one size, each once."""
        return np.asarray(self.sizes[0].mixture, float).T

    def _of_sizes(self, read: Callable[[AutoSize], Any]) -> np.ndarray:
        values = np.stack([np.asarray(read(size)) for size in self.sizes])
        return values if len(values) > 1 else values[0]

    def at(self, model_size: float) -> "AutoFit":
        """Return the fit of one model size; where it was not fitted, that of the nearest one, extrapolated to it.

        Raises:
            InputError: if that size was not fitted, and there is no law that extrapolates.
        """
        if self.beyond is not None and model_size not in self.model_sizes:
            return self._carried(self.beyond, model_size)
        place, count = self._place(model_size), len(self.targets)
        return dataclasses.replace(
            self,
            model_sizes=(model_size,),
            sentences=self.sentences[place * count : (place + 1) * count],
            sizes=(self.sizes[place],),
        )

    def _carried(self, beyond: Beyond, model_size: float) -> "AutoFit":
        """Return the fit of the nearest size, extrapolated to one that was not fitted."""
        near = min(self.model_sizes, key=lambda size: abs(np.log(size / model_size)))
        one, to = self.at(near), Carried(beyond=beyond, fitted=np.asarray(near), wanted=np.asarray(float(model_size)))
        size = dataclasses.replace(one.sizes[0], carried=to)
        return dataclasses.replace(one, model_sizes=(model_size,), sizes=(size,), beyond=None)

    def _size_extrapolation(self, asked: float | None) -> list[Extrapolation]:
        """Say that a model size was not fitted, where a law extrapolates there."""
        carried = self.sizes[0].carried
        if carried is None:
            return []
        return [
            Extrapolation(
                kind="model size",
                name=carried.beyond.law.name,
                asked=float(carried.wanted),
                fitted=float(carried.fitted),
                several=True,
                targets=self.targets,
                from_prior=False,
            )
        ]

    def interval(
        self,
        mixtures: ArrayLike,
        volume: ArrayLike | None = None,
        model_size: float | None = None,
        *,
        level: float = 0.9,
        inventory: Unique | None = None,
        from_prior: bool = False,
    ) -> tuple[Array, Array]:
        """Predict limits that contain a measured loss with probability `level`: lower and upper, as in `predict`.

        Raises:
            InputError: as `predict`; and for a level that is not above 0 and below 1.
        """
        checks.share("level", level)
        one, r, s, dtype = self.checked_points(mixtures, volume, model_size, from_prior=from_prior)
        mean, deviation = one._read(r, s, one.unique_tokens(inventory))
        with jax.enable_x64(True):
            lower, upper = (jnp.asarray(np.exp(mean + side * reach(level) * deviation), dtype) for side in (-1, 1))
        return lower, upper

    def _read(
        self, r: Array, s: Array, unique: Array | np.ndarray | None
    ) -> tuple[Float[np.ndarray, "*n T"], Float[np.ndarray, "*n T"]]:
        """Predict log losses and their standard deviations, with a fit of one model size."""
        if any(isinstance(each, Tracer) for each in (r, s, unique)):
            raise checks.InputError("limits are computed outside of jit, vmap and grad; predictions can be inside")
        mixtures = np.asarray(r)
        rows = np.shape(unique)[:-1] if unique is not None else ()
        volumes = np.broadcast_to(np.asarray(s), np.broadcast_shapes(mixtures.shape[:-1], s.shape, rows))
        mixtures = np.broadcast_to(mixtures, (*volumes.shape, mixtures.shape[-1]))
        points = mixtures.reshape(-1, mixtures.shape[-1]), volumes.ravel()
        mean, variance = read(self.sizes[0], self.own, *points, None if unique is None else np.asarray(unique))
        return mean.reshape(*volumes.shape, -1), np.sqrt(variance).reshape(*volumes.shape, -1)

    def mean_interval(
        self,
        mixtures: ArrayLike,
        volume: ArrayLike | None = None,
        model_size: float | None = None,
        *,
        weights: Mapping[str, float] | ArrayLike | None = None,
        level: float = 0.9,
        inventory: Unique | None = None,
        from_prior: bool = False,
    ) -> tuple[Array, Array]:
        """Predict limits that contain the weighted mean of measured losses with probability `level`.

        With log losses of standard deviations sigma_i, and a_i = w_i L_i / sum_j w_j L_j, that of the mean's log is

            (sum_i (1 - rho_i) (a_i sigma_i)^2 + (sum_i rho_i^(1/2) a_i sigma_i)^2)^(1/2)

        for the correlation rho of targets' errors on runs left out; at volumes and model sizes that were not fitted,
        where all are off together, rho = 1.

        Args:
            mixtures: as in `predict`.
            volume: as in `predict`.
            model_size: as in `predict`.
            weights: w by target, those not named get 0, or in the order of `targets`; by default all count the same.
            level: the probability.
            inventory: as in `predict`.
            from_prior: as in `predict`.

        Returns:
            Lower and upper limits, [n] or one number each.

        Raises:
            InputError: as `interval`; and for an unknown target or a negative weight.

        Example:
            >>> import pandas as pd
            >>> import bimixjax
            >>> table = {"run": ["a", "b", "c"], "mixture/x": [0.25, 1.0, 0.5], "mixture/y": [0.75, 0.0, 0.5]}
            >>> table |= {"loss/x": [4.0, 2.0, 2.8], "loss/y": [3.0, 5.0, 3.4]}
            >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table))
            >>> fit = bimixjax.fit(bimixjax.Auto(members=("offset",)), observations)
            >>> lower, upper = map(float, fit.mean_interval([0.4, 0.6]))
            >>> lower < sum(fit.predict([0.4, 0.6]).tolist()) / 2 < upper
            True
        """
        checks.share("level", level)
        one, r, s, dtype = self.checked_points(mixtures, volume, model_size, from_prior=from_prior)
        w, size = checks.target_weights(weights, one.targets), one.sizes[0]
        used = np.flatnonzero(w)
        with jax.enable_x64(True):
            beyond = outside_of(s[..., None], *np.asarray(one.volume_range)[used].T) | (size.carried is not None)
            log_losses, deviation = (each[..., used] for each in one._read(r, s, one.unique_tokens(inventory)))
            rho = np.where(beyond, 1.0, np.asarray(size.correlation)[used])
            parts = w[used] * np.exp(log_losses)
            mean = parts.sum(-1)
            of_each = parts / mean[..., None] * deviation
            variance = ((1 - rho) * of_each**2).sum(-1) + (rho**0.5 * of_each).sum(-1) ** 2
            width = reach(level) * np.sqrt(variance)
            return jnp.asarray(mean * np.exp(-width), dtype), jnp.asarray(mean * np.exp(width), dtype)

    @property
    def reads_unique(self) -> bool:
        """Whether a member, of a size or of its donor, reads how many unique tokens there are."""
        every = [each for size in self.sizes for each in (size, size.lent and size.lent.size) if each]
        names = {name for each in every for name in each.member_names}
        return any(member.law.reads_unique for member in named_members(tuple(names)))

    def predictor(
        self, model_size: float | None = None, lanes: Sequence[int] | None = None, inventory: Unique | None = None
    ) -> AutoLosses:
        """Return the averaged losses as a function of the mixture and the volume, see `Fit.predictor`."""
        unique = self.unique_tokens(inventory)
        return AutoLosses(
            own=self.own, lanes=None if lanes is None else tuple(lanes), size=self.sizes[0], unique=unique
        )

    def save(self, path: str | Path) -> None:
        """Write one strict JSON file; a number that is not finite becomes null."""
        fields = {f: getattr(self, f) for f in _FIELDS}
        fields["sizes"] = [saved_size(size) for size in self.sizes]
        fields["beyond"] = self.beyond.saved() if self.beyond else None
        write_json(path, {"law": "auto", "law_version": _VERSION, **fields}, hashed=True)

    @classmethod
    def load(cls, path: str | Path) -> "AutoFit":
        """Read a file written by `save`.

        Raises:
            InputError: if the file is not a fit of `auto`, or one of another version.
        """
        return cls.loaded(read_json(path), path)

    @classmethod
    def loaded(cls, whole: object, path: str | Path) -> "AutoFit":
        """Build what `load` returns from the JSON read at `path`."""
        found = checks.fields(whole, ["law", "law_version"], path)
        if (found["law"], found["law_version"]) != ("auto", _VERSION):
            raise checks.InputError(
                f"{path} holds law {found['law']!r} version {found['law_version']!r}, not 'auto' version {_VERSION}"
            )
        spot = Spot(file=str(path))
        names = names_of({key: found[key] for key in NAMES if key in found}, spot)
        count = max(1, len(names["model_sizes"]))
        table: dict[str, Kind] = {
            **dict.fromkeys(("law", "law_version", *NAMES), lambda value, _: value),
            "sentences": texts(count * len(names["targets"])),
            "sizes": each(read_size, count),
            "beyond": maybe(Beyond.read),
        }
        read = record_of(table)(found, spot)
        fitted = tuple(float(size.model_size) for size in read["sizes"])
        if names["model_sizes"] and fitted != names["model_sizes"]:
            raise spot.at("model_sizes").wrong(found["model_sizes"], f"{list(fitted)}, those of the field sizes")
        return cls(**names, **{key: read[key] for key in ("sentences", "sizes", "beyond")})


_FIELDS = tuple(field.name for field in dataclasses.fields(AutoFit))
