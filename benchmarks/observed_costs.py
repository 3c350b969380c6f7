"""The cost of every law's fit to public losses beside the lowest of twenty scipy fits, without priors.

The losses are those of five groups of the Pile at four model sizes (repository yegcjs/mixinglaws, `data/5Mix`, of arXiv
2403.16952), at 4k to 30k steps; laws without volume are fitted at 30k steps, laws with model size to all sizes at once.
scipy's trust region has the analytic Jacobian, compiled, and starts at points drawn about the priors' medians. A lane
is one target at one size; it is ok where our cost is not above the lowest of scipy's by more than a millionth of it.

Run: `python benchmarks/observed_costs.py TABLE.csv`, with `--laws` for some laws only.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import _report
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from bimixjax import LAWS, Observations, fit
from bimixjax.laws import Coefficient, Law, Point

HERE = Path(__file__).resolve().parent
SIZES = (70e6, 160e6, 305e6, 410e6)
STARTS = 20
# A cost this near the lowest of scipy's is not above it.
SAME_COST = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One target's rows, with volumes and sizes divided by their largest; padding has weight 0."""

    own: int
    point: Point
    loss: Floats
    weight: Floats


def lanes(observations: Observations, law: Law) -> Iterator[Lane]:
    """The lanes of a fit, sizes slowest, padded to one length so that scipy's function is compiled once."""
    apart = [observations] if law.sized else [observations.select(model_size=s) for s in observations.model_sizes]
    length = max(map(len, apart))
    volume, size = observations.volumes("steps").max(), max(observations.model_sizes)
    for part in apart:
        for target in part.own_targets:
            own = part.domains.index(target)
            share, loss = part.proportions[:, own], part.losses[:, part.targets.index(target)]
            used = np.isfinite(loss) & ~(law.diverges_at_zero & (share == 0))
            rows = np.flatnonzero(used)
            there = np.arange(length) < len(rows)
            rows = np.resize(rows, length)
            sizes = np.ones(len(part)) if part.model_size is None else part.model_size / size
            point = Point(
                mixture=jnp.asarray(part.proportions[rows].T),
                own=jnp.asarray(share[rows]),
                volume=jnp.asarray(part.volumes("steps")[rows] / volume),
                model_size=jnp.asarray(sizes[rows]),
                is_own=jnp.arange(len(part.domains))[:, None] == own,
            )
            yield Lane(own=own, point=point, loss=loss[rows], weight=there.astype(float))


@partial(jax.jit, static_argnames="law")
def residuals(law: Law, free: jax.Array, whole: jax.Array, x: jax.Array, lane: tuple[Any, ...]) -> jax.Array:
    """Relative residuals [n] at the free coefficients x, of the whole packed vector."""
    point, loss, weight = lane
    packed = whole.at[free].set(x)[:, None]
    return weight * (law.loss(law.unpack(packed, law.ordered(), point.mixture.shape[0]), point) / loss - 1)


jacobian = partial(jax.jit, static_argnames="law")(jax.jacfwd(residuals, argnums=3))


def drawn(parts: Sequence[Coefficient], random: np.random.Generator, width: float) -> Floats:
    """A start about the priors' medians, so many of their standard deviations wide."""
    value, spread = np.array([c.prior for c in parts]).T
    moved = width * spread * random.standard_normal(len(parts))
    start = np.where([c.logarithmic or c.linear for c in parts], value * np.exp(np.clip(moved, -3, 3)), value + moved)
    return np.clip(start, [c.lower for c in parts], [c.upper for c in parts])


def lowest(law: Law, lane: Lane, starts: int, random: np.random.Generator) -> float:
    """The lowest cost of scipy's trust region from so many starts."""
    domains = lane.point.mixture.shape[0]
    held = law.fixed(domains, lane.own)
    free = np.flatnonzero(np.isnan(held))
    spread = [c for c in law.ordered() for _ in range(c.size(domains))]
    parts = [spread[k] for k in free]
    data = (lane.point, lane.loss, lane.weight)
    arguments = (free, np.nan_to_num(held))
    bounds = ([c.lower for c in parts], [c.upper for c in parts])
    slopes: Any = partial(jacobian, law, *arguments, lane=data)
    costs = []
    for number in range(starts):
        end = least_squares(
            partial(residuals, law, *arguments, lane=data),
            drawn(parts, random, (0.5, 1.0)[number % 2]),
            slopes,
            bounds,
            x_scale="jac",
            xtol=1e-12,
            ftol=1e-12,
            gtol=1e-12,
            max_nfev=300,
        )
        costs.append(2 * end.cost)
    return min(costs)


def compare(law: Law, observations: Observations, starts: int) -> dict[str, Any]:
    """Our costs beside the lowest of scipy's: over all lanes, the share that is ok and the worst excess."""
    begun = time.perf_counter()
    ours = fit(law, observations, volume="steps", targets=observations.own_targets, priors=False)
    seconds = time.perf_counter() - begun
    with jax.enable_x64(True):
        random = np.random.default_rng(0)
        theirs = [lowest(law, lane, starts, random) for lane in lanes(observations, law)]
    excess = np.asarray(ours.cost) / theirs - 1
    return {
        "lanes": len(excess),
        "ok": float(np.mean(excess <= SAME_COST)),
        "worst_excess": float(excess.max()),
        "below_scipy": float(np.mean(excess < -SAME_COST)),
        "converged": float(np.mean(ours.converged)),
        "fit_seconds": seconds,
        "scipy_seconds": time.perf_counter() - begun - seconds,
    }


def rows_for(law: Law, observations: Observations) -> Observations:
    """The rows that a law is fitted to: one volume where it has none."""
    apart = Observations.concat(*(observations.select(model_size=s) for s in SIZES))
    reads_volume = any(c.volumes > 1 for c in law.coefficients)
    return apart.select(volume=(4_000 if reads_volume else 30_000, 30_000), unit="steps")


def main(path: Path, names: Sequence[str], starts: int, out: Path) -> None:
    observations, found = Observations.read(path), {}
    for name in names:
        found[name] = compare(LAWS[name], rows_for(LAWS[name], observations), starts)
        print(name, {key: round(value, 8) for key, value in found[name].items()})
        # After every law, since all of them take long.
        _report.write(out, {"starts": starts, "same_cost": SAME_COST, "laws": found})
    columns = ("lanes", "ok", "worst_excess", "below_scipy")
    rows = [(name, *(f"{row[key]:.3g}" for key in columns)) for name, row in found.items()]
    print("\n" + _report.table(("law", *columns), rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="the table of observations")
    parser.add_argument("--laws", nargs="+", default=list(LAWS), choices=list(LAWS))
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "observed_costs.json")
    given = parser.parse_args()
    main(given.table, given.laws, given.starts, given.out)
