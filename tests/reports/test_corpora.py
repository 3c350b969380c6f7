"""Tables and documents of corpora, mixtures and swarms hold every number by name."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from rich.console import Console, RenderableType

from bimixjax import Observations
from bimixjax.corpus import TokenStore
from bimixjax.corpus.entropy import corpus_entropies
from bimixjax.loop.workflow import LoopResult
from bimixjax.reports import corpora


def lines(part: RenderableType) -> list[list[str]]:
    console = Console(width=120, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        console.print(part)
    return [line.split() for line in captured.get().splitlines() if line.strip()]


def test_a_corpus_by_domain_and_split(tiny_store: TokenStore) -> None:
    shown = lines(corpora.corpus(tiny_store))
    assert ["b", "3,000", "1", "600", "1"] in shown
    document = json.loads(json.dumps(corpora.corpus_document(tiny_store), allow_nan=False))
    assert document["domains"]["b"]["train"]["tokens"] == 3000
    assert document["digest"] == tiny_store.digest


def test_entropies_by_domain(tiny_store: TokenStore) -> None:
    found = corpus_entropies(tiny_store)
    row = next(line for line in lines(corpora.entropies(tiny_store, found)) if line[0] == "c")
    assert row[1:3] == ["4,000", "600"]
    assert [float(cell) for cell in row[3:6]] == pytest.approx(
        [found["c"].shannon, found["c"].joint, found["c"].conditional], abs=1e-4
    )


def test_mixtures_by_domain() -> None:
    chosen = {"even": np.array([0.5, 0.5]), "odd": np.array([0.9, 0.1])}
    assert ["odd", "0.9000", "0.1000"] in lines(corpora.mixtures(("a", "b"), chosen))
    assert corpora.mixtures_document(("a", "b"), chosen)["odd"] == {"a": 0.9, "b": 0.1}


def test_a_swarm_shows_each_run_once_the_best_first(tiny_loop: LoopResult) -> None:
    shown = lines(corpora.swarm(tiny_loop.observations))
    rows = [line for line in shown if line[0] in tiny_loop.design.runs]
    means = [float(row[-1]) for row in rows]
    assert len(rows) == len(tiny_loop.design)
    assert means == sorted(means)
    assert {row[1] for row in rows} == {"60"}
    assert not any("status" in line for line in shown)


def swarm(runs: int) -> Observations:
    losses = np.linspace(2, 3, runs)
    losses[1] = np.nan
    status = np.where(np.isnan(losses), "diverged at step 7", "ok")
    columns = {"run": [f"r{i}" for i in range(runs)], "step": 10, "status": status}
    return Observations.from_frame(pd.DataFrame({**columns, "mixture/a": 1.0, "loss/a": losses}))


def test_a_swarm_says_which_run_diverged() -> None:
    shown = lines(corpora.swarm(swarm(3)))
    assert shown[-1] == ["r1", "10", "nan", "nan", "diverged", "at", "step", "7"]


def test_a_large_swarm_is_cut_and_says_so() -> None:
    shown = lines(corpora.swarm(swarm(50)))
    assert " ".join(shown[-1]) == "10 more runs are in the table"
    assert sum(line[0].startswith("r") for line in shown) == 40
