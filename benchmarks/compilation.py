"""Seconds of first and later calls, with and without XLA's newer way of writing loops for a CPU (`_base.compilation`).

Each case has a process of its own, which calls it first, when programs are compiled, and then some times more. `first`
and `again` are processor seconds, which other work on the machine disturbs less, with the choice of
`_base.compilation`; `x first` and `x again` are how often as long they take without it: medians of rounds within which
both have had their turn.

Run: `python benchmarks/compilation.py`
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _report
import numpy as np
import pandas as pd

import bimixjax
from bimixjax import Budget, Observations
from bimixjax._base import compilation

HERE = Path(__file__).resolve().parent
VOLUMES = 10.0 ** np.linspace(0, 2, 12)


def table(domains: int, runs: int) -> Observations:
    """Made-up losses of all domains, which have something of each other's share."""
    draw = np.random.default_rng(0)
    mixtures, teaches = draw.dirichlet(np.ones(domains), runs), draw.uniform(0, 0.1, (domains, domains))
    read = 0.9 * mixtures + mixtures @ teaches
    losses = read[:, None] ** -draw.uniform(0.02, 0.3, domains) * (
        draw.uniform(1, 3, domains) + VOLUMES[:, None] ** -draw.uniform(0.2, 0.9, domains)
    )
    losses *= np.exp(0.003 * draw.standard_normal(losses.shape))
    count = len(VOLUMES)
    columns = {"run": np.repeat([f"r{i}" for i in range(runs)], count), "step": np.tile(VOLUMES, runs)}
    columns |= {f"mixture/d{i}": np.repeat(mixtures[:, i], count) for i in range(domains)}
    columns |= {f"loss/d{i}": losses[:, :, i].ravel() for i in range(domains)}
    return Observations.from_frame(pd.DataFrame(columns))


def of_law(law: str, domains: int, runs: int, resamples: int = 0) -> Callable[[], object]:
    """A fit, or its bootstrap."""
    observations = table(domains, runs)
    if resamples:
        return lambda: bimixjax.bootstrap(law, observations, count=resamples, key=0)
    return lambda: bimixjax.fit(law, observations)


def search(law: str, domains: int, runs: int) -> Callable[[], object]:
    """The best mixture of a fit."""
    fitted = bimixjax.fit(law, table(domains, runs))
    return lambda: bimixjax.optimize(fitted, budget=Budget(volume=100.0))


CASES: dict[str, Callable[[], Callable[[], object]]] = {
    "fit of bimix, 22 domains": lambda: of_law("bimix", 22, 4),
    "fit of joint, 5 domains": lambda: of_law("joint", 5, 16),
    "fit of additive, 5 domains": lambda: of_law("additive", 5, 16),
    "bootstrap of bimix, 22 domains": lambda: of_law("bimix", 22, 4, resamples=500),
    "bootstrap of bimix_transfer, 5 domains": lambda: of_law("bimix_transfer", 5, 16, resamples=500),
    "search of joint, 5 domains": lambda: search("joint", 5, 16),
    "fit of auto, 5 domains": lambda: of_law("auto", 5, 16),
    "search of auto, 5 domains": lambda: search("auto", 5, 16),
}


def alone(case: str, chosen: bool, turns: int) -> dict[str, float]:
    """Measure one case in this process."""
    if not chosen:
        compilation._CHOICES = {}
    call, times = CASES[case](), []
    for _ in range(turns + 1):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return {"first": times[0], "again": statistics.median(times[1:])}


def measured(case: str, rounds: int, turns: int) -> dict[str, Any]:
    """One row of the table."""
    found: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for _ in range(rounds):
        for chosen, rows in found.items():
            line = [sys.executable, str(Path(__file__).resolve()), "--turns", str(turns), "--alone", case, str(chosen)]
            rows.append(json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout))
    row: dict[str, Any] = {"case": case}
    for call in ("first", "again"):
        row[call] = statistics.median(with_it[call] for with_it in found[True])
        ratios = [without[call] / with_it[call] for with_it, without in zip(found[True], found[False], strict=True)]
        row[f"x {call}"] = statistics.median(ratios)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind and case")
    parser.add_argument("--turns", type=int, default=5, help="calls after the first")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "compilation.json", help="JSON file")
    given = parser.parse_args()
    if given.alone:
        case, chosen = given.alone
        print(json.dumps(alone(case, chosen == "True", given.turns)))
        return
    rows: list[dict[str, Any]] = []
    for case in given.cases:
        rows.append(measured(case, given.rounds, given.turns))
        print(_report.table(list(rows[-1]), [[f"{v:.3g}" if isinstance(v, float) else v for v in rows[-1].values()]]))
    _report.write(given.out, {"benchmark": "compilation", "rounds": given.rounds, "turns": given.turns, "cases": rows})


if __name__ == "__main__":
    main()
