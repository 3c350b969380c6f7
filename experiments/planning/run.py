"""Planned runs against random ones on public losses: `python -m experiments.planning.run` in the project's folder."""

import csv
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro

import bimixjax
from experiments.planning import figures, sizes
from experiments.planning.choices import DESIGNS, METHODS, Choose, depends_on_draw
from experiments.planning.config import AUTO_COUNTS, AUTO_DRAWS, AUTO_TABLES, COUNTS, DRAWS, REPORTED, TABLES, Table
from experiments.planning.constants import read_constants
from experiments.planning.losses import Runs, read

HERE = Path(__file__).resolve().parent
COLUMNS = ("table", "method", "runs", "draw", "regret")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Choose among the runs of public tables, write tables and figures."""

    observations: Path = HERE.parents[2] / "shared" / "observations"
    """Folder of the tables, pile_5groups.csv and others."""
    out: Path = HERE / "results"
    """Folder for tables and figures; rows that are there already are not computed again."""
    parts: tuple[str, ...] = ("best_run", "auto", "sizes")
    """Which parts to run."""


def best_run(runs: Runs, rows: list[int]) -> float:
    """Return the regret of the best of the runs chosen."""
    return runs.regret(rows)


def by_auto(runs: Runs, rows: list[int]) -> float:
    """Return the regret of the mixture of the table that `auto` chooses, fitted to the runs chosen."""
    ids = runs.observations.run[rows].astype(str).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predicted = np.asarray(bimixjax.fit("auto", runs.observations.select(runs=ids)).predict(runs.mixtures))
    means = predicted.mean(axis=1)
    return runs.regret([int(np.where(np.isfinite(means), means, np.inf).argmin())])


PARTS = {
    "best_run": (METHODS, COUNTS, (*DRAWS,), TABLES, best_run),
    "auto": (DESIGNS, AUTO_COUNTS, (*AUTO_DRAWS,), AUTO_TABLES, by_auto),
}


def cases(
    methods: dict[str, Choose], counts: tuple[int, ...], draws: tuple[int, ...], among: tuple[Table, ...]
) -> Iterator[tuple[Table, str, int, int]]:
    """Return every table, method, number of runs and draw; a method without random runs has one draw."""
    for count in counts:
        for table in among:
            for method in methods:
                if table.tasks and method == "zero-run order":
                    continue
                yield from ((table, method, count, draw) for draw in (draws if depends_on_draw(method) else draws[:1]))


def run_part(options: Options, part: str) -> Path:
    """Append the rows that are missing to the part's table; those of sizes are computed anew, with costs as runs."""
    path = options.out / f"{part}.csv"
    if part == "sizes":
        with path.open("w", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *sizes.rows(options.observations)])
        return path
    methods, counts, draws, among, judged = PARTS[part]
    if not path.exists():
        path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    with path.open(encoding="utf-8") as file:
        done = {tuple(row[:4]) for row in csv.reader(file)}
    tables = {table.name: (read(options.observations, table), read_constants(table.family)) for table in among}
    for table, method, count, draw in cases(methods, counts, draws, among):
        key = (table.name, method, str(count), str(draw))
        if key in done:
            continue
        runs, constants = tables[table.name]
        regret = judged(runs, methods[method](runs, constants, count, draw))
        with path.open("a", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow([*key, f"{regret:.6g}"])
    return path


def summarize(path: Path) -> pd.DataFrame:
    """Average the draws reported, then tables, with the standard error over tables; and the mean over all draws."""
    rows: Any = pd.read_csv(path)
    reported = rows["draw"].isin(REPORTED) | ~rows["method"].map(depends_on_draw)
    keys = ["method", "runs"]
    of_draws = rows[reported].groupby([*keys, "table"], sort=False)["regret"].mean()
    found = of_draws.groupby(keys, sort=False).agg(["mean", "sem", "max", "count"])
    of_all = rows.groupby([*keys, "table"], sort=False)["regret"].mean().groupby(keys, sort=False).mean()
    return found.assign(mean_of_all_draws=of_all).reset_index()


def main() -> None:
    """Run the parts, write summaries and figures, and print them."""
    options = tyro.cli(Options, description=__doc__)
    for part in options.parts:
        path = run_part(options, part)
        found = summarize(path)
        found.to_csv(options.out / f"{part}_summary.csv", index=False, float_format="%.4f")
        if part in figures.TITLES:
            figures.curves(found, options.out / f"{part}.png", part)
        shown = found.set_index(["method", "runs"])["mean"].unstack(sort=False)  # noqa: PD010 - one value in each cell
        sys.stdout.write(f"{part}: normalized regret, mean over tables\n{shown.round(3).to_string()}\n\n")


if __name__ == "__main__":
    main()
