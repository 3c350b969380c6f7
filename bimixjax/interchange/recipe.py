"""What the file of a trainer says about its data, whatever the trainer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float

from bimixjax._base.checks import InputError

# Stands where a trainer needs a path and none was given.
PLACEHOLDER = "REPLACE-WITH-PATH-OF/"
_GLOB = set("*?[]{}")
# What tools append to the name of a tokenized corpus.
_ENDINGS = ("_text_document", "_content_document", "_document")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source of data in a trainer's file.

    Attributes:
        domain: its name.
        written: the number that stands for its share.
        paths: where its data lie; none where the format has no paths.
        most_epochs: how often the trainer may go through it, inf where it has no such limit.
    """

    domain: str
    written: float
    paths: tuple[str, ...] = ()
    most_epochs: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The sources that a trainer draws from, from one training step on.

    Attributes:
        sources: the sources.
        start: the step, from 0.
    """

    sources: tuple[Source, ...]
    start: int = 0

    def numbers(self, domains: tuple[str, ...]) -> Float[np.ndarray, " d"]:
        """Return what is written for each domain, 0 where it is not named."""
        found = {source.domain: source.written for source in self.sources}
        return np.array([found.get(domain, 0.0) for domain in domains])


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The mixture in a trainer's file: one stage, or several of which each begins where another ends.

    Attributes:
        stages: in their order.
        block: of how many sequences the trainer fixes the counts, where the file says so.
        problems: what the trainer would refuse, or do otherwise than the file says.
        notes: what else is worth knowing.
    """

    stages: tuple[Stage, ...]
    block: int | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains of all stages."""
        return tuple(dict.fromkeys(source.domain for stage in self.stages for source in stage.sources))


@dataclass(frozen=True, kw_only=True)
class Training:
    """The training that a mixture is for; None where something is not known.

    Attributes:
        tokens: tokens of the whole training.
        sequence_length: tokens per sequence.
        batch: sequences per step.
    """

    tokens: float | None = None
    sequence_length: int | None = None
    batch: int | None = None

    @property
    def sequences(self) -> float | None:
        """How many sequences are drawn."""
        return None if self.tokens is None or self.sequence_length is None else self.tokens / self.sequence_length

    @property
    def steps(self) -> float | None:
        """How many steps there are."""
        return None if self.sequences is None or self.batch is None else self.sequences / self.batch


def placeholder(domain: str) -> str:
    """Return what stands in a file for a path that was not given."""
    return PLACEHOLDER + domain.replace(" ", "_")


def named(paths: tuple[str, ...], names: Mapping[str, str], where: str) -> tuple[str, ...]:
    """Name domains by their paths, for formats that have no other names.

    Args:
        paths: of the sources, in their order.
        names: domains by path, where these are known.
        where: what an error calls the file.

    Example:
        >>> named(("/data/web_text_document", "s3://b/code/*.npy"), {}, "blend.txt")
        ('web', 'code')
    """
    found = tuple(names.get(path) or _short(path) for path in paths)
    # Where two would have one name, the paths tell them apart, and their places where the path is the same too.
    found = tuple(name if found.count(name) == 1 else path for name, path in zip(found, paths, strict=True))
    found = tuple(name if found.count(name) == 1 else f"{name} #{i + 1}" for i, name in enumerate(found))
    if not all(name.strip() for name in found):
        raise InputError(f"{where}: a path is blank; allowed: the place of a source")
    return found


def _short(path: str) -> str:
    parts = [part for part in PurePosixPath(path.removeprefix(PLACEHOLDER)).parts if not _GLOB & set(part)]
    name = parts[-1] if parts else path
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name or path
