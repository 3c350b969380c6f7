"""Counts of tokens and pairs against a plain loop, in both representations, over any cuts."""

import tracemalloc
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bimixjax._base.checks import InputError
from bimixjax.corpus import TokenCounts, count_tokens, counting

STREAMS = st.lists(st.integers(0, 6), min_size=2, max_size=80)
LENGTHS = st.integers(2, 12)


def _plain(tokens: list[int], length: int) -> tuple[list[int], dict[tuple[int, int], int]]:
    sequences = [tokens[start : start + length] for start in range(0, len(tokens), length)]
    pairs = Counter(pair for sequence in sequences for pair in pairwise(sequence))
    return [tokens.count(token) for token in range(7)], dict(pairs)


def _as_plain(counts: TokenCounts) -> tuple[list[int], dict[tuple[int, int], int]]:
    pairs = {
        divmod(pair, counts.vocab_size): n
        for pair, n in zip(counts.pairs.tolist(), counts.pair_counts.tolist(), strict=True)
    }
    assert (np.diff(counts.pairs) > 0).all()
    return counts.unigrams.tolist(), pairs


@given(tokens=STREAMS, length=LENGTHS, chunk=st.integers(1, 40), dense=st.booleans(), dtype=st.sampled_from("BHIQq"))
@settings(deadline=None)
def test_counts_are_those_of_a_plain_loop(tokens: list[int], length: int, chunk: int, dense: bool, dtype: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "CHUNK", chunk)
        patch.setattr(counting, "_DENSE_VOCAB", 7 if dense else 0)
        counts = count_tokens(np.array(tokens, dtype=dtype), vocab_size=7, sequence_length=length)
    assert _as_plain(counts) == _plain(tokens, length)
    assert counts.unigrams.dtype == counts.pairs.dtype == counts.pair_counts.dtype == np.int64


@given(streams=st.tuples(STREAMS, STREAMS, STREAMS), length=LENGTHS)
@settings(deadline=None)
def test_merging_is_associative_commutative_and_adds(streams: tuple[list[int], ...], length: int) -> None:
    a, b, c = (count_tokens(s, vocab_size=7, sequence_length=length) for s in streams)
    left, right, turned = a.merge(b).merge(c), a.merge(b.merge(c)), c.merge(a).merge(b)
    assert _as_plain(left) == _as_plain(right) == _as_plain(turned)
    assert left.unigrams.sum() == sum(map(len, streams))


@given(some=STREAMS, tail=STREAMS, length=LENGTHS)
@settings(deadline=None)
def test_pieces_cut_between_sequences_merge_to_the_whole(some: list[int], tail: list[int], length: int) -> None:
    head = some * length
    parts = [count_tokens(part, vocab_size=7, sequence_length=length) for part in (head, tail)]
    whole = count_tokens(head + tail, vocab_size=7, sequence_length=length)
    assert _as_plain(parts[0].merge(parts[1])) == _as_plain(whole)


def test_a_large_vocabulary_is_counted_without_its_square() -> None:
    tokens = np.random.default_rng(0).integers(0, 50_277, size=20_000).astype(np.uint16)
    counts = count_tokens(tokens, vocab_size=50_277, sequence_length=1024)
    assert counts.pair_counts.sum() == len(tokens) - (len(tokens) + 1023) // 1024
    keys = tokens[:-1].astype(np.int64) * 50_277 + tokens[1:]
    keys = np.delete(keys, np.arange(1023, len(keys), 1024))
    assert counts.pairs.tolist() == sorted(set(keys.tolist()))


def test_memory_follows_the_distinct_pairs_and_not_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "CHUNK", 1024)
    tokens = np.random.default_rng(0).integers(0, 20, size=500_000).astype(np.uint16)
    tracemalloc.start()
    count_tokens(tokens, vocab_size=5_000, sequence_length=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000  # the pairs of all chunks kept side by side would be 6 MB


@pytest.mark.parametrize(
    ("tokens", "vocab_size", "length", "message"),
    [
        ([0, 2], 2, 4, "span 0 to 2; allowed: 0 to 1"),
        ([0, -1], 2, 4, "span -1 to 0"),
        ([0], 2, 4, r"int64\[1\]; allowed: at least two integers"),
        ([0.0, 1.0], 2, 4, "float64"),
        ([[0, 1]], 2, 4, r"int64\[1, 2\]"),
        ([0, 1], 2, 1, "sequence_length is 1; allowed: 2 or more"),
        ([0, 1], 0, 4, "vocab_size is 0"),
    ],
)
def test_what_cannot_be_counted_is_named(tokens: list, vocab_size: int, length: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        count_tokens(tokens, vocab_size=vocab_size, sequence_length=length)


def test_counts_of_different_kinds_do_not_merge() -> None:
    one = count_tokens([0, 1], vocab_size=2, sequence_length=4)
    with pytest.raises(InputError, match=r"\(2, 4\) and \(2, 8\) do not add up"):
        one.merge(count_tokens([0, 1], vocab_size=2, sequence_length=8))
