"""Comparisons on disk, so that a study that was stopped goes on where it was, and comparisons put together."""

import ast
import dataclasses
import hashlib
import inspect
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

import bimixjax
from bimixjax._base.files import replacing
from bimixjax._base.records import read_json, write_json
from bimixjax.comparison import Comparison
from bimixjax.laws import Law, WithVolume
from experiments.prediction import config

PACKAGE = Path(bimixjax.__file__).parent

# Laws are judged here: notes, and choices without a law, are not kept.
_NOT_KEPT = ("notes", "orders", "missing", "best_run")
_FIELDS = tuple(field.name for field in dataclasses.fields(Comparison) if field.name not in _NOT_KEPT)
_BY_LAW = ("predicted", "lower", "upper", "at_bound", "unconverged")
_BY_FOLD = ("group", "block")
_BY_ROW = ("run", "mixture", "model_size", "volume", "outside", "absent", "measured")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timed:
    """A comparison, and what it took in seconds: on the clock, and of all processors together."""

    found: Comparison
    seconds: float
    processor_seconds: float

    @property
    def of(self) -> str:
        """Of which folds, in words."""
        first, last = self.found.group[0], self.found.group[-1]
        return f"{self.found.grouped_by} {first:g}" + (f" to {last:g}" if last != first else "")


class Clock:
    """What a study took on the clock so far, in a file, so that one that was stopped goes on counting."""

    def __init__(self, path: Path) -> None:
        self._path, self._last, self._ticked = path, time.perf_counter(), False

    @property
    def seconds(self) -> float:
        return read_json(self._path)["seconds"] if self._path.exists() else 0.0

    def tick(self) -> None:
        """Count the time since the last tick, or since the beginning."""
        now = time.perf_counter()
        write_json(self._path, {"seconds": self.seconds + now - self._last})
        self._last, self._ticked = now, True

    def stop(self) -> None:
        """Count what came after the last tick, unless there was none: then nothing was done anew."""
        if self._ticked:
            self.tick()


def save(path: Path, timed: Timed) -> None:
    found = timed.found
    arrays = {name: np.asarray(getattr(found, name)) for name in _FIELDS}
    texts = {name: arrays[name].astype(str) for name in ("laws", "targets", "run", "grouped_by", "beyond")}
    numbers = {"level": np.nan if found.level is None else found.level}
    numbers |= {"seconds": timed.seconds, "processor_seconds": timed.processor_seconds}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{**arrays, **texts, **numbers})


def load(path: Path) -> Timed:
    with np.load(path) as read:
        fields = {name: read[name] for name in _FIELDS}
        seconds, processor = float(read["seconds"]), float(read["processor_seconds"])
    names = {name: tuple(fields[name].tolist()) for name in ("laws", "targets")}
    words = {name: str(fields[name]) for name in ("grouped_by", "beyond")}
    level = float(fields["level"])
    run = fields["run"].astype(object)
    found = Comparison(**{**fields, **names, **words, "run": run, "level": None if np.isnan(level) else level})
    return Timed(found=found, seconds=seconds, processor_seconds=processor)


def digest(*parts: object) -> str:
    """A short name for what `repr` shows."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@cache
def sources(patterns: tuple[str, ...]) -> str:
    """A digest of what modules of the package do; their docstrings and comments do not count.

    Raises:
        ValueError: if a pattern matches no module, so that what is kept of an older code would be read.
    """
    matched = {pattern: sorted(PACKAGE.glob(pattern)) for pattern in patterns}
    absent = [pattern for pattern, paths in matched.items() if not paths]
    if absent:
        raise ValueError(f"no module of {PACKAGE} matches {', '.join(absent)}")
    paths = sorted({path for found in matched.values() for path in found})
    return digest(*(_without_words(path.read_text(encoding="utf-8")) for path in paths))


def auto_source() -> str:
    """A digest of what `auto` does, without how it is read from a file or handed on."""
    return sources(config.AUTO_SOURCES)


def law_source(law: Law) -> str:
    """A digest of what a law's class does, and those that it is made of."""
    made_of = [law, law.inner] if isinstance(law, WithVolume) else [law]
    classes = [each for part in made_of for each in type(part).__mro__ if each.__module__.startswith("bimixjax")]
    return digest(*(_without_words(inspect.getsource(each)) for each in classes))


def _without_words(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:]
    return ast.dump(tree)


def together(laws: Sequence[Comparison]) -> Comparison:
    """Comparisons of other laws on the same held-out rows."""
    first = laws[0]
    for other in laws[1:]:
        if not np.array_equal(other.measured, first.measured, equal_nan=True):
            raise ValueError(f"{other.laws} and {first.laws} were not judged on the same rows")
    arrays = {name: np.concatenate([getattr(one, name) for one in laws]) for name in _BY_LAW}
    level = next((one.level for one in laws if one.level is not None), None)
    return dataclasses.replace(first, laws=tuple(n for one in laws for n in one.laws), level=level, **arrays)


def one_after_the_other(groups: Sequence[Comparison]) -> Comparison:
    """Comparisons of the same laws in other folds."""
    first, starts = groups[0], np.cumsum([0, *(len(one.group) for one in groups)])
    arrays = {name: np.concatenate([getattr(one, name) for one in groups]) for name in (*_BY_FOLD, *_BY_ROW)}
    arrays |= {name: np.concatenate([getattr(one, name) for one in groups], axis=1) for name in _BY_LAW}
    arrays["fold"] = np.concatenate([one.fold + start for one, start in zip(groups, starts, strict=False)])
    arrays["block"] = np.concatenate([one.block + start for one, start in zip(groups, starts, strict=False)])
    return dataclasses.replace(first, **arrays)
