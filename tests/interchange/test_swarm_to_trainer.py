"""From a public swarm, its two files in different orders, to the files of five trainers."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bimixjax.cli import run
from bimixjax.interchange import lint, read_mixture
from bimixjax.interchange.trainers import of_kind

FIVE = {"levanter": ".yaml", "maxtext": ".json", "megatron": ".json", "olmo-core": ".yaml", "streaming": ".yaml"}


@pytest.mark.slow
def test_topics_of_olmix_go_from_a_shuffled_pair_to_five_trainers(
    observations_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127 mixtures of 24 topics, 86 % of the shares zero; no domain is to be read more than four times."""
    monkeypatch.chdir(tmp_path)
    table = pd.read_csv(observations_folder / "topics_24.csv")
    for name, prefix, seed in (("ratios", "mixture/", 0), ("metrics", "loss/", 1)):
        part = table[["run", *(column for column in table if column.startswith(prefix))]]
        part = part.set_axis([column.removeprefix(prefix) for column in part.columns], axis=1)
        part.sample(frac=1, random_state=seed).to_csv(f"{name}.csv", index=False)
    domains = [column.removeprefix("mixture/") for column in table if column.startswith("mixture/")]
    stock = {domain: 1e9 * (3 + i % 7) for i, domain in enumerate(domains)}
    Path("stock.json").write_text(json.dumps(stock))
    known = ["--train-tokens", "100B", "--inventory", "stock.json"]
    assert run(["import", "ratios.csv", "metrics.csv", "--out", "runs.csv"]) == 0
    imported = pd.read_csv("runs.csv").set_index("run").loc[table["run"]]
    np.testing.assert_allclose(imported["loss/math"], table["loss/math"])
    np.testing.assert_allclose(imported["mixture/games"], table["mixture/games"], atol=1e-9)
    fit = ["fit", "runs.csv", "--law", "log_linear", "--targets", "math,hellaswag", "--out", "fit.json"]
    assert run(fit) == 0
    assert run(["optimize", "fit.json", *known, "--max-epochs", "4", "--out", "best.json"]) == 0
    best = read_mixture("best.json")
    assert max(share * 100e9 / stock[domain] for domain, share in best.items()) <= 4 + 1e-6
    for kind, suffix in FIVE.items():
        lengths = ["--tokens-per-document", "2048"] if of_kind(kind, suffix).counts == "documents" else []
        assert run(["export", "best.json", "--to", kind, *known, *lengths, "--out", f"{kind}{suffix}"]) == 0
        # The coarsest is Grain, which MaxText mixes by: parts of the least share over 100.
        found = lint(f"{kind}{suffix}")
        shares = dict(zip(found.domains, found.realized[0], strict=True))
        assert all(shares.get(domain, 0) == pytest.approx(share, abs=2e-3) for domain, share in best.items())
        assert all("no path yet" in problem for problem in found.problems)
