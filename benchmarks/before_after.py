"""The same benchmarks on two checkouts, in turns: what a change costs or gains on one machine.

In each turn every benchmark runs once in either checkout, in a process of its own, and the order changes from turn to
turn. Of its figures those of our own solvers are compared: fits per second, and for `auto` seconds of processor. A
ratio above 1 says that the checkout of this file is the faster one; the median over turns is shown, and the lowest and
highest.

Run: `python benchmarks/before_after.py --before FOLDER`, with `--turns` and `--only batches solver rich_laws auto`; a
turn of all with `--quick` takes some ten minutes.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _report

HERE = Path(__file__).resolve().parent

# The figures of a benchmark's JSON that are compared, by their path; those of peers and of first calls are not.
FIGURES = {
    "batches": r"(grid|rows)/(full|brief).*/fits_per_second",
    "solver": r"solvers/bimixjax.*/fits_per_second",
    "rich_laws": r".*/solvers/ours.*/fits_per_second",
    "auto": r"auto/.*_(again|first)_cpu",
}


def measured(name: str, checkout: Path, quick: bool) -> dict[str, float]:
    """Run one benchmark in a checkout, and return its figures by path."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, str(checkout / "benchmarks" / f"{name}.py"), "--out", str(out)]
        command += ["--quick"] if quick else []
        subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.DEVNULL, check=True)
        found = dict(leaves(json.loads(out.read_text(encoding="utf-8"))))
    return {path: value for path, value in found.items() if re.fullmatch(FIGURES[name], path)}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """List the numbers of a JSON value by their paths."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, f"{path}/{key}" if path else str(key))
    if isinstance(value, int | float):
        yield path, float(value)


def main(before: Path, only: list[str], turns: int, quick: bool, out: Path) -> None:
    ratios: dict[str, dict[str, list[float]]] = {name: {} for name in only}
    for turn in range(turns):
        for name in only:
            sides = [before, HERE.parent]
            found = {side: measured(name, side, quick) for side in (sides if turn % 2 else sides[::-1])}
            old, new = (found[side] for side in sides)
            for path in old.keys() & new.keys():
                gain = old[path] / new[path] if name == "auto" else new[path] / old[path]
                ratios[name].setdefault(path, []).append(gain)
    summary = {
        name: {
            path: {"median": statistics.median(each), "low": min(each), "high": max(each)}
            for path, each in sorted(of_paths.items())
        }
        for name, of_paths in ratios.items()
    }
    rows = [
        (f"{name}: {path}", *(f"{row[key]:.2f}" for key in ("median", "low", "high")))
        for name, of_paths in summary.items()
        for path, row in of_paths.items()
    ]
    print(_report.table(("figure", "faster by", "lowest", "highest"), rows))
    _report.write(out, {"turns": turns, "quick": quick, "ratios": summary})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the checkout to compare with")
    parser.add_argument("--only", nargs="+", choices=tuple(FIGURES), default=list(FIGURES), help="which benchmarks")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="the short form of each benchmark")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "before_after.json", help="JSON file")
    options = parser.parse_args()
    main(options.before.resolve(), options.only, options.turns, options.quick, options.out)
