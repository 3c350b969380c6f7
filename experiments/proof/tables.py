"""The tables of `bimixjax.datasets` that this study makes: `python -m experiments.proof.tables --folder DIR`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from bimixjax import Observations, datasets
from bimixjax.loop.proof import OBSERVATIONS
from experiments.proof import config

# Name of each data set, and the parts of a size that it holds.
TABLES = {
    "eight-domains": ("runs.csv",),
    "eight-domains-proof": tuple(f"{part}/{OBSERVATIONS}" for part in (config.PROOF, config.AGAIN, config.MORE)),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Put the tables of both sizes together."""

    folder: Path
    """Where `experiments.proof.run` worked."""
    out: Path = Path(datasets.__file__).parent
    """Where the tables go."""


def main(options: Options) -> None:
    for name, parts in TABLES.items():
        places = [options.folder / size / part for size in config.SIZES for part in parts]
        found = [Observations.read(place) for place in places if place.exists()]
        table = Observations.concat(*found)
        table.write(options.out / f"{name}.parquet")
        print(f"{name}: {table!r}")


if __name__ == "__main__":
    main(tyro.cli(Options))
