"""Exact counts of tokens and of adjacent pairs inside packed sequences, from streams larger than memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bimixjax._base.checks import InputError

CHUNK = 1 << 22
_DENSE_VOCAB = 2048


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenCounts:
    """Exact counts of tokens, and of adjacent pairs inside sequences; counts of several pieces of a corpus add up.

    Fields:
        unigrams: int64 `[V]`, how often each token occurs.
        pairs: int64 `[K]`, the distinct adjacent pairs (x, x') as x V + x', ascending.
        pair_counts: int64 `[K]`, how often each occurs.
        vocab_size: V.
        sequence_length: L; pairs do not cross the ends of sequences.

    Example:
        >>> counts = count_tokens([0, 1, 0, 1, 1, 1], vocab_size=2, sequence_length=3)
        >>> counts.unigrams.tolist(), counts.pairs.tolist(), counts.pair_counts.tolist()
        ([2, 4], [1, 2, 3], [1, 1, 2])
    """

    unigrams: np.ndarray
    pairs: np.ndarray
    pair_counts: np.ndarray
    vocab_size: int
    sequence_length: int

    def merge(self, other: "TokenCounts") -> "TokenCounts":
        """The counts of both pieces together.

        Raises:
            InputError: the pieces were counted with different vocabularies or sequence lengths.
        """
        mine, theirs = (self.vocab_size, self.sequence_length), (other.vocab_size, other.sequence_length)
        if mine != theirs:
            raise InputError(f"counts with (vocab_size, sequence_length) {mine} and {theirs} do not add up")
        pairs, pair_counts = _add_sparse((self.pairs, self.pair_counts), (other.pairs, other.pair_counts))
        return _counts(self.unigrams + other.unigrams, pairs, pair_counts, *mine)


def count_tokens(tokens: ArrayLike, *, vocab_size: int, sequence_length: int = 1024) -> TokenCounts:
    """Count the tokens of one domain, and the adjacent pairs inside its packed sequences.

    The tokens are cut into sequences of `sequence_length` from the first on; the last may be shorter. They are read
    in chunks, so a memory map larger than memory will do; what stays in memory is the distinct pairs.

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
    _check_countable(stream, vocab_size, sequence_length)
    unigrams = np.zeros(vocab_size, dtype=np.int64)
    pieces = _Dense(vocab_size) if vocab_size <= _DENSE_VOCAB else _Sparse()
    for chunk in _chunks(stream, sequence_length):
        if chunk.min() < 0 or chunk.max() >= vocab_size:
            raise InputError(f"tokens span {chunk.min()} to {chunk.max()}; allowed: 0 to {vocab_size - 1}")
        unigrams += np.bincount(chunk, minlength=vocab_size)
        pieces.add(_pairs(chunk, vocab_size, sequence_length))
    return _counts(unigrams, *pieces.total(), vocab_size, sequence_length)


class _Dense:
    """Counts of pairs in one slot per possible pair: the fastest while the square of the vocabulary fits in cache."""

    def __init__(self, vocab_size: int) -> None:
        self._counts = np.zeros(vocab_size**2, dtype=np.int64)

    def add(self, pairs: np.ndarray) -> None:
        self._counts += np.bincount(pairs, minlength=len(self._counts))

    def total(self) -> tuple[np.ndarray, np.ndarray]:
        present = np.flatnonzero(self._counts)
        return present, self._counts[present]


class _Sparse:
    """Sorted distinct pairs, merged when of like size: every pair is moved about log2(chunks) times."""

    def __init__(self) -> None:
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, pairs: np.ndarray) -> None:
        self._runs.append(np.unique(pairs, return_counts=True))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            self._merge_last()

    def total(self) -> tuple[np.ndarray, np.ndarray]:
        while len(self._runs) > 1:
            self._merge_last()
        return self._runs[0]

    def _merge_last(self) -> None:
        self._runs[-2:] = [_add_sparse(*self._runs[-2:])]


def _add_sparse(
    left: tuple[np.ndarray, np.ndarray], right: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    keys = np.concatenate([left[0], right[0]])
    # Two ascending runs: the stable sort merges them in linear time.
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[starts], np.add.reduceat(np.concatenate([left[1], right[1]])[order], starts)


def _counts(unigrams: np.ndarray, pairs: np.ndarray, pair_counts: np.ndarray, size: int, length: int) -> TokenCounts:
    return TokenCounts(
        unigrams=unigrams,
        pairs=pairs.astype(np.int64),
        pair_counts=pair_counts.astype(np.int64),
        vocab_size=size,
        sequence_length=length,
    )


def _check_countable(tokens: np.ndarray, vocab_size: int, sequence_length: int) -> None:
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or len(tokens) < 2:
        raise InputError(f"tokens are {tokens.dtype}{list(tokens.shape)}; allowed: at least two integers, 1-D")
    if sequence_length < 2:
        raise InputError(f"sequence_length is {sequence_length}; allowed: 2 or more, so that pairs exist")
    if not 1 <= vocab_size <= 2**31:
        raise InputError(f"vocab_size is {vocab_size}; allowed: 1 to 2^31")


def _chunks(tokens: np.ndarray, sequence_length: int) -> Iterator[np.ndarray]:
    step = max(1, CHUNK // sequence_length) * sequence_length
    for start in range(0, len(tokens), step):
        yield tokens[start : start + step].astype(np.int64)


def _pairs(chunk: np.ndarray, vocab_size: int, sequence_length: int) -> np.ndarray:
    pairs = chunk[:-1] * vocab_size + chunk[1:]
    return np.delete(pairs, np.s_[sequence_length - 1 :: sequence_length])
