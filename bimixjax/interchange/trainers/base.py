"""What a trainer is to an exporter: how its file is written and read, and what it makes of the numbers in it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from bimixjax._base.checks import InputError
from bimixjax.interchange.apportionment import decimals
from bimixjax.interchange.recipe import Recipe, Training, placeholder

# Of a trainer that takes any number: enough for a domain of a thousand tokens in a training of 1T, and short to read.
DIGITS = 9


class Trainer(ABC):
    """One kind of file.

    Attributes:
        kind: what `--to` and `--from` call it; two forms of one trainer differ in `suffixes`.
        title: its name.
        suffixes: of its files, the usual one first.
        counts: what a share counts: tokens; documents, so that a share of tokens depends on their lengths; or samples,
            which are of one length where the data was packed, and documents otherwise.
        zero: why a share of 0 must not stand in the file; "" where it may.
        sum_within: how far from 1 the numbers may sum; inf where the trainer divides them by their sum.
        keeps_zeros: whether a domain of share 0 is written too.
        phased: whether a file may have several stages.
        usage: how the file is given to the trainer.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    counts: ClassVar[Literal["tokens", "documents", "samples"]] = "tokens"
    zero: ClassVar[str] = ""
    sum_within: ClassVar[float] = math.inf
    keeps_zeros: ClassVar[bool] = False
    phased: ClassVar[bool] = False
    usage: ClassVar[str] = ""

    @abstractmethod
    def recognizes(self, found: Any) -> bool:
        """Tell whether the content of a file with one of the suffixes is of this kind."""

    @abstractmethod
    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read a file.

        Args:
            found: its content, parsed where it is JSON or YAML, else its text.
            names: domains by path, for formats that have paths only.
            where: what errors call the file.

        Raises:
            InputError: where something in it is not what the trainer takes.
        """

    @abstractmethod
    def write(self, recipe: Recipe) -> str:
        """Return the text of a file."""

    def rounded(self, shares: Float[np.ndarray, " d"], training: Training, block: int | None) -> np.ndarray:
        """Return the numbers to write for shares above 0 that sum to 1: those that the trainer can come nearest to."""
        del training, block
        return decimals(shares, DIGITS)

    def drawn(self, written: Float[np.ndarray, " d"], block: int | None) -> Float[np.ndarray, " d"]:
        """Return the shares that the trainer draws where these numbers are written, by its own rule."""
        del block
        return written / written.sum()

    def resolution(self, training: Training, block: int | None) -> float | None:
        """Return the smallest share that the trainer can draw; None where that is not known, or there is none."""
        del training, block
        return None

    def problems(self, recipe: Recipe, training: Training) -> list[str]:
        """Say what else the trainer would refuse, or do otherwise than the file says."""
        del recipe, training
        return []

    def default_path(self, domain: str) -> str | None:
        """Return what stands for a path that is not given; None where the format has no paths."""
        return placeholder(domain)

    def step_unit(self, training: Training, block: int | None) -> int:
        """Return of how many steps a stage must begin at a multiple."""
        del training, block
        return 1

    def allowed_path(self, path: str) -> str:
        """Return a path, or raise where the format cannot hold it."""
        if not path.strip() or not path.isprintable():
            raise InputError(f"the path {path!r} is blank or has marks that cannot be printed")
        return path
