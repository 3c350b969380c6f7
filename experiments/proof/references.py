"""Mixtures that need no law, from the corpus alone: entropies of its domains."""

import numpy as np
from jaxtyping import Float

from bimixjax.corpus import TokenStore
from bimixjax.corpus.entropy import corpus_entropies, entropy_mixture, von_neumann
from experiments.proof import config

NAMES = {"shannon": "SE", "conditional": "CE", "joint": "JE"}


def entropies(store: TokenStore) -> dict[str, Float[np.ndarray, " d"]]:
    """The four entropy mixtures of arXiv 2405.14908, each over the bytes of the training text."""
    found = corpus_entropies(store)
    mixtures = {
        short: entropy_mixture([getattr(found[domain], name) for domain in store.domains])
        for name, short in NAMES.items()
    }
    return mixtures | {"VNE": entropy_mixture([von_neumann(embedded(store.train(domain))) for domain in store.domains])}


def embedded(tokens: np.ndarray) -> Float[np.ndarray, "n 300"]:
    """Embed windows of a text: square roots of the counts of adjacent bytes, projected at random.

    The paper takes 300 dimensions of fastText, which are of words; here is no vocabulary of words. The projection
    (Johnson and Lindenstrauss) keeps the angles between samples.
    """
    count = min(config.SAMPLES, len(tokens) // config.SAMPLE_BYTES)
    starts = np.linspace(0, len(tokens) - config.SAMPLE_BYTES, count).astype(int)
    windows = np.stack([tokens[start : start + config.SAMPLE_BYTES] for start in starts]).astype(np.int64)
    pairs = windows[:, :-1] * 256 + windows[:, 1:]
    rows = np.random.default_rng(0).standard_normal((256 * 256, config.DIMENSIONS)).astype(np.float32)
    found = np.empty((count, config.DIMENSIONS))
    for i, window in enumerate(pairs):
        kinds, counts = np.unique(window, return_counts=True)
        found[i] = np.sqrt(counts) @ rows[kinds]
    return found
