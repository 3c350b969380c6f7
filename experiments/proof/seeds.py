"""What seeds do to promises: `python -m experiments.proof.seeds`, from the tables in the package alone.

Mixtures of the proof are split at random: `auto` is fitted to one run each of some, and says limits of the mean loss
of the others over the other seeds. The runs that it sees have either all one seed, or seeds of their own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro

from bimixjax import Auto, Observations, datasets, fit
from bimixjax.loop.proof import Proof
from experiments.proof import config
from experiments.proof.summary import COMPARABLE, HERE

# Mixtures that are fitted, of about 30, and how often they are drawn.
SEEN, DRAWS = 14, 4


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare tables whose runs share a seed with tables whose runs have seeds of their own."""

    out: Path = HERE / "results"
    """Folder for the tables."""


def main(options: Options) -> None:
    effects, rows = [], []
    table = datasets.load("eight-domains-proof")
    for size, model_size in zip(("large", "small"), sorted(table.model_sizes, reverse=True), strict=True):
        frame = table.select(model_size=model_size).to_frame()
        frame["mixture"] = [run.rpartition("/seed-")[0] for run in frame["run"]]
        proof = comparable(frame, table.targets)
        effects.append({"size": size, "mixtures": len(proof.mixtures), "seeds": proof.losses.shape[1]})
        effects[-1] |= {"noise": proof.noise, "seed_effect": proof.seed_effect}
        print(effects[-1], flush=True)
        for draw in range(DRAWS):
            rows += [{"size": size, "draw": draw} | row for row in promised(frame, proof, draw)]
            print(rows[-2:], flush=True)
    pd.DataFrame(effects).round(5).to_csv(options.out / "seed_effects.csv", index=False)
    pd.DataFrame(rows).round(5).to_csv(options.out / "seeds.csv", index=False)


def comparable(frame: pd.DataFrame, targets: tuple[str, ...]) -> Proof:
    """The mixtures that have all seeds and are within 5 % of the best, as a proof."""
    last = pd.DataFrame(frame[frame["step"] == config.STEPS])
    columns = [f"loss/{target}" for target in targets]
    wide = last.assign(mean=last[columns].mean(axis=1)).pivot_table(index="mixture", columns="seed", values="mean")
    wide = wide.dropna()
    wide = wide[wide.mean(axis=1) <= COMPARABLE * wide.mean(axis=1).min()]
    losses = np.asarray(wide)[..., None]
    nothing = np.full((len(wide), 1), np.nan)
    return Proof(mixtures=tuple(wide.index), targets=("mean",), steps=config.STEPS, losses=losses, predicted=nothing)


def promised(frame: pd.DataFrame, proof: Proof, draw: int) -> list[dict[str, Any]]:
    """Fit some mixtures with one seed, and with seeds of their own; compare what is promised of the others."""
    random = np.random.default_rng(draw)
    order, seeds = random.permutation(len(proof.mixtures)), np.unique(frame["seed"])
    seen, held = ([proof.mixtures[i] for i in part] for part in (order[:SEEN], order[SEEN:]))
    alone = draw % len(seeds)
    found = []
    for kind in ("one", "own"):
        drawn = np.full(SEEN, alone) if kind == "one" else random.integers(len(seeds), size=SEEN)
        seed_of = dict(zip(seen, seeds[drawn].tolist(), strict=True))
        chosen = [seed_of.get(m) == seed for m, seed in zip(frame["mixture"], frame["seed"], strict=True)]
        known = Observations.from_frame(pd.DataFrame(frame[chosen].drop(columns=["mixture"])))
        assert len(known.runs) == SEEN
        law, volume = fit(Auto(), known, volume="tokens"), float(known.volumes("tokens").max())
        first = frame.drop_duplicates("mixture").set_index("mixture").loc[held]
        mixtures = np.asarray(first[[f"mixture/{domain}" for domain in known.domains]])
        low, high = (np.asarray(end) for end in law.mean_interval(mixtures, volume))
        mean = np.asarray(law.predict(mixtures, volume)).mean(1)
        others = np.arange(len(seeds)) != alone if kind == "one" else np.full(len(seeds), True)
        measured = proof.runs[[proof.mixtures.index(mixture) for mixture in held]][:, others].mean(1)
        missed = np.log(measured / mean)
        row = {"seeds": kind, "mixtures": len(held), "mean_missed": missed.mean(), "spread": missed.std(ddof=1)}
        row |= {"half_width": float((np.log(high / low) / 2).mean())}
        found.append(row | {"held": float(((low <= measured) & (measured <= high)).mean())})
    return found


if __name__ == "__main__":
    main(tyro.cli(Options))
