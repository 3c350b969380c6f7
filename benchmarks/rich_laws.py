"""Fits per second of laws with many unknowns beside scipy, and how many end at the lowest cost.

Losses come from the law itself, times exp(.005 normal), for every domain at several model sizes: 5 domains x 24 runs x
10 volumes at 24 sizes (120 problems of 240 observations), and 17 domains x 64 runs x 5 volumes at 4 sizes (68 of 320).
Both sides minimize the same sum of squared relative residuals and weak priors, those that `fit` takes by default.
Ours is the call that `fit` makes, with as many starts as the law has valleys, every lane described, on one core and on
two. scipy is its bounded trust region over all unknowns, with NumPy formulas for the residuals and their Jacobian, in
logarithms of the unknowns whose priors are on these: from one start, the centers of the priors and shares of the mean
loss; and from as many starts as ours, those of the same list that cost least. Calls take turns on new losses; times are
medians, and so are ratios within a turn. scipy solves the first problems only. ok: within 1e-6 of the lowest cost of
all, scipy's from the true coefficients included; worse than 1e-3 is counted as another valley.

Run: `python benchmarks/rich_laws.py`, or with `--quick` for the laws of at most 14 unknowns only. Compilation takes
most of the time of either.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import _report
import jax
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls

import bimixjax
from bimixjax import LAWS, Observations
from bimixjax.fitting import devices
from bimixjax.fitting.one_law import _PRIOR_RESIDUAL
from bimixjax.fitting.problem import Batch, start_grid
from bimixjax.laws.prior import packed_root

HERE = Path(__file__).resolve().parent
OURS = "ours, one core"
SAME_COST, ANOTHER_VALLEY = 1e-6, 1e-3
NOISE = 0.005

Floats = NDArray[np.float64]
# From coefficients, shares [n, d], volumes [n] and the number of the target to losses [n] and their slopes [n, k].
Formula = Callable[[Floats, Floats, Floats, int], tuple[Floats, Floats]]

QUICK_UNKNOWNS = 14


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many domains, runs, volumes and model sizes."""

    domains: int
    runs: int
    volumes: int
    sizes: int


SIZES = {
    "5 domains": Size(domains=5, runs=24, volumes=10, sizes=24),
    "17 domains": Size(domains=17, runs=64, volumes=5, sizes=4),
}


def _with_own(weights: Floats, own: int) -> Floats:
    weights = weights.copy()
    weights[own] = 1.0
    return weights


def _but_own(slopes: Floats, own: int) -> Floats:
    slopes = slopes.copy()
    slopes[:, own] = 0.0
    return slopes


def transfer(c: Floats, r: Floats, s: Floats, own: int) -> tuple[Floats, Floats]:
    B, C, alpha, beta, g = c[:5]
    T, powers, volume = _with_own(c[5:], own), r**g, s**-beta
    rho = powers @ T
    share = rho**-alpha
    loss, inner = share * (B * volume + C), -alpha / rho
    columns = [share * volume, share, -np.log(rho) * loss, -np.log(s) * share * B * volume]
    columns += [loss * inner * ((powers * np.log(r)) @ T)]
    return loss, np.column_stack([*columns, _but_own((loss * inner)[:, None] * powers, own)])


def additive(c: Floats, r: Floats, s: Floats, own: int) -> tuple[Floats, Floats]:
    E, K, B, beta = c[:4]
    C, g = _with_own(c[4 : 4 + r.shape[1]], own), c[4 + r.shape[1] :]
    powers, volume = r**g, s**-beta
    known = powers @ C
    slope = (-K / known**2)[:, None] * powers
    columns = [np.ones_like(s), 1 / known, volume, -np.log(s) * B * volume]
    return E + K / known + B * volume, np.column_stack([*columns, _but_own(slope, own), slope * C * np.log(r)])


def joint(c: Floats, r: Floats, s: Floats, own: int) -> tuple[Floats, Floats]:
    count = r.shape[1]
    first, slopes = additive(c[: 4 + 2 * count], r, s, own)
    CB, gB = _with_own(c[4 + 2 * count : -1], own), c[-1]
    mixed = r @ CB
    scale, term = mixed**gB, c[2] * s ** -c[3]
    slopes = slopes.copy()
    slopes[:, 2:4] *= scale[:, None]
    extra = [_but_own((term * scale * gB / mixed)[:, None] * r, own), (term * scale * np.log(mixed))[:, None]]
    return first + term * (scale - 1), np.column_stack([slopes, *extra])


FORMULAS: dict[str, Formula] = {"bimix_transfer": transfer, "additive": additive, "joint": joint}


def drawn(law: str, random: np.random.Generator, domains: int) -> Floats:
    """True coefficients [k]."""

    def about(median: float, width: float) -> Floats:
        return median * np.exp(width * random.standard_normal(domains))

    beta, level = random.uniform(0.2, 0.9), random.uniform(1, 3)
    height = level * random.uniform(0.1, 0.6)
    if law == "bimix_transfer":
        return np.array([height, level, random.uniform(0.05, 0.3), beta, random.uniform(0.4, 0.9), *about(0.1, 0.7)])
    mixture = [*about(0.1, 0.7), *random.uniform(0.3, 0.8, domains)]
    scaled = [] if law == "additive" else [*about(1.0, 0.5), random.uniform(-0.5, -0.1)]
    return np.array([level, random.uniform(0.1, 0.6), height, beta, *mixture, *scaled])


@dataclass(frozen=True, kw_only=True)
class Problems:
    """Shares [sizes, n, d], volumes over the largest [n], losses [lanes, n] and true coefficients [lanes, k]."""

    law: str
    size: Size
    shares: Floats
    s: Floats
    loss: Floats
    truth: Floats

    @classmethod
    def make(cls, law: str, size: Size, seed: int) -> "Problems":
        random = np.random.default_rng(seed)
        shares = random.dirichlet(np.ones(size.domains), (size.sizes, size.runs)).clip(1e-3)
        shares = np.repeat(shares / shares.sum(-1, keepdims=True), size.volumes, axis=1)
        s = np.tile(np.linspace(1 / size.volumes, 1, size.volumes), size.runs)
        truth = np.array([drawn(law, random, size.domains) for _ in range(size.sizes * size.domains)])
        lanes = enumerate(truth)
        clean = [FORMULAS[law](c, shares[lane // size.domains], s, lane % size.domains)[0] for lane, c in lanes]
        loss = np.array(clean) * np.exp(NOISE * random.standard_normal((len(truth), len(s))))
        return cls(law=law, size=size, shares=shares, s=s, loss=loss, truth=truth)

    def observations(self) -> Observations:
        size, rows = np.broadcast_arrays(np.arange(self.size.sizes)[:, None], np.arange(len(self.s)))
        run = rows // self.size.volumes
        columns = {"run": [f"{k}-{n}" for k, n in zip(run.ravel(), size.ravel(), strict=True)]}
        columns |= {"model_size": size.ravel() + 1.0, "step": np.tile(200_000 * self.s, self.size.sizes)}
        losses = self.loss.reshape(self.size.sizes, self.size.domains, -1)
        for i in range(self.size.domains):
            columns |= {f"mixture/d{i}": self.shares[..., i].ravel(), f"loss/d{i}": losses[:, i].ravel()}
        return Observations.from_frame(pd.DataFrame(columns))

    def system(self, lane: int) -> "System":
        parts, domains = LAWS[self.law].ordered(), self.size.domains
        nonlinear = LAWS[self.law].part(linear=False)
        each = [c for c in parts for _ in range(c.size(domains))]
        count = sum(c.linear for c in each)
        root = np.diag([1 / c.prior[1] for c in each])
        priors, sizes = [c.weak_prior for c in nonlinear], [c.size(domains) for c in nonlinear]
        root[count:, count:] = packed_root(priors, sizes, power=-1)
        return System(
            value=lambda c: FORMULAS[self.law](c, self.shares[lane // domains], self.s, lane % domains),
            loss=self.loss[lane],
            logs=np.array([c.logarithmic for c in each]),
            lower=np.array([c.lower for c in each]),
            upper=np.array([c.upper for c in each]),
            center=np.array([c.prior[0] for c in each]),
            root=_PRIOR_RESIDUAL * root,
        )


@dataclass(frozen=True, kw_only=True)
class System:
    """Residuals of one problem, its rows and then its priors, in the unknowns that scipy iterates."""

    value: Callable[..., tuple[Floats, Floats]]
    loss: Floats
    logs: NDArray[np.bool_]
    lower: Floats
    upper: Floats
    center: Floats
    root: Floats

    def free(self, c: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.logs, np.log(c), c)

    def coefficients(self, z: Floats) -> Floats:
        return np.where(self.logs, np.exp(np.where(self.logs, z, 0.0)), z)

    def residuals(self, z: Floats) -> Floats:
        return np.concatenate(
            [self.value(self.coefficients(z))[0] / self.loss - 1, self.root @ (z - self.free(self.center))]
        )

    def slopes(self, z: Floats) -> Floats:
        c = self.coefficients(z)
        rows = self.value(c)[1] / self.loss[:, None] * np.where(self.logs, c, 1.0)
        return np.concatenate([rows, self.root])

    def cost(self, c: Floats) -> float:
        return float(np.sum(self.residuals(self.free(np.where(self.logs, c.clip(1e-300), c))) ** 2))

    def solved(self, start: Floats) -> Floats:
        jacobian: Any = self.slopes
        bounds = (self.free(self.lower), self.free(self.upper))
        return self.coefficients(least_squares(self.residuals, self.free(start), jacobian, bounds, max_nfev=500).x)

    def solved_from_many(self, starts: Floats, count: int) -> Floats:
        """The best end from those `count` non-linear starts [k, q] that cost least, each with its best linear part."""
        first = len(self.loss), len(self.center) - starts.shape[1]
        tried = []
        for theta in starts:
            columns = self.value(np.concatenate([np.ones(first[1]), theta]))[1][:, : first[1]] / self.loss[:, None]
            linear, missed = nnls(columns, np.ones(first[0]))
            tried.append((missed, np.concatenate([linear.clip(1e-3), theta])))
        chosen = sorted(tried, key=lambda each: each[0])[:count]
        return min((self.solved(start) for _, start in chosen), key=self.cost)

    def plain_start(self) -> Floats:
        """The centers of the priors, the linear ones by the mean loss."""
        count = int(np.argmax(self.logs))
        linear = {2: (0.2, 0.7), 3: (0.6, 0.1, 0.2)}[count]
        return np.concatenate([np.multiply(linear, self.loss.mean()), self.center[count:]])


def ours(batch: Batch, cores: int) -> Any:
    with jax.enable_x64(True), mock.patch.object(devices, "cores", partial(int, cores)):
        return devices.solve(batch)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One batch of problems: seconds for each of them by solver, how far each lane's cost is above the lowest, steps.

    The lowest cost of a lane is that of all solvers, and of scipy from the truth; `excess` holds the lanes that scipy
    was asked for.
    """

    problems: int
    unknowns: int
    seconds: dict[str, float]
    excess: dict[str, Floats]
    steps: Floats


def taken(law: str, size: Size, turn: int, slow: int) -> Turn:
    """Solve one batch by all solvers, and `slow` of its lanes, or fewer, by scipy."""
    problems, valleys = Problems.make(law, size, turn), LAWS[law].local_minima
    observed, starts = problems.observations(), start_grid(LAWS[law], size.domains)
    call = _report.solver_call(lambda: bimixjax.fit(law, observed, volume="steps"))
    systems = [problems.system(lane) for lane in range(slow)]
    fewer = systems[: max(2, slow // valleys)]
    calls: dict[str, Callable[[], Any]] = {
        OURS: lambda: ours(call, 1),
        "ours, two cores": lambda: ours(call, 2),
        "scipy TRF": lambda: [system.solved(system.plain_start()) for system in systems],
        "scipy TRF, as many starts": lambda: [system.solved_from_many(starts, valleys) for system in fewer],
    }
    answers, seconds = {}, {}
    for name, each in calls.items():
        begun = time.perf_counter()
        answers[name] = each()
        seconds[name] = time.perf_counter() - begun
    ends = {name: found if name.startswith("scipy") else found.values for name, found in answers.items()}
    seconds = {name: took / len(ends[name]) for name, took in seconds.items()}
    ends["truth"] = [system.solved(c) for system, c in zip(systems, problems.truth, strict=False)]
    costs = {
        name: np.array([system.cost(c) for system, c in zip(systems, found, strict=False)])
        for name, found in ends.items()
    }
    lowest = np.array([min(each[lane] for each in costs.values() if lane < len(each)) for lane in range(slow)])
    excess = {name: each / lowest[: len(each)] - 1 for name, each in costs.items()}
    count, unknowns = problems.truth.shape
    return Turn(problems=count, unknowns=unknowns, seconds=seconds, excess=excess, steps=answers[OURS].solution.steps)


def measured(law: str, size: Size, *, turns: int, slow: int) -> dict[str, Any]:
    """Medians by solver, and how many unknowns and steps a lane has; the first turn compiles, and its times are not."""
    first, *rest = [taken(law, size, turn, slow) for turn in range(turns + 1)]
    return {
        "unknowns": first.unknowns,
        "problems": first.problems,
        "mean_steps": float(np.mean([turn.steps for turn in rest])),
        "solvers": {name: _of_solver(name, [first, *rest]) for name in first.seconds},
    }


def _of_solver(name: str, turns: Sequence[Turn]) -> dict[str, float]:
    excess = np.concatenate([turn.excess[name] for turn in turns])
    return {
        "fits_per_second": 1 / statistics.median(turn.seconds[name] for turn in turns[1:]),
        "problems": len(excess),
        "ok": float(np.mean(excess <= SAME_COST)),
        "another_valley": float(np.mean(excess > ANOTHER_VALLEY)),
        "times_ours": statistics.median(turn.seconds[name] / turn.seconds[OURS] for turn in turns[1:]),
    }


def main(turns: int, slow: int, most: int | None, out: Path) -> None:
    results: dict[str, dict[str, Any]] = {}
    for law in FORMULAS:
        for name, size in SIZES.items():
            if most is not None and len(drawn(law, np.random.default_rng(0), size.domains)) > most:
                continue
            found = results[f"{law}, {name}"] = measured(law, size, turns=turns, slow=slow)
            rows = [
                (
                    solver,
                    f"{row['fits_per_second']:.4g}",
                    f"{row['ok']:.3f}",
                    f"{row['another_valley']:.3f}",
                    f"{row['times_ours']:.3g}",
                )
                for solver, row in found["solvers"].items()
            ]
            print(
                f"\n{law}, {name}: {found['unknowns']} unknowns, {found['mean_steps']:.1f} steps of ours, {turns} turns"
            )
            header = ("solver", "fits/s", "ok", "another valley", "time / ours on one core")
            print(_report.table(header, rows), flush=True)
    _report.write(out, {"turns": turns, "problems_of_scipy": slow, **results})
    solvers = {f"{name}: {solver}": row for name, found in results.items() for solver, row in found["solvers"].items()}
    ratios = {name: row["times_ours"] for name, row in solvers.items()}
    print(json.dumps(ratios | {f"{name}, ok": row["ok"] for name, row in solvers.items()}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 turn instead of 5, and 8 problems for scipy, not 30")
    parser.add_argument("--out", type=Path, help="JSON file (default: results/rich_laws.json, or rich_laws_quick.json)")
    options = parser.parse_args()
    name = "rich_laws_quick.json" if options.quick else "rich_laws.json"
    quick = options.quick
    main(
        1 if quick else 5, 8 if quick else 30, QUICK_UNKNOWNS if quick else None, options.out or HERE / "results" / name
    )
