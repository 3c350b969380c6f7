"""The mixtures that a plan may choose: candidates, or any within limits; and what was chosen."""

import dataclasses
from collections.abc import Sequence
from typing import Self

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from bimixjax._base import checks
from bimixjax._base.checks import InputError
from bimixjax.solve import Region

# Random mixtures looked at where no candidates are given, by the concentration of their Dirichlet distribution.
_DRAWN = {1.0: 512, 4.0: 256, 0.3: 128}
# Those around a mixture, of this total concentration: shares differ from its own by about a twentieth.
_AROUND, _NEAR = 64.0, 128
# Candidates keep limits up to their rounding in tables.
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """Runs in the order in which they were chosen.

    Attributes:
        mixtures: [k, d].
        rows: of the candidates [k].
        reasons: why each was.
        improvement: that each is expected to bring, in nats per token [k].
        sizes: model sizes [k].
    """

    mixtures: list[Float[np.ndarray, " d"]] = dataclasses.field(default_factory=list)
    rows: list[int] = dataclasses.field(default_factory=list)
    reasons: list[str] = dataclasses.field(default_factory=list)
    improvement: list[float] = dataclasses.field(default_factory=list)
    sizes: list[float] = dataclasses.field(default_factory=list)

    def add(self, mixture: np.ndarray, row: int, reason: str, improvement: float = np.nan, size: float = 1.0) -> None:
        """Add a run."""
        self.mixtures.append(mixture)
        self.rows.append(row)
        self.reasons.append(reason)
        self.improvement.append(improvement)
        self.sizes.append(size)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """The mixtures to choose among.

    Attributes:
        region: the limits.
        candidates: mixtures within the limits, or None for all of these [m, d].
        rows: which of the candidates given these are [m].
        seed: of random mixtures.
    """

    region: Region
    candidates: Float[np.ndarray, "m d"] | None
    rows: np.ndarray | None
    seed: Sequence[int]

    @classmethod
    def of(
        cls,
        candidates: ArrayLike | None,
        region: Region,
        domains: Sequence[str],
        runs: int,
        key: jax.Array | int,
    ) -> Self:
        """Leave out the candidates that do not keep to the limits.

        Raises:
            InputError: for a wrong shape, what is no mixture, or fewer candidates than runs.
        """
        seed = [key] if isinstance(key, int) else np.ravel(jax.random.key_data(key)).tolist()
        if candidates is None:
            return cls(region=region, candidates=None, rows=None, seed=seed)
        found = np.asarray(candidates, float)
        if found.ndim != 2 or not len(found):
            raise InputError(f"candidates have shape {found.shape}; allowed: [m, {len(domains)}], at least one mixture")
        checks.mixtures(found, domains)
        found = found / found.sum(axis=1, keepdims=True)
        rows = np.flatnonzero([region.allows(mixture, _ROUNDING) for mixture in found])
        if len(rows) < runs:
            kept = f"{len(found)} candidates, {len(rows)} of them within the limits"
            raise InputError(f"{runs} runs of {kept}; allowed: at most as many runs as candidates")
        return cls(region=region, candidates=found[rows], rows=rows, seed=seed)

    def pool(self, around: Float[np.ndarray, " d"] | None = None) -> Float[np.ndarray, "m d"]:
        """Return the candidates; or mixtures drawn at random within the limits, and some around one of them."""
        if self.candidates is not None:
            return self.candidates
        lower = np.asarray(self.region.lower)
        # NumPy draws at once where JAX would compile.
        random, count = np.random.default_rng(self.seed), len(lower)
        parts = [random.dirichlet(np.full(count, strength), number) for strength, number in _DRAWN.items()]
        drawn = lower + max(1 - lower.sum(), 0.0) * np.concatenate(parts)
        if around is not None:
            near = random.dirichlet(_AROUND * np.maximum(around, 1e-3), _NEAR)
            drawn = np.concatenate([near, drawn])
        return self.region.nearest(drawn)
