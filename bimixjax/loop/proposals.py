"""Which mixtures methods propose from the same runs under the same limits, and what they promise of them.

    runs --propose--> proposals (frozen in a file) --proof--> losses measured of each

Held-out errors do not order methods by the mixtures that they choose; trained proposals do.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from bimixjax._base import checks, schema
from bimixjax._base.checks import InputError
from bimixjax._base.records import read_json, write_json
from bimixjax._base.stages import say
from bimixjax.estimation import Auto, AutoFit, fit
from bimixjax.fitting import Criterion
from bimixjax.fitting.base import Fit
from bimixjax.laws import LAWS
from bimixjax.loop import rivals, texts
from bimixjax.observations import UNITS, Budget, Inventory, Observations, Unit
from bimixjax.optimization import Limits, NearOptimal, OptimalMixture, objective, optimize
from bimixjax.optimization.baselines import BEST_RUN, NATURAL, UNIFORM, without_runs
from bimixjax.optimization.goals import Goal
from bimixjax.optimization.objectives import check_constrained
from bimixjax.solve import Region

AUTO, NEAR_OPTIMAL, LOG_LINEAR, TREES = "auto", "auto-near-optimal", "log-linear-kl", "lightgbm"
# Beside any law by its name.
METHODS = (AUTO, NEAR_OPTIMAL, "bimix", "bimix_transfer", "additive", "joint", "exponential", LOG_LINEAR, TREES)

# Olmix's Huber threshold, in nats.
_HUBER = 0.02
_LEVEL = 0.9
_STAGE = "proposals"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proposal:
    """A mixture that a method proposes, and what it promises.

    Attributes:
        name: of the method, or of a mixture that needs none.
        proportions: the mixture [d].
        losses: that the method predicts at the end of training, in nats per token [t]; NaN where it promises none.
        lower, upper: limits that hold 90 % of the weighted means measured, by the method; NaN where it states none.
    """

    name: str
    proportions: Float[np.ndarray, " d"]
    losses: Float[np.ndarray, " t"]
    lower: float = np.nan
    upper: float = np.nan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proposals:
    """Mixtures to be trained against each other, written down before that.

    Attributes:
        domains, targets: names.
        weights: of the targets in their mean; they sum to 1 [t].
        volume, unit: of the training that they are chosen for; without a unit where the table has no volume.
        of: the proposals.
        seeds: of the runs that methods have seen; a proof takes others.
        missing: why a method proposes none, by its name.
    """

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    weights: Float[np.ndarray, " t"]
    volume: float
    unit: Unit | None
    of: tuple[Proposal, ...]
    seeds: tuple[int, ...] = ()
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.distinct("proposal", self.names, "the proposals")

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(one.name for one in self.of)

    @property
    def proportions(self) -> Float[np.ndarray, "m d"]:
        """Their mixtures."""
        return np.array([one.proportions for one in self.of])

    @property
    def losses(self) -> Float[np.ndarray, "m t"]:
        """What is promised."""
        return np.array([one.losses for one in self.of])

    @property
    def intervals(self) -> Float[np.ndarray, "m 2"]:
        """Limits of the weighted means."""
        return np.array([(one.lower, one.upper) for one in self.of])

    def beside(self, others: Mapping[str, ArrayLike]) -> Self:
        """Add mixtures that nothing is promised of, by name.

        Raises:
            InputError: for something that is no mixture of the domains, or a name that is there already.
        """
        for mixture in others.values():
            checks.mixtures(np.asarray(mixture, float), self.domains)
        nothing = np.full(len(self.targets), np.nan)
        more = (
            Proposal(name=name, proportions=np.asarray(mixture, float), losses=nothing)
            for name, mixture in others.items()
        )
        return dataclasses.replace(self, of=(*self.of, *more))

    def save(self, path: str | Path) -> None:
        """Write one strict JSON file with its own SHA-256."""
        write_json(path, self, hashed=True)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file written by `save`; raise `InputError` if it is not one, or was changed since."""
        found = schema.read(read_json(path, sealed=True), _FILE, path)
        return cls(**{**found, "of": tuple(Proposal(**one) for one in found["of"])})


_FILE: dict[str, schema.Kind] = {
    "domains": schema.texts("domains", names=True),
    "targets": schema.texts("targets", names=True),
    "weights": schema.numbers("targets", low=0, high=1),
    "volume": schema.number(low=1e-300),
    "unit": schema.maybe(schema.text(tuple(UNITS))),
    "of": schema.each(
        schema.record(
            {
                "name": schema.text(),
                "proportions": schema.shares("domains"),
                "losses": schema.numbers("targets", null=True),
                **dict.fromkeys(("lower", "upper"), schema.number(null=True)),
            }
        )
    ),
    "seeds": lambda value, spot: tuple(schema.each(schema.whole(low=0, high=2**32))(value, spot)),
    "missing": lambda value, spot: {str(name): schema.text()(why, spot) for name, why in dict(value).items()},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What all methods are given.

    Attributes:
        observations: runs of one model size.
        weights: of the targets in their mean [t].
        limits: what mixtures must keep to.
        inventory: unique tokens by domain, for epochs, and where all are known for the natural mixture.
        seed: of methods that draw.
        text: of the domains, for methods that read it.
    """

    observations: Observations
    weights: Float[np.ndarray, " t"]
    limits: Limits = dataclasses.field(default_factory=Limits)
    inventory: Inventory | None = None
    seed: int = 0
    text: texts.Text | None = None

    @property
    def unit(self) -> Unit | None:
        """The unit of volume that laws are fitted in: tokens where the table has them, else steps."""
        return self.observations.volume_unit()

    @property
    def volume(self) -> float:
        """The largest volume measured, which mixtures are chosen for."""
        return float(self.observations.volumes(self.unit).max())

    @property
    def budget(self) -> Budget:
        """Where mixtures are judged."""
        return Budget(volume=None if self.unit is None else self.volume, unit=self.unit)

    @property
    def last(self) -> Observations:
        """The rows at the largest volume, all that laws without a volume are fitted to."""
        if self.unit is None:
            return self.observations
        return self.observations.select(volume=(self.volume, self.volume), unit=self.unit)

    @property
    def natural(self) -> Float[np.ndarray, " d"]:
        """The natural mixture; the uniform one where it is not known how much there is of each domain."""
        return self.without_runs.get(NATURAL, self.without_runs[UNIFORM])

    @property
    def without_runs(self) -> dict[str, Float[np.ndarray, " d"]]:
        """The mixtures that need neither law nor runs: natural, uniform, zero-run, as far as each is known."""
        domains = self.observations.domains
        by_target = dict(zip(self.observations.targets, self.weights.tolist(), strict=True))
        return without_runs(domains, np.array([by_target.get(domain, 0.0) for domain in domains]), self.inventory)[0]

    @property
    def best_run(self) -> dict[str, Float[np.ndarray, " d"]]:
        """The mixture of the least weighted mean at the largest volume; nothing where no run has all its losses."""
        weighted, last = self.weights > 0, self.last
        means = last.losses[:, weighted] @ self.weights[weighted]
        return {BEST_RUN: last.proportions[np.nanargmin(means)]} if np.isfinite(means).any() else {}

    @cached_property
    def auto(self) -> AutoFit:
        """The fit of auto, which several methods read."""
        return fit(Auto(), self.observations, volume=self.unit)

    @property
    def region(self) -> Region:
        """The mixtures that keep to the limits."""
        domains = self.observations.domains
        unique = None if self.inventory is None else self.inventory.array(domains)
        tokens = self.volume if self.unit == "tokens" else None
        return self.limits.region(domains, unique=unique, tokens=tokens, measured=self.observations.proportions)

    def optimum(self, law: Fit, goal: Goal | None = None) -> OptimalMixture:
        """Search for the best mixture under a law; raise `InputError` where none is found."""
        options: dict[str, Any] = {"budget": self.budget, "weights": self.weights, "inventory": self.inventory}
        best = optimize(law, objective=goal, limits=self.limits, **options)
        if not best.converged:
            raise InputError(f"the search found no optimum: it stopped at a residual of {best.kkt_residual:g}")
        return best


def propose(
    observations: Observations,
    methods: Sequence[str] = METHODS,
    *,
    weights: Mapping[str, float] | ArrayLike | None = None,
    limits: Limits | None = None,
    inventory: Inventory | None = None,
    seed: int = 0,
    text: texts.Text | None = None,
) -> Proposals:
    """Let each method propose a mixture from the same runs, under the same limits, for their largest volume.

    Methods are the name of a law, whose optimum is proposed; "auto" and "auto-near-optimal", the optimum of auto and
    the average of what is within .1 % of it; "log-linear-kl", as olmix chooses, and "lightgbm", as RegMix does, see
    `loop.rivals`. Laws with a volume are fitted to all rows, the others to those at the largest one. "se", "ce", "je"
    and "vne", the entropy mixtures, and "doremi" read the text and no run, and promise nothing, see `loop.texts`; a
    mixture of theirs that breaks a limit gives way to the nearest one that keeps to it. The mixtures that need no law
    are proposed as well: natural, where the inventory has every domain, uniform, zero-run and that of the best run.

    Args:
        observations: runs of one model size.
        methods: names.
        weights: w by target, or in their order; by default all count the same.
        limits: of the mixtures that methods propose.
        inventory: unique tokens by domain.
        seed: of methods that draw.
        text: of the domains, for methods that read it.

    Returns:
        One proposal for each method; of a method that fails, why, in `missing`.

    Raises:
        InputError: for an unknown method, or several model sizes.

    Example:
        >>> from bimixjax import datasets
        >>> found = propose(datasets.load("demo"), ["bimix"])
        >>> found.names, found.volume, [round(float(one.losses.mean()), 1) for one in found.of]
        (('bimix', 'uniform', 'zero-run', 'best run'), 716800.0, [2.1, nan, nan, nan])
    """
    for method in methods:
        checks.choice("method", method, tuple(dict.fromkeys((*METHODS, *texts.METHODS, *LAWS))))
    if len(observations.model_sizes) > 1:
        raise InputError(f"the table has {len(observations.model_sizes)} model sizes; allowed: one; select it")
    w = checks.target_weights(weights, observations.targets)
    given: dict[str, Any] = {"limits": limits or Limits(), "inventory": inventory, "seed": seed, "text": text}
    task = Task(observations=observations, weights=w, **given)
    found: list[Proposal] = []
    missing: dict[str, str] = {}
    for number, method in enumerate(methods):
        say(_STAGE, number, len(methods))
        try:
            found.append(_proposed(method, task))
        except InputError as error:
            missing[method] = str(error)
    say(_STAGE, len(methods), len(methods))
    proposals = Proposals(
        domains=observations.domains,
        targets=observations.targets,
        weights=w,
        volume=task.volume if task.unit else 1.0,
        unit=task.unit,
        of=tuple(found),
        seeds=() if observations.seed is None else tuple(np.unique(observations.seed).tolist()),
        missing=missing,
    )
    return proposals.beside(task.without_runs | task.best_run)


def of_optimum(name: str, best: OptimalMixture) -> Proposal:
    """Return the optimum of a law as a proposal; its limits allow for its being the best of many."""
    lower, upper = best.objective_interval or (np.nan, np.nan)
    return Proposal(name=name, proportions=best.proportions, losses=best.losses, lower=lower, upper=upper)


def _proposed(method: str, task: Task) -> Proposal:
    """Let one method propose.

    Raises:
        InputError: where it cannot, from these runs or under these limits.
    """
    if method == AUTO:
        return of_optimum(method, task.optimum(task.auto))
    if method == NEAR_OPTIMAL:
        best = task.optimum(task.auto, NearOptimal(seed=task.seed))
        options = {"weights": task.weights, "level": _LEVEL, "inventory": task.inventory}
        # It is not the best of many, so that its limits are those of any mixture.
        lower, upper = task.auto.mean_interval(best.proportions, task.budget.volume, **options)
        return dataclasses.replace(of_optimum(method, best), lower=float(lower), upper=float(upper))
    if method in texts.METHODS:
        if task.text is None:
            raise InputError(f"{method} reads the text of the domains; give it, as `text`")
        mixture = task.text.mixture(method, task.observations.domains)
        mixture = mixture if task.region.allows(mixture) else task.region.nearest(mixture)
        return Proposal(name=method, proportions=mixture, losses=np.full(len(task.weights), np.nan))
    last = task.last
    if method == LOG_LINEAR:
        law = fit("log_linear", last, volume=task.unit, criterion=Criterion(residual="absolute", huber=_HUBER))
        goal = objective(law, budget=task.budget, weights=task.weights)
        check_constrained(law, goal, task.budget)
        mixture = rivals.nearby_optimum(goal, task.region, task.natural)
        return Proposal(name=method, proportions=mixture, losses=np.asarray(law.predict(mixture, task.budget.volume)))
    if method == TREES:
        whole = last.take(np.flatnonzero(np.isfinite(last.losses).all(1)))
        given = (whole.proportions, whole.losses, task.weights, task.region, task.natural, task.seed)
        mixture, losses = rivals.averaged_by_trees(*given)
        return Proposal(name=method, proportions=mixture, losses=losses)
    reads_volume = any(one.volumes > 1 for one in LAWS[method].coefficients)
    return of_optimum(method, task.optimum(fit(method, task.observations if reads_volume else last, volume=task.unit)))
