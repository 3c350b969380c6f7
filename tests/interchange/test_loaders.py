"""What is exported, loaded by the trainers' own loaders, where these install without torch: 1e5 draws counted."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bimixjax.interchange import Data, Exported, export_mixture

SHARES = {"web": 0.6, "code": 0.3, "books": 0.0734, "math": 0.0266}
LENGTHS = {"web": 700.0, "code": 2100.0, "books": 9000.0, "math": 1300.0}
MANY, FEW = 100_000, 4_000
DRAWS = pytest.mark.parametrize("draws", [FEW, pytest.param(MANY, marks=pytest.mark.exhaustive)])


def counted(mixed: Any, draws: int) -> np.ndarray:
    """Shares of tokens over so many documents."""
    seen = Counter(element["domain"] for element in islice(iter(mixed), draws))
    tokens = np.array([seen[domain] * LENGTHS[domain] for domain in SHARES])
    return tokens / tokens.sum()


def ran(found: Exported) -> dict[str, Any]:
    """Run a snippet and return its names."""
    names: dict[str, Any] = {}
    exec(compile(found.text, "snippet.py", "exec"), names)
    return names


@DRAWS
def test_datasets_draws_what_was_asked(draws: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each document is drawn at random: five standard deviations of a share are 2.5 / sqrt(n) at most."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    pytest.importorskip("datasets", reason="HF datasets is not installed: pip install datasets, which needs no torch")
    paths = {domain: str(tmp_path / f"{domain}.jsonl") for domain in SHARES}
    for domain, path in paths.items():
        Path(path).write_text("".join(json.dumps({"domain": domain, "n": n}) + "\n" for n in range(500)))
    found = export_mixture(SHARES, "hf", data=Data(paths=paths, tokens_per_document=LENGTHS))
    np.testing.assert_allclose(counted(ran(found)["mixed"], draws), found.audit.realized[0], atol=2.5 / draws**0.5)
    np.testing.assert_allclose(found.audit.realized[0], list(SHARES.values()), atol=1e-5)


@DRAWS
@pytest.mark.parametrize("kind", ["grain", "maxtext"])
def test_grain_draws_what_was_said(kind: str, draws: int, tmp_path: Path) -> None:
    """Grain draws in a fixed order: the counts are those of the audit, but for the round that is not whole."""
    grain = pytest.importorskip("grain", reason="grain is not installed: pip install grain, which needs no torch")
    paths = {domain: str(tmp_path / f"{domain}.array_record*") for domain in SHARES}
    data = Data(paths=paths, tokens_per_document=LENGTHS)
    found = export_mixture(SHARES, kind, data=data, suffix={"grain": ".py", "maxtext": ".json"}[kind])
    if kind == "grain":
        module = pytest.importorskip("array_record.python.array_record_module", reason="array_record is not installed")
        for domain in SHARES:
            writer = module.ArrayRecordWriter(str(tmp_path / f"{domain}.array_record"), "group_size:1")
            for _ in range(50):
                writer.write(json.dumps({"domain": domain}).encode())
            writer.close()
        mixed = ran(found)["mixed"].map(json.loads)
    else:  # as MaxText's get_datasets does: numbers divided by their sum, and IterDataset.mix
        weights = {domain: one["weight"] for domain, one in json.loads(found.text).items()}
        total = sum(weights.values())
        at_once = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        parts = [grain.MapDataset.source([{"domain": d}]).repeat().to_iter_dataset(at_once) for d in weights]
        mixed = grain.IterDataset.mix(parts, [weight / total for weight in weights.values()])
    np.testing.assert_allclose(counted(mixed, draws), found.audit.realized[0], atol=20 / draws)
    np.testing.assert_allclose(found.audit.realized[0], list(SHARES.values()), atol=0.005)
