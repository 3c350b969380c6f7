"""The paper's validation: `python -m experiments.paper_study.validation --corpus CORPUS/store8 --folder RUNS`.

BiMix is fitted to the entropy mixtures alone, its optimum is trained with the seeds that the others had, and all are
put side by side.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro

from bimixjax import datasets
from bimixjax.corpus import TokenStore
from bimixjax.loop.proof import prove
from bimixjax.loop.proposals import propose
from experiments.paper_study.run import BASELINES, ENTROPIES, HERE, LAST, SEEDS, SIZES, Runs
from experiments.proof import config
from experiments.proof.run import Corpus, say

SIZE = "small"
OPTIMUM = "bimix of the entropies"
BESIDE = ("uniform", "random-24/bimix", "random-24/auto")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train the optimum of BiMix fitted to the entropy mixtures; goes on where it was killed."""

    corpus: Path
    """The token store of `python -m experiments.corpus.run`."""
    folder: Path
    """Where its runs go."""
    out: Path = HERE / "results"
    """Folder for the table."""


def main(options: Options) -> None:
    corpus = Corpus(store=TokenStore.open(options.corpus))
    runs = Runs.of(SIZES[SIZE])
    found = propose(runs.mixtures(ENTROPIES), ["bimix"], inventory=corpus.inventory, limits=corpus.limits)
    best = dataclasses.replace(found.of[0], name=OPTIMUM)
    print(dict(zip(found.domains, best.proportions.round(4).tolist(), strict=True)))
    chosen = dataclasses.replace(found, of=(best,))
    proof = prove(options.folder, chosen, corpus.tokens, config.swarm(SIZE), SEEDS, progress=say)
    beside = datasets.load("eight-domains-proof").select(model_size=SIZES[SIZE], volume=(LAST, None), unit="steps")
    # Ids that both sizes have end with the size.
    runs_of = (run.partition("/model_size-")[0] for run in beside.run.tolist())
    losses = dict(zip(runs_of, beside.losses.mean(1), strict=True))
    names = (*BASELINES, *ENTROPIES, *BESIDE)
    trained = np.array([*proof.runs, *([losses[f"{name}/seed-{seed}"] for seed in SEEDS] for name in names)])
    promised = [float(best.losses.mean()), *[np.nan] * len(names)]
    frame = pd.DataFrame({"mixture": [OPTIMUM, *names], "mean": trained.mean(1), "promised": promised})
    # Seeds are paired: what is left of a difference of two mixtures, from seed to seed.
    frame["above_optimum"] = frame["mean"] - frame["mean"].iloc[0]
    frame["standard_error"] = (trained - trained[0]).std(axis=1, ddof=1) / len(SEEDS) ** 0.5
    frame = frame.sort_values("mean", kind="stable")
    frame.round(5).to_csv(options.out / "validation.csv", index=False)
    print(frame.round(4).to_string(index=False))


if __name__ == "__main__":
    main(tyro.cli(Options))
