"""The choice of a mixture repeated in every resample of the runs, and its regret."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from bimixjax._base import checks, summaries
from bimixjax._base.checks import InputError
from bimixjax._base.stages import counted
from bimixjax.fitting.resampling import Resamples
from bimixjax.mixtures import box_inverse, softmax_inverse
from bimixjax.observations import Budget, Inventory
from bimixjax.optimization.answer import OptimalMixture
from bimixjax.optimization.limits import Limits
from bimixjax.optimization.objectives import Objective, Weights, objective, of_resample
from bimixjax.optimization.optimum import Method, available, optimize
from bimixjax.solve import LBFGS, NEAR, Region, softmax_search

# A search in a resample has a good start, and no certificate to meet.
_QUICK = LBFGS(max_steps=200, tolerance=1e-10, patience=3)

# Resamples that are searched side by side.
_TOGETHER = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimalResamples:
    """The mixture chosen, and the best mixture of each resample of the runs, or posterior draw of the fit.

    Attributes:
        best: the mixture chosen, by the fit of the runs as they are.
        proportions: the best mixture of each resample or draw [R, d].
        regret: by how much the objective of each resample is higher at `best` than at its own mixture [R], in nats per
            token.
        converged: whether the search in each resample ended by itself [R].

    Example:
        >>> import bimixjax, jax
        >>> import pandas as pd
        >>> table = {"run": list("abcd"), "mixture/x": [0.2, 0.4, 0.6, 0.8], "mixture/y": [0.8, 0.6, 0.4, 0.2]}
        >>> table |= {"loss/x": [3.31, 2.77, 2.56, 2.37], "loss/y": [2.37, 2.54, 2.79, 3.30]}
        >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table))
        >>> resamples = bimixjax.bootstrap("bimix", observations, key=jax.random.key(0), count=50)
        >>> found = bimixjax.optimize_resamples(resamples)
        >>> lower, upper = found.interval(level=0.9)
        >>> bool((lower < found.best.proportions).all() and (found.best.proportions < upper).all())
        True
    """

    best: OptimalMixture
    proportions: np.ndarray
    regret: np.ndarray
    converged: np.ndarray

    def __repr__(self) -> str:
        return f"OptimalResamples({self.best!r}; {len(self.proportions)} resamples or draws)"

    def summary(self) -> str:
        """Say in plain text what was found, and how far the mixtures of resamples or draws go from it."""
        ends = zip(self.best.domains, *self.interval(), strict=True)
        rows = [[name, f"{low:.4f}", f"to {high:.4f}"] for name, low, high in ends]
        said = f"Shares in 90 % of {len(self.proportions)} resamples or draws"
        regret = f"expected regret {self.expected_regret:.2g} nats per token"
        return "\n".join([self.best.summary(), said, summaries.aligned(rows), regret])

    @property
    def expected_regret(self) -> float:
        """The mean over resamples of what `best` loses against their own mixtures, in nats per token."""
        return float(np.mean(self.regret))

    def regret_limit(self, *, level: float = 0.9) -> float:
        """Return the quantile `level` of the regret over resamples, in nats per token.

        Raises:
            InputError: for a level that is not above 0 and below 1.
        """
        checks.share("level", level)
        return float(np.quantile(self.regret, level))

    def interval(self, *, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Return the central interval that holds the share `level` of the resamples' proportions of each domain.

        Returns:
            Lower and upper proportions [d], in the order of `best.domains`. They need not sum to 1.

        Raises:
            InputError: for a level that is not above 0 and below 1.
        """
        checks.share("level", level)
        lower, upper = np.quantile(self.proportions, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return lower, upper


def optimize_resamples(
    found: Resamples,
    *,
    budget: Budget | None = None,
    weights: Weights | None = None,
    limits: Limits | None = None,
    inventory: Inventory | Mapping[str, float] | None = None,
    method: Method = "auto",
    reference: Mapping[str, float] | ArrayLike | None = None,
    solver: LBFGS = _QUICK,
    starts: int = 3,
) -> OptimalResamples:
    """Find the best mixture of a fit and of every resample of its runs: how sure is the mixture, and what it may cost.

    For each resample b with objective J_b, minimize J_b(r) under the same budget, weights and limits. The regret of the
    chosen mixture r* in it is J_b(r*) - min J_b. Proportions may be wide open where the regret is small: the objective
    is then flat there. Neither counts what the law itself misses.

    Args:
        found: what `bootstrap` or `sample` gave.
        budget: as in `optimize`.
        weights: as in `optimize`.
        limits: as in `optimize`.
        inventory: as in `optimize`.
        method: as in `optimize`.
        reference: as in `optimize`.
        solver: settings of the L-BFGS in the resamples; the fit's own search is that of `optimize`.
        starts: how many points it starts from in each: the mixture chosen, the middle of the limits, random ones.

    Returns:
        The mixtures of the fit and of the resamples.

    Raises:
        InputError: as `optimize`, and for limits with a hull.

    Example:
        >>> import bimixjax, jax
        >>> import pandas as pd
        >>> table = {"run": list("abcd"), "mixture/x": [0.2, 0.4, 0.6, 0.8], "mixture/y": [0.8, 0.6, 0.4, 0.2]}
        >>> table |= {"loss/x": [3.31, 2.77, 2.56, 2.37], "loss/y": [2.37, 2.54, 2.79, 3.30]}
        >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table))
        >>> resamples = bimixjax.bootstrap("bimix", observations, key=jax.random.key(0), count=50)
        >>> found = bimixjax.optimize_resamples(resamples)
        >>> found.proportions.shape, bool(0 <= found.expected_regret < 0.01)
        ((50, 2), True)
    """
    budget, starts = budget or Budget(), checks.starts(starts)
    if limits is not None and limits.reach is not None:
        raise InputError("each draw is searched without a hull of runs: leave out the hull, or the draws")
    at = {"budget": budget, "weights": weights}
    best = optimize(found.fit, **at, limits=limits, inventory=inventory, method=method, reference=reference)
    stock = Inventory(inventory) if isinstance(inventory, Mapping) else inventory
    goal, limits = objective(found.fit, **at, inventory=stock), limits or Limits()
    region = limits.region(found.fit.domains, **available(found.fit, goal, limits, stock))
    with jax.enable_x64(True):
        chosen, settings, upper = best.proportions, {"model_size": budget.model_size}, region.upper
        if best.method != "dual":
            idle = np.isin(best.domains, best.idle) & (chosen <= region.lower + NEAR)
            upper = _pinned(region, idle) if region.is_box else upper
            settings |= {"solver": solver, "starts": starts}
        where = region.lower, upper, chosen
        search = partial(_best_of_resamples, goal, found, where, None if region.is_box else region, **settings)
        return OptimalResamples(best=best, **_searched(search, len(found)))


def _searched(search: Callable[[np.ndarray], dict[str, Array]], count: int) -> dict[str, np.ndarray]:
    """Search in all resamples, some at a time; the last ones are padded, so that one compiled program serves all."""
    width = min(count, _TOGETHER)
    begins, parts = range(0, count, width), []
    for begin in counted("searches", len(begins), begins):
        found = search(np.minimum(np.arange(begin, begin + width), count - 1))
        parts.append({name: np.asarray(values) for name, values in found.items()})
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def _pinned(region: Region, idle: np.ndarray) -> Array | None:
    """Return upper limits with idle domains fixed at their lower ones, where the rest can fill the mixture."""
    pinned = np.where(idle, region.lower, region.upper)
    used = pinned if pinned.sum() >= 1 else region.upper
    return jnp.asarray(used) if (used < 1).any() else None


@partial(jax.jit, static_argnames=("model_size", "solver", "starts"))
def _best_of_resamples(
    goal: Objective,
    found: Resamples,
    where: tuple[Array, Array | None, Array],
    region: Region | None,
    index: Array,
    *,
    model_size: float | None,
    solver: LBFGS | None = None,
    starts: int = 1,
) -> dict[str, Array]:
    """Find the best mixture of some resamples, exactly where there is no solver.

    The first start of a solver is the mixture chosen, a little inside of the limits. `where`: the limits, and that
    mixture; `region`, groups and a ball besides.
    """
    lower, upper, chosen = where
    first = _inside(chosen, lower, upper, region)
    z = jax.random.normal(jax.random.key(0), (starts, first.shape[0]), lower.dtype)
    z = z.at[1:2].set(0.0).at[0].set(first)
    groups = None if region is None or not region.grouped else (region.group, region.least, region.most)

    def one(index: Array) -> dict[str, Array]:
        own = of_resample(goal, found, index, model_size)
        if solver is None:
            r = own.optimal_proportions(lower, jnp.ones_like(lower) if upper is None else upper, groups)
            regret, converged = own(chosen) - own(r), jnp.asarray(True)
        else:
            ends, minima = softmax_search(own, lower, upper, z, solver, region=region)
            best = jnp.argmin(jnp.where(jnp.isfinite(minima.value), minima.value, jnp.inf))
            regret, converged = own(chosen) - minima.value[best], minima.converged[best]
            # The search ends a little inside of a limit where the mixture chosen may stand.
            r = jnp.where(regret > 0, ends[best], chosen)
        return {"proportions": r, "regret": jnp.maximum(regret, 0.0), "converged": converged}

    return jax.vmap(one)(index)


def _inside(r: Array, lower: Array, upper: Array | None, region: Region | None) -> Array:
    """Return the search's coordinates of a mixture near r that keeps off the limits."""
    if upper is None:
        room = 1 - jnp.sum(lower)
        return softmax_inverse(lower + 0.99 * (r - lower) + 0.01 * room / len(r), lower)
    z = box_inverse(lower + 0.01 * (upper - lower) + 0.98 * (r - lower), lower, upper)
    if region is None or not region.grouped:
        return z
    total = partial(jax.ops.segment_sum, segment_ids=region.group, num_segments=len(region.least))
    least, most = jnp.maximum(region.least, total(lower)), jnp.minimum(region.most, total(upper))
    totals = least + 0.01 * (most - least) + 0.98 * (total(r) - least)
    return jnp.concatenate([z, box_inverse(totals, least, most)])
