"""Token stores: a folder per corpus, a flat memory-mapped file per domain and split, one JSON sidecar."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from bimixjax._base import schema
from bimixjax._base.checks import InputError, known
from bimixjax._base.records import read_json
from bimixjax.corpus import layout
from bimixjax.corpus.layout import SIDECAR, SPLITS, VERSION, Shard
from bimixjax.corpus.writer import writing


@dataclass(frozen=True, kw_only=True)
class TokenStore:
    """Tokenized domains on disk, read through memory maps, so that a corpus may be larger than memory.

    `<path>/<domain>/train.bin` and `validation.bin` hold little-endian unsigned integers of the narrowest width that
    fits the vocabulary, and nothing else; `<path>/store.json` says what they are.

    Attributes:
        path: the folder.
        tokenizer: name of what made the tokens.
        vocab_size: number of token ids V; every token is in [0, V).
        separator: id of the token that ends each document, or None.
        dtype: "uint8", "uint16" or "uint32".
        shards: `Shard` by domain and split; the order of the domains is that of every array about them.
        notes: what was dropped on the way, in words.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp() + "/corpus"
        >>> store = TokenStore.write(folder, {"a": ([0, 1, 1], [1]), "b": ([2, 2], [0])}, vocab_size=3)
        >>> store.domains, store.tokens.tolist(), TokenStore.open(folder).train("a").tolist()
        (('a', 'b'), [3, 2], [0, 1, 1])
    """

    path: Path
    tokenizer: str
    vocab_size: int
    separator: int | None
    dtype: str
    shards: Mapping[str, Mapping[str, Shard]]
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: str | Path) -> "TokenStore":
        """Open the store in folder `path`; the size of every file is checked, its content is not (see `verify`).

        Raises:
            InputError: no store there, a sidecar that cannot be read, a missing file, or one of the wrong size.
        """
        store = _read_sidecar(Path(path))
        for file, shard in store._files():
            layout.require_size(file, shard.tokens * np.dtype(store.dtype).itemsize)
        return store

    @classmethod
    def write(
        cls,
        path: str | Path,
        domains: Mapping[str, tuple[ArrayLike, ArrayLike]],
        *,
        vocab_size: int,
        tokenizer: str = "unnamed",
        separator: int | None = None,
    ) -> "TokenStore":
        """Write a store from arrays already tokenized: `{domain: (train, validation)}`, each a list of token ids.

        Raises:
            InputError, OSError: as `writing`.
        """
        with writing(path, vocab_size=vocab_size, tokenizer=tokenizer, separator=separator) as writer:
            for domain, splits in domains.items():
                for split, tokens in zip(SPLITS, splits, strict=True):
                    writer.append(domain, split, np.asarray(tokens))
        return cls.open(path)

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains, in the order in which they were written."""
        return tuple(self.shards)

    @property
    def tokens(self) -> Int[np.ndarray, " d"]:
        """Training tokens per domain, to which the natural mixture is proportional."""
        return self._counts("train")

    @property
    def validation_tokens(self) -> Int[np.ndarray, " d"]:
        """Validation tokens per domain."""
        return self._counts("validation")

    @property
    def bytes_per_token(self) -> dict[str, float]:
        """Bytes of validation text per token, by domain; without those whose tokens came without their text.

        A loss of l nats per token is l / (ln 2 times this) bits per byte. The token that ends a document has no byte.
        """
        held = {domain: splits["validation"] for domain, splits in self.shards.items()}
        return {domain: one.text_bytes / one.tokens for domain, one in held.items() if one.text_bytes is not None}

    @property
    def digest(self) -> str:
        """One SHA-256 for the whole store: equal for equal tokens, domains and tokenizer, wherever it lies."""
        shards = [[domain, *(splits[name].sha256 for name in SPLITS)] for domain, splits in self.shards.items()]
        identity = [self.tokenizer, self.vocab_size, self.separator, self.dtype, shards]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def train(self, domain: str) -> np.memmap:
        """Map the training tokens of `domain`, 1-D, read-only."""
        return self._memmap(domain, "train")

    def validation(self, domain: str) -> np.memmap:
        """Map the validation tokens of `domain`, 1-D, read-only."""
        return self._memmap(domain, "validation")

    def verify(self) -> None:
        """Read every file whole and raise `InputError` for the first whose content is not what was written."""
        for file, shard in self._files():
            if layout.sha256_of(file) != shard.sha256:
                raise InputError(f"{file}: its content has changed since it was written; write the token store anew")

    def _counts(self, split: str) -> np.ndarray:
        return np.array([splits[split].tokens for splits in self.shards.values()], dtype=np.int64)

    def _memmap(self, domain: str, split: str) -> np.memmap:
        known("domain", [domain], self.domains, str(self.path))
        return np.memmap(layout.shard_file(self.path, domain, split), dtype=layout.on_disk(self.dtype), mode="r")

    def _files(self) -> Iterator[tuple[Path, Shard]]:
        for domain, splits in self.shards.items():
            for split, shard in splits.items():
                yield layout.shard_file(self.path, domain, split), shard


def _read_sidecar(path: Path) -> TokenStore:
    """Read and check the sidecar of the store in folder `path`."""
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; a token store is a folder with {SIDECAR}")
    if not (path / SIDECAR).is_file():
        raise InputError(f"{path}: not a token store: it has no {SIDECAR}")
    sidecar = read_json(path / SIDECAR)
    version = sidecar.get("version") if isinstance(sidecar, dict) else None
    if version != VERSION:
        raise InputError(f"{path / SIDECAR}: version is {version!r}; this release reads version {VERSION}")
    found = schema.read(sidecar, _SIDECAR, path / SIDECAR)
    if not found["vocab_size"] > (found["separator"] or 0):
        raise InputError(f"{path / SIDECAR}: separator is {found['separator']}; allowed: below {found['vocab_size']}")
    if found["dtype"] != layout.narrowest_dtype(found["vocab_size"]):
        raise InputError(f"{path / SIDECAR}: dtype is {found['dtype']}; allowed: that of {found['vocab_size']} tokens")
    plain = {name: found[name] for name in ("tokenizer", "vocab_size", "separator", "dtype", "notes")}
    return TokenStore(path=path, shards=found["domains"], **plain)


def _read_domains(value: Any, spot: schema.Spot) -> dict[str, dict[str, Shard]]:
    if not isinstance(value, dict) or not value:
        raise spot.wrong(value, "an object with a domain at least")
    taken: list[str] = []
    for name in value:
        layout.require_domain_name(name, taken)
        taken.append(name)
    found = {name: _SPLITS(splits, spot.at(name)) for name, splits in value.items()}
    return {name: {split: Shard(**shard) for split, shard in splits.items()} for name, splits in found.items()}


_AT_LEAST_0, _AT_LEAST_1 = (schema.whole(low=low, high=2**53) for low in (0, 1))
_SHARD: dict[str, schema.Kind] = {"tokens": _AT_LEAST_1, "documents": _AT_LEAST_0, "sha256": schema.text()}
# Stores of the first release do not have it.
_LATER: dict[str, schema.Kind] = {"text_bytes": schema.maybe(_AT_LEAST_0)}
_SPLITS = schema.record(dict.fromkeys(SPLITS, schema.record(_SHARD, optional=_LATER)))
_SIDECAR: dict[str, schema.Kind] = {
    "format": schema.text((layout.FORMAT,)),
    "version": schema.whole(low=VERSION, high=VERSION),
    "dtype": schema.text(layout.DTYPES),
    "tokenizer": schema.text(),
    "vocab_size": schema.whole(low=1, high=2**32),
    "separator": schema.maybe(schema.whole(low=0, high=2**32)),
    "notes": schema.texts(),
    "domains": _read_domains,
}
