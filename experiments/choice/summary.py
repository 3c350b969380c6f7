"""Paired differences between rules of choice, over draws and cases."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.choice.config import CHOSEN_ON, REPORTED_ON, RUNS

# What a rule is compared with: the best candidate, or the best of the random mixtures that it draws.
BASE, POOL = "argmax", "pool"


def write(folder: Path) -> None:
    """Read the costs of all cases, and write and print a row per set of draws, numbers of runs and rule."""
    costs: Any = pd.concat([pd.read_csv(path) for path in sorted(folder.glob("costs_*.csv"))])
    groups = {**{str(runs): (runs,) for runs in RUNS}, "all": RUNS}
    found: Any = pd.concat([
        paired(costs[costs["draw"].isin(list(draws)) & costs["runs"].isin(runs)]).assign(draws=name, runs=group)
        for name, draws in (("0-4", CHOSEN_ON), ("10-19", REPORTED_ON))
        for group, runs in groups.items()
    ])  # fmt: skip
    found = found[["draws", "runs", "rule", "regret", "minus_argmax", "error"]]
    found.to_csv(folder / "paired.csv", index=False, float_format="%.5g")
    print(found.to_string(index=False, float_format=lambda value: f"{value:.4f}"))


def paired(costs: Any) -> pd.DataFrame:
    """Compare each rule with the argmax on the same draws, those on random mixtures with the argmax of these.

    Sizes of one table are averaged first, for they share their mixtures; then the mean over tables and numbers of runs
    of means over draws. The standard error is that over draws within these.
    """
    table = costs["case"].str.split(" ").str[0]
    by_draw: Any = costs.assign(table=table).groupby(["rule", "table", "runs", "draw"])["normalized"].mean()
    rules: Iterable[str] = by_draw.index.unique("rule")
    rows = []
    for rule in rules:
        own = by_draw[rule]
        groups = (own - by_draw[f"{POOL} {BASE}" if rule.startswith(POOL) else BASE]).groupby(["table", "runs"])
        error = np.sqrt((groups.var() / groups.count()).sum()) / groups.ngroups
        regret = own.groupby(["table", "runs"]).mean().mean()
        rows.append({"rule": rule, "regret": regret, "minus_argmax": groups.mean().mean(), "error": error})
    return pd.DataFrame(rows).sort_values("regret", kind="stable")
