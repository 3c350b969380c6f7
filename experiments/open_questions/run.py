"""Trains the runs of the open questions: `python -m experiments.open_questions.run --corpus DIR --folder DIR`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments.open_questions import domains, epochs, media, shares
from experiments.open_questions.config import TABLES

PARTS = {"domains": domains.train, "shares": shares.train, "epochs": epochs.train, "media": media.train}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train all runs; goes on where it was killed."""

    corpus: Path
    """The folder of `experiments.corpus`, with stores of 4, 8 and 12 domains, and where the store of media goes."""
    folder: Path
    """Where runs go."""
    parts: tuple[str, ...] = tuple(PARTS)
    """Of the questions."""


def main(options: Options) -> None:
    (options.folder / TABLES).mkdir(parents=True, exist_ok=True)
    for part in options.parts:
        PARTS[part](options.corpus, options.folder)


if __name__ == "__main__":
    main(tyro.cli(Options))
