"""What every fit offers, of one law or of `auto`: predictions, and where these extrapolate."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from bimixjax._base import checks
from bimixjax.fitting.coverage import Coverage
from bimixjax.fitting.extrapolation import ROUNDING, Extrapolation, alike, far, outside_of
from bimixjax.fitting.lanes import require_tokens
from bimixjax.fitting.points import losses_at, unique_over, values_on_host
from bimixjax.observations import Unique, Unit

_PRIOR = "--from-prior (in Python from_prior=True) asks the priors"


class Fit(ABC):
    """A law, or an average of laws, fitted to every target of a table.

    Lanes are model sizes x targets, sizes slowest.

    Attributes:
        domains, targets: names; `targets` lists the columns of `predict`.
        own: for each target, which domain it is, or -1.
        volume_unit: "steps", "tokens", or None where the table has no volume.
        model_sizes: sizes fitted, in parameters; empty where the table has no size.
        proportion_range [L, d, 2], volume_range [L, 2]: lowest and highest fitted; NaN in a lane without observations.
        gives_intervals: whether there is an `interval` beside `predict`.
    """

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    own: tuple[int, ...]
    volume_unit: Unit | None
    model_sizes: tuple[float, ...]
    proportion_range: Any
    volume_range: Any
    gives_intervals: bool = False

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the law, or "auto"."""

    @property
    @abstractmethod
    def usable(self) -> Bool[np.ndarray, " L"]:
        """Whether each lane has finite coefficients."""

    @property
    @abstractmethod
    def converged(self) -> Bool[np.ndarray, " L"]:
        """Whether the fit of each lane converged."""

    @property
    @abstractmethod
    def fitted_mixtures(self) -> Float[np.ndarray, "m d"]:
        """The mixtures of the fitted rows, each once, of a fit of one size."""

    @property
    @abstractmethod
    def coverage(self) -> Coverage:
        """Which mixtures and volumes the rows of each lane constrain."""

    @property
    @abstractmethod
    def _volumes_needed(self) -> int:
        """How many distinct volumes identify the loss beyond them."""

    @property
    def _joint_in_size(self) -> bool:
        """Whether one formula, fitted to several model sizes at once, holds for all."""
        return False

    @property
    def reads_unique(self) -> bool:
        """Whether a loss depends on how many unique tokens there are."""
        return False

    @property
    def most_epochs(self) -> Float[np.ndarray, "L d"] | None:
        """The most epochs of each domain in the rows of each lane; None where no loss depends on them, or unknown."""
        return None

    @property
    def _reads_own_only(self) -> bool:
        """Whether a target's loss is a function of its own proportion alone."""
        return False

    @abstractmethod
    def at(self, model_size: float) -> Self:
        """Return the fit of one model size."""

    @abstractmethod
    def predictor(
        self, model_size: float | None = None, lanes: Sequence[int] | None = None, inventory: Unique | None = None
    ) -> Any:
        """Return the losses of a fit of one size as a function: from r [d] and s, in float64, to losses [targets].

        It is a pytree, callable inside any transform, and holds arrays only, so that fits of one shape share a
        compiled program.

        Args:
            model_size: N, for a law that reads it.
            lanes: the targets wanted; by default all.
            inventory: as in `predict`.
        """

    def predict(
        self,
        mixtures: ArrayLike,
        volume: ArrayLike | None = None,
        model_size: float | None = None,
        *,
        inventory: Unique | None = None,
        from_prior: bool = False,
    ) -> Array:
        """Predict the loss of every target.

        Args:
            mixtures: proportions r over `domains` [n, d] or [d].
            volume: s in the fit's unit, one number or [n]; may be left out where a single volume was fitted.
            model_size: N in parameters; needed where several sizes were fitted.
            inventory: unique tokens, for a law that reads epochs: an `Inventory`, or numbers over `domains`, [d], or
                [n, d] where each mixture has its own; by default there is no limit.
            from_prior: whether to answer at volumes that no observation constrains.

        Returns:
            Losses in nats per token, [n, targets] or [targets], in the floating dtype of `mixtures`.

        Raises:
            InputError: for a shape that does not fit, a volume or size that is missing or unknown, or a volume that
                no observation constrains.

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
        one, r, s, dtype = self.checked_points(mixtures, volume, model_size, from_prior=from_prior)
        with jax.enable_x64(True):
            predictor = one.predictor(model_size, inventory=inventory)
            traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((r, s, predictor)))
            if traced or getattr(predictor, "on_host", None) is None:
                return losses_at(predictor, r, s).astype(dtype)
            return jnp.asarray(values_on_host(predictor, np.asarray(r), np.asarray(s)), dtype)

    def unique_tokens(self, inventory: Unique | None) -> Array | np.ndarray | None:
        """Return unique tokens [d] or [n, d] as `points.unique_over` does; None where no law reads them."""
        found = None if inventory is None else unique_over(self.domains, inventory)
        if found is None or not self.reads_unique:
            return None
        require_tokens(self.name, self.volume_unit, "unique tokens")
        return found

    def checked_points(
        self, mixtures: ArrayLike, volume: ArrayLike | None, model_size: float | None, *, from_prior: bool
    ) -> tuple[Self, Array, Array, Any]:
        """Check where a prediction is asked for: the fit of that size, r and s in float64, and the dtype to answer in.

        Inside a transform only the shape of the mixtures is checked.
        """
        one = self.at_size(model_size)
        r = mixtures if isinstance(mixtures, jax.Array) else np.asarray(mixtures, float)
        checks.mixtures(r if isinstance(r, Tracer) else np.asarray(r, float), self.domains)
        dtype = r.dtype if jnp.issubdtype(r.dtype, jnp.floating) else jnp.float64
        s = one.allowed_volume(volume, from_prior=from_prior)
        checks.as_many(np.shape(s), r.shape)
        with jax.enable_x64(True):
            return one, jnp.asarray(r, jnp.float64), jnp.asarray(s, jnp.float64), dtype

    def at_size(self, model_size: float | None) -> Self:
        """Return the fit to predict with at a model size; raise `InputError` where none is given and one is needed."""
        if model_size is not None:
            if not isinstance(model_size, Tracer):
                checks.all_positive("model_size", model_size)
            return self if self._joint_in_size else self.at(model_size)
        if len(self.model_sizes) > 1:
            sizes = ", ".join(f"{s:g}" for s in self.model_sizes)
            raise checks.InputError(
                f"several model sizes were fitted ({sizes}); say which: --model-size (in Python model_size)"
            )
        return self

    def volume_or_only(self, volume: ArrayLike | None) -> ArrayLike:
        """Return `volume`, or where it is None the only one fitted; raise `InputError` where there are several."""
        if volume is not None:
            if not isinstance(volume, Tracer):
                checks.all_positive("volume", volume)
            return volume
        fitted = np.asarray(self.volume_range)
        low, high = np.fmin.reduce(fitted[:, 0]), np.fmax.reduce(fitted[:, 1])
        if low == high:
            return low
        raise checks.InputError(f"the fit covers volumes {low:g} to {high:g} {self.volume_unit}; say which with volume")

    def allowed_volume(
        self, volume: ArrayLike | None, *, from_prior: bool = False, lanes: Sequence[int] | None = None
    ) -> ArrayLike:
        """Return `volume_or_only` of a fit of one size; raise `InputError` where no observation constrains that volume.

        Inside a transform, where volumes or fits have no numbers, all are allowed.

        Args:
            volume: s in the fit's unit.
            from_prior: whether to allow what only priors constrain.
            lanes: the targets that are asked for; by default all.
        """
        s = self.volume_or_only(volume)
        if volume is None or any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((self, s))):
            return s
        chosen = np.arange(len(self.targets)) if lanes is None else np.array(lanes, int)
        asked = np.unique(np.asarray(s, float))
        low, high = np.asarray(self.volume_range)[chosen].T
        outside = outside_of(asked[:, None], low, high)
        unconstrained = ~self._identifies_volume()[chosen] | far(asked[:, None], low, high)
        refused = np.argwhere(outside & (np.array(self.volume_unit is None) | (unconstrained & (not from_prior))))
        if len(refused):
            place, lane = refused[0].tolist()
            raise checks.InputError(self._refusal(float(asked[place]), int(chosen[lane])))
        return s

    def _refusal(self, asked: float, lane: int) -> str:
        """Say why a volume is not answered for a target, and what to do."""
        unit, (low, high) = self.volume_unit, np.asarray(self.volume_range)[lane].tolist()
        if unit is None:
            return (
                f"volume is {asked:g}, but the table that was fitted has neither steps nor tokens, so a volume has no "
                "unit; leave it out: predictions are for the volume that was measured"
            )
        if self._identifies_volume()[lane]:
            other = "steps" if unit == "tokens" else "tokens"
            return f"volume is {asked:g}, but {low:g} to {high:g} {unit} were fitted; is it given in {other}? {_PRIOR}"
        fitted = f"{low:g} {unit} only" if low == high else f"two volumes only, {low:g} and {high:g} {unit}"
        instead = f"ask for {low:g}" if low == high else f"ask for {low:g} to {high:g}"
        return (
            f"volume is {asked:g} {unit}, but losses of {self.targets[lane]!r} were fitted at {fitted}, and it takes "
            f"{self._volumes_needed} to tell how losses go on; {instead}, or fit more checkpoints; {_PRIOR}"
        )

    def extrapolates(
        self,
        mixtures: ArrayLike,
        volume: ArrayLike | None = None,
        model_size: float | None = None,
        *,
        inventory: Unique | None = None,
    ) -> np.ndarray:
        """Say whether each prediction lies outside the fitted shares, epochs or volumes, [n, targets] or [targets].

        For a law of the own proportion only that proportion counts. Arguments as in `predict`; `extrapolations` says
        what lies outside, and by how much.
        """
        one = self.at_size(model_size)
        r, s = np.asarray(mixtures, float), np.asarray(one.volume_or_only(volume), float)
        low, high = np.asarray(one.volume_range).T
        outside = one._shares_outside(r).any(-1) | outside_of(s[..., None], low, high)
        outside = outside | one._epochs_outside(one._epochs(r, s, inventory)).any(-1)
        return outside | bool(one._size_extrapolation(model_size))

    def extrapolations(
        self,
        mixtures: ArrayLike,
        volume: ArrayLike | None = None,
        model_size: float | None = None,
        *,
        inventory: Unique | None = None,
    ) -> list[tuple[Extrapolation, ...]]:
        """List what of each mixture and volume lies outside what was fitted, and by how much: one tuple for each.

        Arguments as in `predict`.

        Example:
            >>> import pandas as pd
            >>> import bimixjax
            >>> table = {"run": ["a", "b"], "mixture/x": [0.25, 0.5], "mixture/y": [0.75, 0.5], "loss/x": [4.0, 3.0]}
            >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)))
            >>> [str(one) for one in fit.extrapolations([0.625, 0.375])[0]]
            ['x 0.625 above the 0.5 fitted']
        """
        one = self.at_size(model_size)
        r, s = np.asarray(mixtures, float), np.asarray(one.volume_or_only(volume), float)
        (count,) = np.broadcast_shapes(np.atleast_2d(r).shape[:1], np.atleast_1d(s).shape)
        r, s = np.broadcast_to(r, (count, r.shape[-1])), np.broadcast_to(s, (count,))
        outside, size = one._shares_outside(r), one._size_extrapolation(model_size)
        epochs = one._epochs(r, s, inventory)
        return [
            (*one._of_shares(r[i], outside[i]), *one._of_epochs(epochs[i]), *one._of_volume(float(s[i])), *size)
            for i in range(count)
        ]

    def _of_shares(self, r: Float[np.ndarray, " d"], outside: Bool[np.ndarray, "L d"]) -> Iterator[Extrapolation]:
        ranges, fixed, targets = np.asarray(self.proportion_range), self.coverage.fixed, np.array(self.targets)
        for domain in np.flatnonzero(outside.any(0)).tolist():
            nearest = np.clip(r[domain], *ranges[:, domain].T)
            for lanes, end, alone in alike(outside[:, domain], nearest, fixed[:, domain]):
                yield Extrapolation(
                    kind="share",
                    name=self.domains[domain],
                    asked=float(r[domain]),
                    fitted=end,
                    several=not alone,
                    targets=tuple(targets[lanes].tolist()),
                    from_prior=alone,
                )

    def _epochs(self, r: np.ndarray, s: np.ndarray, inventory: Unique | None) -> Float[np.ndarray, "*n d"]:
        """Compute r s / U, how often the tokens of each domain are gone through; 0 where that is not known."""
        unique = self.unique_tokens(inventory)
        return np.zeros(r.shape) if unique is None else r * s[..., None] / np.asarray(unique)

    def _epochs_outside(self, epochs: Float[np.ndarray, "*n d"]) -> Bool[np.ndarray, "*n L d"]:
        """Say which epochs are more than were fitted, or than one: before that nothing is repeated."""
        most = np.full((len(self.targets), 1), np.inf) if self.most_epochs is None else self.most_epochs
        return epochs[..., None, :] > np.maximum(most, 1.0) * (1 + ROUNDING)

    def _of_epochs(self, epochs: Float[np.ndarray, " d"]) -> Iterator[Extrapolation]:
        outside, most, targets = self._epochs_outside(epochs), self.most_epochs, np.array(self.targets)
        for domain in np.flatnonzero(outside.any(0)).tolist():
            assert most is not None
            for lanes, end, repeated in alike(outside[:, domain], most[:, domain], most[:, domain] > 1):
                yield Extrapolation(
                    kind="epochs",
                    name=self.domains[domain],
                    asked=float(epochs[domain]),
                    fitted=end,
                    several=repeated,
                    targets=tuple(targets[lanes].tolist()),
                    from_prior=False,
                )

    def _of_volume(self, s: float) -> Iterator[Extrapolation]:
        (low, high), targets = np.asarray(self.volume_range).T, np.array(self.targets)
        for lanes, end, identified in alike(outside_of(s, low, high), np.clip(s, low, high), self._identifies_volume()):
            yield Extrapolation(
                kind="volume",
                name=self.volume_unit or "",
                asked=s,
                fitted=end,
                several=bool((low < high)[lanes].any()),
                targets=tuple(targets[lanes].tolist()),
                from_prior=not identified or bool(far(s, end, end)),
            )

    def _size_extrapolation(self, asked: float | None) -> list[Extrapolation]:
        """List how a model size lies outside those fitted, where one formula holds for all of them."""
        if asked is None or not self._joint_in_size or not self.model_sizes:
            return []
        low, high = min(self.model_sizes), max(self.model_sizes)
        if not outside_of(asked, low, high):
            return []
        return [
            Extrapolation(
                kind="model size",
                name="",
                asked=float(asked),
                fitted=min(max(asked, low), high),
                several=low < high,
                targets=self.targets,
                from_prior=low == high,
            )
        ]

    def _shares_outside(self, r: Float[np.ndarray, "*n d"]) -> Bool[np.ndarray, "*n L d"]:
        """Say which shares, of those that a target's loss is a function of, lie outside what was fitted."""
        low, high = np.moveaxis(np.asarray(self.proportion_range), -1, 0)
        outside = (r[..., None, :] < low - ROUNDING) | (r[..., None, :] > high + ROUNDING)
        own = np.array(self.own)[:, None]
        return outside & (own == np.arange(r.shape[-1])) if self._reads_own_only else outside

    def _identifies_volume(self) -> Bool[np.ndarray, " L"]:
        """Say whether the rows of each target identify its loss beyond the fitted volumes."""
        return self.coverage.volumes >= self._volumes_needed

    def _place(self, model_size: float) -> int:
        """Return the place of a size among those fitted separately; raise `InputError` if that size was not fitted."""
        if model_size in self.model_sizes:
            return self.model_sizes.index(model_size)
        sizes = ", ".join(f"{s:g}" for s in self.model_sizes) or "none"
        several = "fit auto with --beyond LAW (in Python Auto(beyond=LAW)) to go beyond them"
        beyond = several if len(self.model_sizes) > 1 else "it takes two to tell how losses depend on it"
        raise checks.InputError(f"model size {model_size:g} was not fitted; fitted sizes: {sizes}; {beyond}")
