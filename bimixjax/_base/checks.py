"""Rules for user input: one function per rule, one error that says what was got, what is allowed, and where."""

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_NAMES = 50


class InputError(ValueError):
    """Input that cannot be used; the message names what was got, what is allowed, and where.

    Example:
        >>> from bimixjax import InputError
        >>> issubclass(InputError, ValueError)
        True
    """


def choice(name: str, got: str, allowed: Iterable[str]) -> str:
    """Return `got` if it is one of `allowed`, else raise with the nearest spelling."""
    allowed = list(allowed)
    if got in allowed:
        return got
    near = get_close_matches(got, allowed, n=1)
    hint = f". Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"{name} is {got!r}; allowed: {', '.join(allowed)}{hint}")


def known(kind: str, got: Collection[str], allowed: Collection[str], where: str) -> None:
    """Raise unless every name in `got` is one of `allowed`; every offender is named."""
    there = set(allowed)
    unknown = [name for name in got if name not in there]
    if unknown:
        more = f", ... ({len(allowed)} in all)" if len(allowed) > MOST_NAMES else ""
        listed = ", ".join(list(allowed)[:MOST_NAMES]) + more
        raise InputError(f"unknown {kind} {', '.join(map(repr, unknown))} in {where}; known: {listed}")


def distinct(kind: str, got: Sequence[str], where: str) -> None:
    """Raise unless every name in `got` is there once."""
    twice = sorted(name for name, count in Counter(got).items() if count > 1)
    if twice:
        raise InputError(f"{where} has {kind} {', '.join(map(repr, twice[:MOST_NAMES]))} more than once; allowed: once")


def every(ok: NDArray[np.bool_], say: Callable[..., str]) -> None:
    """Raise for the first cell that is not ok, in the words of `say(*index)`, with the count of the others."""
    bad = np.argwhere(~ok)
    if len(bad):
        others = f" (and {len(bad) - 1} more like it)" if len(bad) > 1 else ""
        raise InputError(say(*map(int, bad[0])) + others)


def positive(name: str, value: object) -> float:
    """Return `value` if it is a finite number above zero."""
    return _finite(name, value, "a finite number above 0", lambda number: number > 0)


def not_negative(name: str, value: object) -> float:
    """Return `value` if it is a finite number that is not below zero."""
    return _finite(name, value, "a finite number, 0 or above", lambda number: number >= 0)


def _finite(name: str, value: Any, allowed: str, ok: Callable[[float], bool]) -> float:
    """Return a finite number as a float where it is ok; truth values are no numbers."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not -math.inf < value < math.inf or not ok(float(value)):
        raise InputError(f"{name} is {value!r}; allowed: {allowed}")
    return float(value)


def all_positive(name: str, got: object) -> None:
    """Raise unless `got` is a number or a list of numbers, each finite and above zero."""
    values = np.asarray(got)
    if values.dtype.kind in "bcOSU" or values.ndim > 1:
        raise InputError(f"{name} is {got!r}; allowed: a number or a list of numbers, finite and above 0")
    values = values.astype(float)
    ok = (values > 0) & (values < math.inf)
    every(ok, lambda *index: f"{name} is {values[index]:g}; allowed: a finite number above 0")


def as_many(volume: Sequence[int], mixtures: Sequence[int]) -> None:
    """Raise unless volumes of one shape, [] or [n], go with mixtures of another, [d] or [n, d]."""
    if len(volume) == 1 and len(mixtures) == 2 and volume[0] not in (1, mixtures[0]):
        raise InputError(f"there are {volume[0]} volumes for {mixtures[0]} mixtures; allowed: one, or one for each")


def share(name: str, value: float) -> None:
    """Raise unless `value` lies between 0 and 1, ends excluded."""
    if not 0 < value < 1:
        raise InputError(f"{name} is {value!r}; allowed: above 0 and below 1")


def starts(count: int) -> int:
    """Return `count` if a search can start from so many points."""
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise InputError(f"starts is {count!r}; allowed: a whole number, at least 1")
    return int(count)


def resamples(count: int) -> int:
    """Return `count` if it is a number of resamples from which a spread can be computed."""
    if count < 2:
        raise InputError(f"count is {count}; allowed: at least 2 resamples")
    return count


def fold_weights(got: object, rows: int) -> NDArray[np.float64]:
    """Return weights [F, n] of the rows of a table in each fold."""
    weights = np.asarray(got, float)
    if weights.ndim != 2 or weights.shape[1] != rows or not len(weights):
        raise InputError(f"weights have shape {weights.shape}; allowed: [folds, {rows}], a number for each row")
    ok = np.isfinite(weights) & (weights >= 0)
    every(ok, lambda i, j: f"fold {i + 1} gives row {j + 1} weight {weights[i, j]}; allowed: finite, >= 0")
    return weights


def target_weights(got: Mapping[str, float] | ArrayLike | None, targets: Sequence[str]) -> NDArray[np.float64]:
    """Return weights by target, or in their order, as an array that sums to 1; None counts all targets the same."""
    count = len(targets)
    if got is None:
        return np.full(count, 1 / count)
    if isinstance(got, Mapping):
        known("target", tuple(got), targets, "weights")
        got = [float(got.get(target, 0.0)) for target in targets]
    w = np.asarray(got, float)
    if w.shape != (count,):
        raise InputError(f"weights have shape {w.shape}; allowed: [{count}], for {', '.join(targets)}")
    every(np.isfinite(w) & (w >= 0), lambda i: f"weight of {targets[i]!r} is {w[i]}; allowed: >= 0")
    if w.max() == 0:
        raise InputError("all weights are 0; allowed: at least one above 0")
    # By the largest first: the sum of large weights is beyond floating point.
    return w / w.max() / (w / w.max()).sum()


def limits(lower: NDArray[np.floating], upper: NDArray[np.floating], names: Sequence[str]) -> None:
    """Raise unless 0 <= lower <= upper <= 1 for every name and some mixture keeps to them all."""
    lower, upper = np.asarray(lower), np.asarray(upper)
    ok = (lower >= 0) & (lower <= upper) & (upper <= 1)
    every(ok, lambda i: f"limits of {names[i]!r} are {lower[i]} to {upper[i]}; allowed: 0 <= lower <= upper <= 1")
    # Limits such as ten times 0.1 sum to 1 up to rounding only.
    if not lower.sum() - 1e-12 <= 1 <= upper.sum() + 1e-12:
        sums = f"{lower.sum():g} (allowed: at most 1), upper limits to {upper.sum():g} (allowed: at least 1)"
        raise InputError(f"no mixture keeps to the limits: lower limits sum to {sums}")


def fields(found: object, wanted: Iterable[str], where: object) -> dict[str, Any]:
    """Return a JSON object that has all `wanted` keys, or raise with the missing ones."""
    if not isinstance(found, dict):
        raise InputError(f"{where} holds {type(found).__name__}, not an object with the fields that this reads")
    missing = [key for key in wanted if key not in found]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}: it was not written by this kind of save")
    return found


def mixtures(got: Any, domains: Sequence[str]) -> None:
    """Raise unless `got` is [n, d] or [d] over `domains` and, where it holds numbers, each row is a mixture."""
    if got.ndim not in (1, 2) or got.shape[-1] != len(domains):
        allowed = f"[{len(domains)}] or [n, {len(domains)}], over the domains {', '.join(domains)}"
        raise InputError(f"mixtures have shape {tuple(got.shape)}; allowed: {allowed}")
    if not isinstance(got, np.ndarray):
        return
    rows = np.atleast_2d(got)
    wrong = "mixture {} has proportion {} of {!r}; allowed: >= 0"
    every(np.isfinite(rows) & (rows >= 0), lambda i, j: wrong.format(i + 1, rows[i, j], domains[j]))
    total = rows.sum(-1)
    every(np.abs(total - 1) <= 1e-2, lambda row: f"mixture {row + 1} sums to {total[row]:.6g}; allowed: 1 within 0.01")


def writable(path: str | Path) -> None:
    """Raise unless a file can be made at `path`; folders that are missing are fine where they can be made."""
    path = Path(path).absolute()
    if path.is_dir():
        raise InputError(f"{path} is a folder; a file's name belongs here")
    folder = next(parent for parent in path.parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
