"""Proxies that repeat as the real run will: ranges of tokens, what is drawn from them, and the table that says so."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from bimixjax import InputError, Inventory, Observations
from bimixjax.proxy import Design, SwarmConfig, make_mesh, simulate_epochs, storage, train_swarm

# A proxy of `config` trains on 24 steps of 64 tokens, with windows of 17.
PROXY, WINDOW = 24 * 64, 17
REAL = 1e9


def limited(tokens: Any, **inventory: float) -> Any:
    return simulate_epochs(tokens, Inventory(inventory), train_tokens=REAL, proxy_tokens=PROXY, window=WINDOW)


def trained(design: Design, tokens: Any, config: SwarmConfig, folder: Path) -> Path:
    return train_swarm(design, tokens, config, folder, mesh=make_mesh(devices=jax.devices()[:1]))


def test_a_range_is_scaled_as_the_training_is(tokens: Any) -> None:
    source = limited(tokens, a=1e8, b=np.inf)
    assert source.unique == {"a": round(1e8 * PROXY / REAL)}
    np.testing.assert_array_equal(source.train("a"), tokens.train("a")[:154])
    assert len(source.train("b")) == len(tokens.train("b"))
    assert len(source.train("c")) == len(tokens.train("c"))
    np.testing.assert_array_equal(source.validation("a"), tokens.validation("a"))
    assert (source.domains, source.vocab_size) == (tokens.domains, tokens.vocab_size)
    # A share makes as many epochs of the range as of the inventory.
    assert 0.8 * PROXY / source.unique["a"] == pytest.approx(0.8 * REAL / 1e8, rel=1 / 154)


@pytest.mark.parametrize(
    ("inventory", "words"),
    [
        ({"a": 1e6}, r"1e\+06 unique tokens of 'a' x 1536 / 1e\+09 tokens .* 1.54; allowed: at least one window of 17"),
        ({"a": 1e10}, "are 15360, and there are 3000; allowed: at most these"),
        ({"z": 1e8}, "unknown domain 'z' in the inventory; known: a, b, c"),
    ],
)
def test_a_range_that_cannot_be_is_refused_with_numbers(inventory: dict[str, float], words: str, tokens: Any) -> None:
    with pytest.raises(InputError, match=words):
        limited(tokens, **inventory)


def test_the_table_says_what_there_was_and_no_other_tokens_are_read(
    tokens: Any, design: Design, config: SwarmConfig, tmp_path: Path
) -> None:
    # Beyond its range, the domain of the second source holds something else.
    other = {name: tokens.train(name).copy() for name in tokens.domains}
    other["a"][154:] = 0
    sources = tokens, dataclasses.replace(tokens, training=other)
    one, two = (trained(design, limited(each, a=1e8), config, tmp_path / str(i)) for i, each in enumerate(sources))
    assert one.read_bytes() == two.read_bytes()
    table = Observations.read(one)
    assert table.unique is not None
    assert table.unique.tolist() == [[154.0, np.inf, np.inf]] * 9
    free = trained(design, tokens, config, tmp_path / "free")
    assert "unique/" not in free.read_text()
    with pytest.raises(InputError, match=r"holds another swarm: other tokens of a;"):
        trained(design, limited(tokens, a=2e8), config, tmp_path / "0")


def test_a_swarm_that_was_killed_ends_in_the_same_numbers(
    tokens: Any, design: Design, config: SwarmConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = limited(tokens, a=1e8)
    whole = trained(design, source, config, tmp_path / "whole").read_bytes()
    append, calls = storage.append_rows, []

    def killed(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        append(*arguments)

    monkeypatch.setattr(storage, "append_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(design, source, config, tmp_path / "killed")
    assert trained(design, source, config, tmp_path / "killed").read_bytes() == whole
