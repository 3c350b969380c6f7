"""Search for the best mixture of random laws, and hold it against the best of 2000 random mixtures.

Every law, with coefficients drawn about its priors, of 3 to 8 domains, without limits and within random ones. What is
printed is the worst and the mean difference, best random mixture minus optimum, and how many searches ended at a
stationary point.

Run: `python benchmarks/searches.py`, or with `--problems 2 --laws bimix joint` a few only.
"""

import argparse
import sys
import time
from pathlib import Path

import _report
import numpy as np

import bimixjax
from bimixjax import Budget, FitResult, InputError, Limits
from bimixjax.laws import LAWS, Law
from bimixjax.mixtures import nearest

HERE = Path(__file__).resolve().parent
RANDOM = 2000
DOMAINS = (3, 5, 8)


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


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--problems", type=int, default=10, help="problems of each shape and law")
    options.add_argument("--laws", nargs="*", default=list(LAWS), choices=list(LAWS))
    options.add_argument("--out", type=Path, default=HERE / "results" / "searches.json", help="JSON file")
    given = options.parse_args()
    rows = []
    for name in given.laws:
        rows.append(of_law(name, given.problems))
        sys.stderr.write(f"{rows[-1]}\n")
    shown = [[f"{v:.2g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    print(_report.table(list(rows[0]), shown))
    _report.write(given.out, {"rows": rows})


if __name__ == "__main__":
    main()
