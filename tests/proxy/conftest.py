"""A tiny world: three domains, each a noisy cycle through the tokens of its own, and a model that learns them fast."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from bimixjax.proxy import Design, ModelConfig, SwarmConfig, TrainConfig

DOMAINS = ("a", "b", "c")
VOCAB = 16


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Tokens held in memory, as a `TokenSource`."""

    training: Mapping[str, NDArray[np.uint8]]
    held_out: Mapping[str, NDArray[np.uint8]]
    vocab_size: int = VOCAB

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(self.training)

    def train(self, domain: str) -> NDArray[np.uint8]:
        return self.training[domain]

    def validation(self, domain: str) -> NDArray[np.uint8]:
        return self.held_out[domain]


def chain(domain: int, length: int, seed: int) -> NDArray[np.uint8]:
    """Walk along a random permutation, with a random jump at each fifth token or so."""
    follow = np.random.default_rng(domain).permutation(VOCAB)
    random = np.random.default_rng([domain, seed])
    jumps, to = random.random(length) < 0.2, random.integers(0, VOCAB, length)
    tokens = np.zeros(length, np.uint8)
    for i in range(1, length):
        tokens[i] = to[i] if jumps[i] else follow[tokens[i - 1]]
    return tokens


@pytest.fixture(scope="session")
def tokens() -> Arrays:
    return Arrays(
        {name: chain(i, 3000 + 500 * i, 0) for i, name in enumerate(DOMAINS)},
        {name: chain(i, 900, 1) for i, name in enumerate(DOMAINS)},
    )


@pytest.fixture(scope="session")
def design() -> Design:
    mixtures = [[1 / 3, 1 / 3, 1 / 3], [0.8, 0.1, 0.1], [0.0, 0.5, 0.5]]
    return Design.make(["even", "mostly-a", "no-a"], DOMAINS, mixtures, [0, 1, 0])


@pytest.fixture(scope="session")
def train_config() -> TrainConfig:
    model = ModelConfig(vocab=VOCAB, layers=1, width=16, heads=2, context=16)
    return TrainConfig(model=model, batch=4, learning_rate=1e-2, warmup=4, base_width=None)


@pytest.fixture(scope="session")
def config(train_config: TrainConfig) -> SwarmConfig:
    return SwarmConfig(train=train_config, steps=24, eval_steps=(6, 12, 24), eval_windows=8, checkpoint_every=9)
