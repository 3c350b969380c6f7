"""What `auto` gives: predictions with limits, and what each of its members is worth."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from bimixjax import _checks
from bimixjax._auto_beyond import Beyond, Carried
from bimixjax._auto_fit import SPREAD, noise_of, prior_of
from bimixjax._auto_kernel import Fitted, Points, Rows, read_mean, read_variance
from bimixjax._float64 import in_float64
from bimixjax._members import named_members
from bimixjax._noise import factored
from bimixjax._reach import Reach
from bimixjax._records import Leaf, read_json, record, static, write_json
from bimixjax.observations import Unit

# What a file must have been written by.
_VERSION = 2


@record
class AutoSize:
    """The members of `auto` at one model size, m runs and t volumes, for T targets.

    Args:
        member_names: the laws that are averaged.
        model_size: parameters; 1 where the table has no size.
        mixture: r of the runs [d, m].
        volume: fitted volumes, over the largest [t].
        scale: the largest volume.
        mask: which losses were fitted [m, t, T].
        center: mean log loss of the fitted rows [T]; NaN where there is none.
        fitted: each member, targets last.
        weights: of each member [M, T].
        spread: by what the members' standard deviations are multiplied [T].
        left_out_error: mean absolute error of log losses on runs left out [T].
        rows: observations used [T].
        proportion_range [T, d, 2], volume_range [T, 2]: what was fitted; outside it, a prediction extrapolates.
        lent: what a smaller model size lends, if any does.
        carried: where predictions are for a model size that was not fitted, what carries them there.
    """

    member_names: tuple[str, ...] = static()
    model_size: Leaf
    mixture: Leaf
    volume: Leaf
    scale: Leaf
    mask: Leaf
    center: Leaf
    fitted: tuple[Fitted, ...]
    weights: Leaf
    spread: Leaf
    left_out_error: Leaf
    rows: Leaf
    proportion_range: Leaf
    volume_range: Leaf
    lent: "Lent | None"
    carried: Carried | None = None


@record
class Lent:
    """The losses of a smaller model size, as a larger one reads them.

    Args:
        size: what was fitted at the smaller size.
        center: mean over the larger size's fitted rows of the log loss that it lends [T].
    """

    size: AutoSize
    center: Leaf


@record
class AutoFit(Reach):
    """Several laws fitted to each target and averaged, with what is known about the average.

    Args:
        domains, targets: names; `targets` lists the columns of `predict`.
        own: for each target, which domain it is, or -1.
        volume_unit: "steps", "tokens", or None where the table has no volume.
        model_sizes: sizes fitted apart, in parameters; empty where the table has no size.
        sentences: per size and target, what the average is made of and how it did on runs left out.
        notes: what else a reader should know.
        sizes: what was fitted at each size.
        beyond: a law that carries predictions to other sizes, if one was asked for.

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

    @property
    def members(self) -> dict[str, Any]:
        """The weight of each member by name: [targets], or [sizes, targets] where there are several sizes."""
        names = dict.fromkeys(name for size in self.sizes for name in size.member_names)
        return {name: self._of_sizes(lambda size, name=name: _weight(size, name)) for name in names}

    @property
    def donors(self) -> dict[float, float]:
        """Which model size lent its losses to which: the larger to the smaller."""
        return {float(size.model_size): float(size.lent.size.model_size) for size in self.sizes if size.lent}

    @property
    def left_out_error(self) -> np.ndarray:
        """Mean absolute error of log losses on runs left out: [targets], or [sizes, targets]."""
        return self._of_sizes(lambda size: size.left_out_error)

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

    def _of_sizes(self, read: Callable[[AutoSize], Any]) -> np.ndarray:
        values = np.stack([np.asarray(read(size)) for size in self.sizes])
        return values if len(values) > 1 else values[0]

    def at(self, model_size: float) -> "AutoFit":
        """The fit of one model size; that of the nearest one, carried to it, where it was not fitted.

        Raises:
            InputError: if that size was not fitted, and there is no law to carry predictions there.
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
        """The fit of the nearest size, carried to one that was not fitted."""
        near = min(self.model_sizes, key=lambda size: abs(np.log(size / model_size)))
        one, to = self.at(near), Carried(beyond=beyond, fitted=np.asarray(near), wanted=np.asarray(float(model_size)))
        size = dataclasses.replace(one.sizes[0], carried=to)
        return dataclasses.replace(one, model_sizes=(model_size,), sizes=(size,), beyond=None)

    def extrapolates(
        self, mixtures: ArrayLike, volume: ArrayLike | None = None, model_size: float | None = None
    ) -> np.ndarray:
        """As for a single law; true everywhere at a model size that was not fitted."""
        return super().extrapolates(mixtures, volume, model_size) | (
            self.at_size(model_size).sizes[0].carried is not None
        )

    def predict(self, mixtures: ArrayLike, volume: ArrayLike | None = None, model_size: float | None = None) -> Array:
        """Predict the loss of every target.

        Args:
            mixtures: proportions r over `domains` [n, d] or [d].
            volume: s in the fit's unit, one number or [n]; may be left out where a single volume was fitted.
            model_size: N in parameters; needed where several sizes were fitted.

        Returns:
            Losses in nats per token, [n, targets] or [targets], in the floating dtype of `mixtures`.

        Raises:
            InputError: for a shape that does not fit, or a volume or size that is missing or unknown.
        """
        return self._read(mixtures, volume, model_size)

    def interval(
        self,
        mixtures: ArrayLike,
        volume: ArrayLike | None = None,
        model_size: float | None = None,
        *,
        level: float = 0.9,
    ) -> tuple[Array, Array]:
        """Limits that should contain a measured loss as often as `level` says: lower and upper, as in `predict`.

        Raises:
            InputError: as `predict`; and for a level that is not above 0 and below 1.
        """
        _checks.share("level", level)
        width = NormalDist().inv_cdf((1 + level) / 2)
        ends = [self._read(mixtures, volume, model_size, shift) for shift in (-width, width)]
        return ends[0], ends[1]

    def _read(
        self, mixtures: ArrayLike, volume: ArrayLike | None, model_size: float | None, shift: float | None = None
    ) -> Array:
        """Losses, or with `shift` so many standard deviations above them."""
        one = self.at_size(model_size)
        if not isinstance(mixtures, jax.Array):
            mixtures = np.asarray(mixtures, float)
        _checks.mixtures(mixtures, self.domains)
        dtype = mixtures.dtype if jnp.issubdtype(mixtures.dtype, jnp.floating) else jnp.float64
        with jax.enable_x64(True):
            s = jnp.asarray(one.volume_or_only(volume), jnp.float64)
            size = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), one.sizes[0])
            r = jnp.asarray(mixtures, jnp.float64)
            by = None if shift is None else jnp.asarray(shift)
            return _at_points(self.own, size, r, s, by).astype(dtype)

    def losses_at(self, mixture: Array, volume: Array) -> Array:
        """Losses [targets] of a fit at one size, at one mixture [d] and volume, in float64 and inside any transform."""
        return _losses(self.own, self.sizes[0], mixture, volume, None)

    def save(self, path: str | Path) -> None:
        """Write one strict JSON file; a number that is not finite becomes null."""
        fields = {f: getattr(self, f) for f in _FIELDS}
        fields["sizes"] = [_saved_size(size) for size in self.sizes]
        fields["beyond"] = self.beyond.saved() if self.beyond else None
        write_json(path, {"law": "auto", "law_version": _VERSION, **fields})

    @classmethod
    def load(cls, path: str | Path) -> "AutoFit":
        """Read a file written by `save`.

        Raises:
            InputError: if the file is not a fit of `auto`, or one of another version.
        """
        found = _checks.fields(read_json(path), ["law", "law_version", *_FIELDS], path)
        if (found["law"], found["law_version"]) != ("auto", _VERSION):
            raise _checks.InputError(
                f"{path} holds law {found['law']!r} version {found['law_version']}, not 'auto' version {_VERSION}"
            )
        fields = {f: tuple(found[f]) if isinstance(found[f], list) else found[f] for f in _FIELDS}
        sizes, beyond = tuple(_loaded_size(size) for size in found["sizes"]), Beyond.loaded(found["beyond"])
        return cls(**{**fields, "sizes": sizes, "beyond": beyond})


_FIELDS = tuple(field.name for field in dataclasses.fields(AutoFit))


def _weight(size: AutoSize, name: str) -> np.ndarray:
    names = size.member_names
    return np.asarray(size.weights)[names.index(name)] if name in names else np.zeros(np.shape(size.rows))


def _saved_size(size: AutoSize) -> dict[str, Any]:
    """All but what `known` holds: that is most of the numbers, and follows from the mixtures."""
    fields = {f.name: getattr(size, f.name) for f in dataclasses.fields(size)}
    fields["fitted"] = [{f: getattr(one, f) for f in _KEPT} for one in size.fitted]
    if size.carried:
        raise _checks.InputError("this is a fit carried to a size that was not fitted; save the fit that it is of")
    if size.lent:
        fields["lent"] = {"size": _saved_size(size.lent.size), "center": size.lent.center}
    return fields


def _loaded_size(found: dict[str, Any]) -> AutoSize:
    names, mask = tuple(found["member_names"]), np.array(found["mask"], float)
    mixture = np.repeat(np.array(found["mixture"], float)[None], mask.shape[2], axis=0)
    fitted = []
    for member, one in zip(named_members(names), found["fitted"], strict=True):
        known = factored(noise_of(member), mixture, np.moveaxis(mask, -1, 0)).known
        fitted.append(Fitted(known=np.moveaxis(known, 0, -1), **{k: np.array(one[k], float) for k in _KEPT}))
    kept = [f.name for f in dataclasses.fields(AutoSize) if f.name not in _APART]
    arrays: dict[str, Any] = {name: np.array(found[name], float) for name in kept}
    return AutoSize(member_names=names, fitted=tuple(fitted), lent=_loaded_lent(found["lent"]), **arrays)


def _loaded_lent(found: dict[str, Any] | None) -> Lent | None:
    if found is None:
        return None
    return Lent(size=_loaded_size(found["size"]), center=np.array(found["center"], float))


_APART = ("member_names", "fitted", "lent", "carried")
_KEPT = tuple(field.name for field in dataclasses.fields(Fitted) if field.name != "known")


def _losses(own: tuple[int, ...], size: AutoSize, mixture: Array, volume: Array, shift: Array | None) -> Array:
    """Losses [T] at one mixture [d] and volume, `shift` standard deviations above what is expected."""
    leaves, tree = jax.tree.flatten((size, shift))

    def found(r: Array, s: Array, *leaves: Array) -> Array:
        size, shift = jax.tree.unflatten(tree, leaves)
        mean, variance = _log_losses(jnp.array(own), size, r, s)
        return jnp.exp(mean if shift is None else mean + shift * jnp.sqrt(variance))

    return in_float64(found)(mixture, volume, *leaves)


def _log_losses(own: Array, size: AutoSize, r: Array, s: Array) -> tuple[Array, Array]:
    """Mean and variance of log losses [T] at one mixture [d] and volume."""
    lanes = len(own)
    donor, lent_variance = (jnp.zeros(lanes), jnp.zeros(lanes)) if size.lent is None else _lent(own, size.lent, r, s)
    rows = Rows(
        mixture=_repeat(size.mixture, lanes),
        volume=_repeat(size.volume, lanes),
        own=own,
        loss=size.mask,
        mask=size.mask,
        donor=size.mask,
    )
    points = Points(
        mixture=_repeat(r[:, None], lanes), volume=_repeat((s / size.scale)[None], lanes), donor=donor[None]
    )
    members, level = named_members(size.member_names), jnp.nan_to_num(size.center)
    readings = [
        (member.law, fitted, rows, noise_of(member), prior_of(member, len(r), level), points)
        for member, fitted in zip(members, size.fitted, strict=True)
    ]
    means = jnp.stack([read_mean(*reading)[0] for reading in readings])
    mean = jnp.sum(size.weights * means, axis=0)
    variances = jnp.stack([read_variance(*reading)[0] for reading in readings])
    borrowed = sum((w for m, w in zip(members, size.weights, strict=True) if m.law.sized), start=jnp.zeros(lanes))
    variance = jnp.sum(size.weights * (variances + (means - mean) ** 2), axis=0) + borrowed * lent_variance
    ratio, unsure = (0.0, 0.0) if size.carried is None else size.carried.log_ratio(own, r, s)
    return size.center + mean + ratio, size.spread**2 * variance + unsure


def _lent(own: Array, lent: Lent, r: Array, s: Array) -> tuple[Array, Array]:
    """The log losses that a smaller size lends at one mixture and volume, less their mean, and their variance [T]."""
    mean, variance = _log_losses(own, lent.size, r, s)
    return mean - lent.center, variance / SPREAD**2


def _repeat(values: Array, lanes: int) -> Array:
    return jnp.broadcast_to(values[..., None], (*values.shape, lanes))


@partial(jax.jit, static_argnames=("own",))
def _at_points(own: tuple[int, ...], size: AutoSize, r: Array, s: Array, shift: Array | None) -> Array:
    def one(r: Array, s: Array) -> Array:
        return _losses(own, size, r, s, shift)

    if r.ndim == 1 and s.ndim == 0:
        return one(r, s)
    count = r.shape[0] if r.ndim == 2 else s.shape[0]
    return jax.vmap(one)(jnp.broadcast_to(r, (count, r.shape[-1])), jnp.broadcast_to(s, (count,)))
