"""The loop's tables and its verdict say what was measured, wins and losses alike."""

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console, RenderableType

from bimixjax._base.records import to_plain
from bimixjax.loop.proof import Proof
from bimixjax.loop.workflow import OPTIMIZED, LoopResult
from bimixjax.reports import loop, proofs


def text(*parts: RenderableType) -> str:
    console = Console(width=120, file=io.StringIO(), highlight=False, markup=False)
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get()


@pytest.fixture
def proof() -> Proof:
    """Noise such that the standard error of a difference is exactly 0.01 times sqrt(2 / 3)."""
    noise = 0.01 * np.sqrt(6 / 8) * np.array([[1, -1, 0], [-1, 1, 0], [1, -1, 0], [-1, 1, 0]])
    losses = np.array([2.1, 2.0, 2.01, 2.2])[:, None] + noise
    return Proof(
        mixtures=("natural", "uniform", OPTIMIZED, "bad"),
        targets=("a", "b"),
        steps=60.0,
        losses=np.stack([losses - 0.5, losses + 0.5], axis=-1),
        predicted=np.full((4, 2), 1.9),
    )


def test_the_verdict_says_wins_ties_and_losses(proof: Proof) -> None:
    assert proof.standard_error == pytest.approx(0.01 * np.sqrt(2 / 3))
    assert loop.verdict(proof).plain.splitlines() == [
        "Lowest measured mean loss: uniform. Below 2.5 standard errors, a difference is a tie.",
        "The optimized mixture ties with uniform: 0.0100 nats per token higher, 1.2 standard errors.",
        "The optimized mixture beats natural: 0.0900 nats per token lower, 11.0 standard errors.",
        "The optimized mixture beats bad: 0.1900 nats per token lower, 23.3 standard errors.",
    ]


def test_the_verdict_admits_a_loss(proof: Proof) -> None:
    worse = dataclasses.replace(proof, mixtures=(OPTIMIZED, "uniform", "natural", "bad"))
    assert "The optimized mixture loses to uniform: 0.1000 nats per token higher, 12.2" in loop.verdict(worse).plain


def test_the_proof_has_the_best_mixture_first(proof: Proof) -> None:
    shown = [line.split() for line in text(proofs.measured(proof)).splitlines() if line.strip()]
    rows = [row for row in shown if row[0] in proof.mixtures]
    assert [row[0] for row in rows] == ["uniform", "optimized", "natural", "bad"]
    assert rows[0] == ["uniform", "2.0000", "-", "-", "1.9000", "0.1000", "1.5000", "2.5000"]
    assert rows[2] == ["natural", "2.1000", "0.1000", "12.2", "1.9000", "0.2000", "1.6000", "2.6000"]


def test_a_diverged_run_is_said(proof: Proof) -> None:
    losses = proof.losses.copy()
    losses[2, 0] = np.nan
    found = dataclasses.replace(proof, losses=losses)
    assert loop.verdict(found).plain.endswith("A run of the optimized mixture diverged.")
    assert "diverged" in text(proofs.measured(found))
    lost = dataclasses.replace(proof, losses=np.full_like(losses, np.nan))
    assert "nothing can be said" in loop.verdict(lost).plain
    assert "diverged" in text(proofs.measured(lost))


def test_the_screen_runs_through_the_whole_loop(tiny_loop: LoopResult) -> None:
    shown = text(*loop.screen(tiny_loop))
    words = ("Entropies", "Validation loss", "Law bimix", "held out of the fit", "Proportions", "KKT residual", "Proof")
    places = [shown.index(word) for word in words]
    assert places == sorted(places)
    assert shown.rstrip().splitlines()[-1].startswith("The optimized mixture")


def test_the_document_holds_the_numbers(tiny_loop: LoopResult) -> None:
    document = json.loads(json.dumps(to_plain(loop.document(tiny_loop)), allow_nan=False))
    assert document["proof"]["means"][OPTIMIZED] == pytest.approx(tiny_loop.proof.means[3])
    assert document["checks"]["1 mixture"]["law"]["a"] == pytest.approx(tiny_loop.generalization.error[0])
    assert sum(document["optimum"]["mixture"].values()) == pytest.approx(1)
    assert document["design"]["uniform"] == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert document["entropies"]["a"]["conditional"] == pytest.approx(tiny_loop.entropies["a"].conditional)
