"""What `auto` would choose if it read harm in other ways: `python -m experiments.open_questions.harm`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jax
import pandas as pd
import tyro

from bimixjax import Observations
from bimixjax.auto import averaging, donor, members
from bimixjax.laws import BiMixTransfer, Repeated
from experiments.open_questions import epochs, summary
from experiments.open_questions.config import Epochs
from experiments.repetition import run as repetition

AS_IT_IS, MEAN, EFFECTIVE = "auto", "harm gives way to the mean of the runs", "a member of effective tokens beside"
MOST = (4.0, 8.0, 16.0)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fit `auto` to rows of at most 4, 8 and 16 epochs, and to another table, as it is and changed."""

    tables: Path = summary.HERE / "results" / "tables"
    """Tables of runs."""
    observations: Path = repetition.Options.observations
    """Folder of repetition.csv, of a model of 124M parameters; without it that table is left out."""
    out: Path = summary.HERE / "results"
    """Folder for the table of what was found."""


@contextmanager
def changed(how: str) -> Iterator[None]:
    """Change `auto` for a while."""
    added = members.IN_EPOCHS
    if how == EFFECTIVE:
        like = next(member for member in members.MEMBERS if member.name == "transfer")
        own = Repeated(BiMixTransfer())
        added = (*added, members.Member("transfer_repeated", own, like.beliefs, process=like.process))
    harmful = () if how == MEAN else averaging._IN_EPOCHS
    names = tuple(member.name for member in added)
    with (
        patch.object(averaging, "_IN_EPOCHS", harmful),
        patch.object(members, "IN_EPOCHS", added),
        patch.object(donor, "_IN_EPOCHS", names),
    ):
        # Compiled functions have read what is changed.
        jax.clear_caches()
        yield
    jax.clear_caches()


def main(options: Options) -> None:
    rows: list[dict[str, Any]] = []
    for how in (AS_IT_IS, MEAN, EFFECTIVE):
        with changed(how):
            for scarce, _ in Epochs.PAIRS:
                table = Observations.read(options.tables / f"epochs-{scarce}.parquet")
                for most in MOST:
                    found = epochs.judged(table, scarce, (("auto", True),), most).iloc[0]
                    row: dict[str, Any] = {"variant": how, "table": scarce, "most epochs fitted": f"{most:g}"}
                    row |= {"error": found["32 to 64 epochs"], "chosen": found["chosen"], "worst": found["worst"]}
                    rows.append(row)
                    print(row, flush=True)
            if (options.observations / f"{repetition.TABLE}.csv").is_file():
                for layout, fitted, last in repetition.layouts(options.observations):
                    found = repetition.judged("auto", layout, fitted, last, in_epochs=True)
                    row = {
                        "variant": how,
                        "table": f"{repetition.TABLE}, {layout}",
                        "most epochs fitted": "shorter runs",
                    }
                    rows.append(row | {"error": found["error"], "chosen": found["regret"], "worst": found["regret"]})
    summary.write(pd.DataFrame(rows), options.out / "harm.csv")


if __name__ == "__main__":
    main(tyro.cli(Options))
