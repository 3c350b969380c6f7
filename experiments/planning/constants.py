"""Learn the constants of a plan's Gaussian process: `python -m experiments.planning.constants`.

They are those of greatest likelihood of the log losses of `RUNS` runs drawn from each table, twice; of fewer runs where
that would be more than `LOSSES` losses. All tables of a family count as one. Gradients follow from the kernel's
differences. Leaving a family out gives what it is judged with.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import linalg, optimize

from bimixjax._base.records import read_json, write_json
from bimixjax.planning.process import Constants, covariances, mean
from experiments.planning.config import GROUPS, TABLES, Table
from experiments.planning.losses import Runs, read

FILE = Path(__file__).resolve().parent / "results" / "constants.json"
RUNS, LOSSES, TIMES = 24, 312, 2
START = Constants(
    slope_mean=0.05,
    slope=(0.02, 0.04),
    offset=0.002,
    source_mean=0.03,
    source=(0.03, 0.06),
    power=0.4,
    process=(0.03, 0.05),
    length=0.5,
    run=(0.003, 0.005),
)
# A weak prior keeps constants that no table determines where they start: this standard deviation in their logs, worth
# this many losses.
SPREAD, WORTH = 1.5, 0.002
_STEP = 1e-5
_NAMES = tuple(field.name for field in dataclasses.fields(Constants) if field.name != "size_length")


def flat(constants: Constants) -> np.ndarray:
    """Return the logs of all constants."""
    return np.log(np.concatenate([np.atleast_1d(getattr(constants, name)) for name in _NAMES]))


def shaped(logs: np.ndarray) -> Constants:
    """Return constants from their logs."""
    numbers, found = iter(np.exp(logs).tolist()), {}
    for name in _NAMES:
        pair = isinstance(getattr(START, name), tuple)
        found[name] = (next(numbers), next(numbers)) if pair else next(numbers)
    return Constants(**found)


def likelihood(logs: np.ndarray, mixtures: np.ndarray, losses: np.ndarray, own: np.ndarray) -> tuple[float, np.ndarray]:
    """Return -log p of log losses, per loss, and its gradient."""
    z, sizes = np.log(losses) - np.log(losses).mean(), np.zeros(len(losses))

    def prior(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        covariance = covariances(shaped(logs), own, mixtures, sizes).reshape(z.size, z.size)
        return covariance, (z - mean(shaped(logs), own, mixtures)).ravel()

    covariance, off = prior(logs)
    factor = linalg.cho_factor(covariance + 1e-10 * np.eye(z.size), lower=True)
    alpha, inverse = linalg.cho_solve(factor, off), linalg.cho_solve(factor, np.eye(z.size))
    value = off @ alpha / 2 + np.log(np.diag(factor[0])).sum()
    gradient = []
    for step in _STEP * np.eye(len(logs)):
        later, moved = prior(logs + step)
        change = (later - covariance) / _STEP
        gradient.append(np.sum((inverse - np.outer(alpha, alpha)) * change) / 2 + alpha @ (moved - off) / _STEP)
    return float(value) / z.size, np.array(gradient) / z.size


def learn(tables: Iterable[Runs]) -> Constants:
    """Return the constants of greatest likelihood."""
    tables = list(tables)
    families = [runs.table.family for runs in tables]
    parts = []
    for runs, family in zip(tables, families, strict=True):
        for time in range(TIMES):
            count = min(RUNS, len(runs.mixtures), LOSSES // runs.losses.shape[1])
            rows = np.random.default_rng(time).choice(len(runs.mixtures), count, replace=False)
            weight = 1 / families.count(family) / len(set(families)) / TIMES
            parts.append((weight, runs.mixtures[rows], runs.losses[rows], runs.own))
    begin = flat(START)

    def goal(logs: np.ndarray) -> tuple[float, np.ndarray]:
        off = (logs - begin) / SPREAD
        value, gradient = float(WORTH * off @ off / 2), WORTH * off / SPREAD
        for weight, *data in parts:
            found, slope = likelihood(logs, *data)
            value, gradient = value + weight * found, gradient + weight * slope
        return value, gradient

    bounds = [(np.log(3e-4), np.log(3.0))] * len(begin)
    return shaped(optimize.minimize(goal, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60}).x)


def without(folder: Path, family: str | None, *, tasks: bool) -> Constants:
    """Learn from all tables but those of a family; for tasks, with no target known to be a domain."""

    def taken(table: Table) -> bool:
        return table.family != family and (tasks or not table.tasks)

    tables = [read(folder, table) for table in TABLES if taken(table)]
    if tasks:
        tables += [read(folder, table, "others") for table in GROUPS if taken(table)]
        tables = [dataclasses.replace(runs, own=np.full(len(runs.own), -1)) for runs in tables]
    return learn(tables)


FAMILIES = tuple(dict.fromkeys(table.family for table in TABLES))
EVERY = "every table"


def main() -> None:
    """Learn without each family, and from all tables, and write it."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "observations"
    found = {f"without {family}": without(folder, family, tasks=family == "topics") for family in FAMILIES}
    found |= {f"{EVERY}, domains": without(folder, None, tasks=False)}
    found |= {f"{EVERY}, tasks": without(folder, None, tasks=True)}
    write_json(FILE, {name: rounded(constants) for name, constants in found.items()})


def rounded(constants: Constants) -> dict[str, float | list[float]]:
    """Return all constants, rounded to four digits."""

    def each(value: float | tuple[float, float]) -> float | list[float]:
        return [float(f"{one:.4g}") for one in value] if isinstance(value, tuple) else float(f"{value:.4g}")

    return {name: each(getattr(constants, name)) for name in _NAMES}


def read_constants(family: str) -> Constants:
    """Return the constants that were learned without a family."""
    found = read_json(FILE)[f"without {family}"]
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
    return Constants(**values)


if __name__ == "__main__":
    main()
