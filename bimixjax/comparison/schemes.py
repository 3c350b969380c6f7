"""Which rows of a table are fitted and which are held out: by run, by volume, or by model size."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import combinations
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int

from bimixjax._base.checks import InputError, known, positive
from bimixjax.comparison.rows import Mask, Rows

# Folds within one fold: with more mixtures than these, several are left out at once.
_MOST_WITHIN = 20

# Mixtures that are each held out in turn. Fits of hundreds of folds take many minutes; `benchmarks/comparison.py` times
# the parts of 512 mixtures.
_MOST_IN_TURN = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """F folds of a table of n rows.

    Attributes:
        group: what distinguishes folds of one kind from those of another, such as the number of runs fitted.
        grouped_by: what `group` is, in words.
        block: folds whose held-out rows are ranked together.
        fitted, held_out: rows.
        beyond: what all held-out rows exceed, "volume" or "model size", or nothing.
    """

    group: Float[np.ndarray, " F"]
    grouped_by: str
    block: Int[np.ndarray, " F"]
    fitted: Bool[np.ndarray, "F n"]
    held_out: Bool[np.ndarray, "F n"]
    beyond: str = ""

    def __len__(self) -> int:
        return len(self.group)


class Scheme(ABC):
    """A way to split a table; also within the rows that a fold fits, where intervals are calibrated.

    Where it is `crossed`, each run is held out once: the folds are ranked together, and the intervals of one are
    calibrated on the runs of the others. `grouped_by` and `beyond` are those of a `Split`.
    """

    crossed: ClassVar[bool] = False
    grouped_by: ClassVar[str] = "runs"
    beyond: ClassVar[str] = ""

    def split(self, rows: Rows) -> Split:
        """Return the folds of a table; an `InputError` where it has too few runs, volumes or sizes."""
        group, fitted, held_out = zip(*self.folds(rows), strict=True)
        return Split(
            group=np.array(group, float),
            grouped_by=self.grouped_by,
            block=np.zeros(len(group), int) if self.crossed else np.arange(len(group)),
            fitted=np.array(fitted),
            held_out=np.array(held_out),
            beyond=self.beyond,
        )

    @abstractmethod
    def folds(self, rows: Rows) -> list[tuple[float, Mask, Mask]]:
        """Return the group of each fold, the rows to fit, and the rows held out."""

    def within(self, rows: Rows, fitted: Mask) -> list[tuple[Mask, Mask]]:
        """Ask the same question inside the fitted rows: return pairs of rows to fit and rows to judge [n]."""
        return [(fitted & ~out, fitted & out & rows.judged) for out in _parts(rows.mixture, fitted)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeaveOneRunOut(Scheme):
    """Hold out one run after the other, and with it the runs of the same mixture, which would give it away.

    Attributes:
        alone: whether runs of the same mixture, with other seeds or model sizes, stay in.

    Example:
        >>> from bimixjax.comparison import LeaveOneRunOut
        >>> LeaveOneRunOut()
        LeaveOneRunOut(alone=False)
    """

    crossed = True
    alone: bool = False

    def folds(self, rows: Rows) -> list[tuple[float, Mask, Mask]]:
        """Make one fold for each mixture, or each run."""
        number = rows.run if self.alone else rows.mixture
        out = [number == each for each in np.unique(number[rows.judged])]
        if len(out) < 2:
            allowed = "at least 2, each with a row at the volume that is evaluated"
            raise InputError(f"{len(out)} run or mixture can be held out; allowed: {allowed}")
        return [(len(out) - 1, ~held_out, held_out) for held_out in out]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunParts(Scheme):
    """Hold out one part of the runs after the other: cross-validation for tables of very many runs.

    Runs of the same mixture are in the same part. Parts are drawn at random and differ by at most one mixture.

    Attributes:
        parts: how many.
        seed: of the draw.

    Example:
        >>> from bimixjax.comparison import RunParts
        >>> RunParts().parts
        16

    Raises:
        InputError: for fewer than 2 parts, or a negative seed.
    """

    crossed = True
    parts: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if self.parts < 2 or self.seed < 0:
            raise InputError(f"{self.parts} parts, seed {self.seed}; allowed: at least 2 parts, a seed of at least 0")

    def folds(self, rows: Rows) -> list[tuple[float, Mask, Mask]]:
        """Make one fold for each part; of the group, how many mixtures the smallest fit has."""
        mixtures = np.unique(rows.mixture[rows.judged])
        if len(mixtures) < self.parts:
            raise InputError(f"{self.parts} parts of {len(mixtures)} mixtures; allowed: at most as many parts")
        shuffled = np.random.default_rng(self.seed).permutation(mixtures)
        out = [np.isin(rows.mixture, shuffled[start :: self.parts]) for start in range(self.parts)]
        fewest = len(mixtures) - math.ceil(len(mixtures) / self.parts)
        return [(fewest, ~held_out, held_out) for held_out in out]


def every_run(rows: Rows) -> Scheme:
    """Choose how each run is held out once: in turn, or where there are more than 64 mixtures, in 16 parts."""
    return LeaveOneRunOut() if len(np.unique(rows.mixture[rows.judged])) <= _MOST_IN_TURN else RunParts()


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunDesigns(Scheme):
    """Fit K runs of each model size, predict the others: as a user with so many runs would.

    Draw d of K runs is `numpy.random.default_rng(seed * K + d).choice(runs, K, replace=False)`, with the runs of a size
    sorted by the number at the end of their id. Where there are no more subsets than draws, each is taken once. Sizes
    with no more than K runs take no part.

    Attributes:
        runs: each K.
        draws: how many designs of each K.
        first: number d of the first one.
        seed: of the draws.
        donors: model sizes whose runs are fitted in every design and never judged.

    Example:
        >>> from bimixjax.comparison import RunDesigns
        >>> RunDesigns(runs=(2, 4)).draws
        20

    Raises:
        InputError: for numbers below 1.
    """

    runs: tuple[int, ...]
    draws: int = 20
    first: int = 0
    seed: int = 1000
    donors: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.runs or min(self.runs) < 1 or self.draws < 1 or self.first < 0 or self.seed < 0:
            got = f"designs of {self.runs} runs, {self.draws} draws from number {self.first}, seed {self.seed}"
            allowed = "at least one number of runs, runs and draws at least 1, the others at least 0"
            raise InputError(f"{got}; allowed: {allowed}")

    def folds(self, rows: Rows) -> list[tuple[float, Mask, Mask]]:
        """Draw all designs of all K."""
        known("model size", [f"{s:g}" for s in self.donors], [f"{s:g}" for s in rows.sizes], "donors")
        return [(count, *fold) for count in self.runs for fold in self._designs(rows, count)]

    def _designs(self, rows: Rows, count: int) -> list[tuple[Mask, Mask]]:
        """Return the rows to fit and the rows held out in each draw of `count` runs."""
        runs_of = {size: rows.runs_of(size) for size in rows.sizes if size not in self.donors}
        most = max(map(len, runs_of.values()), default=0)
        if most <= count:
            raise InputError(f"designs of {count} runs; allowed: at most {most - 1}, so that one of {most} is held out")
        draws = {size: self._draw(runs, count) for size, runs in runs_of.items()}
        folds = []
        for number in range(max(map(len, draws.values()))):
            fitted, held_out = np.isin(rows.model_size, self.donors), np.zeros(len(rows.run), bool)
            for size, drawn in draws.items():
                if number < len(drawn):
                    own, chosen = rows.model_size == size, np.isin(rows.run, drawn[number])
                    fitted |= own & chosen
                    held_out |= own & ~chosen
            folds.append((fitted, held_out))
        return folds

    def _draw(self, runs: Sequence[int], count: int) -> list[tuple[int, ...]]:
        if len(runs) <= count:
            return []
        if math.comb(len(runs), count) <= self.draws:
            return list(combinations(runs, count))
        seeds = (self.seed * count + d for d in range(self.first, self.first + self.draws))
        return [tuple(np.random.default_rng(seed).choice(runs, count, replace=False).tolist()) for seed in seeds]

    def within(self, rows: Rows, fitted: Mask) -> list[tuple[Mask, Mask]]:
        """Leave out each mixture in turn, at the sizes that are no donors."""
        drawn = fitted & ~np.isin(rows.model_size, self.donors)
        return [(fitted & ~out, out & rows.judged) for out in _parts(rows.mixture, drawn)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChosenRuns(Scheme):
    """Fit the runs that are named, fold by fold, and hold out all others, or those that are named too.

    Attributes:
        fitted: ids of the runs that each fold fits.
        held_out: ids of the runs that each fold is judged on; by default all that it does not fit.
        groups: a number for each fold, its kind, such as how many runs it fits; by default all are one.

    Example:
        >>> from bimixjax.comparison import ChosenRuns
        >>> ChosenRuns(fitted=(("a", "b"), ("a", "c"))).groups
        ()
    """

    fitted: tuple[tuple[str, ...], ...]
    held_out: tuple[tuple[str, ...], ...] = ()
    groups: tuple[float, ...] = ()

    def folds(self, rows: Rows) -> list[tuple[float, Mask, Mask]]:
        """Make one fold for each group of names."""
        for runs in (*self.fitted, *self.held_out):
            known("run", runs, rows.names, "the folds")
        if self.groups and len(self.groups) != len(self.fitted):
            raise InputError(f"{len(self.groups)} groups for {len(self.fitted)} folds; allowed: one for each, or none")
        names = np.array(rows.names)[rows.run]
        fitted = np.array([np.isin(names, runs) for runs in self.fitted])
        held_out = np.array([np.isin(names, runs) for runs in self.held_out]) if self.held_out else ~fitted
        if held_out.shape != fitted.shape or (held_out & fitted).any():
            raise InputError(
                "runs held out are named for every fold or for none, and no fold fits a run that it holds out"
            )
        if not len(fitted) or not held_out.any(axis=1).all() or not fitted.any(axis=1).all():
            raise InputError("each fold fits at least one run and holds out at least one; there is at least one fold")
        fewest = min(len(set(runs)) for runs in self.fitted)
        return list(zip(self.groups or [fewest] * len(fitted), fitted, held_out, strict=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaterVolumes(Scheme):
    """Fit all rows up to a share of the last volume, predict the rows beyond.

    Attributes:
        cuts: shares of the last volume of each model size, above 0 and below 1.

    Example:
        >>> from bimixjax.comparison import LaterVolumes
        >>> LaterVolumes().cuts
        (0.5,)

    Raises:
        InputError: for other shares.
    """

    grouped_by = "share of the volume"
    beyond = "volume"
    cuts: tuple[float, ...] = (0.5,)

    def __post_init__(self) -> None:
        if not self.cuts or not all(0 < cut < 1 for cut in self.cuts):
            raise InputError(f"cuts are {self.cuts}; allowed: shares of the last volume, above 0 and below 1")

    def folds(self, rows: Rows) -> list[tuple[float, Mask, Mask]]:
        """Make one fold for each cut."""
        fitted = {cut: _up_to(rows, cut * rows.last()) for cut in self.cuts}
        if empty := [cut for cut, mask in fitted.items() if not mask.any()]:
            raise InputError(f"no row has at most {empty[0]:g} of the last volume of its size: nothing to fit")
        return [(cut, fitted[cut], ~fitted[cut]) for cut in self.cuts]

    def within(self, rows: Rows, fitted: Mask) -> list[tuple[Mask, Mask]]:
        """Fit the fitted rows up to the smallest cut of their own last volume; judge at that last volume."""
        last = np.zeros(len(rows.volume))
        for size in rows.sizes:
            own = rows.model_size == size
            last[own] = rows.volume[own & fitted].max(initial=0.0)
        early = fitted & _up_to(rows, min(self.cuts) * last)
        return [(early, fitted & (rows.volume == last))] if early.any() else []


@dataclasses.dataclass(frozen=True, kw_only=True)
class LargerSizes(Scheme):
    """Fit the smaller model sizes, predict the larger ones: for laws with a model size.

    Attributes:
        largest: the largest size that is fitted, in parameters.

    Example:
        >>> from bimixjax.comparison import LargerSizes
        >>> LargerSizes(largest=160e6).largest
        160000000.0
    """

    grouped_by = "parameters"
    beyond = "model size"
    largest: float

    def folds(self, rows: Rows) -> list[tuple[float, Mask, Mask]]:
        """Make one fold."""
        fitted = rows.model_size <= positive("largest", self.largest)
        if fitted.all() or not fitted.any():
            sizes = ", ".join(f"{size:g}" for size in rows.sizes)
            raise InputError(f"largest size to fit is {self.largest:g}; sizes there: {sizes}; one must be larger")
        return [(self.largest, fitted, ~fitted)]

    def within(self, rows: Rows, fitted: Mask) -> list[tuple[Mask, Mask]]:
        """Fit all fitted sizes but the largest, judge at that one."""
        top = rows.model_size == rows.model_size[fitted].max()
        return [(fitted & ~top, fitted & top & rows.judged)] if (fitted & ~top).any() else []


def _parts(number: Int[np.ndarray, " n"], rows: Mask) -> list[Mask]:
    """Return the rows of each number, or of some numbers together where there are very many."""
    distinct = np.unique(number[rows])
    return [rows & np.isin(number, distinct[start::_MOST_WITHIN]) for start in range(min(_MOST_WITHIN, len(distinct)))]


def _up_to(rows: Rows, volume: Float[np.ndarray, " n"]) -> Mask:
    # A cut such as .7 x 30 000 is exact in the user's mind, not in binary.
    return rows.volume <= volume * (1 + 1e-9)
