"""Makes the tables of `bimixjax.datasets` anew: `python -m experiments.datasets.run --folder /tmp/demo`."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import tyro

from bimixjax import Observations, datasets
from bimixjax.cli import run
from bimixjax.loop.workflow import OBSERVATIONS, PROOF

# Name of each data set, and the table of the demo that it is.
TABLES = {"demo": OBSERVATIONS, "demo-proof": PROOF}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run the demo, 6 minutes of processor time, and take its tables."""

    folder: Path
    """Where the demo works; it goes on where it was killed."""
    out: Path = Path(datasets.__file__).parent
    """Where the tables go."""


def main(options: Options) -> None:
    if code := run(["demo", str(options.folder)]):
        raise SystemExit(code)
    for name, table in TABLES.items():
        shutil.copy(options.folder / table, options.out / f"{name}.csv")
        print(f"{name}: {Observations.read(options.out / f'{name}.csv')!r}")


if __name__ == "__main__":
    main(tyro.cli(Options))
