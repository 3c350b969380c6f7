"""How many runs does it take as domains grow? Random runs against planned ones, for 4, 8 and 12 domains."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from bimixjax import Observations, fit, plan
from bimixjax.corpus import TokenStore
from bimixjax.loop.proof import OBSERVATIONS, Proof, prove
from bimixjax.loop.proposals import Proposal, Proposals, propose
from bimixjax.observations import Budget
from bimixjax.proxy import Design
from bimixjax.reports.figures import PALETTE
from experiments.open_questions.config import DESIGN_SEED, PROOF_SEEDS, TABLES, TOKENS, Domains, swarm
from experiments.open_questions.judging import last, only, predicted
from experiments.open_questions.training import trained
from experiments.proof.run import Corpus, random_mixtures, say


def train(corpus: Path, folder: Path) -> None:
    """Train random, planned and judging runs for each number of domains, and then what methods propose from them."""
    for count in Domains.COUNTS:
        store = TokenStore.open(corpus / f"store{count}")
        _train(Corpus(store=store), folder / f"domains-{count}", folder / TABLES)


def _train(corpus: Corpus, place: Path, tables: Path) -> None:
    names = corpus.domains

    def at_random() -> Design:
        ids = [f"random-{i + 1}" for i in range(Domains.RANDOM)] + [f"judge-{i + 1}" for i in range(Domains.JUDGES)]
        return Design.make(ids, names, random_mixtures(corpus, len(ids)), [DESIGN_SEED] * len(ids))

    random = trained(at_random, corpus.tokens, place / "random")
    planned: list[Observations] = []
    for part, runs in enumerate(Domains.PLANNED):

        def next_ones(part: int = part, runs: int = runs) -> Design:
            known = Observations.concat(*planned) if len(planned) > 1 else planned[0] if planned else None
            given: dict[str, Any] = {"domains": names}
            if known is not None:
                given = {"targets": names, "budget": Budget(volume=TOKENS, unit="tokens")}
            chosen = plan(known, runs=runs, **given, inventory=corpus.inventory, limits=corpus.limits)
            before = sum(Domains.PLANNED[:part])
            ids = [f"planned-{before + i + 1}" for i in range(runs)]
            return Design.make(ids, names, chosen.mixtures, [DESIGN_SEED] * runs)

        planned.append(trained(next_ones, corpus.tokens, place / f"planned-{part + 1}"))
    whole = Observations.concat(random, *planned)
    whole.write(tables / f"{place.name}.parquet")
    proposals = proposed(corpus, whole, place)
    prove(place / "proof", proposals, corpus.tokens, swarm(), PROOF_SEEDS, progress=say)
    Observations.read(place / "proof" / OBSERVATIONS).write(tables / f"{place.name}-proof.parquet")
    proposals.save(tables / f"{place.name}-proposals.json")


def seen(whole: Observations, counts: tuple[int, ...]) -> Iterator[tuple[str, int, Observations]]:
    """Yield the tables that are fitted: of what kind, of how many runs, and the runs."""
    for kind in ("random", "planned"):
        for runs in counts:
            yield kind, runs, only(whole, [f"{kind}-{i + 1}" for i in range(runs)])


def proposed(corpus: Corpus, whole: Observations, place: Path) -> Proposals:
    """What each method proposes from each table, kept in a file from the first call on."""
    path = place / "proposals.json"
    if path.exists():
        return Proposals.load(path)
    found: list[Proposal] = []
    missing: dict[str, str] = {}
    references: dict[str, np.ndarray] = {}
    of_table: Proposals | None = None
    for kind, runs, table in seen(whole, Domains.CHOSEN_FROM):
        of_table = propose(table, Domains.METHODS, inventory=corpus.inventory, limits=corpus.limits)
        for one in of_table.of:
            if one.name in Domains.METHODS or one.name == "best run":
                found.append(dataclasses.replace(one, name=f"{kind}-{runs}/{one.name}"))
            else:
                references[one.name] = one.proportions
        missing |= {f"{kind}-{runs}/{method}": why for method, why in of_table.missing.items()}
        print(f"  proposals from {kind}-{runs}", flush=True)
    assert of_table is not None
    joined = dataclasses.replace(of_table, of=tuple(found), missing=missing, seeds=(DESIGN_SEED,)).beside(references)
    joined.save(path)
    return joined


def judged(whole: Observations) -> pd.DataFrame:
    """Of each law fitted to each table: errors of the runs that judge, and what choosing among those would cost."""
    judges = last(only(whole, [run for run in whole.runs if run.startswith("judge")]))
    means = judges.losses.mean(1)
    found = []
    for kind, runs, table in seen(whole, Domains.RUNS):
        for law in Domains.LAWS:
            guess = predicted(fit(law, table, volume="tokens"), judges)
            finite = np.isfinite(guess).all(1)
            row = {"kind": kind, "runs": runs, "law": law, "infinite": int((~finite).sum())}
            row["error"] = float(np.abs(guess / judges.losses - 1)[finite].mean())
            row["spearman"] = float(np.asarray(spearmanr(guess.mean(1)[finite], means[finite]))[0])
            chosen = np.where(finite, guess.mean(1), np.inf).argmin()
            found.append(row | {"regret": float(means[chosen] - means.min())})
    return pd.DataFrame(found)


def chosen(proof: Proof) -> pd.DataFrame:
    """Of each method and table: what its mixture measured above the best of all, and what it had promised."""
    found = []
    for name, mean, promised in zip(proof.mixtures, proof.means, proof.promised, strict=True):
        table, _, method = name.rpartition("/")
        kind, _, runs = table.partition("-")
        row = {"kind": kind, "runs": runs, "method": method, "mean": mean, "above_best": mean - np.nanmin(proof.means)}
        found.append(row | {"above_promise": mean - promised})
    return pd.DataFrame(found)


def figure(errors: pd.DataFrame, chosen: pd.DataFrame) -> Figure:
    """By the number of runs, a column per number of domains: errors of predictions, and what proposals lose."""
    drawn = Figure(figsize=(9.5, 6.2), layout="constrained")
    axes = drawn.subplots(2, len(Domains.COUNTS), sharex=True, sharey="row")
    colors = dict(zip(dict.fromkeys((*Domains.LAWS, *Domains.METHODS)), (*PALETTE, "black"), strict=True))
    for column, count in enumerate(Domains.COUNTS):
        own, proposals = errors[errors["domains"] == count], chosen[chosen["domains"] == count]
        for kind, style in (("random", "-"), ("planned", "--")):
            for law in Domains.LAWS:
                line, look = own[(own["kind"] == kind) & (own["law"] == law)], {"color": colors[law]}
                axes[0, column].plot(line["runs"], 100 * line["error"], style, label=f"{law}, {kind}", **look)
            for method in Domains.METHODS:
                line = proposals[(proposals["kind"] == kind) & (proposals["method"] == method)]
                look = {"color": colors[method], "marker": "o", "label": f"{method}, {kind}"}
                axes[1, column].plot(line["runs"].astype(int), line["above_best"], style, **look)
        axes[0, column].set_title(f"{count} domains")
        axes[1, column].set_xlabel("runs fitted")
    axes[0, 0].set_ylabel("error of other runs (%)")
    axes[1, 0].set_ylabel("loss above the best mixture (nats)")
    axes[0, 0].set_yscale("log", base=2)
    axes[0, 0].set_yticks((2, 4, 8), ("2", "4", "8"))
    axes[1, 0].set_yscale("symlog", linthresh=0.01)
    axes[1, 0].set_ylim(-0.001, 2)
    axes[1, 0].set_yticks((0, 0.01, 0.1, 1), ("0", ".01", ".1", "1"))
    axes[0, 0].set_xscale("log", base=2)
    axes[0, 0].set_xticks(Domains.RUNS, [str(runs) for runs in Domains.RUNS])
    for each in axes.flat:
        each.grid(color="#dddddd", linewidth=0.6)
        each.spines[["top", "right"]].set_visible(False)
    for row, places in zip(axes, axes[:, -1], strict=True):
        outside = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "frameon": False, "fontsize": 7}
        places.legend(*row[0].get_legend_handles_labels(), **outside)
    return drawn
