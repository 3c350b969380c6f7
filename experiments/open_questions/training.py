"""Runs that the open questions share: random designs, trained and kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from bimixjax import Inventory, Limits, Observations
from bimixjax.corpus import TokenStore
from bimixjax.proxy import Design, LimitedTokens, TokenSource, train_swarm
from experiments.open_questions import config


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Some domains of a store, how much there is of each, and what a run may take of it."""

    store: TokenStore
    domains: tuple[str, ...]

    @property
    def unique(self) -> dict[str, int]:
        return {name: len(self.store.train(name)) for name in self.domains}

    @property
    def tokens(self) -> LimitedTokens:
        """All of it, with how much there is of each domain in the tables."""
        return LimitedTokens(source=self.store, unique=self.unique)

    @property
    def inventory(self) -> Inventory:
        return Inventory(self.unique)

    @property
    def limits(self) -> Limits:
        return Limits(max_epochs=config.MAX_EPOCHS, train_tokens=config.TOKENS)

    def random(self, runs: int, seed: int) -> Float[np.ndarray, "runs d"]:
        """Draw from a flat Dirichlet distribution, passing over what breaks the limit of epochs."""
        most = config.MAX_EPOCHS * np.array([*self.unique.values()]) / config.TOKENS
        return drawn(len(self.domains), runs, seed, 0.0, most)


def drawn(
    domains: int, runs: int, seed: int, least: float, most: float | Float[np.ndarray, " d"]
) -> Float[np.ndarray, "runs d"]:
    """Draw from a flat Dirichlet distribution, passing over mixtures with a share outside its limits."""
    found = np.random.default_rng(seed).dirichlet(np.ones(domains), 1000 * runs)
    kept = found[((found >= least) & (found <= most)).all(1)][:runs]
    assert len(kept) == runs, f"{len(kept)} of {runs} mixtures within the limits"
    return kept


def trained(
    ids: Sequence[str],
    mixtures: ArrayLike,
    domains: Sequence[str],
    tokens: TokenSource,
    folder: Path,
    seeds: Sequence[int] | None = None,
) -> Observations:
    """Train runs, or read what was trained; the design is written first and read ever after.

    A planned mixture depends on rounding, which another number of threads changes.
    """
    path = folder.with_suffix(".csv")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        Design.make(ids, domains, mixtures, [config.DESIGN_SEED] * len(ids) if seeds is None else seeds).write(path)
    table = train_swarm(Design.read(path), tokens, config.swarm(), folder, progress=say)
    return Observations.read(table)


def say(step: int, steps: int, tokens_per_second: float, seconds_left: float) -> None:
    if step % 50 == 0 or step == steps:
        print(f"  {step} of {steps} steps, {tokens_per_second:,.0f} tokens/s, {seconds_left:.0f} s left", flush=True)
