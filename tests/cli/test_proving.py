"""Mixtures that are trained against each other, and the one of DoReMi: what the commands leave, and how they fail."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bimixjax import InputError, Observations
from bimixjax._base.records import read_json
from bimixjax.cli import run
from bimixjax.cli.console import BAD_INPUT, DONE
from bimixjax.cli.proving import tokens_of
from bimixjax.cli.reporting import mixtures_of
from bimixjax.corpus import TokenStore
from bimixjax.interchange import read_mixture
from bimixjax.proxy import DoremiResult, SwarmConfig

TINY = "--steps 4 --batch 1 --context 8 --eval-windows 2"


def bimix(line: str) -> int:
    return run(line.split())


def test_doremi_leaves_a_mixture_that_others_read(
    store: TokenStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is trained, `tests/proxy/test_reweighting.py` has; here is what is asked for and left."""
    asked: dict[str, Any] = {}

    def trained(tokens: TokenStore, config: SwarmConfig, **how: Any) -> DoremiResult:
        asked.update(how, config=config)
        how["watch"]("2 proxy models")
        weights = np.array([[[0.5, 0.5], [0.7, 0.3]], [[0.5, 0.5], [0.9, 0.1]]])
        return DoremiResult(
            domains=tokens.domains,
            seeds=how["seeds"],
            reference=how["reference"],
            weights=weights,
            excess=weights,
            reference_losses=np.full((2, 2), 2.5),
            proxy_losses=np.full((2, 2), 2.75),
        )

    monkeypatch.setattr("bimixjax.proxy.doremi", trained)
    line = f"doremi store found {TINY} --seeds 1,2 --reference web=0.7,code=0.3 --smoothing 0.1"
    assert bimix(f"{line} --out shares.csv") == DONE
    printed = capsys.readouterr()
    assert "mean of 2 pairs of models" in " ".join(printed.out.split())
    assert printed.err == "bimix: 2 proxy models\n"
    assert asked["reference"].tolist() == [0.7, 0.3]
    assert (asked["seeds"], asked["step_size"], asked["smoothing"]) == ((1, 2), 1.0, 0.1)
    assert (asked["folder"], asked["config"].measured, asked["config"].train.batch) == (Path("found"), (4,), 1)
    expected = {"web": 0.65, "code": 0.35}
    for path in ("found/mixture.json", "shares.csv"):
        assert read_mixture(path) == pytest.approx(expected, rel=1e-6)
    assert mixtures_of(Path("found/mixture.json"), store.domains)["doremi"] == pytest.approx([0.65, 0.35])
    assert bimix(f"{line} --json") == DONE
    document = json.loads(capsys.readouterr().out)
    assert document["standard_error"] == pytest.approx([0.05, 0.05])
    assert bimix(f"doremi store other {TINY} --seeds 5,6") == DONE
    assert asked["reference"] == pytest.approx(store.tokens / store.tokens.sum())
    assert bimix(line.replace("web=0.7", "wbe=0.7")) == BAD_INPUT
    assert "unknown domain 'wbe' in --reference" in capsys.readouterr().err


def test_prove_trains_what_methods_choose(store: TokenStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert bimix("design store --out design.csv --spread 3") == DONE
    assert bimix(f"swarm design.csv store proxies {TINY} --eval-steps 2,3,4") == DONE
    Path("mine.csv").write_text("run,mixture/web,mixture/code\nmine,0.9,0.1\n")
    capsys.readouterr()
    line = "prove proxies store proved --methods bimix,se --seeds 1,2 --beside mine.csv --figure proof.png"
    assert bimix(line) == DONE
    shown = capsys.readouterr().out
    assert "Lowest measured mean loss" in shown
    assert Path("proof.png").exists()
    assert bimix(f"{line} --json") == DONE
    found = json.loads(capsys.readouterr().out)
    assert [*found["mixtures"]] == ["bimix", "se", "natural", "uniform", "zero-run", "best run", "mine"]
    assert found["mixtures"]["mine"]["mean"] == pytest.approx(np.mean(found["mixtures"]["mine"]["losses"]))
    # What was frozen is what goes on, and other wishes ask for another folder.
    assert bimix(line.replace("bimix,se", "exponential")) == BAD_INPUT
    assert "begun with another methods" in capsys.readouterr().err
    # Trained as the swarm was: the same model, batch and steps.
    begun, proved = (read_json(Path(place, "swarm.json"))["config"] for place in ("proxies", "proved/swarm"))
    assert begun == proved
    assert bimix("prove proxies store proved --methods bimix,se --seeds 0,1 --beside mine.csv") == BAD_INPUT
    assert "that no run used (those: 0)" in capsys.readouterr().err
    frame = pd.read_csv("proxies/observations.csv").assign(**{"unique/web": 900, "unique/code": np.inf})
    limited = tokens_of(store, Observations.from_frame(frame))
    assert (len(limited.train("web")), len(limited.train("code"))) == (900, len(store.train("code")))
    frame.loc[frame["run"] == "uniform", "unique/web"] = 800
    with pytest.raises(InputError, match="different numbers of unique tokens"):
        tokens_of(store, Observations.from_frame(frame))
    assert bimix("prove store store other") == BAD_INPUT
    assert "store/observations.csv: no such file" in capsys.readouterr().err
