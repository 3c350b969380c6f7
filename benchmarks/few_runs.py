"""Whether `auto` can be believed from few runs: finite everywhere, no worse than their mean, and searched well.

From K runs of four public tables, drawn at random, with all of their losses:

- of 100,000 mixtures (40 % uniform, 40 % peaked, 20 % within 1e-6 of a corner, the corners themselves among them), how
  many predictions are not finite and positive, and how far the predictions leave the fitted losses; and how many rows
  are taken for outlying;
- the mean relative error on all other runs, at the last volume, over that of the mean of the K runs: of all targets,
  and of the worst one;
- by how much the best of 2,000 random mixtures is better than the one that `optimize` finds.

The tables lie beside the project (`../shared/observations`); where they come from is said in
`experiments/public_observations`. Run: `python benchmarks/few_runs.py`, or with `--quick` for one draw and two K.
"""

import argparse
from pathlib import Path
from typing import Any

import _report
import jax
import numpy as np

import bimixjax
from bimixjax import Budget, Observations

HERE = Path(__file__).resolve().parent
PUBLIC = HERE.parents[1] / "shared" / "observations"
MIXTURES, RANDOM, SEED = 100_000, 2_000, 20_000
# Mixtures that are read at a time.
BLOCK = 10_000


TABLES = ("pile_5groups", "pile_3domains", "pile_17domains", "topics_24")


def tables() -> dict[str, Observations]:
    """The tables, of one model size each."""
    return {
        "pile_5groups": Observations.read(PUBLIC / "pile_5groups.csv").select(model_size=70e6),
        "pile_3domains": Observations.read(PUBLIC / "pile_3domains.csv").select(model_size=410e6),
        "pile_17domains": Observations.read(PUBLIC / "pile_17domains_train.csv"),
        "topics_24": Observations.read(PUBLIC / "topics_24.csv"),
    }


def mixtures(domains: int, count: int, random: np.random.Generator) -> np.ndarray:
    """Uniform, peaked, and near corners [n, d]."""
    even, peaked = (random.dirichlet(np.full(domains, a), 2 * count // 5) for a in (1.0, 0.05))
    near = np.eye(domains)[random.integers(0, domains, count // 5)] + 1e-6 * random.random((count // 5, domains))
    near[:domains] = np.eye(domains)
    return np.concatenate([even, peaked, near / near.sum(1, keepdims=True)])


def last(table: Observations) -> float | None:
    """The last volume that most runs have."""
    if table.volume_unit() is None:
        return None
    volumes, counts = np.unique(table.volumes(), return_counts=True)
    return float(volumes[counts >= 0.8 * counts.max()][-1])


def measure(table: Observations, runs: int, draw: int) -> dict[str, Any]:
    """What is said above, of one draw."""
    random = np.random.default_rng(SEED + 1000 * runs + draw)
    chosen = random.choice(sorted(table.runs), runs, replace=False).tolist()
    fitted, others = table.split([run for run in table.runs if run not in chosen])
    fit, volume = bimixjax.fit("auto", fitted), last(fitted)
    logs = np.log(fitted.losses)
    low, high = np.nanmin(logs, axis=0), np.nanmax(logs, axis=0)
    asked, wrong, outside = mixtures(len(table.domains), MIXTURES, random), 0, 0.0
    for start in range(0, len(asked), BLOCK):
        found = np.asarray(fit.predict(asked[start : start + BLOCK], volume))
        ok = np.isfinite(found) & (found > 0)
        wrong += int((~ok).any(1).sum())
        beyond = np.maximum(low - np.log(found), np.log(found) - high)
        outside = max(outside, float(beyond[ok.all(1)].max()))
    best = bimixjax.optimize(fit, budget=Budget(volume=volume, from_prior=True))
    rival = np.asarray(fit.predict(random.dirichlet(np.ones(len(table.domains)), RANDOM), volume)).mean(1).min()
    ratio, worst = _errors(fit, fitted, others, volume)
    return {
        "runs": runs,
        "draw": draw,
        "not_finite": wrong,
        "outside": outside,
        "rows_left_out": int(np.isfinite(fitted.losses).sum() - fit.rows.sum()),
        "error_over_mean": ratio,
        "worst_target": worst,
        "random_better_by": best.objective - float(rival),
        "residual": best.kkt_residual,
        "converged": best.converged,
    }


def _errors(
    fit: bimixjax.AutoFit, fitted: Observations, others: Observations, volume: float | None
) -> tuple[float, float]:
    """Mean error on the other runs over that of the mean of the fitted ones: of all targets, and of the worst one."""
    parts = [
        table if volume is None else table.take(np.flatnonzero(table.volumes() == volume)) for table in (fitted, others)
    ]
    known, asked = parts
    predicted = np.asarray(fit.predict(asked.proportions, volume))
    mean = np.exp(np.nanmean(np.log(known.losses), axis=0))
    errors = [np.nanmean(np.abs(each / asked.losses - 1), axis=0) for each in (predicted, mean)]
    return float(np.nanmean(errors[0]) / np.nanmean(errors[1])), float(np.nanmax(errors[0] / errors[1]))


def main(names: list[str], counts: tuple[int, ...], draws: int, out: Path) -> None:
    if not PUBLIC.is_dir():
        raise SystemExit(f"the public tables are not at {PUBLIC}")
    found = []
    for name, table in tables().items():
        if name not in names:
            continue
        for runs in counts:
            for draw in range(draws):
                row = {"table": name, **measure(table, runs, draw)}
                found.append(row)
                print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            # Each number of runs compiles its own programs, and a process may not map that many.
            jax.clear_caches()
    header = (
        "table",
        "runs",
        "not finite",
        "rows left out",
        "outside",
        "error / mean",
        "worst target",
        "random better by",
    )
    shown = [
        [
            row["table"],
            str(row["runs"]),
            str(row["not_finite"]),
            str(row["rows_left_out"]),
            f"{row['outside']:.2f}",
            f"{row['error_over_mean']:.3f}",
            f"{row['worst_target']:.2f}",
            f"{row['random_better_by']:.1e}",
        ]
        for row in found
    ]
    print(_report.table(header, shown))
    _report.write(out, {"mixtures": MIXTURES, "random": RANDOM, "fits": found})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one draw of 1 and 4 runs")
    parser.add_argument("--draws", type=int, default=2, help="draws of each number of runs")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "few_runs.json", help="JSON file")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES, help="which tables")
    options = parser.parse_args()
    main(
        options.tables,
        (1, 4) if options.quick else (1, 2, 4, 8, 16),
        1 if options.quick else options.draws,
        options.out,
    )
