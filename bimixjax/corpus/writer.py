"""Writing a token store piece by piece, so that its folder appears whole or not at all."""

import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from bimixjax._base import provenance
from bimixjax._base.checks import InputError, known
from bimixjax._base.files import hidden_name, is_meant_for, lock, opened, unfinished
from bimixjax._base.provenance import PROVENANCE
from bimixjax._base.records import write_json
from bimixjax.corpus import layout
from bimixjax.corpus.layout import SIDECAR, SPLITS, Shard

# Files beside the domains: the sidecar, the options of the command line, and a card.
DESCRIPTIONS = (SIDECAR, "config.yaml", "CARD.md")


class Writer:
    """Appends tokens to the store that `writing` makes, to any domain and split, in any order.

    Attributes:
        notes: sentences for the store.

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
        self._dtype = layout.on_disk(layout.narrowest_dtype(vocab_size))
        self._shards: dict[str, dict[str, Shard]] = {}
        # A hash as it grows with its file; `Shard` has the one of the file so far.
        self._hashes: dict[tuple[str, str], Any] = defaultdict(hashlib.sha256)

    def append(
        self, domain: str, split: str, tokens: np.ndarray, *, documents: int = 1, text_bytes: int | None = None
    ) -> None:
        """Add `tokens`, 1-D integers in [0, vocab_size), from `documents` documents of `text_bytes` bytes in all."""
        known("split", [split], SPLITS, f"domain {domain!r}")
        if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
            got = f"{tokens.dtype}{list(tokens.shape)}"
            raise InputError(f"tokens of domain {domain!r} are {got}; allowed: 1-D integers")
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < self._vocab_size):
            span = f"{tokens.min()} to {tokens.max()}"
            raise InputError(f"tokens of domain {domain!r} span {span}; allowed: 0 to {self._vocab_size - 1}")
        if domain not in self._shards:
            layout.require_domain_name(domain, self._shards)
            with _naming(self._final):
                (self._folder / domain).mkdir()
            empty = Shard(tokens=0, documents=0, sha256=hashlib.sha256().hexdigest(), text_bytes=0)
            self._shards[domain] = dict.fromkeys(SPLITS, empty)
        data = np.ascontiguousarray(tokens, dtype=self._dtype).data
        with _naming(self._final), layout.shard_file(self._folder, domain, split).open("ab") as file:
            file.write(data)
        self._hashes[domain, split].update(data)
        before = self._shards[domain][split]
        held = before.text_bytes
        self._shards[domain][split] = Shard(
            tokens=before.tokens + len(tokens),
            documents=before.documents + documents,
            sha256=self._hashes[domain, split].hexdigest(),
            text_bytes=None if held is None or text_bytes is None else held + text_bytes,
        )

    def shards(self) -> dict[str, dict[str, Shard]]:
        """Return what has been written so far, by domain and split."""
        return {domain: dict(splits) for domain, splits in self._shards.items()}


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
    sidecar: dict[str, Any] = {
        "format": layout.FORMAT,
        "version": layout.VERSION,
        "dtype": layout.narrowest_dtype(vocab_size),
        "tokenizer": tokenizer,
    }
    sidecar |= {"vocab_size": vocab_size, "separator": separator}
    if foreign := _foreign(final):
        raise InputError(f"{final}: the folder holds something other than a token store: {foreign}; choose another")
    if final.exists() and not final.is_dir():
        raise InputError(f"{final}: a file is there; a token store is a folder")
    with _replacing_folder(final) as folder:
        writer = Writer(folder, final, vocab_size)
        yield writer
        shards = writer.shards()
        _require_complete(final, shards)
        with _naming(final):
            # The tokens are on the disk before the sidecar says that they are.
            for domain, splits in shards.items():
                for split in splits:
                    with layout.shard_file(folder, domain, split).open("ab") as file:
                        os.fsync(file.fileno())
            sidecar |= {"notes": writer.notes, "domains": shards, PROVENANCE: provenance.of(final / SIDECAR)}
            write_json(folder / SIDECAR, sidecar, hashed=True)


def _foreign(folder: Path) -> str | None:
    """Return the name of something in the folder that belongs to no token store; it would go with an old one."""
    is_store, shards = (folder / SIDECAR).exists(), {layout.shard_file(folder, "", split).name for split in SPLITS}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        is_domain = path.is_dir() and {file.name for file in path.iterdir()} <= shards
        if not (is_store and (is_domain or path.name in DESCRIPTIONS)):
            return path.name
    return None


@contextmanager
def _replacing_folder(final: Path) -> Iterator[Path]:
    """Yield an empty folder beside `final`; on success it takes the place of `final`, on failure it goes."""
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
                if final.exists():
                    final.rename(old)
                folder.rename(final)
    finally:
        with suppress(OSError):
            if old.exists() and not final.exists():
                old.rename(final)
        # The old store is removed only once a store is in its place.
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


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    # The system's message names the hidden folder, or nothing; the user knows the store's own path.
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot write the token store: {error.strerror}", str(path)) from error


def _require_complete(path: Path, shards: Mapping[str, Mapping[str, Shard]]) -> None:
    if not shards:
        raise InputError(f"{path}: no domain was given")
    for domain, splits in shards.items():
        for split, shard in splits.items():
            if not shard.tokens:
                total = sum(other.documents for other in splits.values())
                more = "more text, or another validation_fraction" if total else "some text"
                raise InputError(f"domain {domain!r} has no {split} tokens (documents in all: {total}); give {more}")
