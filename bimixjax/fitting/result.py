"""What a fit gives: coefficients with what is known about them, and predictions."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from bimixjax._base import checks, summaries
from bimixjax._base.float64 import in_float64
from bimixjax._base.records import Leaf, read_json, record, static, write_json
from bimixjax.fitting.base import Reach, check_mixtures
from bimixjax.fitting.coverage import Coverage
from bimixjax.fitting.files import checked
from bimixjax.laws import LAWS, Law, Point
from bimixjax.observations import Unit
from bimixjax.solve import Status


@record
class FitResult(Reach):
    """A law fitted to each target, with what is known about each coefficient.

    A lane is one target, at one model size where the law has no size of its own and the table has several. Arrays have
    lanes first: [targets], or [sizes x targets] with sizes slowest; `coefficients` and `standard_errors` give them by
    name and target. Coefficients are in the gauge that the law states and in the unit of volume of the fit.

    Args:
        law: the law.
        domains, targets: names; `targets` lists the columns of `predict`.
        own: for each target, which domain it is, or -1.
        volume_unit: "steps", "tokens", or None where the table has no volume.
        model_sizes: sizes fitted, in parameters; empty where the table has no size.
        values [L, k], covariance [L, k, k]: coefficients in the order of `names`.
        identified [L, k], at_bound [L, k]: what the rows determine; what stands at a bound.
        at_prior [L, k]: what the rows tell so little of that its standard deviation is above .9 of its prior's.
        status [L], steps [L], cost [L]: how the solver ended; cost is the sum of squared relative residuals.
        rows [L], missing [L], zero [L]: observations used, missing losses, rows masked for a proportion of zero.
        residual_scale [L]: standard deviation of the relative residuals.
        condition [L]: condition number of the scaled Jacobian.
        error [L], r2 [L]: in-sample mean relative error and R2 of the loss.
        proportion_range [L, d, 2], volume_range [L, 2]: what was fitted; outside it, a prediction extrapolates.
        volumes [L]: how many distinct volumes were fitted.
        companion [L, d], varies [L]: what the rows tell of mixtures, as in `Coverage`.
        mixtures: of the rows fitted [m, d], each once; empty where an older file has none.
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
    values: Leaf
    covariance: Leaf
    identified: Leaf
    at_bound: Leaf
    at_prior: Leaf
    status: Leaf
    steps: Leaf
    cost: Leaf
    rows: Leaf
    missing: Leaf
    zero: Leaf
    residual_scale: Leaf
    condition: Leaf
    error: Leaf
    r2: Leaf
    proportion_range: Leaf
    volume_range: Leaf
    volumes: Leaf
    companion: Leaf
    varies: Leaf
    mixtures: Leaf = ()

    def __repr__(self) -> str:
        return f"FitResult(law {self.law.name}; {summaries.reach(self)})"

    def summary(self) -> str:
        """Say in plain text what was fitted: coefficients, errors and a status for each lane."""
        return summaries.fitted(self)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fitted coefficients, in the order of `values`."""
        return self.law.names(self.domains)

    @property
    def coefficients(self) -> dict[str, Any]:
        """Coefficients by name, gauge included: [targets], or [sizes, targets] where sizes were fitted apart."""
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
    def converged(self) -> np.ndarray:
        """Whether each lane converged [L]."""
        return np.asarray(self.status) == Status.CONVERGED

    def _shape(self) -> tuple[int, ...]:
        sizes = len(self.values) // len(self.targets)
        return (sizes, len(self.targets)) if sizes > 1 else (len(self.targets),)

    def at(self, model_size: float) -> "FitResult":
        """The fit of one model size; the whole fit where its formula holds for all sizes.

        Raises:
            InputError: if that size was not fitted.
        """
        if self._knows_size():
            return self
        start, count = self._place(model_size) * len(self.targets), len(self.targets)
        if len(self.model_sizes) == 1:
            return self
        lanes = jax.tree.map(lambda leaf: leaf[start : start + count], dataclasses.replace(self, mixtures=()))
        sentences = self.sentences[start : start + count]
        return dataclasses.replace(lanes, model_sizes=(model_size,), sentences=sentences, mixtures=self.mixtures)

    def predict(
        self,
        mixtures: ArrayLike,
        volume: ArrayLike | None = None,
        model_size: float | None = None,
        *,
        from_prior: bool = False,
    ) -> Array:
        """Predict the loss of every target.

        Args:
            mixtures: proportions r over `domains` [n, d] or [d].
            volume: s in the fit's unit, one number or [n]; may be left out where a single volume was fitted.
            model_size: N in parameters; needed where several sizes were fitted.
            from_prior: whether to answer at volumes of which nothing fitted tells.

        Returns:
            Losses in nats per token, [n, targets] or [targets], in the floating dtype of `mixtures`.

        Raises:
            InputError: for a shape that does not fit, a volume or size that is missing or unknown, or a volume of
                which nothing fitted tells.

        Example:
            >>> import pandas as pd
            >>> import bimixjax
            >>> table = {"run": ["a"] * 3 + ["b"] * 3, "step": [1, 4, 16] * 2}
            >>> table |= {"mixture/x": [0.25] * 3 + [0.5] * 3, "mixture/y": [0.75] * 3 + [0.5] * 3}
            >>> table |= {"loss/x": [6.0, 4.0, 3.0, 3 * 2**0.5, 2 * 2**0.5, 1.5 * 2**0.5]}
            >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)), priors=False)
            >>> round(float(fit.predict([0.25, 0.75], volume=64)[0]), 6)
            2.5
        """
        one = self.at_size(model_size)
        if not isinstance(mixtures, jax.Array):
            mixtures = np.asarray(mixtures, float)
        check_mixtures(mixtures, self.domains)
        dtype = mixtures.dtype if jnp.issubdtype(mixtures.dtype, jnp.floating) else jnp.float64
        with jax.enable_x64(True):
            s = jnp.asarray(one.allowed_volume(volume, from_prior=from_prior), jnp.float64)
            r = jnp.asarray(mixtures, jnp.float64)
            checks.as_many(s.shape, r.shape)
            size = jnp.asarray(one.size_or_only(model_size), jnp.float64)
            losses = _predict(self.law, jnp.asarray(one.values, jnp.float64), self.own, r, s, size)
            return losses.astype(dtype)

    def losses_of(
        self, values: Array, mixtures: Array, volume: ArrayLike | None = None, model_size: float | None = None
    ) -> Array:
        """What `predict` would give with other coefficients, packed [R, targets, k]: [R, ...]."""
        s = jnp.asarray(self.volume_or_only(volume), jnp.float64)
        size = jnp.asarray(self.size_or_only(model_size), jnp.float64)
        return jax.vmap(lambda each: _predict(self.law, each, self.own, mixtures, s, size))(values)

    def _knows_size(self) -> bool:
        return self.law.sized and len(self.model_sizes) > 1

    def _own_only(self) -> bool:
        return self.law.own_proportion and not self.law.cross_domain

    @property
    def coverage(self) -> Coverage:
        """What the rows of each lane tell of mixtures and volumes."""
        sizes = len(self.rows) // len(self.targets)
        return Coverage(
            shares=np.asarray(self.proportion_range),
            companion=np.asarray(self.companion),
            volumes=np.asarray(self.volumes),
            varies=np.asarray(self.varies),
            own=np.tile(self.own if self._own_only() else np.full(len(self.own), -1), sizes),
        )

    def _needed(self) -> int:
        return max(2, *(c.volumes for c in self.law.ordered()))

    def save(self, path: str | Path) -> None:
        """Write one strict JSON file; a number that is not finite becomes null."""
        write_json(path, self.saved(), hashed=True)

    def saved(self) -> dict[str, Any]:
        """What `save` writes."""
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
        """What `load` makes of the JSON that it read at `path`."""
        law = law_of(found, path, law)
        return cls(law=law, **checked(found, law, path))


def law_of(found: object, path: str | Path, law: Law | None) -> Law:
    """The law that a file names, which must be `law` where one is given."""
    named = checks.fields(found, ["law", "law_version"], path)
    if law is None:
        law = LAWS[checks.choice(f"the law of {path}", str(named["law"]), LAWS)]
    if (law.name, law.version) != (named["law"], named["law_version"]):
        raise checks.InputError(
            f"{path} holds law {named['law']!r} version {named['law_version']!r}, "
            f"not {law.name!r} version {law.version}"
        )
    return law


@partial(jax.jit, static_argnames=("law", "own"))
def _predict(law: Law, values: Array, own: tuple[int, ...], mixtures: Array, volume: Array, size: Array) -> Array:
    targets = jax.vmap(target_loss(law), in_axes=(0, 0, None, None, None))
    indices = jnp.array(own)
    if mixtures.ndim == 1 and volume.ndim == 0:
        return targets(values, indices, mixtures, volume, size)
    rows = mixtures.shape[0] if mixtures.ndim == 2 else volume.shape[0]
    mixtures = jnp.broadcast_to(mixtures, (rows, mixtures.shape[-1]))
    return jax.vmap(lambda r, s: targets(values, indices, r, s, size))(mixtures, jnp.broadcast_to(volume, (rows,)))


def target_loss(law: Law) -> Callable[..., Array]:
    """One target's loss as a function of packed coefficients [k], its domain's index, r [d], s and N."""

    def loss(vector: Array, index: Array, mixture: Array, volume: Array, size: Array) -> Array:
        named = law.unpack(vector, law.ordered(), mixture.shape[0])
        is_own = jnp.arange(mixture.shape[0]) == index
        own = jnp.sum(jnp.where(is_own, mixture, 0.0))
        return law.loss(named, Point(mixture=mixture, own=own, volume=volume, model_size=size, is_own=is_own))

    return in_float64(loss)
