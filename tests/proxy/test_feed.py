import threading
import tracemalloc
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from bimixjax import Inventory
from bimixjax.proxy import make_mesh, simulate_epochs
from bimixjax.proxy.batches import Streamed, make_reader, make_samplers
from bimixjax.proxy.feed import StreamedFeed

MIXTURES = np.array([[0.2, 0.8], [0.6, 0.4], [1.0, 0.0], [0.5, 0.5]])


def fed(source: Any, steps: int) -> tuple[Streamed, Any, StreamedFeed]:
    reader, starts = make_reader(source, source.domains, context=16, batch=4, resident_bytes=0)
    assert isinstance(reader, Streamed)
    samplers = make_samplers([f"r{i}" for i in range(4)], [0] * 4, MIXTURES, starts)
    return reader, samplers, StreamedFeed(reader, samplers, make_mesh(data=2), steps)


@pytest.fixture
def source() -> Any:
    text = {name: np.arange(5000, dtype=np.uint16) * (i + 1) % 97 for i, name in enumerate("ab")}
    return SimpleNamespace(domains=("a", "b"), vocab_size=97, train=text.get, validation=text.get)


def test_blocks_are_those_that_members_draw(source: Any) -> None:
    reader, samplers, feed = fed(source, 40)
    # A swarm that goes on at step 21 begins in the middle of a block, and calls end within blocks.
    for step, first, end in [(21, 16, 32), (30, 16, 32), (32, 32, 48), (39, 32, 48)]:
        own, until = feed.block(step)
        assert own is not None
        assert until == end
        np.testing.assert_array_equal(own[1], [first] * 4)
        expected = reader.windows(*reader.places(samplers, first), min(16, 40 - first))
        np.testing.assert_array_equal(own[0], expected)
        # Four members on four devices, each of two sequences.
        assert {shard.data.shape for shard in own[0].addressable_shards} == {(1, 16, 2, 17)}
    feed.close()


def test_the_next_block_is_read_while_one_trains(source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, feed = fed(source, 32)
    names, read = [], Streamed.windows
    monkeypatch.setattr(
        Streamed, "windows", lambda *given: names.append(threading.current_thread().name) or read(*given)
    )
    feed.block(0)
    feed.block(16)
    feed.close()
    # Each of four members of two blocks, which had been begun before they were asked for.
    assert len(names) == 2 * 4
    assert threading.main_thread().name not in names


def test_memory_does_not_grow_with_the_store(source: Any) -> None:
    """A store of 80 MB of which a block of 16 steps takes 17 kB a member."""
    large = np.broadcast_to(np.arange(97, dtype=np.uint16), (400_000, 97)).reshape(-1)
    text = {"a": large, "b": large[::-1]}
    source = SimpleNamespace(domains=("a", "b"), vocab_size=97, train=text.get, validation=text.get)
    tracemalloc.start()
    _, _, feed = fed(source, 160)
    for step in range(0, 160, 16):
        jax.block_until_ready(feed.block(step)[0])
    feed.close()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8e6 < large.nbytes / 9


def test_simulated_epochs_are_drawn_alike_by_the_host_and_on_the_device(source: Any) -> None:
    limited = simulate_epochs(source, Inventory({"a": 4e6}), train_tokens=1e9, proxy_tokens=1e5, window=17)
    reader, samplers, feed = fed(limited, 16)
    resident, starts = make_reader(limited, "ab", context=16, batch=4, resident_bytes=10**6)
    assert starts.tolist() == samplers.starts[0].tolist() == [400 - 16, 5000 - 16]
    own, _ = feed.block(0)
    assert own is not None
    domains, places = reader.places(samplers, 0)
    assert places[domains == 0].max() < 400 - 16
    tokens, first = resident.shared or ((), ())
    flat = np.asarray(first)[domains] + places.astype(np.int64)
    np.testing.assert_array_equal(own[0], np.asarray(tokens)[flat[..., None] + np.arange(17)])
    feed.close()
