"""Which rule chooses best from few runs: `python -m experiments.choice.run` in the project's folder."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from jaxtyping import Float

import bimixjax
from bimixjax import Observations
from experiments.choice import config, summary
from experiments.choice.config import Case

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fit `auto` to K random runs, choose among other mixtures by several rules, and write what each choice costs."""

    observations: Path = HERE.parents[2] / "shared" / "observations"
    """Folder of the tables, pile_5groups.csv and others."""
    out: Path = HERE / "results"
    """Folder for tables."""
    only: str = ""
    """Cases whose name begins so."""


def read(folder: Path, table: str, case: Case) -> Observations:
    """Read the rows of a case that have all losses of the objective."""
    found = Observations.read(folder / f"{table}.csv")
    volume = None if case.step is None else (case.step, case.step)
    found = found.select(model_size=case.model_size, volume=volume, unit="steps" if volume else None)
    found = found.select(targets=found.own_targets or found.targets)
    return found.take(np.flatnonzero(np.isfinite(found.losses).all(1)))


def choices(
    fit: bimixjax.AutoFit, candidates: Float[np.ndarray, "n d"], pool: Float[np.ndarray, "p d"]
) -> Iterator[tuple[str, int]]:
    """Yield the candidate that each rule chooses from a fit."""

    def snapped(mixture: Float[np.ndarray, " d"]) -> int:
        """Return the candidate of the least Hellinger distance."""
        return int(np.argmax(np.sqrt(candidates) @ np.sqrt(mixture)))

    def averaged(mixtures: np.ndarray, values: np.ndarray, tolerance: float) -> np.ndarray:
        weights = np.exp(-(values - values.min()) / (tolerance * values.min()))
        return weights @ mixtures / weights.sum()

    at_candidates, at_pool = (np.asarray(fit.predict(each)).mean(1) for each in (candidates, pool))
    yield "argmax", int(at_candidates.argmin())
    for tolerance in config.TOLERANCES:
        yield f"near-optimal {tolerance:g}", snapped(averaged(candidates, at_candidates, tolerance))
    # One standard deviation of the log of the mean is half the width of its limits of 68.27 %.
    lower, upper = (np.asarray(each) for each in fit.mean_interval(candidates, level=0.6827))
    for kappa in config.KAPPAS:
        yield f"risk {kappa:g}", int((at_candidates * (upper / lower) ** (kappa / 2)).argmin())
    order = np.argsort(at_pool, kind="stable")
    yield "pool argmax", snapped(pool[order[0]])
    yield f"pool best {config.BEST}", snapped(pool[order[: config.BEST]].mean(0))
    for tolerance in config.TOLERANCES:
        yield f"pool near-optimal {tolerance:g}", snapped(averaged(pool, at_pool, tolerance))


def costs(case: Case, folder: Path) -> Iterator[dict[str, object]]:
    """Yield what each choice costs, by number of runs, draw and rule; also that of the best run drawn."""
    whole = read(folder, case.table, case)
    others = read(folder, case.candidates, case) if case.candidates else None
    order = sorted(range(len(whole)), key=lambda row: whole.run[row])
    for runs in config.RUNS:
        for draw in (*config.CHOSEN_ON, *config.REPORTED_ON):
            generator = np.random.default_rng(config.SEED * runs + draw)
            drawn = np.array(order)[generator.choice(len(order), runs, replace=False)]
            left = whole.take(np.setdiff1d(order, drawn)) if others is None else others
            fit = bimixjax.fit("auto", whole.take(drawn))
            measured, mean_of = left.losses.mean(1), whole.losses.mean(1)
            pool = generator.dirichlet(np.ones(len(whole.domains)), config.POOL)
            key = {"case": case.name, "runs": runs, "draw": draw}
            cost = {rule: measured[choice] for rule, choice in choices(fit, left.proportions, pool)}
            cost["best run"] = mean_of[drawn].min()
            for rule, value in cost.items():
                regret = value - measured.min()
                scaled = regret / (measured.mean() - measured.min())
                yield {**key, "rule": rule, "regret": regret, "normalized": scaled}
            print(f"{time.strftime('%H:%M:%S')} {key}", file=sys.stderr, flush=True)


def main(options: Options) -> None:
    """Run the cases, and write their costs and the paired differences."""
    options.out.mkdir(parents=True, exist_ok=True)
    for case in config.CASES:
        if case.name.startswith(options.only):
            frame = pd.DataFrame(costs(case, options.observations))
            frame.to_csv(options.out / f"costs_{case.name.replace(' ', '_')}.csv", index=False, float_format="%.6g")
    summary.write(options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
