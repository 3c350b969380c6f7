"""The paper's protocol on published losses: `python -m experiments.public_observations.run` in the project's folder."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pandas as pd
import tyro
from rich.console import Console
from rich.progress import track

import bimixjax
from bimixjax import InputError, Observations
from experiments.public_observations import figures, protocol, summary
from experiments.public_observations.config import DRAWS, EXTRAPOLATION, GENERALIZATION, IN_SAMPLE, LAW, SIZES, Unseen
from experiments.public_observations.protocol import Row

HERE = Path(__file__).resolve().parent
PROGRESS = Console(stderr=True)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fit a law to public losses, predict later volumes and unseen mixtures, write tables and figures."""

    observations: Path = HERE.parents[2] / "shared" / "observations"
    """Folder of the tables, pile_5groups.csv and others."""
    out: Path = HERE / "results"
    """Folder for tables and figures."""
    draws: int = DRAWS
    """How many choices of K runs."""


def read(folder: Path, table: str, first: int, last: int, size: float | None = None) -> Observations:
    return Observations.read(folder / f"{table}.csv").select(model_size=size, volume=(first, last), unit="steps")


def in_sample(folder: Path) -> Iterator[Row]:
    for table, (first, last) in IN_SAMPLE.items():
        fit = bimixjax.fit(LAW, read(folder, table, first, last), volume="steps", priors=False)
        for size in fit.model_sizes:
            yield from ({"table": table, "model_size": size, **row} for row in protocol.in_sample(fit.at(size)))


def extrapolation(folder: Path) -> Iterator[Row]:
    for case in EXTRAPOLATION:
        for size, alone, priors in product(case.sizes, (False, True), (True, False)):
            key = {"table": case.table, "model_size": size, "alone": alone, "priors": priors}
            early = read(folder, case.table, case.first, case.half, size)
            late = read(folder, case.table, case.last, case.last, size)
            yield from (key | row for row in protocol.extrapolation(early, late, LAW, priors=priors, alone=alone))


def generalization(folder: Path, draws: int) -> Iterator[Row]:
    for case in GENERALIZATION:
        for size in case.sizes:
            table = protocol.complete(read(folder, case.table, case.first, case.last, size))
            ends = read(folder, case.held_out or case.table, case.last, case.last, size)
            for count in track(case.runs, f"{case.table}, {size / 1e6:g}M", console=PROGRESS, transient=True):
                yield from unseen(case, table, ends, count, draws)


def unseen(case: Unseen, table: Observations, ends: Observations, count: int, draws: int) -> Iterator[Row]:
    for draw, runs in enumerate(protocol.designs(table, count, draws)):
        held = ends if case.held_out else ends.select(runs=[run for run in ends.runs if run not in runs])
        for priors in case.priors:
            key = {"table": case.table, "model_size": table.model_sizes[0], "priors": priors, "runs": count}
            row = protocol.generalization(table.select(runs=runs), held, LAW, priors=priors, ranked=case.ranked)
            yield {**key, "draw": draw, **row}


def write(folder: Path, tables: dict[str, list[Row]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")


def main(options: Options) -> None:
    folder, started = options.observations, time.perf_counter()
    if not folder.is_dir():
        raise InputError(f"no observation tables at {folder}; name their folder with --observations")
    lanes, cells = list(in_sample(folder)), list(extrapolation(folder))
    draws = list(generalization(folder, options.draws))
    sizes, later, scores = summary.by_size(lanes), summary.extrapolation(cells), summary.generalization(draws)
    files = {"in_sample": lanes, "in_sample_by_size": sizes, "extrapolation": later}
    write(options.out, files | {"generalization": scores, "generalization_draws": draws})
    figures.write(cells, scores, options.out)
    for title, lines in summary.report(sizes, later, scores, SIZES):
        print(f"{title}\n\n{lines}\n")
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
