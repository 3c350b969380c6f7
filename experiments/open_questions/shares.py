"""How do laws fail where a domain has next to no share, or nearly all?"""

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.figure import Figure

from bimixjax import AutoFit, Observations, fit
from bimixjax.corpus import TokenStore
from bimixjax.proxy import Design
from bimixjax.reports.figures import PALETTE
from experiments.open_questions.config import DESIGN_SEED, TABLES, Shares
from experiments.open_questions.judging import interval, last, only, predicted, without
from experiments.open_questions.training import trained
from experiments.proof.run import Corpus, drawn


def train(corpus: Path, folder: Path) -> None:
    """Train runs within the usual range of shares, and for each domain runs whose share lies outside of it."""
    own, count = Corpus(store=TokenStore.open(corpus / "store12"), only=Shares.DOMAINS), len(Shares.DOMAINS)

    def make() -> Design:
        mixtures = [*drawn(count, Shares.FITTED, 0, Shares.LEAST, Shares.MOST)]
        ids = [f"fitted-{i + 1}" for i in range(Shares.FITTED)]
        for i, domain in enumerate(own.domains):
            for share in (*Shares.SMALL, *Shares.LARGE):
                mixture = np.full(count, (1 - share) / (count - 1))
                mixture[i] = share
                ids.append(f"{domain}-{share:g}")
                mixtures.append(mixture)
        return Design.make(ids, own.domains, np.stack(mixtures), [DESIGN_SEED] * len(ids))

    trained(make, own.tokens, folder / "shares").write(folder / TABLES / "shares.parquet")


def judged(whole: Observations) -> pd.DataFrame:
    """Of each law and share outside of the fitted ones: errors of that domain's loss and of the others', and limits.

    Errors are logs of predicted over measured losses: `own` is the mean over domains for the domain with that share,
    `own_size` and `others_size` are means of absolute values. `infinite` counts losses that a law has no number for.
    `lower` and `upper` are means of `auto`'s 90 % limits of the own loss, in the same unit; `held` is how many of the
    own losses they held.
    """
    fitted = [run for run in whole.runs if run.startswith("fitted")]
    judges = last(without(whole, fitted))
    own = np.array([[run.rpartition("-")[0] == name for name in whole.domains] for run in judges.run.tolist()])
    found = []
    for law in Shares.LAWS:
        fit_of = fit(law, only(whole, fitted), volume="tokens")
        off = np.log(predicted(fit_of, judges) / judges.losses)
        limits = None if not isinstance(fit_of, AutoFit) else np.log(np.stack(interval(fit_of, judges)) / judges.losses)
        for share in (*Shares.SMALL, *Shares.LARGE):
            at = np.isclose(judges.proportions[own], share)
            mine, others = off[at][own[at]], off[at][~own[at]]
            row = {"law": law, "share": share, "infinite": int((~np.isfinite(mine)).sum())}
            row |= {"own": mean(mine), "own_size": mean(np.abs(mine)), "others_size": mean(np.abs(others))}
            if limits is not None:
                low, high = (side[at][own[at]] for side in limits)
                row |= {"lower": low.mean(), "upper": high.mean(), "held": ((low <= 0) & (high >= 0)).mean()}
            found.append(row)
    return pd.DataFrame(found)


def mean(values: Float[np.ndarray, " n"]) -> float:
    """The mean of those that are finite."""
    return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")


def figure(found: pd.DataFrame) -> Figure:
    """The error of a domain's own loss by its share, small shares on the left, large ones on the right."""
    page = Figure(figsize=(9.5, 4.0), layout="constrained")
    panels = page.subplots(1, 2, sharey=True)
    for axes, shares in zip(panels, (Shares.SMALL, Shares.LARGE), strict=True):
        # Shares are names here: their steps are neither even nor those of a logarithm, which has no place for 0.
        places = np.arange(len(shares))
        for color, law in zip(PALETTE, Shares.LAWS, strict=False):
            own = found[(found["law"] == law) & np.isin(found["share"], shares)]
            axes.plot(places, 100 * np.expm1(own["own"]), color=color, marker="o", label=law)
            if law == "auto":
                low, high = (100 * np.expm1(own[side]) for side in ("lower", "upper"))
                axes.fill_between(places, low, high, color=color, alpha=0.15, linewidth=0, label="auto, 90 % limits")
        axes.set_xticks(places, [f"{100 * share:g}" for share in shares])
        axes.set_xlabel("share of the domain (%)")
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_yscale("symlog", linthresh=2)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("predicted above measured (%)")
    panels[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return page
