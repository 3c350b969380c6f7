"""The mixture of DoReMi on the corpus of the study: `python -m experiments.proof.doremi --corpus DIR --folder DIR`."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from bimixjax.corpus import TokenStore
from bimixjax.proxy import doremi
from experiments.proof import config

SEEDS = (0, 1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train reference and proxy models, and write the mean of their mixtures."""

    corpus: Path
    """The token store of `python -m experiments.corpus.run`."""
    folder: Path
    """Where runs go."""
    out: Path
    """Where the mixture goes (.json)."""
    size: str = next(iter(config.SIZES))
    """Of `config.SIZES`."""


def main(options: Options) -> None:
    store = TokenStore.open(options.corpus)
    found = doremi(store, config.swarm(options.size), seeds=SEEDS, folder=options.folder / options.size / "doremi")
    shares = dict(zip(store.domains, found.proportions.tolist(), strict=True))
    options.out.write_text(json.dumps({"mixtures": {"DoReMi": shares}}), encoding="utf-8")
    print({domain: round(share, 4) for domain, share in shares.items()}, "+-", found.standard_error.round(4))


if __name__ == "__main__":
    main(tyro.cli(Options))
