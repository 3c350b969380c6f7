"""Is it the share of a domain that counts, or how often the run goes through it?"""

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from bimixjax import Observations, fit
from bimixjax.corpus import TokenStore
from bimixjax.proxy import Design, LimitedTokens
from bimixjax.reports.figures import PALETTE
from experiments.open_questions.config import DESIGN_SEED, TABLES, Epochs
from experiments.open_questions.judging import last, predicted
from experiments.open_questions.training import trained


def train(corpus: Path, folder: Path) -> None:
    """Train a grid of shares and unique tokens of each scarce domain, beside plenty of another."""
    store = TokenStore.open(corpus / "store8")
    for scarce, other in Epochs.PAIRS:
        place = folder / "epochs" / scarce
        tables: list[Observations] = []
        for unique in Epochs.UNIQUE:
            tokens = LimitedTokens(source=store, unique={other: len(store.train(other)), scarce: unique})
            ids = [f"{unique}-{share:g}" for share in Epochs.SHARES]
            mixtures = [[1 - share, share] for share in Epochs.SHARES]
            design = Design.make(ids, (other, scarce), mixtures, [DESIGN_SEED] * len(ids))
            tables.append(trained(lambda design=design: design, tokens, place / str(unique)))
        Observations.concat(*tables).write(folder / TABLES / f"epochs-{scarce}.parquet")


def epochs(table: Observations, scarce: str) -> Float[np.ndarray, " n"]:
    """How often the run of each row has gone through the scarce domain."""
    column = table.domains.index(scarce)
    assert table.unique is not None
    return table.proportions[:, column] * table.volumes("tokens") / table.unique[:, column]


def measured(whole: Observations, scarce: str) -> pd.DataFrame:
    """The losses after the last step: share, unique tokens, epochs, the loss of each domain."""
    end = last(whole)
    assert end.unique is not None
    column = end.domains.index(scarce)
    found = {"share": end.proportions[:, column], "unique": end.unique[:, column], "epochs": epochs(end, scarce)}
    return pd.DataFrame(found | {f"loss/{name}": end.losses[:, i] for i, name in enumerate(end.targets)})


def judged(
    whole: Observations, scarce: str, laws: Sequence[tuple[str, bool]] = Epochs.LAWS, most: float = Epochs.FITTED
) -> pd.DataFrame:
    """Of each law, fitted to rows of few epochs: errors of the ends of training with more, and of what it would choose.

    `chosen` is the mean over stocks of what the share of least predicted mean loss, among those trained, loses.
    """
    few = whole.take(np.flatnonzero(epochs(whole, scarce) <= most))
    end = last(whole)
    many, column = epochs(end, scarce), end.targets.index(scarce)
    assert end.unique is not None
    stocks = end.unique[:, end.domains.index(scarce)]
    found = []
    for law, told in laws:
        fitted = few if told else dataclasses.replace(few, unique=None)
        guess = predicted(fit(law, fitted, volume="tokens"), end)
        off = np.abs(guess / end.losses - 1)[:, column]
        row = {"law": law if told else f"{law} (no columns unique/)", "rows": len(few)}
        for low, high in pairwise(Epochs.BINS):
            row[f"{low:g} to {high:g} epochs"] = off[(many > low) & (many <= high)].mean()
        regrets = []
        for stock in np.unique(stocks):
            means, guesses = (losses[stocks == stock].mean(1) for losses in (end.losses, guess))
            regrets.append(means[guesses.argmin()] - means.min())
        found.append(row | {"chosen": np.mean(regrets), "worst": np.max(regrets)})
    return pd.DataFrame(found)


def figure(tables: dict[str, pd.DataFrame]) -> Figure:
    """For each scarce domain: its loss by epochs at each share, and the mean loss by share for each stock."""
    drawn = Figure(figsize=(9.5, 3.2 * len(tables)), layout="constrained")
    for row, (scarce, table) in zip(drawn.subplots(len(tables), 2), tables.items(), strict=True):
        for color, (share, own) in zip(PALETTE, table.groupby("share"), strict=False):
            own = own.sort_values("epochs")
            row[0].plot(own["epochs"], own[f"loss/{scarce}"], color=color, marker="o", label=f"{share:g}")
        for color, (_, own) in zip(PALETTE, table.groupby("unique"), strict=False):
            mean = own.filter(like="loss/").mean(axis=1)
            row[1].plot(own["share"], mean, color=color, marker="o", label=f"{own['unique'].iloc[0]:,.0f}")
            best = int(np.asarray(mean).argmin())
            row[1].plot(own["share"].iloc[best], mean.iloc[best], "*", color=color, markersize=14)
        row[0].set_ylabel(f"loss of {scarce} (nats per byte)")
        row[1].set_ylabel("mean of both losses")
        row[0].set_xscale("log")
        row[0].xaxis.set_major_formatter("{x:g}")
        row[1].set_xscale("log")
        row[1].set_xticks(Epochs.SHARES, [f"{share:g}" for share in Epochs.SHARES])
        row[1].minorticks_off()
        row[0].legend(title="share", frameon=False, fontsize=8)
        row[1].legend(title="unique tokens", frameon=False, fontsize=8)
        for axes, name in zip(row, ("epochs", "share"), strict=True):
            axes.set_xlabel(f"{name} of {scarce}")
            axes.grid(color="#dddddd", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
    return drawn
