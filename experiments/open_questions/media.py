"""Bytes of images and sounds as domains beside text: do the laws hold there, and what does one kind teach another?"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bimixjax import Observations, fit
from bimixjax.metrics import r2
from bimixjax.proxy import Design
from experiments.open_questions import media_store
from experiments.open_questions.config import DESIGN_SEED, TABLES, Media
from experiments.open_questions.judging import last, only, predicted
from experiments.open_questions.training import trained
from experiments.proof.run import Corpus, random_mixtures


def train(corpus: Path, folder: Path) -> None:
    """Train random and judging runs, and all pairs of domains, half of each."""
    store = media_store.build(corpus)
    own, names, count = Corpus(store=store), store.domains, len(store.domains)
    ids = [f"random-{i + 1}" for i in range(Media.RANDOM)] + [f"judge-{i + 1}" for i in range(Media.JUDGES)]
    mixtures = [*random_mixtures(own, len(ids))]
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    halves = [Media.OWN * np.eye(count)[i] + (1 - Media.OWN) * np.eye(count)[j] for i, j in pairs]
    tables = []
    for seed in Media.SEEDS:
        ids += [pair_id(names[i], names[j], seed) for i, j in pairs]
        design = Design.make(ids, names, np.stack(mixtures + halves), [seed] * len(ids))
        tables.append(trained(lambda design=design: design, own.tokens, folder / "media" / f"seed-{seed}"))
        # Pairs alone have further seeds.
        ids, mixtures = [], []
    Observations.concat(*tables).write(folder / TABLES / "media.parquet")


def pair_id(own: str, other: str, seed: int) -> str:
    return f"{own}+{other}" + ("" if seed == DESIGN_SEED else f"/seed-{seed}")


def judged(whole: Observations) -> pd.DataFrame:
    """Of each law, fitted to the random runs, and each domain: error and R2 of the runs that judge."""
    random, judges = ([run for run in whole.runs if run.startswith(kind)] for kind in ("random", "judge"))
    end = last(only(whole, judges))
    found = []
    for law in Media.LAWS:
        guess = predicted(fit(law, only(whole, random), volume="tokens"), end)
        for i, name in enumerate(end.targets):
            error = float(np.abs(guess[:, i] / end.losses[:, i] - 1).mean())
            found.append({"law": law, "target": name, "error": error, "r2": float(r2(guess[:, i], end.losses[:, i]))})
    return pd.DataFrame(found)


def taught(whole: Observations) -> tuple[pd.DataFrame, float]:
    """What a domain loses beside each other one, half and half, above the mean over the others, in nats per byte.

    Rows are the domains that are measured, columns those that took the other half of the run. The second result is the
    standard error of a number, from how seeds differ.
    """
    end, names = last(whole), whole.domains
    runs = end.run.tolist()
    losses = np.full((len(Media.SEEDS), len(names), len(names)), np.nan)
    for k, seed in enumerate(Media.SEEDS):
        for i, first in enumerate(names):
            for j, second in enumerate(names):
                if i != j:
                    losses[k, i, j] = end.losses[runs.index(pair_id(first, second, seed)), i]
    above = losses - np.nanmean(losses, axis=2, keepdims=True)
    error = float(np.sqrt(np.nanmean(np.var(above, axis=0, ddof=1)) / len(Media.SEEDS)))
    return pd.DataFrame(above.mean(0), index=names, columns=names), error


def figure(found: pd.DataFrame, error: float) -> Figure:
    """A square for each pair of domains: blue where the column teaches the row more than others do."""
    drawn = Figure(figsize=(6.6, 4.8), layout="constrained")
    axes = drawn.subplots()
    reach = float(np.nanmax(np.abs(found.to_numpy())))
    image = axes.imshow(found, cmap="RdBu_r", vmin=-reach, vmax=reach)
    for i, j in np.argwhere(np.isfinite(found.to_numpy())):
        value = found.iloc[i, j]
        axes.text(
            j, i, f"{value:+.3f}", ha="center", va="center", color="white" if abs(value) > 0.6 * reach else "black"
        )
    axes.set_xticks(range(len(found)), found.columns, rotation=30, ha="right")
    axes.set_yticks(range(len(found)), found.index)
    axes.set_xlabel("domain that takes the other half of the run")
    axes.set_ylabel("loss of")
    axes.set_title(f"Standard error {error:.3f}", fontsize=10)
    drawn.colorbar(image, label="nats per byte above the mean of the row")
    return drawn
