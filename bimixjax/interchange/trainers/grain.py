"""Grain and MaxText, which mixes by Grain: whole numbers of elements in turn.

Read in google/grain at commit f36f285, grain/_src/python/dataset/transformations/mix.py (`_float_to_int_proportions`,
which version 0.2.18 has too), and in AI-Hypercomputer/maxtext at commit 003d719,
src/maxtext/input_pipeline/grain_data_processing.py (`get_datasets`: both forms of a mixture).
"""

import json
import math
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from bimixjax._base.checks import InputError
from bimixjax.interchange.apportionment import decimals, largest_remainder
from bimixjax.interchange.recipe import Recipe, Source, Stage, Training, named
from bimixjax.interchange.trainers import parsing, snippets
from bimixjax.interchange.trainers.base import Trainer

# To what Grain scales the least number, and MaxText's rounding of the flag.
_LEAST, _FLAG_DIGITS = 100, 4
# Grain counts elements one by one: with more in a round than that, its least domain comes too seldom to be believed.
_LONGEST_ROUND = 10**12
# Decimals of a share in MaxText's JSON: as few as do.
_DIGITS = (9, 10, 11, 12)
_SETTINGS = ("dataset_type=grain", "grain_file_type=arrayrecord")
_FLAG = "grain_train_files="


class _Mixed(Trainer):
    """What all have in common: the least number becomes 100, the others are scaled alike and rounded down."""

    counts = "documents"
    zero = "Grain refuses a proportion of 0"

    def rounded(self, shares: Float[np.ndarray, " d"], training: Training, block: int | None) -> np.ndarray:
        """Return whole numbers of which the least is 100, so that Grain takes them as they are.

        Their sum is then about 100 / min r; of the few sums that leave the least at 100, the one with the best shares.
        """
        del training, block
        middle = _LEAST / shares.min()
        if middle > _LONGEST_ROUND:
            raise InputError(f"the least share is {shares.min():.3g}, and Grain's round would be {middle:.3g} elements")
        rounds = [largest_remainder(shares, max(int(middle) + more, 1)) for more in (-1, 0, 1, 2)]
        usable = [counts.astype(float) for counts in rounds if counts.min() == _LEAST]
        return min(usable, key=lambda counts: float(np.abs(counts / counts.sum() - shares).max()))

    def drawn(self, written: Float[np.ndarray, " d"], block: int | None) -> Float[np.ndarray, " d"]:
        """Return the shares of Grain's whole numbers."""
        del block
        counts = _whole(written)
        return counts / counts.sum()


class Grain(_Mixed):
    """A snippet of Python with `grain.MapDataset.mix`.

    Example:
        >>> import numpy as np
        >>> Grain().rounded(np.array([0.3, 0.7]), Training(), None).tolist()
        [100.0, 233.0]
        >>> (Grain().drawn(np.array([0.3, 0.7]), None) * 333).round(9).tolist()
        [100.0, 233.0]
    """

    kind, title, suffixes = "grain", "Grain", (".py",)
    usage = "Python: `mixed` is a grain.MapDataset"

    def recognizes(self, found: Any) -> bool:
        """See a call of `mix` with `weights`."""
        return snippets.calls(found, "mix", "weights")

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read the call of `mix`."""
        return snippets.read(found, "mix", "weights", names, where)

    def write(self, recipe: Recipe) -> str:
        """Write sources and their mixture."""
        return snippets.write(recipe, _SNIPPET, whole=True)


class MaxTextFlag(_Mixed):
    """`grain_train_files=a,0.3;b,0.7`: MaxText rounds the numbers, divided by their sum, to 4 decimals."""

    kind, title, suffixes = "maxtext", "MaxText (flag)", (".txt",)
    zero = "Grain, by which MaxText mixes, refuses a proportion of 0"
    usage = "words for the command line of MaxText's train"

    def recognizes(self, found: Any) -> bool:
        """See the name of the flag, or what stands behind it."""
        return isinstance(found, str) and (_FLAG in found or (";" in found and "," in found))

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read the words of a command line, or what stands behind the flag."""
        try:
            words = shlex.split(str(found), comments=True)
        except ValueError as error:
            raise InputError(f"{where}: not words of a command line: {error}") from error
        flags = [word.removeprefix(_FLAG) for word in words if word.startswith(_FLAG)] or words
        if len(flags) != 1:
            raise InputError(f"{where} has {len(flags)} words; allowed: one {_FLAG}PATH,NUMBER;PATH,NUMBER;...")
        if ";" not in flags[0]:
            if "," in flags[0]:
                raise InputError(f"{where} has no semicolon: MaxText takes {parsing.shown(flags[0])} for one path")
            flags[0] += ",1"
        paths, written = [], []
        for i, part in enumerate(flags[0].split(";"), 1):
            path, comma, number = part.partition(",")
            if not comma or "," in number:
                got = f"{where}: source {i} is {parsing.shown(part)}"
                raise InputError(f"{got}; allowed: PATH,NUMBER with one comma, and semicolons between sources")
            paths.append(parsing.text(path, f"{where}: path {i}"))
            written.append(parsing.written_number(number, f"{where}: number of {path!r}"))
        sources = zip(named(tuple(paths), names, where), written, paths, strict=True)
        return Recipe(stages=(Stage(sources=tuple(Source(domain=d, written=w, paths=(p,)) for d, w, p in sources)),))

    def write(self, recipe: Recipe) -> str:
        """Write words that a shell takes; one source is a path without a number."""
        sources = recipe.stages[0].sources
        flag = ";".join(f"{source.paths[0]},{source.written:.{_FLAG_DIGITS}f}" for source in sources)
        flag = flag if ";" in flag else flag.rpartition(",")[0]
        return " ".join([*_SETTINGS, shlex.quote(f"{_FLAG}{flag}")]) + "\n"

    def rounded(self, shares: Float[np.ndarray, " d"], training: Training, block: int | None) -> np.ndarray:
        """Return shares with 4 decimals."""
        del training, block
        return decimals(shares, _FLAG_DIGITS)

    def drawn(self, written: Float[np.ndarray, " d"], block: int | None) -> Float[np.ndarray, " d"]:
        """Return what Grain makes of 4 decimals; a number that is rounded to 0 is one that Grain refuses."""
        total = sum(written.tolist())
        digits = np.array([round(number / total, _FLAG_DIGITS) for number in written.tolist()])
        if not digits.any():
            raise InputError(f"MaxText keeps 4 decimals of a share, and rounds each of {len(digits)} to 0")
        shares = np.zeros_like(digits)
        shares[digits > 0] = super().drawn(digits[digits > 0], block)
        return shares

    def resolution(self, training: Training, block: int | None) -> float | None:
        """Return the last decimal."""
        del training, block
        return 10.0**-_FLAG_DIGITS

    def allowed_path(self, path: str) -> str:
        """Return a path without the marks between paths and numbers."""
        if set(path) & set(",;"):
            raise InputError(f"the path {path!r} has a comma or semicolon, which the flag of MaxText splits at")
        return super().allowed_path(path)


class MaxTextMixture(_Mixed):
    """The JSON of `grain_train_mixture_config_path`: numbers are divided by their sum and handed to Grain."""

    kind, title, suffixes = "maxtext", "MaxText (JSON)", (".json",)
    zero = MaxTextFlag.zero
    usage = "dataset_type=grain grain_file_type=arrayrecord grain_train_mixture_config_path=FILE"

    def recognizes(self, found: Any) -> bool:
        """See objects with a path and a weight."""
        each = list(found.values()) if isinstance(found, dict) else []
        return bool(each) and all(isinstance(one, dict) and {"path", "weight"} <= set(one) for one in each)

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read an object by domain."""
        del names
        sources = []
        for domain, one in parsing.mapping(found, where).items():
            one = parsing.mapping(one, f"{where}: {domain}")
            path = parsing.text(one.get("path"), f"{where}: {domain}.path")
            given = one.get("weight")
            # MaxText takes text as well: it calls float().
            written = parsing.written_number(given, f"{where}: {domain}.weight")
            sources.append(Source(domain=domain, written=written, paths=(path,)))
        return Recipe(stages=(Stage(sources=tuple(sources)),))

    def write(self, recipe: Recipe) -> str:
        """Write an object by domain."""
        sources = recipe.stages[0].sources
        return json.dumps({s.domain: {"path": s.paths[0], "weight": s.written} for s in sources}, indent=2) + "\n"

    def drawn(self, written: Float[np.ndarray, " d"], block: int | None) -> Float[np.ndarray, " d"]:
        """Return what Grain makes of the numbers divided by their sum."""
        total = sum(written.tolist())
        return super().drawn(np.array([number / total for number in written.tolist()]), block)

    def rounded(self, shares: Float[np.ndarray, " d"], training: Training, block: int | None) -> np.ndarray:
        """Return shares from which Grain's rounding down makes its best whole numbers.

        The least is rounded down and the others up, so that floating point takes none of them away; where it takes the
        least one, more digits do not.
        """
        counts = super().rounded(shares, training, block)
        found = counts
        for unit in (10.0**digits for digits in _DIGITS):
            found = (np.floor(counts / counts.sum() * unit) + (counts > counts.min())) / unit
            if (_whole(found / sum(found.tolist())) == counts).all():
                break
        return found


def _whole(written: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
    """Return the whole numbers that Grain makes of numbers above 0, in its own arithmetic."""
    numbers = written.tolist()
    scale = _LEAST / min(numbers)
    if not math.isfinite(scale * max(numbers)):
        raise InputError(f"numbers from {min(numbers):g} to {max(numbers):g}: Grain cannot scale the least one to 100")
    return np.array([float(int(number * scale)) for number in numbers])


_SNIPPET = '''"""A mixture for Grain. The numbers are elements in a round."""

import glob

import grain

{tables}


def source(path):
    files = sorted(glob.glob(path))
    return grain.MapDataset.source(grain.sources.ArrayRecordDataSource(files)).shuffle(seed=42).repeat()


mixed = grain.MapDataset.mix([source(PATHS[name]) for name in SHARES], weights=list(SHARES.values()))
'''
