"""Mixtures that follow from the text of domains and from no run of a mixture: entropy mixtures, and DoReMi's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer

from bimixjax._base.checks import InputError
from bimixjax.corpus.counting import count_tokens
from bimixjax.corpus.entropy import entropies, entropy_mixture, von_neumann
from bimixjax.proxy import Progress, SwarmConfig, TokenSource, doremi

# Of these, each is a field of `Entropies`.
COUNTED = {"se": "shannon", "ce": "conditional", "je": "joint"}
VON_NEUMANN, DOREMI = "vne", "doremi"
METHODS = (*COUNTED, VON_NEUMANN, DOREMI)

# Windows of a domain whose embeddings the von Neumann entropy is of, their length, and their dimensions, those of
# fastText in arXiv 2405.14908.
_SAMPLES, _SAMPLE, _DIMENSIONS = 2000, 256, 300
# Tokens of a vocabulary whose pairs can be projected: 300 MB.
_MOST_TOKENS = 512


@dataclass(frozen=True, kw_only=True)
class Text:
    """The text of domains, and how models are trained on it.

    Attributes:
        tokens: training tokens by domain.
        config: how the models of DoReMi are trained; None where there is no such method.
        seeds: of DoReMi's pairs of models.
        folder: where these go, so that the same call goes on there where it was killed; None: nothing is kept.
        watch: called when the training of DoReMi's reference models begins, and that of its proxy models, see `doremi`.

    Example:
        >>> from types import SimpleNamespace
        >>> text = {"zeros": np.zeros(2000, int), "words": np.arange(2000) % 3}
        >>> tokens = SimpleNamespace(domains=("zeros", "words"), vocab_size=4, train=text.get, validation=text.get)
        >>> Text(tokens=tokens).mixture("se", ["zeros", "words"]).round(4).tolist()
        [0.25, 0.75]
    """

    tokens: TokenSource
    config: SwarmConfig | None = None
    seeds: tuple[int, ...] = (0,)
    folder: Path | None = None
    watch: Callable[[str], Progress | None] | None = None

    def mixture(self, method: str, domains: Sequence[str]) -> Float[np.ndarray, " d"]:
        """Return the mixture of a method, one of `METHODS`.

        "se", "ce", "je" and "vne" are proportional to exp(H), for the Shannon, conditional, joint and von Neumann
        entropy of each domain.

        Raises:
            InputError: where the text is too short, its vocabulary too large for "vne", or a model diverged.

        Source: arXiv 2405.14908, Eq. 13; arXiv 2305.10429 for "doremi".
        """
        if method != DOREMI:
            return entropy_mixture([self._entropy(method, domain) for domain in domains])
        if self.config is None:
            raise InputError("doremi trains models, and nothing says how; give `config`, their settings")
        how = {"seeds": self.seeds, "folder": self.folder, "watch": self.watch}
        return doremi(self.tokens, self.config, domains=domains, **how).proportions

    def _entropy(self, method: str, domain: str) -> float:
        tokens, size = self.tokens.train(domain), self.tokens.vocab_size
        if method in COUNTED:
            return getattr(entropies(count_tokens(tokens, vocab_size=size)), COUNTED[method])
        if size > _MOST_TOKENS:
            instead = "embed samples in another way, and train the mixture of `corpus.entropy.von_neumann` beside"
            raise InputError(f"vne counts pairs of up to {_MOST_TOKENS} kinds of tokens, here are {size}; {instead}")
        if len(tokens) < _SAMPLE:
            raise InputError(f"vne takes samples of {_SAMPLE} tokens, and {domain} has {len(tokens)}")
        return von_neumann(_embedded(tokens, size))


def _embedded(tokens: Integer[np.ndarray, " n"], vocab_size: int) -> Float[np.ndarray, "k 300"]:
    """Embed windows of a text: square roots of the counts of adjacent tokens, projected at random.

    The paper takes 300 dimensions of fastText, which are of words; bytes make no vocabulary of words. The projection
    (Johnson and Lindenstrauss) keeps the angles between samples.
    """
    count = min(_SAMPLES, len(tokens) // _SAMPLE)
    starts = np.linspace(0, len(tokens) - _SAMPLE, count).astype(int)
    windows = np.stack([tokens[start : start + _SAMPLE] for start in starts]).astype(np.int64)
    pairs = windows[:, :-1] * vocab_size + windows[:, 1:]
    rows = np.random.default_rng(0).standard_normal((vocab_size**2, _DIMENSIONS)).astype(np.float32)
    found = np.empty((count, _DIMENSIONS))
    for i, window in enumerate(pairs):
        kinds, counts = np.unique(window, return_counts=True)
        found[i] = np.sqrt(counts) @ rows[kinds]
    return found
