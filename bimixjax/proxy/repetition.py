"""Proxies that repeat as the real run will: domains are drawn from ranges of tokens, scaled as the training is."""

import dataclasses
from collections.abc import Mapping

from bimixjax._base.checks import InputError, known, positive
from bimixjax.observations import Inventory
from bimixjax.proxy.batches import Tokens, TokenSource


@dataclasses.dataclass(frozen=True, kw_only=True)
class LimitedTokens:
    """A source of tokens of which only the first ones of some domains are trained on; validation tokens stay.

    Attributes:
        source: all tokens.
        unique: how many tokens there are to be drawn from, by domain; the others have no limit.
    """

    source: TokenSource
    unique: Mapping[str, int]

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the domains."""
        return self.source.domains

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.source.vocab_size

    def train(self, domain: str) -> Tokens:
        """Return the training tokens of `domain` that there are to be drawn from."""
        return self.source.train(domain)[: self.unique.get(domain)]

    def validation(self, domain: str) -> Tokens:
        """Return the validation tokens of `domain`."""
        return self.source.validation(domain)


def simulate_epochs(
    source: TokenSource, inventory: Inventory, *, train_tokens: float, proxy_tokens: float, window: int
) -> LimitedTokens:
    """Limit a source so that proxies go through each domain as often as the real run will.

    A real run of T tokens makes r T / U epochs of a domain with U unique tokens. A proxy of D tokens makes as many of

        u = U D / T

    unique tokens, rounded. A domain that the inventory does not name is not limited.

    Args:
        source: tokens of the proxies.
        inventory: U, unique tokens of the real run.
        train_tokens: T, tokens of the real run.
        proxy_tokens: D, tokens of a proxy run.
        window: tokens of one training sequence, the next one included.

    Returns:
        The source, limited; `train_swarm` writes the limits as columns `unique/<domain>`.

    Raises:
        InputError: for a domain that the source does not have, or one whose range is below a window or beyond its
            tokens.

    Example:
        >>> import numpy as np
        >>> from types import SimpleNamespace
        >>> from bimixjax import Inventory
        >>> text = {"web": np.arange(4000) % 16, "wiki": np.arange(4000) % 7}
        >>> source = SimpleNamespace(domains=("web", "wiki"), vocab_size=16, train=text.get, validation=text.get)
        >>> scale = {"train_tokens": 1e9, "proxy_tokens": 1e5, "window": 9}
        >>> limited = simulate_epochs(source, Inventory({"wiki": 5e6}), **scale)
        >>> limited.unique, len(limited.train("wiki")), len(limited.train("web"))
        ({'wiki': 500}, 500, 4000)

    Source: subsampling that keeps epochs, arXiv 2606.07597; simulated epochs in marin-community/marin.
    """
    known("domain", tuple(inventory.tokens), source.domains, "the inventory")
    ratio = positive("proxy_tokens", proxy_tokens) / positive("train_tokens", train_tokens)
    unique: dict[str, int] = {}
    for domain, tokens in inventory.tokens.items():
        if tokens == float("inf"):
            continue
        size, there = round(tokens * ratio), len(source.train(domain))
        scaled = f"{tokens:g} unique tokens of {domain!r} x {proxy_tokens:g} / {train_tokens:g} tokens of training"
        if size < window:
            raise InputError(f"{scaled} are {tokens * ratio:.3g}; allowed: at least one window of {window}; train more")
        if size > there:
            why = "train less, bring more tokens, or give inf where it is not to repeat"
            raise InputError(f"{scaled} are {size}, and there are {there}; allowed: at most these; {why}")
        unique[domain] = size
    return LimitedTokens(source=source, unique=unique)
