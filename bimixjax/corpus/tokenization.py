"""Documents to tokens: tokenizers, duplicates, and the split into training and validation."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int

from bimixjax._base.checks import InputError
from bimixjax.corpus.documents import Document
from bimixjax.corpus.layout import SPLITS
from bimixjax.corpus.store import TokenStore
from bimixjax.corpus.writer import Writer, writing

_BATCH_CHARACTERS = 1 << 22


class Tokenizer(Protocol):
    """Protocol of the tokenizers that `tokenize` accepts: any object with these members will do."""

    @property
    def name(self) -> str:
        """Name that a store records."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of token ids V, the separator's among them."""
        ...

    @property
    def separator(self) -> int:
        """Id of the token that ends each document; no text may encode to it."""
        ...

    def encode(self, texts: Sequence[str]) -> list[Int[np.ndarray, " n"]]:
        """Return one 1-D integer array per text, without the separator."""
        ...


@dataclass(frozen=True, kw_only=True)
class ByteTokenizer:
    """UTF-8 bytes as tokens: V = 256, one byte on disk per token.

    The separator is 255, a byte that never occurs in UTF-8, so the vocabulary needs no 257th id.

    Example:
        >>> ByteTokenizer().encode(["Ab"])[0].tolist()
        [65, 98]
    """

    name: str = "bytes"
    vocab_size: int = 256
    separator: int = 255

    def encode(self, texts: Sequence[str]) -> list[Int[np.ndarray, " n"]]:
        """Return the UTF-8 bytes of each text, uint8."""
        return [np.frombuffer(text.encode(), dtype=np.uint8) for text in texts]


@dataclass(frozen=True, kw_only=True)
class FileTokenizer:
    """A tokenizer from a `tokenizers` JSON file; `load` makes one.

    A special token spelled out in a text is encoded as ordinary text, so that no text can fake a document's end.

    Attributes:
        name: file name and hash of the content.
        vocab_size: V, the largest id + 1; ids may have gaps.
        separator: id of the token that ends documents.
        model: the `tokenizers.Tokenizer`.

    Example:
        >>> import tempfile, tokenizers
        >>> path = tempfile.mkdtemp() + "/words.json"
        >>> words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, "a": 1}, unk_token="?"))
        >>> _ = words.add_special_tokens(["<end>"])
        >>> words.save(path)
        >>> FileTokenizer.load(path, separator="<end>").encode(["a"])[0].tolist()
        [1]
    """

    name: str
    vocab_size: int
    separator: int
    model: Any

    @classmethod
    def load(cls, path: str | Path, *, separator: str) -> "FileTokenizer":
        """Load the JSON file at `path`; `separator` is the token that ends documents, such as "<|endoftext|>".

        Raises:
            InputError: no such file, not a tokenizer, or no such special token.
        """
        import tokenizers

        if not Path(path).is_file():
            raise InputError(f"{path}: no such file")
        content = Path(path).read_bytes()
        with _as_input_error(f"{path}: not a `tokenizers` JSON file"):
            model = tokenizers.Tokenizer.from_str(content.decode())
            special = {token.content: i for i, token in model.get_added_tokens_decoder().items() if token.special}
        if separator not in special:
            raise InputError(f"{path}: no special token {separator!r}; it has: {', '.join(special) or 'none'}")
        model.no_truncation()
        model.no_padding()
        model.encode_special_tokens = True
        name = f"{Path(path).name} sha256:{sha256(content).hexdigest()[:16]}"
        # Ids may have gaps, so V is the largest id + 1, not the number of tokens.
        vocab_size = max(model.get_vocab(with_added_tokens=True).values()) + 1
        return cls(name=name, vocab_size=vocab_size, separator=special[separator], model=model)

    def encode(self, texts: Sequence[str]) -> list[Int[np.ndarray, " n"]]:
        """Return the ids of each text, uint32, without special tokens."""
        with _as_input_error(f"{self.name} cannot encode every text, as one with an unknown token or with bytes can"):
            encodings = self.model.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype=np.uint32) for encoding in encodings]


def split_of(source: str, validation_fraction: float) -> str:
    """Return the split of all documents from `source`: validation where hash(source) / 2^64 < `validation_fraction`.

    The split depends on nothing else, so that adding sources never moves another one between the splits.

    Example:
        >>> [split_of(name, 0.5) for name in ("a", "b", "c")]
        ['validation', 'train', 'validation']
    """
    position = int.from_bytes(blake2b(source.encode(), digest_size=8).digest(), "big") / 2**64
    return "validation" if position < validation_fraction else "train"


def tokenize(
    path: str | Path,
    domains: Mapping[str, Iterable[Document]],
    *,
    tokenizer: Tokenizer | None = None,
    validation_fraction: float = 0.05,
) -> TokenStore:
    """Tokenize documents into a token store, each source in one split and each text in one domain.

    Texts that occur again, in the same domain or a later one, are dropped and counted in the store's notes, as are
    empty ones. Documents are streamed; beside a few MiB of text, memory holds one hash per distinct document
    (some 150 bytes with the table around it).

    Args:
        path: the folder to make; see `writing`.
        domains: documents by domain; the order is that of the store, and the first domain keeps a shared text.
        tokenizer: `ByteTokenizer()` if None.
        validation_fraction: expected share of the sources that become validation, between 0 and 1.

    Returns:
        The store, opened.

    Raises:
        InputError, OSError: as `writing` and `read_documents`; nothing is left at `path`.

    Example:
        >>> import tempfile
        >>> documents = [Document(source=str(i), text=f"number {i}") for i in range(40)]
        >>> store = tokenize(tempfile.mkdtemp() + "/c", {"a": documents}, validation_fraction=0.2)
        >>> store.tokens.tolist(), store.validation_tokens.tolist()
        ([322], [68])
    """
    if not 0 < validation_fraction < 1:
        raise InputError(f"validation_fraction is {validation_fraction}; allowed: between 0 and 1")
    chosen = ByteTokenizer() if tokenizer is None else tokenizer
    # By digest of a text, the domain that keeps it.
    owners: dict[bytes, str] = {}
    with writing(path, vocab_size=chosen.vocab_size, tokenizer=chosen.name, separator=chosen.separator) as writer:
        for domain, documents in domains.items():
            dropped: Counter[str] = Counter()
            for batch in _batches(_distinct(documents, domain, owners, dropped)):
                _append(writer, domain, batch, chosen, validation_fraction)
            if dropped:
                counts = ", ".join(f"{n} {reason}" for reason, n in sorted(dropped.items()))
                writer.notes.append(f"{domain}: documents dropped: {counts}")
    return TokenStore.open(path)


def _append(
    writer: Writer, domain: str, batch: Sequence[Document], tokenizer: Tokenizer, validation_fraction: float
) -> None:
    """Encode a batch and append each document, ended by the separator, to its split."""
    by_split: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    text_bytes: dict[str, int] = dict.fromkeys(SPLITS, 0)
    for document, tokens in zip(batch, tokenizer.encode([d.text for d in batch]), strict=True):
        if tokenizer.separator in tokens:
            raise InputError(f"{document.source}: its text encodes to the separator, token {tokenizer.separator}")
        ended = np.append(tokens, np.asarray(tokenizer.separator, tokens.dtype))
        split = split_of(document.source, validation_fraction)
        by_split[split].append(ended)
        text_bytes[split] += len(document.text.encode())
    for split, parts in by_split.items():
        joined = np.concatenate(parts or [np.empty(0, np.uint8)])
        writer.append(domain, split, joined, documents=len(parts), text_bytes=text_bytes[split])


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    yield batch


def _distinct(
    documents: Iterable[Document], domain: str, owners: dict[bytes, str], dropped: Counter[str]
) -> Iterator[Document]:
    """Yield documents with a text that no domain owns yet, and count the reasons why others are dropped."""
    for document in documents:
        digest = blake2b(document.text.encode(), digest_size=16).digest()
        if not document.text:
            dropped["empty"] += 1
        elif digest in owners:
            dropped[f"already in {owners[digest]}"] += 1
        else:
            owners[digest] = domain
            yield document


@contextmanager
def _as_input_error(words: str) -> Iterator[None]:
    """Raise whatever the tokenizer raises as an `InputError` that begins with `words`."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises nothing narrower, and panics
        raise InputError(f"{words}: {error}") from error
