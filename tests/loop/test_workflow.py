"""The whole loop on three tiny domains: what it leaves, that it repeats itself, and that it goes on after a kill."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

import bimixjax
from bimixjax import Auto, AutoFit, FitResult, InputError, Observations, OptimalMixture
from bimixjax.corpus import TokenStore
from bimixjax.loop.designs import Spread
from bimixjax.loop.workflow import OPTIMIZED, LoopConfig, LoopResult, run_loop, small_swarm
from bimixjax.proxy import Design, Progress, SwarmConfig
from bimixjax.reports import documents, page
from bimixjax.reports.lanes import FittedLosses


class Watcher:
    """Notes the stages and the steps reported, and interrupts the work at a step of a stage."""

    def __init__(self, stage: str = "", step: int = 0) -> None:
        self.stages: list[str] = []
        self.steps: list[int] = []
        self._at = (stage, step)

    def __call__(self, stage: str, /) -> Progress:
        self.stages.append(stage.split()[0])

        def note(step: int, steps: int, tokens_per_second: float, seconds_left: float, /) -> None:
            self.steps.append(step)
            if stage.startswith(self._at[0]) and self._at[0] and step >= self._at[1]:
                raise KeyboardInterrupt

        return note


@pytest.fixture(scope="session")
def folder(tiny_loop: LoopResult) -> Path:
    """Where the loop has left its tables."""
    return Path(tiny_loop.observations.source).parents[1]


def same(one: LoopResult, other: LoopResult) -> bool:
    return (
        np.array_equal(one.observations.losses, other.observations.losses)
        and np.array_equal(one.best.proportions, other.best.proportions)
        and np.array_equal(one.proof.losses, other.proof.losses)
    )


def test_the_design_holds_every_kind_of_mixture(tiny_loop: LoopResult) -> None:
    design = tiny_loop.design
    assert design.runs == ("natural", "uniform", "conditional-entropy", *(f"spread-{i}" for i in range(1, 6)))
    assert design.domains == ("a", "b", "c")
    assert set(design.seeds.tolist()) == {0}


def test_the_models_learn_and_the_law_is_fitted_to_all_rows(tiny_loop: LoopResult) -> None:
    observations, fit = tiny_loop.observations, tiny_loop.fit
    assert len(observations) == 8 * 4
    steps = observations.volumes("steps")
    assert (observations.losses[steps == 60].mean(axis=0) < observations.losses[steps == 15].mean(axis=0)).all()
    assert (fit.volume_unit, fit.rows.tolist()) == ("steps", [32, 32, 32])


def test_the_checks_have_not_seen_what_they_predict(tiny_loop: LoopResult) -> None:
    assert tiny_loop.extrapolation.fit.rows.tolist() == [24, 24, 24]
    assert tiny_loop.generalization.held_out.runs == ("spread-5",)
    assert tiny_loop.generalization.fit.rows.tolist() == [28, 28, 28]
    assert np.isfinite([tiny_loop.extrapolation.error, tiny_loop.generalization.error]).all()


def test_the_mixture_is_within_what_was_fitted(tiny_loop: LoopResult) -> None:
    best, r = tiny_loop.best, tiny_loop.observations.proportions
    assert best.proportions.sum() == pytest.approx(1)
    assert (best.proportions >= r.min(axis=0) - 1e-12).all()
    assert (best.proportions <= r.max(axis=0) + 1e-12).all()
    assert best.extrapolated == ()
    assert (best.converged, best.budget.volume, best.budget.unit) == (True, 60, "steps")


def test_the_proof_has_fresh_runs_of_four_mixtures(tiny_loop: LoopResult, folder: Path) -> None:
    proof = tiny_loop.proof
    assert proof.mixtures == ("natural", "uniform", "conditional-entropy", OPTIMIZED)
    assert proof.losses.shape == (4, 2, 3)
    assert np.isfinite(proof.losses).all()
    measured = Observations.read(folder / "proof.csv")
    assert set(measured.seed.tolist()) == {1, 2}  # pyright: ignore[reportOptionalMemberAccess]
    row = measured.run.tolist().index(f"{OPTIMIZED}/seed-2")
    assert measured.proportions[row] == pytest.approx(tiny_loop.best.proportions)
    assert proof.losses[3, 1] == pytest.approx(measured.losses[row])


def test_the_files_repeat_the_result(tiny_loop: LoopResult, folder: Path) -> None:
    assert Design.read(folder / "design.csv").runs == tiny_loop.design.runs
    observations = Observations.read(folder / "observations.csv")
    again = bimixjax.fit("bimix", observations, volume="steps")
    assert FitResult.load(folder / "fit.json").values == pytest.approx(again.values, rel=1e-9)
    assert OptimalMixture.load(folder / "mixture.json").as_dict() == pytest.approx(tiny_loop.best.as_dict())


def test_auto_closes_the_loop(
    tiny_loop: LoopResult, tiny_loop_config: LoopConfig, tiny_store: TokenStore, folder: Path, tmp_path: Path
) -> None:
    """On the swarm that is there; one member stands for all."""
    shutil.copytree(folder / "swarm", tmp_path / "swarm")
    config = dataclasses.replace(tiny_loop_config, law=Auto(members=("offset",)))
    found = run_loop(tmp_path, config, store=tiny_store)
    assert np.array_equal(found.observations.losses, tiny_loop.observations.losses)
    assert (found.best.converged, found.best.method, found.best.extrapolated) == (True, "softmax", ())
    again = AutoFit.load(tmp_path / "fit.json").predict(found.compared[OPTIMIZED], volume=60)
    assert found.proof.predicted[3] == pytest.approx(np.asarray(again))
    errors = np.stack([found.extrapolation.error, found.generalization.error])
    assert ((errors > 0) & (errors < 0.2)).all()
    text = page.text(found)
    assert "an average of laws fitted to their losses" in text
    assert "ignores that domains help each other" not in text
    assert documents.fitted(found.fit)["law"] == "auto"
    assert FittedLosses.of(found.fit, found.observations).law == "auto"


def test_the_same_call_repeats_the_numbers_without_training(
    tiny_loop: LoopResult, tiny_loop_config: LoopConfig, tiny_store: TokenStore, folder: Path
) -> None:
    watch = Watcher()
    assert same(run_loop(folder, tiny_loop_config, store=tiny_store, watch=watch), tiny_loop)
    assert watch.stages == ["entropies", "swarm", "law", "proof"]
    assert watch.steps == []


@pytest.mark.parametrize(("stage", "step"), [("swarm", 30), ("proof", 1)])
def test_an_interrupted_loop_goes_on_to_the_same_numbers(
    stage: str, step: int, tiny_loop: LoopResult, tiny_loop_config: LoopConfig, tiny_store: TokenStore, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_loop(tmp_path, tiny_loop_config, store=tiny_store, watch=Watcher(stage, step))
    assert not (tmp_path / "proof.csv").exists()
    assert same(run_loop(tmp_path, tiny_loop_config, store=tiny_store), tiny_loop)


def test_a_folder_keeps_to_the_settings_that_it_was_begun_with(
    tiny_loop_config: LoopConfig, tiny_store: TokenStore, folder: Path
) -> None:
    other = dataclasses.replace(tiny_loop_config, spread=Spread(count=4))
    with pytest.raises(InputError, match="begun with another spread"):
        run_loop(folder, other, store=tiny_store)


def test_the_local_corpus_is_harvested_once(
    monkeypatch: pytest.MonkeyPatch, tiny_loop_config: LoopConfig, tiny_store: TokenStore, tmp_path: Path
) -> None:
    """Up to the swarm, which is not for bytes here; the second call opens what the first has made."""
    calls: list[int] = []

    def harvest(path: Path, *, cap: int, validation_fraction: float) -> TokenStore:
        calls.append(cap)
        return TokenStore.write(path, {"a": ([0, 1] * 400, [0] * 400), "b": ([1] * 800, [1] * 400)}, vocab_size=256)

    monkeypatch.setattr("bimixjax.loop.workflow.local_corpus", harvest)
    for _ in range(2):
        with pytest.raises(InputError, match="vocab is 16"):
            run_loop(tmp_path, tiny_loop_config)
    assert calls == [16_000_000]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"law": "bimx"}, "law is 'bimx'"),
        ({"held_out": 0}, "held_out is 0"),
        ({"held_out": 10}, "1 to 9"),
        ({"proof_seeds": (1,)}, "two or more"),
        ({"proof_seeds": (1, 1)}, "all different"),
        ({"proof_seeds": (0, 1)}, "without 0"),
        ({"swarm": SwarmConfig(steps=10, eval_steps=(10,))}, "measured at one step"),
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        LoopConfig(**wrong)  # pyright: ignore[reportArgumentType]


def test_the_small_swarm_is_measured_after_its_first_quarter() -> None:
    assert small_swarm(800).measured == (200, 264, 348, 459, 606, 800)
    assert small_swarm(1).measured == (1,)
