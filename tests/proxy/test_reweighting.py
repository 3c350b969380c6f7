import dataclasses
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bimixjax._base.checks import InputError
from bimixjax._base.stopping import Stopped
from bimixjax.proxy import Design, SwarmConfig, TrainConfig, doremi, make_mesh
from bimixjax.proxy.batches import draw, make_reader, make_samplers
from bimixjax.proxy.memory import make_plan
from bimixjax.proxy.mesh import Layout
from bimixjax.proxy.model import initialize, token_losses
from bimixjax.proxy.reweighting import DoremiResult, _ExcessLoss
from bimixjax.proxy.swarm import final_members
from bimixjax.proxy.train import start, update

SEEDS = (3, 4)
NATURAL = np.array([3000, 3500, 4000]) / 10500


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doremi")


@pytest.fixture(scope="module")
def found(tokens: Any, config: SwarmConfig, folder: Path) -> DoremiResult:
    return doremi(tokens, config, seeds=SEEDS, step_size=2.0, smoothing=0.05, folder=folder, mesh=one_device())


def one_device() -> Any:
    return make_mesh(devices=jax.devices()[:1])


def test_weights_follow_excess_losses_as_the_paper_says(found: DoremiResult, config: SwarmConfig) -> None:
    for weights, excess, mixture in zip(found.weights, found.excess, found.by_seed, strict=True):
        alpha, total = [1 / 3] * 3, np.zeros(3)
        for step in range(config.steps):
            moved = [a * np.exp(2.0 * e) for a, e in zip(alpha, excess[step], strict=True)]
            alpha = [0.95 * m / sum(moved) + 0.05 / 3 for m in moved]
            np.testing.assert_allclose(weights[step], alpha, rtol=1e-5)
            total += alpha
        np.testing.assert_allclose(mixture, total / config.steps, rtol=1e-5)
    assert found.proportions == pytest.approx(found.by_seed.mean(axis=0))
    assert found.standard_error == pytest.approx(np.abs(found.by_seed[0] - found.by_seed[1]) / 2)


def test_the_first_excess_is_what_a_loop_over_tokens_finds(
    found: DoremiResult, tokens: Any, config: SwarmConfig, folder: Path
) -> None:
    runs = [f"reference/seed-{seed}" for seed in SEEDS]
    design = Design.make(runs, tokens.domains, [NATURAL, NATURAL], SEEDS)
    trained = final_members(design, tokens, config, folder / "reference", mesh=one_device()).params
    model = config.train.model
    _, starts = make_reader(tokens, tokens.domains, context=model.context, batch=4, resident_bytes=10**6)
    for i, seed in enumerate(SEEDS):
        sampler = make_samplers([f"proxy/seed-{seed}"], [seed], np.full((1, 3), 1 / 3), starts)
        domains, places = draw(jax.tree.map(lambda leaf: leaf[0], sampler), jnp.int32(0), 4)
        fresh, gaps = initialize(model, jax.random.key(seed)), {domain: [] for domain in range(3)}
        for domain, place in zip(domains.tolist(), places.tolist(), strict=True):
            window = tokens.train(tokens.domains[domain])[place : place + 17].astype(np.int32)
            own = token_losses(model, fresh, window[None])[0]
            other = token_losses(model, jax.tree.map(lambda leaf, i=i: leaf[i], trained), window[None])[0]
            gaps[domain] += [max(float(a) - float(b), 0) for a, b in zip(own, other, strict=True)]
        expected = np.array([float(np.mean(gaps[domain])) if gaps[domain] else 0.0 for domain in range(3)])
        np.testing.assert_allclose(found.excess[i, 0], expected, rtol=1e-4)


def test_both_models_are_measured_and_equal_calls_give_equal_numbers(
    found: DoremiResult, tokens: Any, config: SwarmConfig
) -> None:
    np.testing.assert_allclose(found.reference, NATURAL)
    losses = np.stack([found.reference_losses, found.proxy_losses])
    assert losses.shape == (2, 2, 3)
    assert (losses < np.log(16)).all()
    again = doremi(tokens, config, seeds=SEEDS, step_size=2.0, smoothing=0.05, mesh=one_device())
    for field in dataclasses.fields(found):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(found, field.name), err_msg=field.name)


def test_one_that_was_killed_goes_on_to_the_same_numbers(
    found: DoremiResult, tokens: Any, config: SwarmConfig, tmp_path: Path
) -> None:
    def kill(step: int, *_: float) -> None:
        if step == 12:
            signal.raise_signal(signal.SIGTERM)

    same: Any = {"seeds": SEEDS, "step_size": 2.0, "smoothing": 0.05, "folder": tmp_path, "mesh": one_device()}
    with pytest.raises(Stopped, match="step 12 of 24"):
        doremi(tokens, config, **same, watch={"2 reference models": None, "2 proxy models": kill}.get)
    np.testing.assert_array_equal(doremi(tokens, config, **same).weights, found.weights)
    with pytest.raises(InputError, match=r"doremi\.smoothing is 0\.01, there 0\.05"):
        doremi(tokens, config, **same | {"smoothing": 0.01})


def test_what_cannot_be_learned_ends_at_the_smoothing(tokens: Any, config: SwarmConfig) -> None:
    # So long that nothing is seen twice, and of tokens of its own, so that a model knows what it reads.
    random = np.random.default_rng(0)
    noise = random.integers(8, 16, 40_000).astype(np.uint8)
    walk = np.cumsum(np.where(random.random(40_000) < 0.2, random.integers(0, 8, 40_000), 1)).astype(np.uint8) % 8
    world = dataclasses.replace(
        tokens, training={"walk": walk, "noise": noise}, held_out={"walk": walk[:900], "noise": noise[:900]}
    )
    longer = dataclasses.replace(config, steps=80, eval_steps=(80,))
    found = doremi(world, longer, reference=[0.5, 0.5], smoothing=1e-2)
    assert found.reference_losses[0, 0] < 1.4 < 2.0 < found.reference_losses[0, 1]
    # Noise has an excess, too: what a token is above the reference counts, and what it is below does not.
    assert (found.excess[0, -20:, 1] > 0).all()
    # While the other domain is behind, noise has little more than the smoothing leaves to each, 0.005.
    assert found.weights[0, 5:20, 1].max() < 0.05
    assert found.proportions[0] > 0.8


@pytest.mark.parametrize("microbatch", [None, 2])
def test_windows_without_weight_teach_nothing(train_config: TrainConfig, microbatch: int | None) -> None:
    windows = np.random.default_rng(0).integers(0, 16, (4, 17)).astype(np.int32)
    layout = Layout(mesh=one_device(), microbatch=microbatch)
    member = start(train_config, jax.random.key(0), 3)
    step = jax.jit(update, static_argnums=(0, 3))
    weighted, _ = step(train_config, member, windows, layout, np.array([2, 0, 0, 2], np.float32))
    plain, _ = step(train_config, member, windows[[0, 3]], layout)
    assert float(weighted.trained) == pytest.approx(float(plain.trained), rel=1e-6)
    for one, other in zip(*map(jax.tree.leaves, (weighted.params, plain.params)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_settings_that_make_no_sense_are_named(tokens: Any, config: SwarmConfig) -> None:
    with pytest.raises(InputError, match="step_size is 0"):
        doremi(tokens, config, step_size=0)
    with pytest.raises(InputError, match="smoothing is 1"):
        doremi(tokens, config, smoothing=1)
    with pytest.raises(InputError, match=r"reference: run 'reference/seed-0': proportions sum to 1\.5"):
        doremi(tokens, config, reference=[0.5, 0.5, 0.5])
    hot = dataclasses.replace(config, train=dataclasses.replace(config.train, learning_rate=1e30))
    with pytest.raises(InputError, match="reference/seed-0 diverged at step"):
        doremi(tokens, hot)


def test_the_plan_counts_the_reference_model(config: SwarmConfig) -> None:
    learner = _ExcessLoss(step_size=1.0, smoothing=0.1, steps=4, mixture=(1.0,), reference=None)
    member = jax.eval_shape(lambda key: learner.start(config.train, key, 3), jax.random.key(0))
    held = sum(4 * leaf.size for leaf in jax.tree.leaves((member.params, member.reference)))
    assert make_plan(config.train, one_device(), 1, 64, networks=learner.networks).parts["parameters"] == held
