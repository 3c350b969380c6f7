"""What a mixture found is worth: its gain over mixtures that need no law, how sure that is, and how flat it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import jax
import numpy as np
from jaxtyping import Float

from bimixjax._base import checks
from bimixjax.fitting.base import Fit
from bimixjax.fitting.resampling import Resamples
from bimixjax.observations import Inventory
from bimixjax.optimization.answer import OptimalMixture
from bimixjax.optimization.baselines import Baselines
from bimixjax.optimization.objectives import Objective, objective
from bimixjax.optimization.search import values_at
from bimixjax.solve import NEAR, Region

LEVEL = 0.9

# By how much the objective may grow where shares move, as a part of it.
TOLERANCE = 0.001

# Halvings of a way: 2^-40 of it is left. Scales of shares are looked for from e^-20 to e^20.
_HALVINGS, _SCALES = 40, 20.0

# Of more domains than these nobody reads how far each may move, and it costs d^2 numbers.
_MOST_DOMAINS = 500


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What a mixture is worth by the fit that chose it, against mixtures that need no law.

    Attributes:
        baselines: their names [B], those that the limits allow and others.
        gains: the weighted mean of losses at each, minus that at the mixture, in nats per token [B].
        lower, upper: limits of the gains that hold 90 % of draws [B]; NaN without draws.
        better: the share of draws in which the mixture is better [B]; NaN without draws.
        domains: names [d].
        proportions: the mixture [d].
        least, most: how far each share may move, the others in their proportions as far as limits let them, until the
            weighted mean is .1 % higher [d]; NaN beyond 500 domains, and where another objective chose the mixture.
        epochs: how often the tokens of each domain are gone through [d]; None where no inventory or length is known.
        law: the name of the fit's law.
        draws: how many there were.
        missing: why there is no such baseline, by name.
        extrapolated: what lies outside of what was fitted, in words.

    Example:
        >>> import bimixjax
        >>> import pandas as pd
        >>> table = {"run": ["a", "b"], "mixture/x": [0.25, 0.6], "mixture/y": [0.75, 0.4]}
        >>> table |= {"loss/x": [4.0, 2.6], "loss/y": [2.3, 3.2]}
        >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)))
        >>> worth = bimixjax.optimize(fit).worth(fit)
        >>> worth.baselines, bool((worth.gains >= 0).all()), bool((worth.least < worth.most).all())
        (('uniform', 'zero-run', 'best run'), True, True)
    """

    baselines: tuple[str, ...]
    gains: Float[np.ndarray, " B"]
    lower: Float[np.ndarray, " B"]
    upper: Float[np.ndarray, " B"]
    better: Float[np.ndarray, " B"]
    domains: tuple[str, ...]
    proportions: Float[np.ndarray, " d"]
    least: Float[np.ndarray, " d"]
    most: Float[np.ndarray, " d"]
    epochs: Float[np.ndarray, " d"] | None
    law: str
    draws: int
    missing: Mapping[str, str]
    extrapolated: tuple[str, ...]

    @classmethod
    def of(
        cls,
        best: OptimalMixture,
        fit: Fit,
        *,
        baselines: Baselines | None = None,
        inventory: Inventory | None = None,
        train_tokens: float | None = None,
        draws: Resamples | None = None,
    ) -> Self:
        """Compare a mixture with baselines, and look around it.

        Args:
            best: what `optimize` found.
            fit: what it was found with.
            baselines: mixtures to compare with; by default `Baselines.of` the fit.
            inventory: unique tokens of the domains, for their epochs, the natural mixture and laws that read them.
            train_tokens: how many tokens are trained on; by default the volume of the budget, where it is in tokens.
            draws: of the fit, as `sample` or `bootstrap` give them, for limits of the gains.

        Raises:
            InputError: for another fit's domains, or tokens that are no number above 0.
        """
        weights = dict(zip(best.targets, best.weights.tolist(), strict=True))
        at = {"budget": best.budget, "weights": weights, "inventory": inventory}
        found = baselines or Baselines.of(fit, **at)
        goal, names = objective(fit, **at), tuple(found.mixtures)
        mixtures = np.stack([best.proportions, *found.mixtures.values()])
        with jax.enable_x64(True):
            values = values_at(goal, mixtures)
        lower, upper, better = np.full((3, len(names)), np.nan)
        if draws is not None:
            volume = None if fit.volume_unit is None else best.budget.volume
            where = volume, best.budget.model_size
            losses = draws.predict(mixtures, *where, inventory=inventory, from_prior=True)
            counts = best.weights > 0
            each = losses[..., counts] @ best.weights[counts]
            gains = each[:, 1:] - each[:, :1]
            ends = (1 - LEVEL) / 2, (1 + LEVEL) / 2
            lower, upper = np.quantile(gains, ends, axis=0)
            better = (gains > 0).mean(0)
        tokens = best.budget.volume if fit.volume_unit == "tokens" else None
        tokens = tokens if train_tokens is None else checks.positive("train_tokens", train_tokens)
        # Of another objective it is not the mean that says how far a share may move.
        unknown = np.full(len(best.domains), np.nan)
        least, most = _room(goal, best, values[0]) if best.value is None else (unknown, unknown)
        return cls(
            baselines=names,
            gains=values[1:] - values[0],
            lower=lower,
            upper=upper,
            better=better,
            domains=best.domains,
            proportions=best.proportions,
            least=least,
            most=most,
            epochs=inventory.epochs(best.proportions, tokens, best.domains) if inventory and tokens else None,
            law=fit.name,
            draws=0 if draws is None else len(draws),
            missing=found.missing,
            extrapolated=tuple(map(str, best.outside)),
        )


def _room(
    goal: Objective, best: OptimalMixture, value: float
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, " d"]]:
    """Find how far each share may go down and up, by halving the way to its limits."""
    r, region = best.proportions, best.region
    d, most = len(r), value + TOLERANCE * abs(value)
    if d > _MOST_DOMAINS:
        return np.full(d, np.nan), np.full(d, np.nan)
    own = np.tile(np.arange(d), 2)

    def allowed(shares: np.ndarray) -> np.ndarray:
        mixtures = _with_share(r, own, shares, region)
        kept = np.array([region.violation(mixture) <= NEAR for mixture in mixtures])
        with jax.enable_x64(True):
            return kept & (values_at(goal, mixtures) <= most)

    near, far = np.concatenate([r, r]), np.concatenate([region.lower, region.upper])
    near = np.where(allowed(far), far, near)
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        inside = allowed(middle)
        near, far = np.where(inside, middle, near), np.where(inside, far, middle)
    return near[:d], near[d:]


def _with_share(
    r: Float[np.ndarray, " d"], own: np.ndarray, shares: Float[np.ndarray, " k"], region: Region
) -> Float[np.ndarray, "k d"]:
    """Give one domain of each row another share; the others keep their proportions as far as their limits let them.

    The others are clip(scale r, lower, upper). Where they cannot take up what is left, a row does not sum to 1.
    """
    rows = np.arange(len(own))
    like = np.where(np.eye(len(r))[own] > 0, 0.0, r)
    low, high = np.tile(region.lower, (len(own), 1)), np.tile(region.upper, (len(own), 1))
    low[rows, own] = high[rows, own] = shares
    short, long = np.full((len(own), 1), -_SCALES), np.full((len(own), 1), _SCALES)
    for _ in range(_HALVINGS):
        middle = (short + long) / 2
        over = np.clip(np.exp(middle) * like, low, high).sum(1, keepdims=True) > 1
        short, long = np.where(over, short, middle), np.where(over, middle, long)
    found = np.clip(np.exp(short) * like, low, high)
    # What halving left, to the shares that stand at no limit.
    free = np.where((found > low) & (found < high), found, 0.0)
    total = free.sum(1, keepdims=True)
    return found + (1 - found.sum(1, keepdims=True)) * np.divide(free, total, where=total > 0, out=np.zeros_like(free))
