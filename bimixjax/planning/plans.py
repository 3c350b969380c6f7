"""`plan`: which mixtures to train next, from nothing, from a table, or from draws of a fit."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from bimixjax._base import checks
from bimixjax._base.checks import InputError
from bimixjax.estimation import AutoFit, sample
from bimixjax.fitting import FitResult
from bimixjax.fitting.resampling import Resamples
from bimixjax.observations import Budget, Inventory, Observations
from bimixjax.optimization import Limits
from bimixjax.planning import beginning, drawn, improvement
from bimixjax.planning.measured import Measured
from bimixjax.planning.process import DOMAINS, TASKS, MeanLoss
from bimixjax.planning.result import Plan
from bimixjax.planning.space import Chosen, Space
from bimixjax.solve import Region

Weights = Mapping[str, float] | ArrayLike

# Draws of a fit, and the most runs of a plan.
_DRAWS, _MOST_RUNS = 256, 1000


def plan(
    given: Observations | AutoFit | FitResult | Resamples | None = None,
    *,
    domains: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    candidates: ArrayLike | None = None,
    runs: int,
    inventory: Inventory | None = None,
    limits: Limits | None = None,
    weights: Weights | None = None,
    budget: Budget | None = None,
    model_sizes: Sequence[float] | None = None,
    key: jax.Array | int = 0,
) -> Plan:
    """Choose the runs to train next.

    From nothing, runs of the zero-run order and runs far from all before follow by turns. From a table, each run is the
    one of greatest expected improvement of the least mean loss under a Gaussian process over mixtures and targets,
    per cost, as if those before it in the plan had come out as expected. From a fit of `auto`, or from resamples of any
    fit, each run is the one that improves on the runs fitted and on those before it most, in the mean over draws.

    Args:
        given: measured losses, of which the last of each run are read; a fit of `auto`; what `bootstrap` or `sample`
            returns; or None.
        domains: names; needed from nothing only.
        targets: whose mean loss counts; by default those that are domains, or all where none is.
        candidates: mixtures to choose among, each once [m, d]; by default any within the limits.
        runs: k, how many.
        inventory: unique tokens of the domains, for limits of epochs. Those of every domain make the natural mixture
            the last run of a plan from nothing, scaled where it does not keep to the limits.
        limits: of the mixtures; epochs are those of a training of the budget's tokens.
        weights: of the targets, by name or in their order; by default all the same.
        budget: where mixtures are judged: the model size, by default the largest measured; and the volume, for a fit
            and for epochs.
        model_sizes: sizes that runs may have, each at a cost of size x the volume that runs of that size had; by
            default that of the budget.
        key: of the random mixtures and draws, or a seed for one.

    Returns:
        The runs, and why each was chosen.

    Raises:
        InputError: where something given does not fit together or cannot be used; it says what is allowed.

    Example:
        >>> import bimixjax
        >>> import pandas as pd
        >>> table = {"run": list("abc"), "mixture/x": [0.2, 0.4, 0.9], "mixture/y": [0.8, 0.6, 0.1]}
        >>> table |= {"loss/x": [3.3, 2.8, 2.4], "loss/y": [2.4, 2.5, 3.3]}
        >>> observations = bimixjax.Observations.from_frame(pd.DataFrame(table))
        >>> bimixjax.plan(observations, candidates=[[0.0, 1.0], [0.55, 0.45], [0.95, 0.05]], runs=1).index.tolist()
        [1]

    Source: Jones, Schonlau and Welch (1998) for expected improvement; Ginsbourger, Le Riche and Carraro (2010) for
        batches of it; Kennard and Stone (1969) for runs far from each other.
    """
    if isinstance(runs, bool) or not isinstance(runs, int | np.integer) or not 1 <= runs <= _MOST_RUNS:
        raise InputError(f"runs is {runs!r}; allowed: a whole number from 1 to {_MOST_RUNS}")
    if isinstance(key, int) and not 0 <= key < 2**32:
        raise InputError(f"key is {key}; allowed: a key of jax.random, or a seed from 0 to 2^32 - 1")
    if isinstance(given, FitResult):
        how = "bimixjax.bootstrap gives them, or give the table that was fitted"
        raise InputError(f"a fit of {given.law.name} alone has no draws to plan from; {how}")
    known = given if given is None or isinstance(given, Observations) else _fit_of(given)
    names = _domains(domains, None if known is None else known.domains)
    if len(names) < 2:
        raise InputError(f"there is one domain, {', '.join(names)}, and so one mixture; allowed: two domains or more")
    region = _region(limits or Limits(), names, inventory, budget or Budget(), given)
    space = Space.of(candidates, region, names, runs, key)
    if given is None:
        if (budget is not None and budget.model_size is not None) or model_sizes is not None:
            raise InputError("from nothing a plan takes no model sizes; give measured losses with them")
        natural = None
        if inventory is not None and space.candidates is None and np.isfinite(inventory.array(names)).all():
            natural = inventory.natural(names)
            natural = natural if region.allows(natural) else region.nearest(region.in_proportion(natural))
        chosen, said = _from_nothing(space, names, tuple(targets or names), weights, runs, natural)
        return _made(chosen, space, names, said, ())
    if isinstance(given, Observations):
        wanted = tuple(targets or given.own_targets or given.targets)
        checks.known("target", wanted, given.targets, given.source)
        measured = Measured.of(given, wanted)
        chosen, said = _from_table(space, given, measured, wanted, weights, budget or Budget(), model_sizes, runs)
        return _made(chosen, space, names, said, measured.notes, _last_number(given.runs), model_sizes is not None)
    if model_sizes is not None:
        raise InputError("a plan from a fit takes no model sizes; give the table that was fitted with them")
    draws = sample(given, key=key, count=_DRAWS) if isinstance(given, AutoFit) else given
    of_goal = tuple(targets or draws.fit.targets), weights, budget or Budget(), inventory
    chosen, said = _from_draws(space, draws, *of_goal, runs)
    return _made(chosen, space, names, said, draws.fit.notes, len(_fitted(draws.fit, budget or Budget())))


def _domains(given: Sequence[str] | None, known: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the domains, in the order given; raise where they are not those of the table or fit."""
    if given is None:
        if known is None:
            raise InputError("a plan from nothing needs domains, a list of names; or give measured losses, or a fit")
        return known
    names = tuple(given)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"domains are {names!r}; allowed: names, at least two")
    checks.distinct("domain", names, "domains")
    if known is not None and names != known:
        raise InputError(f"domains are {', '.join(names)}; those measured are {', '.join(known)}: leave them out")
    return names


def _region(
    limits: Limits,
    domains: tuple[str, ...],
    inventory: Inventory | None,
    budget: Budget,
    given: Observations | AutoFit | Resamples | None,
) -> Region:
    """Return the limits, with epochs counted in a training of the budget's tokens."""
    if limits.reach is not None:
        raise InputError("a plan is for runs beyond those that were fitted, and takes no hull of them; leave hull out")
    unit = budget.unit
    if unit is None and given is not None:
        unit = given.volume_unit() if isinstance(given, Observations) else _fit_of(given).volume_unit
    tokens = budget.volume if unit in ("tokens", None) else None
    unique = None if inventory is None else inventory.array(domains)
    return limits.region(domains, unique=unique, tokens=tokens)


def _fit_of(given: AutoFit | Resamples) -> Any:
    return given.fit if isinstance(given, Resamples) else given


def _from_nothing(
    space: Space,
    domains: tuple[str, ...],
    targets: tuple[str, ...],
    weights: Weights | None,
    runs: int,
    natural: np.ndarray | None,
) -> tuple[Chosen, str]:
    of_targets = checks.target_weights(weights, targets)
    own = {name: weight for name, weight in zip(targets, of_targets.tolist(), strict=True) if name in domains}
    by_domain = np.array([own.get(name, 0.0) for name in domains])
    ordered = by_domain.sum() > 0
    if ordered:
        said = "From nothing: the zero-run order, and runs far from those before, by turns"
    else:
        said = "From nothing: runs far from those before; no target is a domain, so there is no zero-run order"
    return beginning.begin(space, by_domain if ordered else None, runs, natural), said


def _from_table(
    space: Space,
    observations: Observations,
    measured: Measured,
    targets: tuple[str, ...],
    weights: Weights | None,
    budget: Budget,
    model_sizes: Sequence[float] | None,
    runs: int,
) -> tuple[Chosen, str]:
    own = np.array([observations.domains.index(name) if name in observations.domains else -1 for name in targets])
    w = checks.target_weights(weights, targets)
    there = tuple(measured.volumes)
    if budget.model_size is not None and budget.model_size not in there:
        listed = ", ".join(f"{size:g}" for size in there)
        raise InputError(f"model size {budget.model_size:g} was not measured; sizes there: {listed}")
    size = budget.model_size or max(there)
    offered = [size] if model_sizes is None else [checks.positive("model_sizes", one) for one in model_sizes]
    if not offered:
        raise InputError("model_sizes are empty; allowed: sizes that a run may have, at least one")
    # A size that was not measured is trained as long as the largest that was.
    costs = {one: one * measured.volumes.get(one, measured.volumes[max(there)]) for one in offered}
    seen, sizes = (measured.mixtures, measured.losses, own, w), (np.log(measured.sizes), float(np.log(size)))
    assumed = (DOMAINS,) if w[own >= 0].sum() >= 0.5 else TASKS.alternatives()
    processes = [MeanLoss.of(*seen, constants, *sizes) for constants in assumed]
    count = f"{len(measured.losses)} measured run{'s' if len(measured.losses) > 1 else ''}"
    of_targets = f"over {len(targets)} targets" if len(targets) > 1 else f"of {', '.join(targets)}"
    said = f"From {count}: expected improvement of the {'mean ' * (len(targets) > 1)}loss {of_targets}"
    said += f" at model size {size:,.0f}" if len(there) > 1 else ""
    return improvement.batch(space, processes, costs, runs), said + (" per cost" if len(costs) > 1 else "")


def _from_draws(
    space: Space,
    draws: Resamples,
    targets: tuple[str, ...],
    weights: Weights | None,
    budget: Budget,
    inventory: Inventory | None,
    runs: int,
) -> tuple[Chosen, str]:
    fit = draws.fit
    checks.known("target", targets, fit.targets, "the fit")
    w = np.zeros(len(fit.targets))
    w[[fit.targets.index(name) for name in targets]] = checks.target_weights(weights, targets)
    fitted = _fitted(fit, budget)

    def means(points: np.ndarray) -> np.ndarray:
        at = {"inventory": inventory, "from_prior": budget.from_prior}
        losses = draws.predict(points, budget.volume, budget.model_size, **at)
        found = losses[..., w > 0] @ w[w > 0]
        return np.where(np.isfinite(found), found, np.inf)

    at_runs = means(fitted)
    best = fitted[np.where(np.isfinite(at_runs), at_runs, 1e300).mean(axis=0).argmin()]
    pool = space.pool(around=best)
    chosen = drawn.batch(pool, means(pool), at_runs.min(axis=1), runs)
    return chosen, f"From {len(draws)} draws of a fit of {fit.name}: expected improvement of the mean loss"


def _fitted(fit: AutoFit | FitResult, budget: Budget) -> np.ndarray:
    return fit.at_size(budget.model_size).fitted_mixtures


def _last_number(runs: Sequence[str]) -> int:
    """Return the largest number of a run of an earlier plan, so that ids go on from there."""
    return max([int(found[1]) for run in runs if (found := re.fullmatch("plan-([0-9]{1,9})", run))], default=0)


def _made(
    chosen: Chosen,
    space: Space,
    domains: tuple[str, ...],
    said: str,
    notes: tuple[str, ...],
    before: int = 0,
    sized: bool = False,
) -> Plan:
    return Plan(
        runs=tuple(f"plan-{before + number}" for number in range(1, len(chosen.mixtures) + 1)),
        domains=domains,
        mixtures=np.array(chosen.mixtures),
        index=None if space.rows is None else space.rows[chosen.rows],
        reasons=tuple(chosen.reasons),
        improvement=np.array(chosen.improvement),
        model_sizes=np.array(chosen.sizes) if sized else None,
        method=said,
        notes=notes,
    )
