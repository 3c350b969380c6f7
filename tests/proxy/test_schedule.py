import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from bimixjax import Observations
from bimixjax._base.checks import InputError
from bimixjax.proxy import Design, Schedule, SwarmConfig, make_mesh, train_swarm


@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize("shape", ["constant", "cosine", "wsd", "exponential"])
def test_a_schedule_begins_at_the_greatest_rate_and_never_rises(shape: str, steps: int) -> None:
    factors = [float(Schedule(shape=shape, final=0.2, steps=steps).factor(step, 0)) for step in range(steps)]
    assert (np.diff(factors) <= 1e-7).all()
    assert factors[0] == pytest.approx(1 if steps > 1 or shape != "wsd" else 0.2)
    assert steps == 1 or factors[-1] == pytest.approx(1 if shape == "constant" else 0.2)


def test_shapes_are_those_of_optax() -> None:
    steps, warmup = 60, 10
    inner = np.arange(warmup, steps)
    cosine = optax.cosine_decay_schedule(1.0, steps - 1 - warmup, alpha=0.1)
    falling = optax.exponential_decay(1.0, steps - 1 - warmup, 0.1)
    linear = optax.linear_schedule(1.0, 0.1, 12, transition_begin=48 - 1)
    for shape, schedule, shift in (("cosine", cosine, warmup), ("exponential", falling, warmup), ("wsd", linear, 0)):
        found = Schedule(shape=shape, steps=steps).factor(inner, warmup)
        np.testing.assert_allclose(found, np.asarray(schedule(inner - shift)), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": "cosin"}, "Did you mean 'cosine'"),
        ({"decay": 1.0}, "decay of the schedule is 1.0"),
        ({"final": 1.5}, "final of the schedule is 1.5"),
        ({"shape": "exponential", "final": 0.0}, "above 0 where it is exponential"),
    ],
)
def test_an_impossible_schedule_is_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Schedule(**settings)


def test_a_schedule_that_ends_needs_its_steps() -> None:
    with pytest.raises(InputError, match="'cosine' has no steps"):
        Schedule(shape="cosine").factor(3, 0)


def test_a_swarm_that_decays_says_so_in_its_rows(
    tmp_path: Path, design: Design, tokens: Any, config: SwarmConfig
) -> None:
    """The rate of a row is that of the update before it; the last is the schedule's end."""
    train = dataclasses.replace(config.train, schedule=Schedule(shape="wsd", final=0.1, decay=0.25))
    mesh = make_mesh(devices=jax.devices()[:1])
    table = train_swarm(design, tokens, dataclasses.replace(config, train=train), tmp_path, mesh=mesh)
    found = Observations.read(table)
    assert found.metadata["lr"].to_numpy()[::3] == pytest.approx([0.01, 0.01, 0.001])
    # Measured like the own-domain losses, of the same kind of text: near them, and falling.
    trained = found.metadata["train_loss"].to_numpy().reshape(3, 3)
    assert (np.diff(trained, axis=0) < 0).all()
    assert trained[-1] == pytest.approx((found.losses * found.proportions).sum(axis=1)[-3:], abs=0.5)
