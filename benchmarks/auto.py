"""Seconds and peak memory of a thousand resamples of `auto` on 26 runs, and of the best mixture of each.

The table is that of the 26 runs at 160M parameters over the five groups of arXiv 2403.16952 (`data/5Mix`), where it
lies beside the project, else a made-up one of its shape: with the losses of the five groups, and with all 27 losses of
the table. Each has a process of its own, without a cache of compiled programs: the first call compiles, the second does
not. A bootstrap contains a fit, whose seconds stand beside it. `cpu` counts the seconds of all processors together,
which other work on the machine disturbs less. Memory is the most that the process ever held (`ru_maxrss`).

Then larger tables: made-up losses of as many targets, the first of which are domains. One process fits and saves the
fit, another reads the file, predicts, gives limits and searches, each once without anything compiled and once again.

Run: `python benchmarks/auto.py`, or with `--quick` a hundred resamples with the losses of the groups only; `--shapes`
for the larger tables alone, which with `PYTHONPATH` can be those of another checkout of the package.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _report
import jax
import numpy as np
import pandas as pd

import bimixjax
from bimixjax import AutoFit, Budget, Observations, estimation

HERE = Path(__file__).resolve().parent
PUBLIC = HERE.parents[1] / "shared" / "observations" / "pile_5groups.csv"
RUNS, GROUPS = 26, 5

# Runs, domains and targets of the larger tables.
SHAPES = {
    "26 runs x 5 targets": (26, 5, 5),
    "512 runs x 13 targets": (512, 17, 13),
    "256 runs x 50 targets": (256, 50, 50),
    "16 runs x 100 targets": (16, 100, 100),
}


def observations(losses: int) -> Observations:
    """The first so many losses of the table."""
    if not PUBLIC.exists():
        return made_up(losses)
    table = Observations.read(PUBLIC).select(model_size=160e6).to_frame()
    spare = [name for name in table if name.startswith("loss/")][losses:]
    return Observations.from_frame(table.drop(columns=spare))


def made_up(losses: int) -> Observations:
    """Twenty-six runs at thirteen volumes, whose losses are a power of a share with transfer."""
    random = np.random.default_rng(0)
    share, step = random.dirichlet(np.ones(GROUPS), RUNS), np.geomspace(1e3, 1e5, 13)
    transfer = np.where(np.arange(losses)[:, None] == np.arange(GROUPS), 1.0, random.uniform(0.02, 0.2, GROUPS))
    level = (share @ transfer.T)[:, None] ** -0.12 * (1.5 + (step / 1e5) ** -0.4)[:, None]
    loss = level * np.exp(0.005 * random.standard_normal(level.shape))
    columns = {"run": np.repeat(np.arange(RUNS), len(step)).astype(str), "step": np.tile(step, RUNS)}
    columns |= {f"mixture/{k}": np.repeat(share[:, k], len(step)) for k in range(GROUPS)}
    columns |= {f"loss/{k}": loss[:, :, k].ravel() for k in range(losses)}
    return Observations.from_frame(pd.DataFrame(columns))


def peak() -> float:
    """The most memory that this process ever held, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(name: str, call: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Seconds of a first and a second call, those that all processors together took, and what the call gives."""
    found, times = None, {}
    for which in ("first", "again"):
        begun, worked = time.perf_counter(), time.process_time()
        found = call()
        times[f"{name}_{which}"] = time.perf_counter() - begun
        times[f"{name}_{which}_cpu"] = time.process_time() - worked
    return times, found


def measure(losses: int, count: int) -> dict[str, float]:
    """One table: seconds of the fit, of the bootstrap that contains it, and with few losses of the search."""
    table, key = observations(losses), jax.random.key(0)
    fit, _ = timed("fit", lambda: bimixjax.fit("auto", table))
    memory = {"peak_fit_mb": peak()}
    bootstrap, resamples = timed("bootstrap", lambda: bimixjax.bootstrap("auto", table, key=key, count=count))
    memory["peak_bootstrap_mb"] = peak()
    memory["answer_mb"] = sum(leaf.nbytes for leaf in jax.tree.leaves(resamples.sizes)) / 2**20
    searched: dict[str, float] = {}
    if losses == GROUPS:
        budget = Budget(volume=float(table.volumes().max()))
        searched, _ = timed("search", lambda: bimixjax.optimize_resamples(resamples, budget=budget))
        memory["peak_search_mb"] = peak()
    counts = {"losses": losses, "runs": len(table.runs), "rows": len(table), "resamples": count}
    return {**counts, **fit, **bootstrap, **searched, **memory}


def one_volume(runs: int, domains: int, targets: int) -> Observations:
    """Runs at one volume, whose losses are a power of a share with transfer."""
    random = np.random.default_rng(0)
    share = random.dirichlet(np.full(domains, 0.3), runs)
    transfer = np.where(np.arange(targets)[:, None] == np.arange(domains), 1.0, random.uniform(0.02, 0.2, domains))
    loss = 2.5 * (share @ transfer.T + 0.01) ** -0.12 * np.exp(0.005 * random.standard_normal((runs, targets)))
    columns = {"run": np.arange(runs).astype(str)} | {f"mixture/{k}": share[:, k] for k in range(domains)}
    return Observations.from_frame(pd.DataFrame(columns | {f"loss/{k}": loss[:, k] for k in range(targets)}))


def fit_and_save(shape: str, file: Path) -> dict[str, float]:
    """Fit one of the larger tables, and save the fit."""
    table = one_volume(*SHAPES[shape])
    begun, worked = time.perf_counter(), time.process_time()
    fit = bimixjax.fit("auto", table)
    found = {"fit_first": time.perf_counter() - begun, "fit_first_cpu": time.process_time() - worked}
    fit.save(file)
    return {**found, "peak_fit_mb": peak(), "file_mb": file.stat().st_size / 2**20}


def answer(shape: str, file: Path) -> dict[str, float]:
    """Read a saved fit, and ask it."""
    mixtures = np.random.default_rng(1).dirichlet(np.ones(SHAPES[shape][1]), 10)
    begun, worked = time.perf_counter(), time.process_time()
    fit = estimation.load(file)
    assert isinstance(fit, AutoFit)
    found = {"load": time.perf_counter() - begun, "load_cpu": time.process_time() - worked}
    calls = {
        "predict": lambda: fit.predict(mixtures),
        "interval": lambda: fit.interval(mixtures),
        "optimize": lambda: bimixjax.optimize(fit),
    }
    for name, call in calls.items():
        found |= timed(name, call)[0]
    return {**found, "peak_answer_mb": peak()}


def shapes() -> list[dict[str, Any]]:
    """Measure the larger tables, those that answer in processes of their own."""
    rows = []
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "fit.json"
            parts = [apart("--shape", shape, "--part", part, "--file", str(file)) for part in ("fit", "answer")]
        rows.append({"shape": shape, **parts[0], **parts[1]})
        print(json.dumps(rows[-1]))
    return rows


def apart(*options: str) -> dict[str, float]:
    """Measure in a process of its own, without a cache of compiled programs."""
    command = [sys.executable, __file__, *options]
    settings = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=settings)
    return json.loads(done.stdout.splitlines()[-1])


def main(losses: tuple[int, ...], count: int, out: Path) -> None:
    found = [apart("--losses", str(each), "--count", str(count)) for each in losses]
    names = dict.fromkeys(name for row in found for name in row)
    shown = [[name, *(f"{row[name]:.1f}" if name in row else "" for row in found)] for name in names]
    print(_report.table(["", *(f"{each} losses" for each in losses)], shown))
    table = PUBLIC.name if PUBLIC.exists() else "made up"
    larger = shapes() if len(losses) > 1 else []
    _report.write(out, {"table": table, "load": os.getloadavg()[0], "auto": found, "shapes": larger})
    print(json.dumps({f"{row['losses']} losses, {name}": value for row in found for name, value in row.items()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a hundred resamples, the losses of the groups only")
    parser.add_argument("--losses", type=int, help="measure with so many losses in this process, and print JSON")
    parser.add_argument("--count", type=int, default=1000, help="how many resamples")
    parser.add_argument("--out", type=Path, help="JSON file (default: results/auto.json, or auto_quick.json)")
    parser.add_argument("--shapes", action="store_true", help="the larger tables only")
    parser.add_argument("--shape", choices=SHAPES, help="measure one of them in this process, and print JSON")
    parser.add_argument("--part", choices=("fit", "answer"), help="which part of it")
    parser.add_argument("--file", type=Path, help="where its fit is kept")
    options = parser.parse_args()
    if options.shape:
        part = fit_and_save if options.part == "fit" else answer
        print(json.dumps(part(options.shape, options.file)))
    elif options.shapes:
        _report.write(options.out or HERE / "results" / "auto_shapes.json", {"shapes": shapes()})
    elif options.losses:
        print(json.dumps(measure(options.losses, options.count)))
    else:
        name = "auto_quick.json" if options.quick else "auto.json"
        counts = (GROUPS,) if options.quick else (GROUPS, 27)
        main(counts, 100 if options.quick else options.count, options.out or HERE / "results" / name)
