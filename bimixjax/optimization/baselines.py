"""Mixtures that need no law, which stand beside every mixture that a law chooses: a promise is a gain over these only.

- natural: proportional to the available tokens.
- uniform: all domains alike.
- zero-run: what follows from the names of domains and targets alone, without any run.
- best run: of the runs that were trained, the one with the least measured objective.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from bimixjax import mixtures
from bimixjax._base import checks
from bimixjax._base.checks import InputError
from bimixjax.fitting.base import Fit
from bimixjax.observations import Budget, Inventory, Observations
from bimixjax.optimization.objectives import Objective, Weights, objective
from bimixjax.optimization.search import values_at

NATURAL, UNIFORM, ZERO_RUN, BEST_RUN = NAMES = ("natural", "uniform", "zero-run", "best run")

# What is added to a share before its logarithm is taken, so that a domain may be absent. It was not tuned: with it the
# first 4 of the zero-run order have a normalized regret of .03 on 8 public tables, where 4 random runs have .36.
SMALL_SHARE = 0.001


def zero_run_values(proportions: ArrayLike, weights: ArrayLike) -> Float[np.ndarray, "*n"]:
    """Compute what puts mixtures in the zero-run order, the least first: sum_i -w_i log(r_i + .001).

    Args:
        proportions: mixtures r, [n, d] or [d].
        weights: of the target that is domain i, 0 where none is [d].

    Example:
        >>> zero_run_values([[0.5, 0.5], [1.0, 0.0]], [0.5, 0.5]).round(3).tolist()
        [0.691, 3.453]
    """
    return -np.log(np.asarray(proportions, float) + SMALL_SHARE) @ np.asarray(weights, float)


def zero_run(weights: ArrayLike) -> Float[np.ndarray, " d"]:
    """Return the mixture r of least `zero_run_values`, in closed form.

    At the minimum r_i = max(0, c w_i - .001), with c such that the shares sum to 1 (water filling). With equal weights
    of all domains it is uniform; a domain that is no target gets nothing.

    Args:
        weights: of the target that is domain i, 0 where none is [d].

    Raises:
        InputError: where a weight is negative or not finite, or all are 0.

    Example:
        >>> zero_run([2.0, 1.0, 0.0]).round(4).tolist()
        [0.667, 0.333, 0.0]
    """
    w = np.asarray(weights, float)
    checks.every(np.isfinite(w) & (w >= 0), lambda i: f"weight of domain {i + 1} is {w[i]}; allowed: finite and >= 0")
    if not w.max() > 0:
        raise InputError("no domain has a weight; allowed: at least one weight above 0")
    largest = np.sort(w / w.max())[::-1]
    # With the k largest weights off 0, c follows from the sum over them of c w - .001, which is 1. The right k is the
    # last at which the share of the k-th is above 0.
    scales = (1 + SMALL_SHARE * np.arange(1, len(w) + 1)) / np.cumsum(largest)
    scale = scales[np.flatnonzero(scales * largest > SMALL_SHARE)[-1]]
    shares = np.maximum(scale * w / w.max() - SMALL_SHARE, 0.0)
    return shares / shares.sum()


def without_runs(
    domains: tuple[str, ...], weights: Float[np.ndarray, " d"], inventory: Inventory | None
) -> tuple[dict[str, Float[np.ndarray, " d"]], dict[str, str]]:
    """Return the natural, uniform and zero-run mixture by name, and why one of them cannot be known.

    Args:
        domains: names.
        weights: of the target that is domain i, 0 where none is [d].
        inventory: unique tokens by domain, for the natural mixture.

    Raises:
        InputError: for an inventory of other domains.
    """
    found, missing = {}, {}
    counts = np.full(len(domains), np.inf) if inventory is None else inventory.array(domains)
    if inventory is not None and np.isfinite(counts).all():
        found[NATURAL] = inventory.natural(domains)
    else:
        lacks = [d for d, count in zip(domains, counts, strict=True) if not np.isfinite(count)]
        missing[NATURAL] = (
            f"the inventory has no number of tokens of {', '.join(lacks)}" if inventory else "no inventory is given"
        )
    found[UNIFORM] = mixtures.uniform(len(domains))
    if weights.any():
        found[ZERO_RUN] = zero_run(weights)
    else:
        missing[ZERO_RUN] = "no target with weight is a domain"
    return found, missing


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """Mixtures that need no law, and why some are missing.

    Attributes:
        mixtures: proportions [d] by name, of `NAMES`.
        missing: why there is no such mixture, in words, by name.
        measured: the objective that was measured of the best run, in nats per token, and the volume where; None where
            no table says.

    Example:
        >>> import bimixjax
        >>> import pandas as pd
        >>> table = {"run": ["a", "b"], "mixture/x": [0.25, 0.5], "mixture/y": [0.75, 0.5]}
        >>> table |= {"loss/x": [4.0, 8.0**0.5], "loss/y": [4 / 3**0.5, 8.0**0.5]}
        >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table))
        >>> fit = bimixjax.fit("bimix", observations)
        >>> found = bimixjax.Baselines.of(fit, observations=observations)
        >>> {name: mixture.tolist() for name, mixture in found.mixtures.items()}
        {'uniform': [0.5, 0.5], 'zero-run': [0.5, 0.5], 'best run': [0.5, 0.5]}
    """

    mixtures: Mapping[str, Float[np.ndarray, " d"]]
    missing: Mapping[str, str]
    measured: tuple[float, float] | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What is missing and why, and how the best run was chosen, in words."""
        said = [f"no {name} mixture: {why}" for name, why in self.missing.items()]
        if self.measured is not None:
            value, volume = self.measured
            said.append(f"best run: the least weighted mean measured, {value:.4f} nats per token at volume {volume:g}")
        elif BEST_RUN in self.mixtures:
            said.append("best run: of the mixtures fitted, that of the least predicted weighted mean")
        return tuple(said)

    @classmethod
    def of(
        cls,
        fit: Fit,
        *,
        budget: Budget | None = None,
        weights: Weights | None = None,
        inventory: Inventory | None = None,
        observations: Observations | None = None,
    ) -> Self:
        """Find the mixtures that need no law, for the objective of `optimize`.

        Args:
            fit: a fitted law.
            budget: as in `optimize`.
            weights: as in `optimize`.
            inventory: unique tokens of every domain, for the natural mixture, and for laws that read epochs.
            observations: the table that was fitted, for the best run as it was measured: of the runs of the budget's
                model size, at their last volume up to that of the budget that most of them have. Without it, the best
                run is that of the least predicted objective.

        Returns:
            The mixtures; those that cannot be known are missing, with a reason.

        Raises:
            InputError: as `objective`; for a table without the fit's domains and targets, or an inventory of others.
        """
        budget = budget or Budget()
        goal = objective(fit, budget=budget, weights=weights, inventory=inventory)
        one = fit.at_size(budget.model_size)
        own, of_domains = np.array(one.own)[list(goal.chosen)], np.zeros(len(fit.domains))
        np.add.at(of_domains, own[own >= 0], np.asarray(goal.weights)[own >= 0])
        (found, missing), measured = without_runs(fit.domains, of_domains, inventory), None
        if observations is not None:
            targets = [one.targets[t] for t in goal.chosen]
            best = _best_measured(
                observations, fit, dict(zip(targets, goal.weights.tolist(), strict=True)), goal, budget
            )
            if best is None:
                missing[BEST_RUN] = f"no run of {observations.source} has all losses with weight"
            else:
                found[BEST_RUN], measured = best
        elif len(fitted := one.fitted_mixtures):
            with jax.enable_x64(True):
                values = values_at(goal, fitted)
            found[BEST_RUN] = fitted[np.argmin(np.where(np.isfinite(values), values, np.inf))]
        else:
            missing[BEST_RUN] = "the fit does not keep the mixtures of its runs"
        return cls(mixtures=found, missing=missing, measured=measured)


def _best_measured(
    table: Observations, fit: Fit, weights: Mapping[str, float], goal: Objective, budget: Budget
) -> tuple[Float[np.ndarray, " d"], tuple[float, float]] | None:
    """Find the mixture of the run with the least measured objective, the objective and its volume; None without any."""
    checks.known("target", tuple(weights), table.targets, table.source)
    checks.known("domain", table.domains, fit.domains, "the fit")
    losses = table.losses[:, [table.targets.index(target) for target in weights]]
    value, volume = losses @ np.array(list(weights.values())), table.volumes(fit.volume_unit)
    there = np.isfinite(value)
    if budget.model_size is not None and table.model_size is not None and there.any():
        # A size that was not trained is judged by the nearest one.
        distance = np.abs(np.log(table.model_size / budget.model_size))
        there &= distance == distance[there].min()
    if not there.any():
        return None
    runs = {s: len(np.unique(table.run[there & (volume == s)])) for s in np.unique(volume[there])}
    shared = [s for s, count in runs.items() if 2 * count >= max(runs.values())]
    last = max([s for s in shared if s <= float(goal.volume)], default=min(shared))
    rows = np.flatnonzero(there & (volume == last))
    best = rows[np.argmin(value[rows])]
    shares = dict(zip(table.domains, table.proportions[best], strict=True))
    return np.array([shares.get(domain, 0.0) for domain in fit.domains]), (float(value[best]), float(last))
