import dataclasses
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from bimixjax._base.checks import InputError
from bimixjax.proxy.batches import (
    Resident,
    Sampler,
    Streamed,
    draw,
    fingerprint,
    make_reader,
    make_samplers,
    make_validation,
    scaled,
)

STARTS = np.array([100, 200, 300], np.uint32)


def one(run: str, seed: int, mixture: list[float], starts: NDArray[np.uint32] = STARTS) -> Sampler:
    stacked = make_samplers([run], [seed], np.array([mixture]), starts)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), stacked)


def drawn(sampler: Sampler, steps: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    found = jax.jit(jax.vmap(lambda step: draw(sampler, step, batch)))(jnp.arange(steps))
    return np.asarray(found[0]), np.asarray(found[1])


def test_a_batch_depends_on_seed_run_and_step_alone() -> None:
    mixture = [0.2, 0.3, 0.5]
    base = drawn(one("r", 1, mixture), 20, 8)
    again = [draw(one("r", 1, mixture), jnp.int32(step), 8) for step in (0, 7, 19)]
    for step, (domain, start) in zip((0, 7, 19), again, strict=True):
        np.testing.assert_array_equal(domain, base[0][step])
        np.testing.assert_array_equal(start, base[1][step])
    for other in (one("s", 1, mixture), one("r", 2, mixture)):
        assert np.mean(drawn(other, 20, 8)[1] == base[1]) < 0.05
    assert np.mean(base[1][1:] == base[1][:-1]) < 0.05


@pytest.mark.parametrize("mixture", [[0.2, 0.3, 0.5], [0.98, 0.015, 0.005], [0.0, 1.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
@pytest.mark.parametrize("seed", range(3))
def test_realized_shares_follow_the_proportions_closely(mixture: list[float], seed: int) -> None:
    domains, _ = drawn(one(f"run-{seed}", seed, mixture), 500, 8)
    counts = np.cumsum(np.eye(3)[domains.ravel()], axis=0)
    sequences = np.arange(1, 4001)[:, None]
    assert np.abs(counts - sequences * np.array(mixture)).max() < 4


def test_a_domain_without_a_share_is_never_drawn() -> None:
    for mixture in ([0.0, 0.4, 0.6], [0.4, 0.0, 0.6], [0.4, 0.6, 0.0]):
        domains, _ = drawn(one("r", 0, mixture), 5000, 16)
        assert set(np.unique(domains)) == {i for i, share in enumerate(mixture) if share}


def test_starts_are_uniform_within_their_domain() -> None:
    domains, starts = drawn(one("r", 0, [0.2, 0.3, 0.5]), 3000, 16)
    for domain, count in enumerate(STARTS):
        here = starts[domains == domain]
        assert here.min() == 0
        assert here.max() == count - 1
        deviation = (here.mean() - (count - 1) / 2) / np.sqrt(count**2 / 12 / len(here))
        assert abs(deviation) < 4
        frequencies = np.bincount(here, minlength=count) / len(here) * count
        assert np.var(frequencies) * len(here) / count == pytest.approx(1, abs=0.5)


def test_scaling_of_bits_is_exact() -> None:
    random = np.random.default_rng(0)
    bits, counts = (random.integers(0, 2**32, 10_000, dtype=np.uint32) for _ in range(2))
    bits[:3], counts[:3] = [0, 2**32 - 1, 2**32 - 1], [5, 2**32 - 1, 1]
    exact = (bits.astype(np.uint64) * counts.astype(np.uint64)) >> np.uint64(32)
    np.testing.assert_array_equal(scaled(jnp.asarray(bits), jnp.asarray(counts)), exact.astype(np.uint32))


def test_both_readers_read_the_same_windows(tokens: Any) -> None:
    resident, starts = make_reader(tokens, "abc", context=16, batch=4, resident_bytes=10**6)
    streamed, same = make_reader(tokens, "abc", context=16, batch=4, resident_bytes=0)
    assert isinstance(resident, Resident)
    assert isinstance(streamed, Streamed)
    np.testing.assert_array_equal(starts, same)
    samplers = make_samplers(["r", "s"], [0, 0], np.array([[0.2, 0.3, 0.5], [0.5, 0.5, 0]]), starts)
    windows, begins = streamed.windows(*streamed.places(samplers, 5), 4), np.full(2, 5)
    assert windows[:, :4].any(axis=-1).all()
    assert not windows[:, 4:].any()
    for member, step in [(0, 5), (1, 8)]:
        sampler = jax.tree.map(jnp.asarray, jax.tree.map(operator.itemgetter(member), samplers))
        places = draw(sampler, jnp.int32(step), 4)
        whole = resident.read(None, jax.tree.map(jnp.asarray, resident.shared), jnp.int32(step), places, 17)
        own = (jnp.asarray(windows[member]), jnp.asarray(begins[member]))
        np.testing.assert_array_equal(whole, streamed.read(own, None, jnp.int32(step), places, 17))
        for domain, start, window in zip(*places, whole, strict=True):
            np.testing.assert_array_equal(window, tokens.train("abc"[int(domain)])[int(start) : int(start) + 17])


def test_a_long_domain_has_windows_at_every_few_places(tokens: Any) -> None:
    reader, starts = make_reader(tokens, "abc", context=16, batch=4, resident_bytes=0)
    assert isinstance(reader, Streamed)
    coarse = dataclasses.replace(reader, stride=np.array([7, 1, 1]))
    samplers = make_samplers(["r"], [0], np.array([[1.0, 0, 0]]), starts // np.array([7, 1, 1], np.uint32))
    windows = coarse.windows(*coarse.places(samplers, 0), 16)
    places = np.lib.stride_tricks.sliding_window_view(tokens.train("a"), 17)[::7]
    assert all((window == places).all(axis=1).any() for window in windows.reshape(-1, 17))


def test_validation_windows_are_spread_and_do_not_overlap(tokens: Any) -> None:
    data = make_validation(tokens, ["a", "b"], context=16, windows=10)
    assert data.windows.shape == (2, 10, 17)
    assert data.used.all()
    np.testing.assert_array_equal(data.windows[0, 0], tokens.validation("a")[:17])
    np.testing.assert_array_equal(data.windows[0, -1], tokens.validation("a")[-17:])


def test_a_short_target_has_fewer_windows(tokens: Any) -> None:
    short = dataclasses.replace(tokens, held_out={"a": tokens.validation("a"), "b": tokens.validation("b")[:60]})
    data = make_validation(short, ["a", "b"], context=16, windows=10)
    assert np.asarray(data.used).sum(axis=1).tolist() == [10, 3]


def test_too_few_tokens_are_errors(tokens: Any) -> None:
    short = dataclasses.replace(
        tokens,
        training={**tokens.training, "b": np.zeros(16, np.uint8)},
        held_out={**tokens.held_out, "c": np.zeros(33, np.uint8)},
    )
    with pytest.raises(InputError, match="'b' has 16 training tokens; allowed: above 16"):
        make_reader(short, "abc", context=16, batch=4, resident_bytes=10**6)
    with pytest.raises(InputError, match="'c' has 33 validation tokens; allowed: at least 34"):
        make_validation(short, "abc", context=16, windows=8)


def test_unknown_domains_are_errors(tokens: Any) -> None:
    with pytest.raises(InputError, match="unknown domain 'z'"):
        make_reader(tokens, "az", context=16, batch=4, resident_bytes=10**6)
    with pytest.raises(InputError, match="unknown target 'z'"):
        make_validation(tokens, "az", context=16, windows=8)


def test_the_fingerprint_sees_tokens_but_not_their_width(tokens: Any) -> None:
    wide = dataclasses.replace(tokens, training={k: v.astype(np.uint32) for k, v in tokens.training.items()})
    assert fingerprint(wide, "abc") == fingerprint(tokens, "abc")
    other = {**tokens.training, "b": np.roll(tokens.training["b"], 1)}
    changed = fingerprint(dataclasses.replace(tokens, training=other), "abc")
    assert {name for name in "abc" if changed[name] != fingerprint(tokens, "abc")[name]} == {"b"}
