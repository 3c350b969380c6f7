"""A fitted law: coefficients, what is known about them, and predictions."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from bimixjax._base import checks, notebooks, summaries
from bimixjax._base.arrays import Stored
from bimixjax._base.float64 import in_float64
from bimixjax._base.records import read_json, record, static, write_json
from bimixjax.fitting.base import Fit
from bimixjax.fitting.coverage import Coverage
from bimixjax.fitting.files import checked
from bimixjax.laws import Law, Point, law_named
from bimixjax.observations import Unique, Unit
from bimixjax.solve import Status


@record
class FitResult(Fit):
    """A law fitted to each target, with what is known about each coefficient.

    A lane is one target, at one model size where the law has no size of its own and the table has several. Arrays have
    lanes first: [targets], or [sizes x targets] with sizes slowest; `coefficients` and `standard_errors` give them by
    name and target. Coefficients are in the gauge that the law states and in the unit of volume of the fit.

    Attributes:
        law: the law.
        domains, targets: names; `targets` lists the columns of `predict`.
        own: for each target, which domain it is, or -1.
        volume_unit: "steps", "tokens", or None where the table has no volume.
        model_sizes: sizes fitted, in parameters; empty where the table has no size.
        values [L, k], covariance [L, k, k]: coefficients in the order of `names`.
        identified [L, k], at_bound [L, k]: coefficients that the rows determine; those at a bound.
        at_prior [L, k]: coefficients whose standard deviation is above .9 of their prior's.
        status [L], steps [L], cost [L]: how the solver ended; cost is the sum of squared relative residuals.
        rows [L], missing [L], zero [L]: observations used, missing losses, rows masked for a proportion of zero.
        residual_scale [L]: standard deviation of the relative residuals.
        condition [L]: condition number of the scaled Jacobian.
        error [L], r2 [L]: in-sample mean relative error and R2 of the loss.
        proportion_range [L, d, 2], volume_range [L, 2]: what was fitted; outside it, a prediction extrapolates.
        volumes [L]: how many distinct volumes were fitted.
        companion [L, d], varies [L]: which mixtures the rows constrain, as in `Coverage`.
        mixtures: of the rows fitted [m, d], each once; empty where an older file has none.
        epochs: the most of each domain in the rows fitted [L, d]; empty where the law reads none, or in an older file.
        sentences: per lane, its status in words.
        notes: what else a reader should know.

    Example:
        >>> import pandas as pd
        >>> import bimixjax
        >>> table = {"run": ["a", "b"], "mixture/x": [0.25, 1.0], "mixture/y": [0.75, 0.0], "loss/x": [4.0, 2.0]}
        >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)), priors=False)
        >>> round(float(fit.coefficients["alpha"][0]), 6)
        0.5
        >>> fit.sentences[0].split("; ")[:2]
        ['converged', 'too few observations: 2 for 4 coefficients']
    """

    law: Law = static()
    domains: tuple[str, ...] = static()
    targets: tuple[str, ...] = static()
    own: tuple[int, ...] = static()
    volume_unit: Unit | None = static()
    model_sizes: tuple[float, ...] = static()
    sentences: tuple[str, ...] = static()
    notes: tuple[str, ...] = static()
    values: Float[Stored, "L k"]
    covariance: Float[Stored, "L k k"]
    identified: Bool[Stored, "L k"]
    at_bound: Bool[Stored, "L k"]
    at_prior: Bool[Stored, "L k"]
    status: Int[Stored, " L"]
    steps: Int[Stored, " L"]
    cost: Float[Stored, " L"]
    rows: Int[Stored, " L"]
    missing: Int[Stored, " L"]
    zero: Int[Stored, " L"]
    residual_scale: Float[Stored, " L"]
    condition: Float[Stored, " L"]
    error: Float[Stored, " L"]
    r2: Float[Stored, " L"]
    proportion_range: Float[Stored, "L d 2"]
    volume_range: Float[Stored, "L 2"]
    volumes: Int[Stored, " L"]
    companion: Int[Stored, "L d"]
    varies: Bool[Stored, " L"]
    mixtures: Float[Stored, "m d"] | tuple[()] = ()
    epochs: Float[Stored, "L d"] | tuple[()] = ()

    def __repr__(self) -> str:
        return f"FitResult(law {self.law.name}; {summaries.reach(self)})"

    def summary(self) -> str:
        """Say in plain text what was fitted: coefficients, errors and a status for each lane."""
        return summaries.fitted(self)

    def _repr_html_(self) -> str:
        return notebooks.fitted(self)

    @property
    def name(self) -> str:
        """The name of the law."""
        return self.law.name

    @property
    def usable(self) -> Bool[np.ndarray, " L"]:
        """Whether each lane has finite coefficients, or has been given those that a transform traces."""
        if isinstance(self.values, Tracer):
            return np.asarray(self.rows) > 0
        return np.isfinite(np.sum(self.values, axis=-1))

    @property
    def fitted_mixtures(self) -> Float[np.ndarray, "m d"]:
        """The mixtures of the fitted rows, each once."""
        return np.asarray(self.mixtures, float).reshape(-1, len(self.domains))

    @property
    def most_epochs(self) -> Float[np.ndarray, "L d"] | None:
        """The most epochs of each domain in the rows of each lane; None where the law reads none, or unknown."""
        return np.asarray(self.epochs) if len(self.epochs) else None

    @property
    def names(self) -> tuple[str, ...]:
        """List the fitted coefficients, in the order of `values`."""
        return self.law.names(self.domains)

    @property
    def coefficients(self) -> dict[str, Any]:
        """Coefficients by name, gauge included: [targets], or [sizes, targets] where sizes were fitted separately."""
        shape = self._shape()
        gauge = {name: np.full(shape, value) for name, value in self.law.gauge.items()}
        return gauge | {name: self.values[:, i].reshape(shape) for i, name in enumerate(self.names)}

    @property
    def standard_errors(self) -> dict[str, Any]:
        """Standard errors by name, shaped as `coefficients`; NaN where the coefficient is not known or at a bound."""
        errors = np.sqrt(np.diagonal(self.covariance, axis1=-2, axis2=-1))
        gauge = {name: np.zeros(self._shape()) for name in self.law.gauge}
        return gauge | {name: errors[:, i].reshape(self._shape()) for i, name in enumerate(self.names)}

    @property
    def correlation(self) -> np.ndarray:
        """Correlations of the coefficients of each lane [L, k, k]; NaN beside one that has no standard error."""
        errors = np.sqrt(np.diagonal(self.covariance, axis1=-2, axis2=-1))
        scale = errors[:, :, None] * errors[:, None]
        return np.divide(self.covariance, scale, out=np.full(scale.shape, np.nan), where=scale > 0)

    @property
    def converged(self) -> Bool[np.ndarray, " L"]:
        """Whether the fit of each lane converged."""
        return np.asarray(self.status) == Status.CONVERGED

    def _shape(self) -> tuple[int, ...]:
        sizes = len(self.values) // len(self.targets)
        return (sizes, len(self.targets)) if sizes > 1 else (len(self.targets),)

    def at(self, model_size: float) -> "FitResult":
        """Return the fit of one model size; the whole fit where its formula holds for all sizes.

        Raises:
            InputError: if that size was not fitted.
        """
        if self._joint_in_size:
            return self
        start, count = self._place(model_size) * len(self.targets), len(self.targets)
        if len(self.model_sizes) == 1:
            return self
        lanes = jax.tree.map(lambda leaf: leaf[start : start + count], dataclasses.replace(self, mixtures=()))
        sentences = self.sentences[start : start + count]
        return dataclasses.replace(lanes, model_sizes=(model_size,), sentences=sentences, mixtures=self.mixtures)

    @property
    def reads_unique(self) -> bool:
        """Whether the law reads how many unique tokens there are."""
        return self.law.reads_unique

    def predictor(
        self, model_size: float | None = None, lanes: Sequence[int] | None = None, inventory: Unique | None = None
    ) -> "LawLosses":
        """Return the law's losses as a function of the mixture and the volume, see `Fit.predictor`."""
        chosen = range(len(self.targets)) if lanes is None else lanes
        size = model_size if model_size is not None else next(iter(self.model_sizes), 1.0)
        values = self.values if lanes is None else self.values[np.array(lanes)]
        own, unique = tuple(self.own[t] for t in chosen), self.unique_tokens(inventory)
        return LawLosses(law=self.law, own=own, values=values, model_size=size, unique=unique)

    @property
    def _joint_in_size(self) -> bool:
        return self.law.sized and len(self.model_sizes) > 1

    @property
    def _reads_own_only(self) -> bool:
        return self.law.own_proportion and not self.law.cross_domain

    @property
    def coverage(self) -> Coverage:
        """Which mixtures and volumes the rows of each lane constrain."""
        sizes = len(self.rows) // len(self.targets)
        return Coverage(
            shares=np.asarray(self.proportion_range),
            companion=np.asarray(self.companion),
            volumes=np.asarray(self.volumes),
            varies=np.asarray(self.varies),
            own=np.tile(self.own if self._reads_own_only else np.full(len(self.own), -1), sizes),
        )

    @property
    def _volumes_needed(self) -> int:
        return max(2, *(c.volumes for c in self.law.ordered()))

    def save(self, path: str | Path) -> None:
        """Write one strict JSON file; a number that is not finite becomes null."""
        write_json(path, self.saved(), hashed=True)

    def saved(self) -> dict[str, Any]:
        """Return what `save` writes."""
        fields = {f: getattr(self, f) for f in self.__dataclass_fields__ if f != "law"}
        return {"law": self.law.name, "law_version": self.law.version, **fields}

    @classmethod
    def load(cls, path: str | Path, law: Law | None = None) -> "FitResult":
        """Read a file written by `save`; `law` is needed where it is not one of `LAWS`.

        Raises:
            InputError: if the file is not a fit, or its law or version is another one.
        """
        return cls.loaded(read_json(path), path, law)

    @classmethod
    def loaded(cls, found: object, path: str | Path, law: Law | None = None) -> "FitResult":
        """Build what `load` returns from the JSON read at `path`."""
        law = law_of(found, path, law)
        return cls(law=law, **checked(found, law, path))


def law_of(found: object, path: str | Path, law: Law | None) -> Law:
    """Return the law that a file names; raise `InputError` where it is not the `law` given."""
    named = checks.fields(found, ["law", "law_version"], path)
    if law is None:
        law = law_named(str(named["law"]), f"the law of {path}")
    if (law.name, law.version) != (named["law"], named["law_version"]):
        raise checks.InputError(
            f"{path} holds law {named['law']!r} version {named['law_version']!r}, "
            f"not {law.name!r} version {law.version}"
        )
    return law


@record
class LawLosses:
    """The losses of some targets under one law, as a function of a mixture and a volume.

    Attributes:
        law: the law; own: for each target, which domain it is, or -1.
        values: packed coefficients.
        model_size: N in parameters; 1 where the law does not read it.
        unique: U, unique tokens of each domain; None for no limit.
    """

    law: Law = static()
    own: tuple[int, ...] = static()
    values: Float[Stored, "t k"]
    model_size: Float[Stored, ""] | float
    unique: Float[Stored, " d"] | Float[Stored, "n d"] | None = None

    def __call__(self, mixture: Float[Array, " d"], volume: Float[Array, ""]) -> Float[Array, " t"]:
        """Evaluate the losses in nats per token, in float64 and inside any transform."""
        if self.law.own_proportion and not self.law.cross_domain and -1 not in self.own and self.unique is None:
            # So that time and memory grow as the number of targets, not as its square; those of derivatives do.
            own, losses = np.array(self.own), jax.vmap(own_loss(self.law), in_axes=(0, 0, None, None))
            return losses(self.values, in_float64(lambda r: r[own])(mixture), volume, self.model_size)
        limits = () if self.unique is None else (self.unique,)
        losses = jax.vmap(target_loss(self.law), in_axes=(0, 0, *[None] * (3 + len(limits))))
        return losses(self.values, jnp.array(self.own), mixture, volume, self.model_size, *limits)

    @property
    def name(self) -> str:
        """The name of the law."""
        return self.law.name

    @property
    def separable(self) -> bool:
        """Whether the law is a power of the own proportion, so that `powers` has an answer."""
        return type(self.law).own_power is not Law.own_power

    def convex(self, domains: int) -> bool:
        """Say whether every loss is known to be convex in the mixture of so many domains."""
        if self.separable:
            return True
        values, parts = np.asarray(self.values), self.law.ordered()
        named = (self.law.unpack(vector, parts, domains) for vector in values)
        each = [{name: np.asarray(value) for name, value in one.items()} for one in named]
        signs = all(np.min(named[c.name]) >= 0 for named in each for c in parts if c.linear)
        return signs and all(self.law.convex(named) for named in each)

    @property
    def own_by_convention(self) -> tuple[int, ...]:
        """The targets' own domains, where the law fixes the slope in these by convention.

        Where a law states what other domains are worth beside the target's own, a slope of zero in the own one says
        nothing: those of the others say what it is worth.
        """
        return self.own if self.law.cross_domain or not self.law.own_proportion else ()

    def powers(self, domains: int, volume: Float[Array, ""]) -> Float[Array, "3 t"]:
        """Return scale c, exponent a and offset e of each target's loss c (r_i + e)^-a, for a `separable` law."""

        def power(vector: Array, volume: Array, size: Array) -> Array:
            named, one = self.law.unpack(vector, self.law.ordered(), domains), jnp.ones_like(volume)
            point = Point(mixture=jnp.full(domains, one), own=one, volume=volume, model_size=size)
            return jnp.stack(self.law.own_power(named, point))

        each = jax.vmap(in_float64(power), in_axes=(0, None, None), out_axes=1)
        return each(self.values, volume, self.model_size)


def own_loss(law: Law) -> Callable[..., Array]:
    """Return one target's loss under a law of the own proportion alone: of coefficients [k], its share, s and N."""

    def loss(vector: Array, share: Array, volume: Array, size: Array) -> Array:
        named, alone = law.unpack(vector, law.ordered(), 1), jnp.ones(1, bool)
        return law.loss(named, Point(mixture=share[None], own=share, volume=volume, model_size=size, is_own=alone))

    return in_float64(loss)


def target_loss(law: Law) -> Callable[..., Array]:
    """Return one target's loss as a function of packed coefficients [k], its domain's index, r [d], s, N and U [d]."""

    def loss(
        vector: Array, index: Array, mixture: Array, volume: Array, size: Array, unique: ArrayLike = np.inf
    ) -> Array:
        named = law.unpack(vector, law.ordered(), mixture.shape[0])
        is_own = jnp.arange(mixture.shape[0]) == index
        own = jnp.sum(jnp.where(is_own, mixture, 0.0))
        point = Point(mixture=mixture, own=own, volume=volume, model_size=size, is_own=is_own, unique=unique)
        return law.loss(named, point)

    return in_float64(loss)
