"""What of the documents of a domain is kept: no repeats, each source in one split, a given size."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from bimixjax.corpus import Document

# Validation takes a little of many sources: 20 or more of them, 1000 windows of 64 bytes.
VALIDATION_BYTES = 64_000
_VALIDATION_PIECE = 3_000
# No source fills a domain.
_TRAINING_PIECE = 16_000
SPLITS = (0, 1)


@dataclass(frozen=True)
class Selection:
    """Documents of a domain by split."""

    train: list[Document]
    validation: list[Document]


def without_repeats(documents: Iterable[Document], unit: str, least: int, known: set[bytes]) -> list[Document]:
    r"""Return one document per source, without the units of text that `known` has; adds theirs to `known`.

    Units are what `unit` separates; those shorter than `least` characters may repeat. Two units are the same if they
    differ in nothing but spaces and case.

    Example:
        >>> documents = [Document(source="a", text="One\n\nTwo"), Document(source="b", text="two\n\nThree")]
        >>> [each.text for each in without_repeats(documents, "\n\n", 1, set())]
        ['One\n\nTwo', 'Three']
    """
    by_source: dict[str, list[str]] = {}
    for document in sorted(documents, key=lambda each: each.source):
        for part in document.text.split(unit):
            words = " ".join(part.split()).casefold()
            digest = blake2b(words.encode(), digest_size=16).digest()
            if words and (len(words) < least or digest not in known):
                by_source.setdefault(document.source, []).append(part)
                known.add(digest)
    return [Document(source=source, text=unit.join(parts)) for source, parts in by_source.items()]


def select(documents: Iterable[Document], size: int, *, unit: str, split: int = 0) -> Selection:
    """Return documents of at most `size` training bytes, and validation from sources that training has nothing of.

    Sources are taken in the order of their hash, of each a piece of whole units that begins where its hash says, so
    that validation is not all made of beginnings. Split 1 validates on sources that split 0 did not validate on.
    """
    texts = {document.source: document.text for document in documents}
    passed: set[str] = set()
    validation: list[Document] = []
    for number in range(split + 1):
        sources = [each for each in _ordered(texts, f"split {number}") if each not in passed]
        validation = list(_pieces(texts, sources, VALIDATION_BYTES, _VALIDATION_PIECE, unit))
        passed |= {document.source for document in validation}
    held = {document.source for document in validation}
    sources = [each for each in _ordered(texts, "train") if each not in held]
    return Selection(list(_pieces(texts, sources, size, _TRAINING_PIECE, unit)), validation)


def _ordered(sources: Iterable[str], purpose: str) -> list[str]:
    return sorted(sources, key=lambda source: _hash(source, purpose))


def _hash(text: str, purpose: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8, person=purpose.encode()).digest(), "big")


def _pieces(texts: dict[str, str], sources: list[str], size: int, most: int, unit: str) -> Iterator[Document]:
    """Yield a piece of at most `most` bytes of each source, until `size` bytes with a separator after each are full."""
    for source in sources:
        parts = texts[source].split(unit)
        # Byte at which each unit ends.
        ends = np.cumsum([len((part + unit).encode()) for part in parts])
        first = int(np.searchsorted(ends, _hash(source, "begin") % max(1, int(ends[-1]) - most)))
        begin = ends[first - 1] if first else 0
        # One byte is the token that ends the document.
        last = int(np.searchsorted(ends, begin + min(most, size) - 1, side="right"))
        if last > first:
            text = unit.join(parts[first:last]) + unit[:1]
            size -= len(text.encode()) + 1
            yield Document(source=source, text=text)
        if size < most / 16:
            return
