"""Search for the best mixture of random laws, and hold it against the best of 2000 random mixtures.

Every law, with coefficients drawn about its priors, of 3 to 8 domains, without limits and within random ones. What is
printed is the worst and the mean difference, best random mixture minus optimum, and how many searches ended at a
stationary point.

With `--slsqp`, problems of 5 domains are held against the best of 30 starts of scipy's SLSQP with gradients instead:
without limits, within boxes, within two groups, and within these and a ball about a mixture. `worst` is then the
largest relative amount by which our objective is higher, `best` the largest by which it is lower; `median_kkt` and
`worst_broken` are the median residual and the most that a limit is broken; seconds are those of the processor. A
problem of `auto` is its fit to a table of 16 runs at three volumes, drawn from one of several laws with noise of half a
percent.

Run: `python benchmarks/searches.py`, or with `--problems 2 --laws bimix joint` a few only;
`python benchmarks/searches.py --slsqp --problems 50 --out benchmarks/results/searches_slsqp.json`; with `--laws auto`
and another file, those of `auto`, which are slower.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import _report
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy.optimize import minimize

import bimixjax
from bimixjax import Budget, FitResult, InputError, Limits, Observations
from bimixjax.fitting.base import Fit
from bimixjax.fitting.points import losses_at
from bimixjax.laws import LAWS, Law
from bimixjax.mixtures import nearest
from bimixjax.optimization import Objective
from bimixjax.solve import Region

HERE = Path(__file__).resolve().parent
RANDOM = 2000
DOMAINS = (3, 5, 8)
STARTS = 30
# What tables for `auto` are drawn from: laws in turn, runs, volumes, and noise relative to the loss.
TRUTHS = ("bimix", "bimix_offset", "bimix_transfer", "additive", "joint", "exponential", "power_linear")
RUNS, VOLUMES, NOISE = 16, (1.0, 3.0, 9.0), 0.005


def random_fit(law: Law, domains: int, draw: np.random.Generator, own: tuple[int, ...] = (0, 1)) -> FitResult:
    """A fit of a law to targets that are these domains (-1: none), with coefficients drawn about the law's priors."""
    names, targets = tuple(f"d{i}" for i in range(domains)), tuple(f"d{i}" if i >= 0 else "other" for i in own)
    held = np.array([law.fixed(domains, i) for i in own])
    values = np.where(np.isnan(held), [_drawn(law, domains, draw) for _ in own], held)
    lanes, count = len(own), values.shape[1]
    blank = dict.fromkeys(("cost", "residual_scale", "condition", "error", "r2"), np.zeros(lanes))
    blank |= dict.fromkeys(("status", "steps", "rows", "missing", "zero"), np.zeros(lanes, int))
    blank |= dict.fromkeys(("identified", "at_bound", "at_prior"), np.zeros((lanes, count), bool))
    return FitResult(
        law=law,
        domains=names,
        targets=targets,
        own=own,
        volume_unit=None,
        model_sizes=(1.0, 10.0) if law.sized else (),
        sentences=("",) * lanes,
        notes=(),
        values=values,
        covariance=np.zeros((lanes, count, count)),
        proportion_range=np.tile([0.0, 1.0], (lanes, domains, 1)),
        volume_range=np.ones((lanes, 2)),
        volumes=np.full(lanes, 5),
        companion=np.tile(np.arange(domains), (lanes, 1)),
        varies=np.ones(lanes, bool),
        mixtures=draw.dirichlet(np.ones(domains), 8),
        **blank,
    )


def _drawn(law: Law, domains: int, draw: np.random.Generator) -> np.ndarray:
    parts = []
    for c in law.ordered():
        middle, deviation = c.prior
        normal = draw.standard_normal(c.size(domains))
        value = middle * np.exp(deviation * normal) if c.logarithmic else middle + deviation * normal
        low, high = (max(c.lower, 0.0) if c.linear else c.lower), min(c.upper, 1e3)
        parts.append(np.clip(np.abs(value) if c.linear else value, low, high))
    return np.concatenate(parts)


def auto_fit(truth: Law, domains: int, draw: np.random.Generator, own: tuple[int, ...]) -> Fit:
    """The fit of `auto` to a random table of losses that a law of random coefficients gives, none of them below 0."""
    s = np.tile(VOLUMES, RUNS)
    while True:
        fit, mixtures = random_fit(truth, domains, draw, own=own), draw.dirichlet(np.ones(domains), RUNS)
        r = np.repeat(mixtures, len(VOLUMES), axis=0)
        with jax.enable_x64(True):
            losses = np.asarray(losses_at(fit.predictor(), jnp.asarray(r), jnp.asarray(s)))
        losses = losses * (1 + NOISE * draw.standard_normal(losses.shape))
        if losses.min() > 0:
            break
    columns: dict[str, Any] = {"run": np.repeat([f"r{i}" for i in range(RUNS)], len(VOLUMES)), "step": s}
    columns |= {f"mixture/{name}": r[:, i] for i, name in enumerate(fit.domains)}
    columns |= {f"loss/{name}": losses[:, i] for i, name in enumerate(fit.targets)}
    return bimixjax.fit("auto", Observations.from_frame(pd.DataFrame(columns)))


def random_limits(domains: int, draw: np.random.Generator) -> Limits:
    """Limits about a random mixture, half of them on either side."""
    inside = draw.dirichlet(np.ones(domains))
    lower = np.where(draw.random(domains) < 0.5, inside * draw.random(domains), 0.0)
    upper = np.where(draw.random(domains) < 0.5, np.minimum(1.0, inside * (1 + 2 * draw.random(domains))), 1.0)
    named = [f"d{i}" for i in range(domains)]
    return Limits(lower=dict(zip(named, lower, strict=True)), upper=dict(zip(named, upper, strict=True)))


def judged(fit: FitResult, limits: Limits | None, draw: np.random.Generator) -> tuple[float, bool]:
    """How much better the optimum is than the best of random mixtures, in nats per token; whether it is stationary."""
    budget = Budget(volume=1.0, model_size=1.0 if fit.law.sized else None)
    best = bimixjax.optimize(fit, budget=budget, limits=limits)
    lower, upper = (limits or Limits()).arrays(fit.domains)
    mixtures = nearest(draw.dirichlet(np.ones(len(fit.domains)), RANDOM), lower, upper)
    losses = np.asarray(fit.predict(mixtures, 1.0, budget.model_size)).mean(1)
    return float(np.nanmin(losses)) - best.objective, best.converged


def of_law(name: str, problems: int) -> dict[str, str | float]:
    """One row of the table: so many problems of each shape of one law."""
    draw, start, gains, ends, refused = np.random.default_rng(0), time.perf_counter(), [], [], 0
    for domains in DOMAINS:
        for limited in (False, True):
            for _ in range(problems):
                fit = random_fit(LAWS[name], domains, draw)
                try:
                    gain, found = judged(fit, random_limits(domains, draw) if limited else None, draw)
                except InputError:
                    refused += 1
                    continue
                gains.append(gain)
                ends.append(found)
    seconds = (time.perf_counter() - start) / (2 * len(DOMAINS) * problems)
    return {
        "law": name,
        "worst": min(gains),
        "mean": float(np.mean(gains)),
        "searches": len(gains),
        "stationary": sum(ends),
        "not finite": refused,
        "seconds": seconds,
    }


def limits_of(kind: str, domains: int, draw: np.random.Generator) -> Limits:
    """Random limits of a kind that some mixture keeps to."""
    if kind in ("none", "box"):
        return Limits() if kind == "none" else random_limits(domains, draw)
    names, inside, order = (
        [f"d{i}" for i in range(domains)],
        draw.dirichlet(np.ones(domains)),
        draw.permutation(domains),
    )
    groups = {}
    for name, members in (("a", order[: domains // 3]), ("b", order[domains // 3 : 2 * domains // 3])):
        total = inside[members].sum()
        ends = total * draw.random(), min(1.0, total * (1 + draw.random()))
        groups[name] = (tuple(names[i] for i in members), *map(float, ends))
    if kind == "groups":
        return Limits(groups=groups, upper={names[order[-1]]: float(min(1.0, 2 * inside[order[-1]]))})
    return Limits(groups=groups, near=(inside, float(draw.uniform(0.02, 0.3))))


@jax.jit
def _value_and_slope(goal: Objective, r: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.value_and_grad(goal)(r)


def by_slsqp(goal: Objective, region: Region, draw: np.random.Generator) -> float:
    """The least objective that 30 starts of SLSQP reach within the limits."""
    domains = len(region.lower)
    constraints: list[dict[str, Any]] = [{"type": "eq", "fun": lambda r: r.sum() - 1, "jac": np.ones_like}]
    for k, some in enumerate(region.members):
        row = np.isin(np.arange(domains), some).astype(float)
        for end, sign in ((region.least[k], 1.0), (region.most[k], -1.0)):
            if np.isfinite(end):
                of_group = {"fun": lambda r, row=row, end=end, sign=sign: sign * (row @ r - end)}
                constraints.append({"type": "ineq", "jac": lambda r, row=row, sign=sign: sign * row, **of_group})
    if (ball := region.ball) is not None:
        inside = {"fun": lambda r: ball.radius - ball.of(np.maximum(r, 1e-300)), "jac": lambda r: -(ball.slopes(r) + 1)}
        constraints.append({"type": "ineq", **inside})

    def evaluate(r: np.ndarray) -> tuple[float, np.ndarray]:
        if (found := goal.on_host(np.maximum(r, 1e-10)[None])) is not None:
            return float(found[0][0]), found[1]()[0]
        value, slope = _value_and_slope(goal, np.maximum(r, 1e-10))
        return float(value), np.asarray(slope)

    drawn = (
        draw.dirichlet(np.ones(domains), STARTS // 2),
        draw.dirichlet(np.full(domains, 0.3), STARTS - 1 - STARTS // 2),
    )
    best = np.inf
    for start in region.nearest(np.concatenate([np.full((1, domains), 1 / domains), *drawn])):
        bounds = np.stack([region.lower, region.upper], axis=1)
        options: dict[str, Any] = {"options": {"ftol": 1e-14, "maxiter": 300}, "method": "SLSQP"}
        end = minimize(
            evaluate, start, jac=True, bounds=bounds, constraints=constraints, method="SLSQP", options=options
        ).x
        if np.isfinite(end).all():
            best = min(best, float(goal(region.nearest(np.clip(end, region.lower, region.upper)))))
    return best


def against_slsqp(name: str, kind: str, problems: int, domains: int = 5) -> dict[str, Any]:
    """One row of the table: so many problems of one law within limits of a kind."""
    law, draw, rows = LAWS.get(name), np.random.default_rng(7), []
    own = tuple(range(domains if law is not None and law.own_proportion else 4))
    budget = Budget(volume=1.0, model_size=1.0 if law is not None and law.sized else None)
    for number in range(problems):
        truth = LAWS[TRUTHS[number % len(TRUTHS)]]
        fit = auto_fit(truth, domains, draw, own) if law is None else random_fit(law, domains, draw, own=own)
        limits = limits_of(kind, domains, draw)
        marks = [time.process_time()]
        best = bimixjax.optimize(fit, budget=budget, limits=limits)
        marks.append(time.process_time())
        with jax.enable_x64(True), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            least = by_slsqp(bimixjax.objective(fit, budget=budget), best.region, draw)
        marks.append(time.process_time())
        difference = (best.objective - least) / abs(least)
        sys.stderr.write(f"{name} {kind} {number}: {difference:.2e} {best.kkt_residual:.1e} {best.converged}\n")
        rows.append(
            (difference, best.kkt_residual, best.region.violation(best.proportions), best.converged, *np.diff(marks))
        )
    columns = np.array(rows, float).T
    return {
        "law": name,
        "limits": kind,
        "problems": problems,
        "worst": columns[0].max(),
        "best": columns[0].min(),
        "median_kkt": float(np.median(columns[1])),
        "worst_broken": columns[2].max(),
        "stationary": int(columns[3].sum()),
        "seconds": columns[4].mean(),
        "slsqp_seconds": columns[5].mean(),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--problems", type=int, default=10, help="problems of each shape and law")
    options.add_argument("--laws", nargs="*", default=list(LAWS), choices=[*LAWS, "auto"])
    options.add_argument("--out", type=Path, default=HERE / "results" / "searches.json", help="JSON file")
    options.add_argument("--slsqp", action="store_true", help="against scipy's SLSQP in place of random mixtures")
    given, rows = options.parse_args(), []
    if "auto" in given.laws and not given.slsqp:
        options.error("auto is for --slsqp only")
    for name in given.laws:
        for kind in ("none", "box", "groups", "near") if given.slsqp else ("",):
            rows.append(against_slsqp(name, kind, given.problems) if kind else of_law(name, given.problems))
            sys.stderr.write(f"{rows[-1]}\n")
    shown = [[f"{v:.2g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    print(_report.table(list(rows[0]), shown))
    _report.write(given.out, {"rows": rows})


if __name__ == "__main__":
    main()
