"""Peak memory and fits per second of a bootstrap as its lanes grow to a million.

The problem is that of `solver.py`: 22 domains under 4 mixtures at 20 volumes. A bootstrap over its runs fits 22 lanes
per resample and keeps of each its coefficients, cost, steps and status. Every number of lanes has a process of its own,
which fits two full blocks of lanes first, and then says by how much the highest memory that it ever held (`ru_maxrss`)
rose: that growth counts the answer, its copies, and what compiling for the new number of lanes takes. Seconds are those
of the same call again, compiled.

Run: `python benchmarks/memory.py`, or with `--quick` up to 200 thousand lanes only.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import _report
import jax
import numpy as np
import solver as pile

from bimixjax.fitting import bootstrap, devices

HERE = Path(__file__).resolve().parent
LANES = (200_000, 1_000_000)


def peak() -> float:
    """The most memory that this process ever held, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(lanes: int) -> dict[str, float]:
    """Fits per second and memory in megabytes of so many lanes."""
    problem = pile.make(0)
    targets = len(problem.r)
    warm = -(-2 * devices._MOST_LANES * devices.cores() // targets)
    bootstrap("bimix", problem.observations, key=jax.random.key(1), count=warm, priors=False)
    before = peak()
    call = partial(
        bootstrap, "bimix", problem.observations, key=jax.random.key(0), count=lanes // targets, priors=False
    )
    call()
    begun = time.perf_counter()
    found = call()
    seconds = time.perf_counter() - begun
    values, status = np.asarray(found.values), np.asarray(found.status)
    return {
        "lanes": status.size,
        "seconds": seconds,
        "fits_per_second": status.size / seconds,
        "converged": float(np.mean(status == 0)),
        "answer_mb": (values.nbytes + status.nbytes) / 2**20,
        "peak_before_mb": before,
        "peak_mb": peak(),
    }


def apart(lanes: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--lanes", str(lanes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(counts: tuple[int, ...], out: Path) -> None:
    found = [apart(lanes) for lanes in counts]
    columns = ("lanes", "seconds", "fits_per_second", "answer_mb", "peak_before_mb", "peak_mb")
    print(_report.table(columns, [[f"{row[name]:.0f}" for name in columns] for row in found]))
    _report.write(out, {"bootstrap": found})
    print(json.dumps({f"{row['lanes']:.0f} lanes, {name}": row[name] for row in found for name in columns[1:]}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 thousand lanes only")
    parser.add_argument("--lanes", type=int, help="measure so many lanes in this process, and print JSON")
    parser.add_argument("--out", type=Path, help="JSON file (default: results/memory.json, or memory_quick.json)")
    options = parser.parse_args()
    if options.lanes:
        print(json.dumps(measure(options.lanes)))
    else:
        name = "memory_quick.json" if options.quick else "memory.json"
        main(LANES[:1] if options.quick else LANES, options.out or HERE / "results" / name)
