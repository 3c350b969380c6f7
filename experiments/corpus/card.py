"""The card of a corpus: what is in it, where it comes from, and the hash by which one knows that it is the same."""

import zlib
from collections.abc import Sequence

from bimixjax.corpus import TokenStore
from experiments.corpus.packages import PACKAGES
from experiments.corpus.sources import DOMAINS

# Digest of the store by number of domains and split, as built where the committed results were made.
DIGESTS = {
    (4, 0): "3c9804764a5be06ef0d69863d5066cc1a6f2990483f101a564a1e45984a35e28",
    (4, 1): "e4ce044f0ea254d965df0185ddbd2fc2f235b97ece467cf58d98f91ec97ffb1d",
    (8, 0): "6e9d7cf615b4a69a6339b18a80e12ae036b8eaa31d42ccf26decc8bc124a96c4",
    (8, 1): "db1994b7fa0004d085c2f5d8be85d7563172e22993666036d6387c4ad01821a7",
    (12, 0): "5e688c88120efe278ec78dd9c686ad25d346fea55fb723d07c4a0b1ac44d2362",
    (12, 1): "4609a481bf85f892722bf3fc7f98152d6d5f51aeea1cbec2d92d68b229867206",
}


def write(store: TokenStore, split: int) -> str:
    """Return the card of a store, in Markdown."""
    used = sorted({package for name in store.domains for package in DOMAINS[name].packages})
    same = store.digest == DIGESTS[len(store.domains), split]
    verdict = "the same as" if same else f"NOT {DIGESTS[len(store.domains), split]}, that of"
    domains = [
        [
            name,
            DOMAINS[name].what,
            ", ".join(DOMAINS[name].packages),
            f"{store.shards[name]['train'].documents} + {store.shards[name]['validation'].documents}",
            *(f"{store.shards[name][part].tokens:,}" for part in ("train", "validation")),
            f"{8 * len(zlib.compress(store.train(name).tobytes(), 9)) / len(store.train(name)):.2f}",
        ]
        for name in store.domains
    ]
    columns = ["domain", "what", "packages", "documents", "training tokens", "validation tokens", "zlib, bits per byte"]
    packages = [[name, PACKAGES[name].version, PACKAGES[name].licence] for name in used]
    return "\n".join(
        [
            f"# {len(store.domains)} domains, split {split}",
            "",
            f"Tokens are bytes; 255 ends a document. SHA-256 of the store: `{store.digest}`,",
            f"{verdict} the committed results. `documents` counts those of training + validation, zlib is of training.",
            "",
            *_table(columns, domains),
            "",
            *_table(["package", "version", "licence of what is taken"], packages),
            "",
        ]
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]
