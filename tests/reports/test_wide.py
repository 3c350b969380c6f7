"""Every table of every command with long names on a narrow screen: 17 domains, 13 targets; all numbers, all names."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console, Group, RenderableType

import bimixjax
from bimixjax import Observations
from bimixjax.corpus import TokenStore
from bimixjax.corpus.entropy import corpus_entropies
from bimixjax.fitting import Resampled
from bimixjax.loop.proof import Proof
from bimixjax.mixtures import uniform
from bimixjax.optimization import OptimalResamples
from bimixjax.reports import corpora, proofs, tables
from bimixjax.reports.predictions import Predictions
from bimixjax.reports.sheet import Sheet
from bimixjax.reports.spread import Spread

KINDS = ("common_crawl_web_text", "source_code_of_github", "scientific_articles", "encyclopedia")
DOMAINS = tuple(f"{kind}_{part}" for part in ("en", "de", "zh", "fr", "other") for kind in KINDS)[:17]
TARGETS = (*DOMAINS[:6], *(f"{kind}_held_back_{part}" for part in ("easy", "hard") for kind in KINDS))[:13]
RUNS = 24
WIDTHS = (60, 80, 120)


@pytest.fixture(scope="module")
def observations() -> Observations:
    """Losses of an exponential law, at one volume."""
    random = np.random.default_rng(0)
    mixtures, slopes = random.dirichlet(np.ones(17), RUNS), random.normal(-1, 1, (17, 13))
    table = {"run": [f"a_run_of_the_first_swarm_{i}" for i in range(RUNS)], "step": 1000, "status": "ok"}
    table |= {f"mixture/{name}": mixtures[:, i] for i, name in enumerate(DOMAINS)}
    losses = 2 + np.exp(mixtures @ slopes)
    table |= {f"loss/{name}": losses[:, i] for i, name in enumerate(TARGETS)}
    return Observations.from_frame(pd.DataFrame(table))


def text(part: RenderableType, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        console.print(part)
    return captured.get()


def sheets(part: RenderableType) -> list[Sheet]:
    """The tables of a screen."""
    if isinstance(part, Group):
        return [sheet for inner in part.renderables for sheet in sheets(inner)]
    return [part] if isinstance(part, Sheet) else []


def check(part: RenderableType) -> None:
    """All numbers are in lines as often as they are in tables, and all names in full."""
    found = sheets(part)
    assert found
    for width in WIDTHS:
        shown = text(part, width)
        assert max(map(len, shown.splitlines())) <= width
        for sheet in found:
            alone = text(sheet, width)
            cells = [cell.strip() for row in sheet.rows for cell in row if any(map(str.isdigit, cell))]
            assert all(alone.count(cell) >= cells.count(cell) for cell in cells)
            flat = " ".join(alone.split())
            assert all(name in flat or set(name.split()) <= set(flat.split()) for name in sheet.columns)


def proof() -> Proof:
    losses = np.random.default_rng(1).normal(3, 0.1, (6, 3, 13))
    mixtures = ("optimized", "natural", "uniform", "conditional-entropy", "joint-entropy", "shannon-entropy")
    return Proof(mixtures=mixtures, targets=TARGETS, steps=700.0, losses=losses, predicted=losses.mean(1))


def test_screens_of_a_law_with_cross_domain_terms(observations: Observations) -> None:
    fit = bimixjax.fit("exponential", observations)
    check(Group(*tables.fitted(fit)))
    values, status = fit.values + np.random.default_rng(0).normal(0, 0.01, (3, *fit.values.shape)), fit.status
    resampled = Resampled(fit=fit, values=values, status=np.stack([status] * 3))
    check(tables.spread(Spread.of(resampled, observations)))


def test_screens_of_predictions_and_of_an_optimum(observations: Observations) -> None:
    fit = bimixjax.fit("exponential", observations)
    budget = bimixjax.Budget()
    runs = dict(zip(observations.runs, observations.proportions, strict=True))
    few = {"uniform": uniform(17), "natural": observations.proportions[0]}
    check(tables.predictions(Predictions.of(fit, runs, budget)))
    check(tables.predictions(Predictions.of(fit, few, budget)))
    best, baselines = bimixjax.optimize(fit, starts=1), Predictions.of(fit, few, budget)
    shares = np.random.default_rng(0).dirichlet(np.ones(17), 5)
    draws = OptimalResamples(best=best, proportions=shares, regret=np.zeros(5), converged=np.ones(5, bool))
    check(tables.proportions(best, baselines, draws))
    check(tables.losses(best, baselines))


def test_every_table_is_a_sheet() -> None:
    """What holds for the tables above then holds for all."""
    modules = sorted((Path(bimixjax.__file__).parent / "reports").glob("*.py"))
    assert [path.name for path in modules if "rich.table" in path.read_text(encoding="utf-8")] == ["sheet.py"]


def test_screens_of_a_corpus(tmp_path: Path, observations: Observations) -> None:
    random = np.random.default_rng(0)
    tokens = {name: (random.integers(0, 8, 300), random.integers(0, 8, 60)) for name in DOMAINS}
    store = TokenStore.write(tmp_path / "store", tokens, vocab_size=8, tokenizer="made up")
    check(corpora.corpus(store))
    check(corpora.entropies(store, corpus_entropies(store)))
    check(corpora.mixtures(DOMAINS, dict(zip(observations.runs, observations.proportions, strict=True))))
    check(corpora.swarm(observations))


def test_the_screen_of_a_proof() -> None:
    check(proofs.measured(proof()))
