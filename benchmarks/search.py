"""Seconds of a search for the best mixture: beside SLSQP and Clarabel, in batches, and as the number of domains grows.

Problems are sums of powers, sum_i c_i r_i^-a_i with c ~ U(1, 4) and a ~ U(.01, .3), without limits and (`groups`) with
caps of twice the uniform share and a fifth of the domains in a group with half of its natural total.

- `one`: a call of the exact dual on the host against SLSQP with gradients from the uniform mixture, and without groups
  against the interior-point solver Clarabel, by power cones; `difference` is by how much our objective is higher.
- `batch`: 1000 problems in one call, per problem, against SLSQP.
- `sweep`: the best mixture at 64 volumes in one call, over the time of one.
- `growth`: time and memory of the dual and its certificate (an `Objective` of a fitted law, without limits).
- `whole`: those of `fit`, `optimize` and what is shown of it in a fresh process, of a table with five runs.

Times are processor seconds, for other processes share the machine, and medians of turns. In a turn a call is repeated
for a hundredth of a second: the first one after a peer's finds its code in no cache and takes several times as long.

Run: `python benchmarks/search.py` (with the extra `bench`), or with `--quick` in less than a minute.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import _report
import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import minimize

import bimixjax
from bimixjax import LAWS, Budget, Observations
from bimixjax._base.records import read_json
from bimixjax.fitting.result import LawLosses
from bimixjax.optimization import Objective
from bimixjax.optimization.search import certificate
from bimixjax.solve import Region, certify, power_dual, power_dual_on_host

# Its names come from compiled code, which no type checker reads.
clarabel: Any = import_module("clarabel")

HERE = Path(__file__).resolve().parent
GROWTH = (7, 22, 100, 1000, 10_000, 100_000)
WHOLE = (7, 22, 100, 300, 1000)
# Processor seconds of a turn, which a short call fills many times.
SPAN = 0.01
PARTS = ("one", "batch", "sweep", "growth", "whole")


def problem(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scales and exponents."""
    draw = np.random.default_rng(seed)
    return draw.uniform(1, 4, n), draw.uniform(0.01, 0.3, n)


def region(n: int, *, groups: bool) -> Region:
    """The limits of a problem."""
    if not groups:
        return Region.box(np.zeros(n), np.ones(n))
    inside = np.arange(n) < max(1, n // 5)
    return Region(
        lower=np.zeros(n),
        upper=np.minimum(1.0, np.full(n, 2 / n)),
        group=np.where(inside, 0, 1),
        least=np.full(2, -np.inf),
        most=np.array([inside.mean() / 2, np.inf]),
    )


def seconds(calls: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """The median processor time of each call, in turns of some calls each, after one that compiles."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(turns):
        for name, call in calls.items():
            start, count = time.process_time(), 0
            while (spent := time.process_time() - start) < SPAN or not count:
                call()
                count += 1
            times[name].append(spent / count)
    return {name: statistics.median(found) for name, found in times.items()}


def slsqp(scale: np.ndarray, exponent: np.ndarray, within: Region) -> np.ndarray:
    """SLSQP with gradients, from the uniform mixture within limits."""
    n = len(scale)
    constraints = [{"type": "eq", "fun": lambda r: r.sum() - 1, "jac": np.ones_like}]
    if within.grouped:
        row = (within.group == 0).astype(float)
        constraints.append({"type": "ineq", "fun": lambda r: within.most[0] - row @ r, "jac": lambda r: -row})
    return minimize(
        lambda r: (np.sum(scale * r**-exponent), -scale * exponent * r ** (-exponent - 1)),
        within.nearest(np.full(n, 1 / n)),
        jac=True,
        bounds=np.stack([np.full(n, 1e-9), within.upper], axis=1),
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 1000},
    ).x


def by_clarabel(scale: np.ndarray, exponent: np.ndarray, within: Region) -> np.ndarray:
    """Clarabel on min c . t with (t_i, r_i, 1) in the cone t^(1/(1+a)) r^(a/(1+a)) >= 1, at its own tolerances."""
    n = len(scale)
    eye, zero = sparse.eye(n), sparse.csc_matrix((n, n))
    rows = [sparse.hstack([sparse.csc_matrix((1, n)), np.ones((1, n))])]
    rights, cones = [np.ones(1)], [clarabel.ZeroConeT(1)]
    caps = [sparse.hstack([zero, eye])]
    rows += caps
    rights.append(within.upper)
    cones.append(clarabel.NonnegativeConeT(n))
    order = sparse.lil_matrix((3 * n, 2 * n))
    for i in range(n):
        order[3 * i, i] = order[3 * i + 1, n + i] = -1.0
    rows.append(order.tocsc())
    rights.append(np.tile([0.0, 0.0, 1.0], n))
    cones += [clarabel.PowerConeT(1 / (1 + a)) for a in exponent]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    matrix = sparse.vstack([sparse.csc_matrix(part) for part in rows]).tocsc()
    quadratic = sparse.csc_matrix((2 * n, 2 * n))
    cost = np.concatenate([scale, np.zeros(n)])
    solver = clarabel.DefaultSolver(quadratic, cost, matrix, np.concatenate(rights), cones, settings)
    return np.array(solver.solve().x)[n:]


def one(n: int, *, groups: bool, turns: int, peers: dict[str, Callable[..., np.ndarray]]) -> dict[str, Any]:
    """One optimum of n domains: seconds, how often the peers take longer, and whose objective is lower."""
    (scale, exponent), within = problem(n, 0), region(n, groups=groups)
    of_groups = (within.group, within.least, within.most) if within.grouped else ()
    ours = partial(power_dual_on_host, scale, exponent, within.lower, within.upper, *of_groups)

    def value(r: np.ndarray) -> float:
        return float(np.sum(scale * r**-exponent))

    calls = {"ours": ours, **{name: lambda peer=peer: peer(scale, exponent, within) for name, peer in peers.items()}}
    found, best = seconds(calls, turns), value(ours())
    row: dict[str, Any] = {"domains": n, "limits": "groups" if groups else "none", "seconds": found["ours"]}
    slopes, r = -scale * exponent * ours() ** (-exponent - 1), ours()
    row |= {"kkt_residual": certify(slopes, r, within).kkt_residual, "violation": within.violation(r)}
    for name, peer in peers.items():
        row |= {f"{name}_seconds": found[name], f"{name}_ratio": found[name] / found["ours"]}
        row[f"{name}_difference"] = best - value(peer(scale, exponent, within))
    return row


def batch(n: int, count: int, turns: int) -> dict[str, Any]:
    """Many problems in one call, per problem, against SLSQP."""
    scale, exponent = (np.stack(part) for part in zip(*(problem(n, seed) for seed in range(count)), strict=True))
    arrays, limits = tuple(map(jnp.asarray, (scale, exponent))), (jnp.zeros(n), jnp.ones(n))
    dual = jax.jit(jax.vmap(power_dual, in_axes=(0, 0, None, None)))
    within = region(n, groups=False)
    calls = {
        "ours": lambda: dual(*arrays, *limits).block_until_ready(),
        "slsqp": lambda: slsqp(scale[0], exponent[0], within),
    }
    found = seconds(calls, turns)
    each = found["ours"] / count
    return {"domains": n, "problems": count, "seconds_each": each, "slsqp_ratio": found["slsqp"] / each}


def powers(n: int) -> Objective:
    """The mean loss of n targets under BiMix, as a fit gives it."""
    draw = np.random.default_rng(0)
    values = np.stack([draw.uniform(*ends, n) for ends in ((1, 3), (1, 3), (0.01, 0.3), (0.2, 0.8))], axis=1)
    losses = LawLosses(law=LAWS["bimix"], own=tuple(range(n)), values=values, model_size=1.0)
    return Objective(predictor=losses, chosen=tuple(range(n)), weights=np.full(n, 1 / n), volume=np.asarray(1.0))


def sweep(n: int, count: int, turns: int) -> dict[str, Any]:
    """The best mixture at many volumes in one call, over the time of one."""
    goal, low, high = powers(n), np.zeros(n), np.ones(n)
    volumes = jnp.geomspace(0.1, 100.0, count)
    at_one = jax.jit(lambda volume: goal.at_volume(volume).optimal_proportions(low, high))
    at_all = jax.jit(jax.vmap(at_one))
    calls = {"one": lambda: at_one(volumes[0]).block_until_ready(), "all": lambda: at_all(volumes).block_until_ready()}
    found = seconds(calls, turns)
    return {
        "domains": n,
        "volumes": count,
        "one": found["one"],
        "all": found["all"],
        "ratio": found["all"] / found["one"],
    }


def growth_of_dual(n: int) -> dict[str, float]:
    """Processor seconds of the dual and its certificate, the best of three after a first one, and memory."""
    goal, within = powers(n), region(n, groups=False)

    def call() -> tuple[float, float]:
        start = time.process_time()
        r = np.asarray(goal.optimal_proportions(within.lower, within.upper))
        return time.process_time() - start, certificate(goal, r, within).kkt_residual

    first = time.process_time()
    _, residual = call()
    first = time.process_time() - first
    least = min(call()[0] for _ in range(3))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"domains": n, "first": first, "seconds": least, "megabytes": memory / 1e3, "kkt_residual": residual}


def growth_of_all(n: int) -> dict[str, float]:
    """Processor seconds of a fit of five runs of n domains, its optimum and what is shown of both."""
    draw = np.random.default_rng(0)
    mixtures, volumes = draw.dirichlet(np.full(n, 2.0), 5), np.array([1.0, 3.0, 9.0])
    alpha, scale = draw.uniform(0.02, 0.3, n), draw.uniform(1, 3, n)
    losses = mixtures[:, None] ** -alpha * (scale + volumes[:, None] ** -0.4)
    columns = {"run": np.repeat([f"r{i}" for i in range(5)], 3), "step": np.tile(volumes, 5)}
    columns |= {f"mixture/d{i}": np.repeat(mixtures[:, i], 3) for i in range(n)}
    columns |= {f"loss/d{i}": losses[:, :, i].ravel() for i in range(n)}
    table, marks = pd.DataFrame(columns), [time.process_time()]
    fit = bimixjax.fit("bimix", Observations.from_frame(table), priors=False)
    marks.append(time.process_time())
    best = bimixjax.optimize(fit, budget=Budget(volume=9.0))
    marks.append(time.process_time())
    shown = best.summary(), fit.summary()
    marks.append(time.process_time())
    assert all(shown)
    spans = dict(zip(("fit", "optimize", "show"), np.diff(marks).tolist(), strict=True))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"domains": n, **spans, "all": marks[-1] - marks[0], "megabytes": memory / 1e3, "kkt": best.kkt_residual}


def alone(kind: str, n: int) -> dict[str, float]:
    """Measure growth in a process of its own, where nothing else has taken memory."""
    line = [sys.executable, str(Path(__file__).resolve()), "--alone", kind, str(n)]
    return json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def draw_growth(rows: list[dict[str, float]], path: Path) -> None:
    """Seconds and memory by the number of domains."""
    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    domains = [row["domains"] for row in rows]
    for panel, what, unit in zip(panels, ("seconds", "megabytes"), ("processor seconds", "MB"), strict=True):
        values = [max(row[what], 1e-6) for row in rows]
        panel.loglog(domains, values, "o-", color="C0")
        slope = np.array([domains[-1] / 100, domains[-1]])
        panel.loglog(slope, values[-1] * slope / slope[-1], "--", color="0.6", label="linear")
        panel.set(xlabel="domains", ylabel=unit)
        panel.legend(frameon=False)
    figure.suptitle("The exact dual and its certificate", fontsize=10)
    figure.savefig(path)


def measured(part: str, *, quick: bool) -> list[dict[str, Any]]:
    """The rows of a part."""
    turns = 5 if quick else 15
    if part == "growth":
        return [alone("dual", n) for n in (GROWTH[:-1] if quick else GROWTH)]
    if part == "whole":
        return [alone("all", n) for n in WHOLE]
    with jax.enable_x64(True):
        if part == "one":
            peers: dict[str, Callable[..., np.ndarray]] = {"slsqp": slsqp}
            rows = [one(n, groups=groups, turns=turns, peers=peers) for n in (7, 22) for groups in (False, True)]
            return [*rows, one(1000, groups=False, turns=turns, peers={"clarabel": by_clarabel})]
        return [batch(n, 1000, turns) if part == "batch" else sweep(n, 64, turns) for n in (7, 22)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="fewer turns, and domains up to 10,000")
    options.add_argument("--parts", nargs="*", choices=PARTS, help="measure these, and keep the others of the file")
    options.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    options.add_argument("--out", type=Path, default=HERE / "results" / "search.json", help="JSON file")
    given = options.parse_args()
    if given.alone:
        kind, n = given.alone
        with jax.enable_x64(True):
            print(json.dumps((growth_of_dual if kind == "dual" else growth_of_all)(int(n))))
        return
    wanted = given.parts or (PARTS[:-1] if given.quick else PARTS)
    results = {} if given.quick or not given.parts else {part: read_json(given.out)[part] for part in PARTS}
    results |= {part: measured(part, quick=given.quick) for part in wanted}
    for name in wanted:
        for like in dict.fromkeys(tuple(row) for row in results[name]):
            part = [row for row in results[name] if tuple(row) == like]
            cells = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()] for row in part]
            print(f"{name}\n{_report.table(like, cells)}\n")
    if not given.quick:
        _report.write(given.out, {part: results[part] for part in PARTS})
        if "growth" in wanted:
            draw_growth(results["growth"], given.out.with_suffix(".png"))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
