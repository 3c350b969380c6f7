"""Exact counts of tokens and of adjacent pairs inside packed sequences, from streams larger than memory."""

from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from bimixjax._base.checks import InputError

CHUNK = 1 << 22
# Up to this vocabulary V a slot per possible pair, 8 V^2 bytes, is kept: 32 MiB at most. Not tuned by a benchmark.
_DENSE_VOCAB = 2048

# Distinct pairs, ascending, and their counts.
Pairs = tuple[Int[np.ndarray, " K"], Int[np.ndarray, " K"]]


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenCounts:
    """Exact counts of tokens, and of adjacent pairs inside sequences; counts of several pieces of a corpus add up.

    Attributes:
        unigrams: occurrences of each token.
        pairs: distinct adjacent pairs (x, x') as x V + x', ascending.
        pair_counts: occurrences of each pair.
        vocab_size: V.
        sequence_length: L; pairs do not cross the ends of sequences.

    Example:
        >>> counts = count_tokens([0, 1, 0, 1, 1, 1], vocab_size=2, sequence_length=3)
        >>> counts.unigrams.tolist(), counts.pairs.tolist(), counts.pair_counts.tolist()
        ([2, 4], [1, 2, 3], [1, 1, 2])
    """

    unigrams: Int[np.ndarray, " V"]
    pairs: Int[np.ndarray, " K"]
    pair_counts: Int[np.ndarray, " K"]
    vocab_size: int
    sequence_length: int

    def merge(self, other: "TokenCounts") -> "TokenCounts":
        """Add the counts of another piece.

        Raises:
            InputError: the pieces were counted with different vocabularies or sequence lengths.
        """
        mine, theirs = (self.vocab_size, self.sequence_length), (other.vocab_size, other.sequence_length)
        if mine != theirs:
            raise InputError(f"counts with (vocab_size, sequence_length) {mine} and {theirs} do not add up")
        pairs, pair_counts = _add((self.pairs, self.pair_counts), (other.pairs, other.pair_counts))
        return replace(self, unigrams=self.unigrams + other.unigrams, pairs=pairs, pair_counts=pair_counts)


def count_tokens(tokens: ArrayLike, *, vocab_size: int, sequence_length: int = 1024) -> TokenCounts:
    """Count the tokens of one domain, and the adjacent pairs inside its packed sequences.

    The tokens are cut into sequences of `sequence_length` from the first on; the last may be shorter. They are read
    in chunks, so a memory map larger than memory will do; only the distinct pairs stay in memory.

    Args:
        tokens: 1-D integers in [0, V), for example `TokenStore.train(domain)`.
        vocab_size: V.
        sequence_length: L, at least 2.

    Raises:
        InputError: fewer than two tokens, a token outside [0, V), not 1-D integers, or L < 2.

    Example:
        >>> count_tokens([2, 0, 2, 0], vocab_size=3).unigrams.tolist()
        [2, 0, 2]
    """
    stream = np.asanyarray(tokens)
    _require_countable(stream, vocab_size, sequence_length)
    unigrams = np.zeros(vocab_size, dtype=np.int64)
    dense = np.zeros(vocab_size**2 if vocab_size <= _DENSE_VOCAB else 0, dtype=np.int64)
    sparse: list[Pairs] = []
    # Chunks are whole sequences, so that no pair is lost between two of them.
    step = max(1, CHUNK // sequence_length) * sequence_length
    for start in range(0, len(stream), step):
        chunk = stream[start : start + step].astype(np.int64)
        if chunk.min() < 0 or chunk.max() >= vocab_size:
            raise InputError(f"tokens span {chunk.min()} to {chunk.max()}; allowed: 0 to {vocab_size - 1}")
        unigrams += np.bincount(chunk, minlength=vocab_size)
        # Every L-th pair begins with the last token of a sequence and ends in the next one.
        pairs = np.delete(chunk[:-1] * vocab_size + chunk[1:], np.s_[sequence_length - 1 :: sequence_length])
        if dense.size:
            dense += np.bincount(pairs, minlength=dense.size)
            continue
        sparse.append(np.unique(pairs, return_counts=True))
        # Lists of like size are merged, so that every pair is moved about log2(chunks) times.
        while len(sparse) > 1 and len(sparse[-2][0]) < 2 * len(sparse[-1][0]):
            sparse[-2:] = [_add(*sparse[-2:])]
    present = np.flatnonzero(dense)
    pairs, pair_counts = (present, dense[present]) if dense.size else reduce(_add, reversed(sparse))
    return TokenCounts(
        unigrams=unigrams,
        pairs=pairs.astype(np.int64),
        pair_counts=pair_counts.astype(np.int64),
        vocab_size=vocab_size,
        sequence_length=sequence_length,
    )


def _add(left: Pairs, right: Pairs) -> Pairs:
    keys = np.concatenate([left[0], right[0]])
    # Two ascending runs: the stable sort merges them in linear time.
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(np.concatenate([left[1], right[1]])[order], starts)


def _require_countable(tokens: np.ndarray, vocab_size: int, sequence_length: int) -> None:
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or len(tokens) < 2:
        raise InputError(f"tokens are {tokens.dtype}{list(tokens.shape)}; allowed: at least two integers, 1-D")
    if sequence_length < 2:
        raise InputError(f"sequence_length is {sequence_length}; allowed: 2 or more, so that pairs exist")
    if not 1 <= vocab_size <= 2**31:
        raise InputError(f"vocab_size is {vocab_size}; allowed: 1 to 2^31")
