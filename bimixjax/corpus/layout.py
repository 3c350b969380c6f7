"""The format of a token store on disk: the names, widths and sizes that its writer and its readers share."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bimixjax._base.checks import InputError

SPLITS = ("train", "validation")
SIDECAR = "store.json"
FORMAT = "bimixjax token store"
VERSION = 1
DTYPES = ("uint8", "uint16", "uint32")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Size of one split of one domain, and the SHA-256 of its file.

    Attributes:
        tokens: number of tokens.
        documents: number of documents that they come from.
        sha256: of the file, in hexadecimal.
        text_bytes: bytes of their text in UTF-8; None where the tokens came without it.

    Example:
        >>> Shard(tokens=3, documents=1, sha256="00").tokens
        3
    """

    tokens: int
    documents: int
    sha256: str
    text_bytes: int | None = None


def narrowest_dtype(vocab_size: int) -> str:
    """Return the narrowest unsigned integer that holds the ids 0 .. `vocab_size` - 1.

    Example:
        >>> narrowest_dtype(256), narrowest_dtype(50_277), narrowest_dtype(128_000)
        ('uint8', 'uint16', 'uint32')
    """
    if vocab_size < 1 or vocab_size > 2**32:
        raise InputError(f"vocab_size is {vocab_size}; allowed: 1 to 2^32")
    return next(name for name in DTYPES if vocab_size - 1 <= np.iinfo(name).max)


def shard_file(folder: Path, domain: str, split: str) -> Path:
    """Return the path of the tokens of one split of one domain."""
    return folder / domain / f"{split}.bin"


def on_disk(dtype: str) -> np.dtype:
    """Return the little-endian NumPy type of a width named in a sidecar."""
    return np.dtype(dtype).newbyteorder("<")


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, read in pieces."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def require_domain_name(domain: str, taken: Iterable[str]) -> None:
    """Raise unless `domain` can name a folder beside those taken."""
    if not domain or domain.startswith(".") or any(c in '/\\:*?"<>|' or not c.isprintable() for c in domain):
        raise InputError(f'domain name {domain!r} cannot name a folder; no leading dot, no control, none of /\\:*?"<>|')
    # Some file systems do not distinguish "C" and "c".
    if domain.casefold() in (name.casefold() for name in taken):
        raise InputError(f"domain name {domain!r} differs from another only in case")


def require_size(file: Path, expected: int) -> None:
    """Raise unless `file` is there with `expected` bytes."""
    got = file.stat().st_size if file.is_file() else None
    if got is None:
        raise InputError(f"{file}: missing; the sidecar lists it with {expected} bytes; write the token store anew")
    if got != expected:
        raise InputError(f"{file}: {got} bytes where the sidecar says {expected}; write the token store anew")
