"""What a fit covers - model sizes, volumes, proportions - and what may be asked of it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import jax
import numpy as np
from jax.core import Tracer
from numpy.typing import ArrayLike

from bimixjax._base import checks
from bimixjax.fitting.coverage import Coverage
from bimixjax.observations import Unit

# A volume this many times below or above all fitted ones is more likely given in another unit: tokens for steps.
_FAR_BELOW, _FAR_ABOVE = 100, 1000
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Extrapolation:
    """One way in which a prediction lies outside what was fitted.

    Args:
        kind: of what: the share of a domain, the volume or the model size.
        name: the domain; the unit of volume; the law that carries predictions to the model size, if one does.
        asked, fitted: the number asked for, and the nearest one fitted.
        several: whether others were fitted too.
        targets: whose predictions it concerns.
        from_prior: whether nothing fitted tells what happens there, so that the answer is that of the priors.
    """

    kind: Literal["share", "volume", "model size"]
    name: str
    asked: float
    fitted: float
    several: bool
    targets: tuple[str, ...]
    from_prior: bool

    def __str__(self) -> str:
        """It in words, as `web 0.5 above the 0.4 fitted`."""
        if self.kind == "share":
            asked, fitted = _apart(self.asked, self.fitted)
            if not self.several:
                return f"{self.name} {asked}, where only {fitted} was fitted"
            return f"{self.name} {asked} {'above' if self.asked > self.fitted else 'below'} the {fitted} fitted"
        end = "only one" if not self.several else "largest" if self.asked > self.fitted else "least"
        if self.kind == "volume":
            return f"volume {self.asked / self.fitted:.3g} x the {end} fitted, {self.fitted:g} {self.name}"
        if self.name:
            return f"model size {self.asked:g} was not fitted; carried there from {self.fitted:g} by {self.name}"
        return f"model size {self.asked / self.fitted:.3g} x the {end} fitted, {self.fitted:g}"


def _apart(first: float, second: float) -> tuple[str, str]:
    """Two numbers with as many digits as tell them apart, three at least."""
    pairs = ((f"{first:.{digits}g}", f"{second:.{digits}g}") for digits in range(3, 17))
    return next((pair for pair in pairs if pair[0] != pair[1]), (repr(first), repr(second)))


class Reach(ABC):
    """The base of a fit: it picks the model size and the volume of a prediction, and says where that extrapolates.

    Lanes are sizes x targets, sizes slowest. `proportion_range` [L, d, 2] and `volume_range` [L, 2] hold what was
    fitted, NaN for a lane without an observation.
    """

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    own: tuple[int, ...]
    volume_unit: Unit | None
    model_sizes: tuple[float, ...]
    proportion_range: Any
    volume_range: Any

    @property
    @abstractmethod
    def coverage(self) -> Coverage:
        """What the rows of each lane tell of mixtures and volumes."""

    @abstractmethod
    def _needed(self) -> int:
        """How many distinct volumes tell how losses go on beyond them."""

    @abstractmethod
    def at(self, model_size: float) -> Self:
        """The fit of one model size."""

    def at_size(self, model_size: float | None) -> Self:
        """The fit to predict with at a model size; an `InputError` where none is given and one is needed."""
        if model_size is not None:
            if not isinstance(model_size, Tracer):
                checks.all_positive("model_size", model_size)
            return self if self._knows_size() else self.at(model_size)
        if len(self.model_sizes) > 1:
            sizes = ", ".join(f"{s:g}" for s in self.model_sizes)
            raise checks.InputError(f"several model sizes were fitted ({sizes}); say which one with model_size")
        return self

    def size_or_only(self, model_size: float | None) -> float:
        """`model_size`, or where it is None the only size that was fitted; 1 where the table has none."""
        return model_size if model_size is not None else next(iter(self.model_sizes), 1.0)

    def volume_or_only(self, volume: ArrayLike | None) -> ArrayLike:
        """`volume`, or where it is None the only volume that was fitted; an `InputError` where there are several.

        One is raised, too, for a number that is not a volume.
        """
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
        """As `volume_or_only`, for a fit of one size; an `InputError` where nothing fitted tells of that volume.

        Inside a transform, where volumes or fits have no numbers, all are allowed.

        Args:
            volume: s in the fit's unit.
            from_prior: whether to answer what only priors tell.
            lanes: the targets that are asked for; by default all.
        """
        s = self.volume_or_only(volume)
        if volume is None or any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((self, s))):
            return s
        chosen = np.arange(len(self.targets)) if lanes is None else np.array(lanes, int)
        asked = np.unique(np.asarray(s, float))
        low, high = np.asarray(self.volume_range)[chosen].T
        outside = _outside(asked[:, None], low, high)
        if not outside.any():
            return s
        untold = ~self._tells_volume()[chosen] | _far(asked[:, None], low, high)
        refused = np.argwhere(outside & (np.array(self.volume_unit is None) | (untold & (not from_prior))))
        if len(refused):
            place, lane = refused[0].tolist()
            raise checks.InputError(self._refusal(float(asked[place]), int(chosen[lane])))
        return s

    def _refusal(self, asked: float, lane: int) -> str:
        """Why a volume is not answered for a target, and what to do."""
        unit, (low, high) = self.volume_unit, np.asarray(self.volume_range)[lane].tolist()
        if unit is None:
            return (
                f"volume is {asked:g}, but the table that was fitted has neither steps nor tokens, so a volume has no "
                "unit; leave it out: predictions are for the volume that was measured"
            )
        if self._tells_volume()[lane]:
            other = "steps" if unit == "tokens" else "tokens"
            return f"volume is {asked:g}, but {low:g} to {high:g} {unit} were fitted; is it given in {other}? {_PRIOR}"
        fitted = f"{low:g} {unit} only" if low == high else f"two volumes only, {low:g} and {high:g} {unit}"
        instead = f"ask for {low:g}" if low == high else f"ask for {low:g} to {high:g}"
        return (
            f"volume is {asked:g} {unit}, but losses of {self.targets[lane]!r} were fitted at {fitted}, and it takes "
            f"{self._needed()} to tell how losses go on; {instead}, or fit more checkpoints; {_PRIOR}"
        )

    def extrapolates(
        self, mixtures: ArrayLike, volume: ArrayLike | None = None, model_size: float | None = None
    ) -> np.ndarray:
        """Whether each prediction lies outside the fitted proportions or volumes, [n, targets] or [targets].

        For a law of the own proportion only that proportion counts. Arguments as in `predict`; `extrapolations` says
        what lies outside, and by how much.
        """
        one = self.at_size(model_size)
        r, s = np.asarray(mixtures, float), np.asarray(one.volume_or_only(volume), float)
        low, high = np.asarray(one.volume_range).T
        return self._shares_outside(one, r).any(-1) | _outside(s[..., None], low, high) | (one._size(model_size) != [])

    def extrapolations(
        self, mixtures: ArrayLike, volume: ArrayLike | None = None, model_size: float | None = None
    ) -> list[tuple[Extrapolation, ...]]:
        """What of each mixture and volume lies outside what was fitted, and by how much: one tuple for each.

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
        outside = self._shares_outside(one, r)
        size, fixed, tells = one._size(model_size), one.coverage.fixed, one._tells_volume()
        return [
            (*one._of_shares(r[i], outside[i], fixed), *one._of_volume(float(s[i]), tells), *size) for i in range(count)
        ]

    def _of_shares(self, r: np.ndarray, outside: np.ndarray, fixed: np.ndarray) -> Iterator[Extrapolation]:
        """The shares of one mixture [d] that lie outside of what was fitted, or `fixed` there [targets, d]."""
        ranges = np.asarray(self.proportion_range)
        for domain in np.flatnonzero(outside.any(0)).tolist():
            there = outside[:, domain]
            nearest = np.clip(r[domain], *ranges[:, domain].T)
            for end, told in sorted(set(zip(nearest[there].tolist(), fixed[there, domain].tolist(), strict=True))):
                lanes = there & (nearest == end) & (fixed[:, domain] == told)
                yield Extrapolation(
                    kind="share",
                    name=self.domains[domain],
                    asked=float(r[domain]),
                    fitted=end,
                    several=not told,
                    targets=self._named(lanes),
                    from_prior=told,
                )

    def _of_volume(self, s: float, tells: np.ndarray) -> Iterator[Extrapolation]:
        low, high = np.asarray(self.volume_range).T
        outside, nearest = _outside(s, low, high), np.clip(s, low, high)
        for end, told in sorted(set(zip(nearest[outside].tolist(), tells[outside].tolist(), strict=True))):
            lanes = outside & (nearest == end) & (tells == told)
            several = bool((low < high)[lanes].any())
            yield Extrapolation(
                kind="volume",
                name=self.volume_unit or "",
                asked=s,
                fitted=end,
                several=several,
                targets=self._named(lanes),
                from_prior=not told or bool(_far(s, end, end)),
            )

    def _size(self, asked: float | None) -> list[Extrapolation]:
        """How a model size lies outside of those fitted, where one formula holds for all of them."""
        if asked is None or not self._knows_size() or not self.model_sizes:
            return []
        low, high = min(self.model_sizes), max(self.model_sizes)
        if not _outside(asked, low, high):
            return []
        several = low < high
        return [
            Extrapolation(
                kind="model size",
                name="",
                asked=float(asked),
                fitted=min(max(asked, low), high),
                several=several,
                targets=self.targets,
                from_prior=not several,
            )
        ]

    def _named(self, lanes: np.ndarray) -> tuple[str, ...]:
        return tuple(np.array(self.targets, object)[lanes].tolist())

    def _shares_outside(self, one: Self, r: np.ndarray) -> np.ndarray:
        """Which shares of mixtures [..., d] that a target depends on lie outside what was fitted [..., targets, d]."""
        low, high = np.moveaxis(np.asarray(one.proportion_range), -1, 0)
        outside = (r[..., None, :] < low - _ROUNDING) | (r[..., None, :] > high + _ROUNDING)
        own = np.array(self.own)[:, None]
        return outside & (own == np.arange(r.shape[-1])) if self._own_only() else outside

    def _tells_volume(self) -> np.ndarray:
        """Whether the rows of each target tell how its loss goes on beyond the fitted volumes."""
        return self.coverage.volumes >= self._needed()

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
        several = "fit auto with --beyond LAW (in Python Auto(beyond=LAW)) to go beyond them"
        beyond = several if len(self.model_sizes) > 1 else "it takes two to tell how losses depend on it"
        raise checks.InputError(f"model size {model_size:g} was not fitted; fitted sizes: {sizes}; {beyond}")


def check_mixtures(mixtures: Any, domains: Sequence[str]) -> None:
    """Raise an `InputError` unless these are mixtures [n, d] or [d]; inside a transform only their shape is known."""
    checks.mixtures(mixtures if isinstance(mixtures, Tracer) else np.asarray(mixtures, float), domains)


def _outside(value: Any, low: Any, high: Any) -> Any:
    return (value < low * (1 - _ROUNDING)) | (value > high * (1 + _ROUNDING))


def _far(value: Any, low: Any, high: Any) -> Any:
    return (value * _FAR_BELOW < low) | (value > _FAR_ABOVE * high)


_PRIOR = "--from-prior (in Python from_prior=True) asks the priors"
