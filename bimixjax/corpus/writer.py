"""Writing a token store piece by piece, so that its folder appears whole or not at all."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bimixjax._base.checks import InputError, known
from bimixjax._base.files import hidden_name, is_meant_for, lock, opened, unfinished
from bimixjax._base.records import write_json
from bimixjax.corpus.layout import (
    FORMAT,
    SIDECAR,
    SPLITS,
    VERSION,
    Shard,
    check_domain,
    narrowest_dtype,
    on_disk,
    shard_file,
)


@dataclass
class _Tally:
    tokens: int = 0
    documents: int = 0
    sha256: Any = field(default_factory=hashlib.sha256)

    def shard(self) -> Shard:
        return Shard(tokens=self.tokens, documents=self.documents, sha256=self.sha256.hexdigest())


class Writer:
    """What `writing` yields: a domain and split may be appended to any number of times, in any order.

    Example:
        >>> import numpy as np, tempfile
        >>> from bimixjax.corpus import TokenStore
        >>> folder = tempfile.mkdtemp() + "/corpus"
        >>> with writing(folder, vocab_size=4) as writer:
        ...     writer.append("a", "train", np.array([0, 1]))
        ...     writer.append("a", "train", np.array([2]))
        ...     writer.append("a", "validation", np.array([3]))
        >>> TokenStore.open(folder).train("a").tolist()
        [0, 1, 2]
    """

    def __init__(self, folder: Path, final: Path, vocab_size: int) -> None:
        self.notes: list[str] = []
        self._folder, self._final, self._vocab_size = folder, final, vocab_size
        self._dtype = on_disk(narrowest_dtype(vocab_size))
        self._tallies: dict[str, dict[str, _Tally]] = {}

    def append(self, domain: str, split: str, tokens: np.ndarray, *, documents: int = 1) -> None:
        """Add `tokens`, 1-D integers in [0, vocab_size), that came from `documents` documents."""
        known("split", [split], SPLITS, f"domain {domain!r}")
        _check_tokens(tokens, self._vocab_size, domain)
        if domain not in self._tallies:
            self._add_domain(domain)
        data = np.ascontiguousarray(tokens, dtype=self._dtype).data
        with _naming(self._final), shard_file(self._folder, domain, split).open("ab") as file:
            file.write(data)
        tally = self._tallies[domain][split]
        tally.tokens += len(tokens)
        tally.documents += documents
        tally.sha256.update(data)

    def shards(self) -> dict[str, dict[str, Shard]]:
        """What has been written so far, by domain and split."""
        return {d: {split: tally.shard() for split, tally in splits.items()} for d, splits in self._tallies.items()}

    def _add_domain(self, domain: str) -> None:
        check_domain(domain, self._tallies)
        with _naming(self._final):
            (self._folder / domain).mkdir()
        self._tallies[domain] = {split: _Tally() for split in SPLITS}


@contextmanager
def writing(
    path: str | Path, *, vocab_size: int, tokenizer: str = "unnamed", separator: int | None = None
) -> Iterator[Writer]:
    """Write a token store piece by piece; the folder appears whole when the block ends, or not at all.

    Everything goes into a hidden folder beside `path`, which is renamed once it is complete and on disk. A store
    already at `path` is replaced; any other content there is refused. A process killed outright leaves a hidden
    folder `.bimix-<name>-*` behind, which nothing reads and the next one that writes there removes.

    Args:
        path: the folder to make.
        vocab_size: number of token ids V, 1 to 2^32; chooses the width on disk.
        tokenizer: name of what made the tokens.
        separator: id of the token that ends each document, or None.

    Raises:
        InputError: an empty split, a token outside [0, V), a name that cannot name a folder, or a taken `path`.
        OSError: the folder cannot be written (read-only, disk full); one line that names `path` and the cause.

    Example:
        See `Writer`.
    """
    final = Path(path).resolve()
    sidecar = {"format": FORMAT, "version": VERSION, "dtype": narrowest_dtype(vocab_size), "tokenizer": tokenizer}
    sidecar |= {"vocab_size": vocab_size, "separator": separator}
    _check_replaceable(final)
    with _replacing_folder(final) as folder:
        writer = Writer(folder, final, vocab_size)
        yield writer
        shards = writer.shards()
        _check_complete(final, shards)
        with _naming(final):
            _sync(shard_file(folder, domain, split) for domain, splits in shards.items() for split in splits)
            write_json(folder / SIDECAR, sidecar | {"notes": writer.notes, "domains": shards}, hashed=True)


@contextmanager
def _replacing_folder(final: Path) -> Iterator[Path]:
    with _naming(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        _clear(final)
        beside = final.with_name(hidden_name(final))
        beside.mkdir()
    folder, old = beside / "new", beside / "old"
    try:
        with opened(beside) as handle:
            lock(handle)
            folder.mkdir(parents=True)
            yield folder
            with _naming(final):
                _swap(folder, final, old)
    finally:
        # The old store goes only once a store is back in its place.
        if final.exists() or not old.exists():
            shutil.rmtree(beside, ignore_errors=True)


def _clear(final: Path) -> None:
    """Remove what killed processes left beside `final`; a store that one of them had moved aside goes back."""
    for left in unfinished(final.parent):
        old, ours = left / "old", is_meant_for(left, final)
        if old.is_dir() and ours and not final.exists():
            old.rename(final)
        if left.is_dir() and (ours or not old.exists()):
            shutil.rmtree(left, ignore_errors=True)


def _swap(folder: Path, final: Path, old: Path) -> None:
    if final.exists():
        final.rename(old)
    try:
        folder.rename(final)
    except OSError:
        if old.exists():
            old.rename(final)
        raise


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    # The system's message names the hidden folder, or nothing; the user knows the store's own path.
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot write the token store: {error.strerror}", str(path)) from error


def _sync(files: Iterable[Path]) -> None:
    for path in files:
        with path.open("ab") as file:
            os.fsync(file.fileno())


def _check_tokens(tokens: np.ndarray, vocab_size: int, domain: str) -> None:
    if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
        raise InputError(f"tokens of domain {domain!r} are {tokens.dtype}{list(tokens.shape)}; allowed: 1-D integers")
    if tokens.size and not (tokens.min() >= 0 and tokens.max() < vocab_size):
        span = f"{tokens.min()} to {tokens.max()}"
        raise InputError(f"tokens of domain {domain!r} span {span}; allowed: 0 to {vocab_size - 1}")


def _check_replaceable(path: Path) -> None:
    if path.is_dir() and not (path / SIDECAR).exists() and any(path.iterdir()):
        raise InputError(f"{path}: the folder holds something other than a token store; choose another")
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: a file is there; a token store is a folder")


def _check_complete(path: Path, shards: Mapping[str, Mapping[str, Shard]]) -> None:
    if not shards:
        raise InputError(f"{path}: no domain was given")
    for domain, splits in shards.items():
        for split, shard in splits.items():
            if not shard.tokens:
                total = sum(other.documents for other in splits.values())
                raise InputError(f"domain {domain!r} has no {split} tokens (documents in all: {total}); give more")
