"""Fits per second on 1280 problems of 100 observations, beside scipy and optimistix, and how many find the best cost.

Each problem is one domain at one model size: 5 mixtures x 20 volumes, alpha ~ U(.02, .3), beta ~ U(.2, .9), C ~ U(1,
3), B/C ~ U(.1, .6) at the largest volume, times exp(.005 normal). `grid`: all runs are measured at the same volumes;
`rows`: each run at volumes of its own. All solvers minimize the sum of squared relative residuals, without priors;
peers start from one plain point, and from the exponents at which ours starts. `full` is the call that `fit` makes,
which describes each lane; `brief` the one that the bootstrap makes, which keeps coefficients, cost and status. `many`:
the same on 10240 problems, of which these are the first, for two cores gain little on a call of some milliseconds.
Calls take turns; times are medians, and so are ratios within a turn. scipy solves the first problems only. ok: within
1e-6 of the lowest cost of all solvers.

Run: `python benchmarks/batches.py` (with the extra `bench`), or with `--quick` in about a minute.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import _report
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

import bimixjax
from bimixjax import Observations
from bimixjax.fitting import devices
from bimixjax.fitting.problem import Batch
from bimixjax.fitting.views import brief

HERE = Path(__file__).resolve().parent
SIZES, MANY_SIZES, DOMAINS, RUNS, VOLUMES = 64, 512, 20, 5, 20
LANES = SIZES * DOMAINS
CHUNK = 64
TOLERANCE = 1e-8
SAME_COST = 1e-6

Floats = NDArray[np.float64]
Problem = tuple[Floats, Floats, Floats]


def make(seed: int, *, grid: bool) -> tuple[Observations, Observations, Problem]:
    """A table, one of many more sizes, and own proportions, volumes over the largest and losses [L, n] of the first."""
    random = np.random.default_rng(seed)
    mixtures = random.dirichlet(np.full(DOMAINS, 3.0), (MANY_SIZES, RUNS, 1)).clip(1e-3)
    mixtures /= mixtures.sum(-1, keepdims=True)
    ladder = np.linspace(10_000, 200_000, VOLUMES)
    step = np.broadcast_to(ladder, (MANY_SIZES, RUNS, VOLUMES)).copy()
    if not grid:
        step[..., :-1] += random.integers(1, 9_000, (MANY_SIZES, RUNS, VOLUMES - 1))
    low, high = np.array([0.02, 0.2, 1.0, 0.1]), np.array([0.3, 0.9, 3.0, 0.6])
    alpha, beta, C, height = np.moveaxis(random.uniform(low, high, (MANY_SIZES, 1, 1, DOMAINS, 4)), -1, 0)
    s = step[..., None] / step.max()
    loss = mixtures**-alpha * C * (height * s**-beta + 1)
    loss *= np.exp(0.005 * random.standard_normal(loss.shape))
    shares = np.broadcast_to(mixtures, loss.shape)

    def lanes(values: Floats) -> Floats:
        return np.moveaxis(np.broadcast_to(values, loss.shape)[:SIZES], -1, 1).reshape(LANES, -1)

    tables = [table(shares[:count], step[:count], loss[:count]) for count in (SIZES, MANY_SIZES)]
    return tables[0], tables[1], (lanes(shares), lanes(s), lanes(loss))


def table(shares: Floats, step: Floats, loss: Floats) -> Observations:
    """Losses of all domains [sizes, runs, volumes, domains] as a table."""
    size, run = np.broadcast_arrays(1e6 * np.arange(1, len(step) + 1)[:, None, None], np.arange(RUNS)[:, None], step)[
        :2
    ]
    columns = {"run": [f"{k}-{n:g}" for k, n in zip(run.ravel(), size.ravel(), strict=True)], "step": step.ravel()}
    columns |= {"model_size": size.ravel()}
    columns |= {f"mixture/d{i}": shares[..., i].ravel() for i in range(DOMAINS)}
    columns |= {f"loss/d{i}": loss[..., i].ravel() for i in range(DOMAINS)}
    return Observations.from_frame(pd.DataFrame(columns))


def cost(problem: Problem, found: Floats) -> Floats:
    """Sum of squared relative residuals [L] at (B, C, alpha, beta) [L, 4]."""
    r, s, loss = (values[: len(found)] for values in problem)
    B, C, alpha, beta = found.T[:, :, None]
    return np.sum((r**-alpha * (B * s**-beta + C) / loss - 1) ** 2, axis=1)


def ours(batch: Batch, cores: int) -> Floats:
    with jax.enable_x64(True), mock.patch.object(devices, "cores", partial(int, cores)):
        return devices.solve(batch).values


def plain_start(problem: Problem, count: int) -> Floats:
    mean = problem[2][:count].mean(axis=1)
    return np.stack([0.3 * mean, 0.7 * mean, np.full(count, 0.1), np.full(count, 0.5)], axis=1)


def trf(problem: Problem, start: Floats) -> Floats:
    """The bounded trust-region solver of scipy, one problem after another, with analytic Jacobian."""

    def residuals(c: Floats, r: Floats, s: Floats, loss: Floats) -> Floats:
        return r ** -c[2] * (c[0] * s ** -c[3] + c[1]) / loss - 1

    def slopes(c: Floats, r: Floats, s: Floats, loss: Floats) -> Floats:
        own, volume = r ** -c[2] / loss, s ** -c[3]
        law = own * (c[0] * volume + c[1])
        return np.stack([own * volume, own, -np.log(r) * law, -np.log(s) * own * c[0] * volume], axis=1)

    jacobian: Any = slopes
    lanes = zip(start, *(values[: len(start)] for values in problem), strict=True)
    return np.array([least_squares(residuals, c, jacobian, (0, np.inf), args=data).x for c, *data in lanes])


@jax.jit
def optimistix_chunk(r: jax.Array, s: jax.Array, loss: jax.Array, start: jax.Array) -> jax.Array:
    solver = optimistix.LevenbergMarquardt(rtol=TOLERANCE, atol=TOLERANCE)

    def value(log: jax.Array, data: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        B, C, alpha, beta = jnp.exp(log)
        return data[0] ** -alpha * (B * data[1] ** -beta + C) / data[2] - 1

    def one(r: jax.Array, s: jax.Array, y: jax.Array, first: jax.Array) -> jax.Array:
        return jnp.exp(optimistix.least_squares(value, solver, jnp.log(first), (r, s, y), throw=False).value)

    return jax.vmap(one)(r, s, loss, start)


@jax.jit
def optimistix_chunks(r: jax.Array, s: jax.Array, loss: jax.Array, start: jax.Array) -> jax.Array:
    parts = [values.reshape(-1, CHUNK, values.shape[-1]) for values in (r, s, loss, start)]
    return jax.lax.map(lambda part: optimistix_chunk(*part), tuple(parts)).reshape(-1, 4)


def peer(solver: Callable[..., Any], problem: Problem, start: Floats) -> Floats:
    with jax.enable_x64(True):
        return np.asarray(solver(*problem, start))


def calls_of(observations: Observations) -> tuple[Batch, Batch]:
    """What `fit` hands to the compiled solver, and the same with little kept."""
    batch = _report.solver_call(lambda: bimixjax.fit("bimix", observations, volume="steps", priors=False))
    return batch, dataclasses.replace(batch, view=brief)


def callables(
    observations: Observations, many: Observations, problem: Problem, slow: int
) -> dict[str, Callable[[], Floats]]:
    (full, short), (many_full, many_short) = calls_of(observations), calls_of(many)
    # The exponents of the best of our solver's starts; the linear coefficients, which ours solves for, stay plain.
    near = plain_start(problem, LANES)
    near[:, 3] = 0.6
    return {
        "full, one core": lambda: ours(full, 1),
        "full, two cores": lambda: ours(full, 2),
        "brief, one core": lambda: ours(short, 1),
        "brief, two cores": lambda: ours(short, 2),
        "full, many, one core": lambda: ours(many_full, 1),
        "full, many, two cores": lambda: ours(many_full, 2),
        "brief, many, one core": lambda: ours(many_short, 1),
        "brief, many, two cores": lambda: ours(many_short, 2),
        "scipy TRF, analytic Jacobian": lambda: trf(problem, plain_start(problem, slow)),
        "scipy TRF, our exponents": lambda: trf(problem, near[:slow]),
        "optimistix LM, whole": lambda: peer(optimistix_chunk, problem, plain_start(problem, LANES)),
        "optimistix LM, chunks of 64": lambda: peer(optimistix_chunks, problem, plain_start(problem, LANES)),
        "optimistix LM, chunks, our exponents": lambda: peer(optimistix_chunks, problem, near),
    }


def layout(*, grid: bool, turns: int, slow: int) -> dict[str, dict[str, float]]:
    """By call: seconds of the first, fits per second, ok-share, and how much faster `brief` and two cores are."""
    seconds: dict[str, list[float]] = {}
    excess: dict[str, list[Floats]] = {}
    first: dict[str, float] = {}
    for turn in range(turns + 1):
        observations, many, problem = make(turn, grid=grid)
        costs = {}
        for name, call in callables(observations, many, problem, slow).items():
            begun = time.perf_counter()
            found = call()
            took = time.perf_counter() - begun
            costs[name] = cost(problem, _with_scaled_volume(found[:LANES], observations, name))
            if turn:
                seconds.setdefault(name, []).append(took / len(found))
            else:
                first[name] = took
        best = np.min([each[:slow] for each in costs.values()], axis=0)
        for name, each in costs.items():
            excess.setdefault(name, []).append(each[:slow] / best - 1)
    ours_ = seconds["brief, one core"]
    found = {
        name: {
            "first_call_seconds": first[name],
            "fits_per_second": 1 / statistics.median(each),
            "ok": float(np.mean(np.concatenate(excess[name]) <= SAME_COST)),
            "times_brief": _ratio(each, ours_),
        }
        for name, each in seconds.items()
    }
    for name in found:
        if "two cores" in name:
            found[name]["gain_of_two_cores"] = _ratio(seconds[name.replace("two cores", "one core")], seconds[name])
    return found


def _ratio(seconds: list[float], others: list[float]) -> float:
    """The median over turns."""
    return statistics.median(a / b for a, b in zip(seconds, others, strict=True))


def _with_scaled_volume(found: Floats, observations: Observations, name: str) -> Floats:
    """(B, C, alpha, beta) with volumes over the largest; `brief` gives B in the user's unit."""
    if not name.startswith("brief"):
        return found
    largest = observations.volumes("steps").max()
    return np.column_stack([found[:, 0] * largest ** -found[:, 3], found[:, 1:]])


def main(turns: int, slow: int, out: Path) -> None:
    results = {"grid": layout(grid=True, turns=turns, slow=slow), "rows": layout(grid=False, turns=turns, slow=slow)}
    for name, found in results.items():
        rows = [
            (
                call,
                f"{row['fits_per_second']:.0f}",
                f"{row['ok']:.4f}",
                f"{row['times_brief']:.3g}",
                f"{row['first_call_seconds']:.1f}",
            )
            for call, row in found.items()
        ]
        print(f"\n{name}: {LANES} problems x {RUNS * VOLUMES} observations, {turns} turns")
        print(_report.table(("call", "fits/s", "ok", "time / brief on one core", "first call, s"), rows))
    _report.write(out, {"turns": turns, "problems_of_scipy": slow, **results})
    ratios = {f"{name}: {call}": row["times_brief"] for name, found in results.items() for call, row in found.items()}
    shares = {f"{name}: {call}, ok": row["ok"] for name, found in results.items() for call, row in found.items()}
    gains = {
        f"{name}: {call}, gain": row["gain_of_two_cores"]
        for name, found in results.items()
        for call, row in found.items()
        if "gain_of_two_cores" in row
    }
    print(json.dumps(ratios | shares | gains))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="2 turns instead of 9, and 100 problems for scipy, not 400"
    )
    parser.add_argument("--out", type=Path, help="JSON file (default: results/batches.json, or batches_quick.json)")
    options = parser.parse_args()
    name = "batches_quick.json" if options.quick else "batches.json"
    main(2 if options.quick else 9, 100 if options.quick else 400, options.out or HERE / "results" / name)
