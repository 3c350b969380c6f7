import dataclasses
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from bimixjax._base.checks import InputError
from bimixjax.proxy.model import PRESETS, ModelConfig, Passes, initialize, is_decayed, split_axes, token_losses

SMALL = ModelConfig(vocab=32, layers=2, width=32, heads=2, context=12)
KEY = jax.random.key(3)


def windows(config: ModelConfig, count: int = 3) -> jax.Array:
    return jax.random.randint(KEY, (count, config.context + 1), 0, config.vocab)


def losses(config: ModelConfig, params: Any, tokens: jax.Array, **passes: Any) -> np.ndarray:
    how = Passes(**passes)
    return np.asarray(jax.jit(lambda params, tokens: token_losses(config, params, tokens, how))(params, tokens))


@pytest.mark.parametrize("place", [1, 5, 12])
def test_a_loss_sees_no_later_token(place: int) -> None:
    params, tokens = initialize(SMALL, KEY), windows(SMALL)
    changed = tokens.at[:, place].set((tokens[:, place] + 1) % SMALL.vocab)
    before, after = losses(SMALL, params, tokens), losses(SMALL, params, changed)
    np.testing.assert_array_equal(before[:, : place - 1], after[:, : place - 1])
    assert np.all(before[:, place - 1 :] != after[:, place - 1 :])


@pytest.mark.parametrize("name", ["0.1m", "1m"])
def test_an_untrained_model_knows_nothing(name: str) -> None:
    config = ModelConfig.preset(name, context=32)
    assert losses(config, initialize(config, KEY), windows(config)).mean() == pytest.approx(np.log(256), abs=0.08)


def test_precision_changes_the_loss_little() -> None:
    params, tokens, other = initialize(SMALL, KEY), windows(SMALL), dataclasses.replace(SMALL, dtype="bfloat16")
    grow = jax.tree.map(lambda leaf: 3 * leaf, params)
    found, exact = losses(other, grow, tokens), losses(SMALL, grow, tokens)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, atol=0.3)
    assert np.any(found != exact)


@pytest.mark.parametrize("tied", [True, False])
def test_passes_change_losses_and_gradients_by_rounding_only(tied: bool) -> None:
    config = dataclasses.replace(SMALL, tied=tied)
    params, tokens = jax.tree.map(lambda leaf: 2 * leaf, initialize(config, KEY)), windows(config)

    def slope(passes: Passes) -> Any:
        return jax.jit(jax.grad(lambda params: token_losses(config, params, tokens, passes).mean()))(params)

    plain = slope(Passes())
    # 8 positions do not divide the context of 12: 4 do.
    cases = [{"remat": True, "positions": 4}, {"positions": 8, "unrolled": True}, {"positions": 1}]
    for passes in [Passes(**case, deterministic=deterministic) for case in cases for deterministic in (False, True)]:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-6), slope(passes), plain)


def test_losses_are_those_of_the_written_out_formula() -> None:
    config = dataclasses.replace(SMALL, layers=1)
    params, tokens = jax.tree.map(lambda leaf: 2 * leaf, initialize(config, KEY)), windows(config)
    np.testing.assert_allclose(losses(config, params, tokens), by_hand(params, np.asarray(tokens)), atol=2e-5)


def by_hand(params: Any, tokens: np.ndarray) -> np.ndarray:
    """The same network in NumPy and float64, one head and one token after another."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    block, embedding = jax.tree.map(lambda leaf: leaf[0], params["blocks"]), params["embed"]["embedding"]

    def norm(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale

    def turned(x: np.ndarray) -> np.ndarray:
        half = x.shape[-1] // 2
        turn = np.exp(1j * np.arange(len(x))[:, None] * 10_000.0 ** (-np.arange(half) / half))
        pairs = (x[:, :half] + 1j * x[:, half:]) * turn
        return np.concatenate([pairs.real, pairs.imag], axis=-1)

    def attention(x: np.ndarray) -> np.ndarray:
        q, k, v = np.split(x @ block["qkv"]["kernel"].reshape(32, 96), 3, axis=-1)
        heads = []
        for head in np.split(np.arange(32), 2):
            scores = turned(q[:, head]) @ turned(k[:, head]).T / np.sqrt(len(head))
            shares = np.exp(np.where(np.tri(len(x)) > 0, scores, -np.inf))
            heads.append(shares / shares.sum(-1, keepdims=True) @ v[:, head])
        return np.concatenate(heads, axis=-1) @ block["out"]["kernel"].reshape(32, 32)

    found = []
    for window in tokens:
        x = embedding[window[:-1]]
        x = x + attention(norm(x, block["norms"][0]["scale"]))
        hidden = np.maximum(norm(x, block["norms"][1]["scale"]) @ block["up"]["kernel"], 0) ** 2
        x = x + hidden @ block["down"]["kernel"]
        logits = norm(x, params["norm"]["scale"]) @ embedding.T
        found.append(np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(x)), window[1:]])
    return np.array(found)


@pytest.mark.parametrize("tied", [True, False])
def test_size_counts_every_parameter(tied: bool) -> None:
    config = dataclasses.replace(SMALL, tied=tied)
    assert config.size == sum(leaf.size for leaf in jax.tree.leaves(initialize(config, KEY)))
    assert config.size == 2 * (12 * 32**2 + 2 * 32) + 32 + (1 if tied else 2) * 32 * 32


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_size_of_their_name(name: str) -> None:
    unit = {"m": 1e6, "b": 1e9}[name[-1]]
    assert ModelConfig.preset(name).size == pytest.approx(float(name[:-1]) * unit, rel=0.16)


def test_the_split_axes_of_parameters() -> None:
    params = initialize(SMALL, KEY)
    found = {jax.tree_util.keystr(path): split_axes(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    shapes = {jax.tree_util.keystr(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(params)}
    cut = {name: tuple(shapes[name][axis] for axis in axes) for name, axes in found.items() if axes}
    assert cut == {
        "['blocks']['qkv']['kernel']": (2, 32),
        "['blocks']['out']['kernel']": (2, 32),
        "['blocks']['up']['kernel']": (128, 32),
        "['blocks']['down']['kernel']": (128, 32),
        "['embed']['embedding']": (32, 32),
    }
    decayed = jax.tree_util.tree_leaves_with_path(is_decayed(params))
    assert {jax.tree_util.keystr(path) for path, yes in decayed if yes} == set(cut)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 0}, "layers of the model is 0"),
        ({"width": 30}, "width 30 with 2 heads"),
        ({"dtype": "float61"}, "'float61'; allowed: float32, bfloat16"),
    ],
)
def test_impossible_sizes_are_errors(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SMALL, **change)


def test_an_unknown_preset_is_an_error() -> None:
    with pytest.raises(InputError, match=r"'1mm'.*Did you mean '1m'"):
        ModelConfig.preset("1mm")
