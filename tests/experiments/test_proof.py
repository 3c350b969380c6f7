"""The study of proposals: what its summary makes of runs whose means and seeds are known, and that limits hold."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bimixjax import datasets
from bimixjax.corpus import TokenStore
from bimixjax.loop.proposals import Proposal, Proposals
from experiments.paper_study.run import Runs, last_step
from experiments.proof import config, summary
from experiments.proof.run import Corpus, random_mixtures

EFFECTS = {1: 0.0, 2: 0.1, 3: -0.05, 4: 0.02}
MEANS = {"random-8/auto": 2.0, "random-8/bimix": 2.03, "uniform": 2.05, "bad": 3.0}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Runs that differ by mixture and seed alone; the bad mixture has two seeds, the others four."""
    (tmp_path / config.PROOF).mkdir()
    rows = [
        {"run": f"{name}/seed-{seed}", "seed": seed, "step": config.STEPS, "mixture/a": i / 4, "mixture/b": 1 - i / 4}
        | {"loss/a": mean + effect - 0.5, "loss/b": mean + effect + 0.5}
        for i, (name, mean) in enumerate(MEANS.items())
        for seed, effect in EFFECTS.items()
        if name != "bad" or seed < 3
    ]
    pd.DataFrame(rows).to_csv(tmp_path / config.PROOF / "observations.csv", index=False)
    of = tuple(
        Proposal(name=name, proportions=np.array([i / 4, 1 - i / 4]), losses=np.full(2, 1.9), lower=1.95, upper=2.04)
        for i, name in enumerate(MEANS)
    )
    names, weights = ("a", "b"), np.array([0.5, 0.5])
    proposals = Proposals(domains=names, targets=names, weights=weights, volume=1.0, unit="steps", of=of)
    proposals.save(tmp_path / config.PROOF / "proposals.json")
    return tmp_path


def test_seeds_are_taken_out_of_means(place: Path) -> None:
    found, error = summary.measured(place)
    middle = np.mean([*EFFECTS.values()])
    assert found["mixture"].tolist() == [*MEANS]
    assert found["mean"].tolist() == pytest.approx([mean + middle for mean in MEANS.values()])
    assert found["seeds"].tolist() == [4, 4, 4, 2]
    assert error == pytest.approx(0, abs=1e-12)
    assert found["above_promise"].tolist() == pytest.approx([mean + middle - 1.9 for mean in MEANS.values()])
    assert found["held"].tolist() == ["yes", "no", "no", "no"]


def test_random_runs_keep_to_the_epochs(tiny_store: TokenStore) -> None:
    corpus = Corpus(store=tiny_store)
    most = config.MAX_EPOCHS * tiny_store.tokens / (config.STEPS * config.BATCH * config.CONTEXT)
    assert (random_mixtures(corpus) <= most).all()


def test_the_papers_first_table_holds_out_the_last_step_of_six_mixtures() -> None:
    runs = Runs.of(datasets.load("eight-domains-proof").model_sizes[0])
    assert not any(run.endswith("seed-1") for run in runs.table.runs)
    rows = last_step("bimix", runs)
    assert [row["mixture"] for row in rows[-1:]] == ["all"]
    assert {str(row["mixture"]) for row in rows} == {"natural", "DoReMi", "SE", "CE", "JE", "VNE", "all"}
    # Noise makes errors of half a per cent; a law that had seen nothing would be off by tens.
    assert 0.005 < float(np.asarray(rows[-1]["mean"])) < 0.05
