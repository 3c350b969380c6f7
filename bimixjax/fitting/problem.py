"""The least squares of lanes: what a batch reads, what the law makes of it, where it starts, and what solves it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import product
from operator import mul
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bimixjax._base.records import Leaf, record
from bimixjax.fitting.criterion import Criterion
from bimixjax.fitting.lanes import Lanes
from bimixjax.fitting.options import Solver
from bimixjax.fitting.resamples import Bootstrap
from bimixjax.laws import Coefficient, Law, Point, Units
from bimixjax.laws.dependence import dependence
from bimixjax.solve import Problem, Projection, Quadratic, Solution, Starts, Terms


@record
class Work:
    """What a batch of fits reads.

    Args:
        lanes: the table; every resample fits all of its lanes.
        resamples: weights of the runs in each resample, or None for one fit of the table as it is.
        starts: packed non-linear coefficients to start from [k, q], or for each lane, or each lane of each resample,
            its own [k, q, L]; None for those of the law.
        units: those of the lanes' volumes and sizes in the user's.
        strength: what a prior one standard deviation off counts, in relative residuals; None for no priors.
    """

    lanes: Lanes
    resamples: Bootstrap | None
    starts: Leaf | None
    units: tuple[Leaf, Leaf]
    strength: Leaf | None

    def __len__(self) -> int:
        return self.lanes.group.shape[0] * (1 if self.resamples is None else len(self.resamples))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a batch of fits is computed, and what is kept of each: `view` makes it of the solved problems."""

    law: Law
    solver: Solver | Projection
    criterion: Criterion
    view: "View"
    chunk: int


def start_grid(law: Law, domains: int) -> np.ndarray:
    """The product grid of a law's starting values, and its draws, as packed non-linear coefficients [k, q]."""
    grid = law.starts()
    parts = law.part(linear=False)
    points = product(*(grid[c.name] for c in parts))
    rows = [np.concatenate([np.full(c.size(domains), v) for c, v in zip(parts, p, strict=True)]) for p in points]
    return np.concatenate([rows, _drawn_starts(law, domains)])


def _drawn_starts(law: Law, domains: int) -> np.ndarray:
    """Starts about the medians of the priors, half as wide as these, the same in every fit."""
    noise = np.random.default_rng(0)

    def draw(c: Coefficient) -> np.ndarray:
        width = 0.5 * min(c.prior[1], c.spread or c.prior[1])
        moved = width * noise.normal(size=(law.draws, c.size(domains)))
        return np.clip(c.prior[0] * np.exp(moved) if c.logarithmic else c.prior[0] + moved, c.lower, c.upper)

    return np.concatenate([draw(c) for c in law.part(linear=False)], axis=1)


@dataclass(frozen=True, kw_only=True)
class Solved:
    """Solved problems of B lanes, for a `View` to read.

    Args:
        plan: how they were solved.
        points: what the law read, [d, m, t, B] and [m, t, B].
        problem: the least squares that were solved last.
        solution: their end.
        loss: measured losses [m, t, B].
        weight: weights of the criterion [m, t, B].
        scale: what residuals are divided by [m, t, B].
        factor: what differences of losses were multiplied by [m, t, B].
        to: the user's units.
    """

    plan: Plan
    points: Point
    problem: Problem
    solution: Solution
    loss: Array
    weight: Array
    scale: Array
    factor: Array
    to: Units

    @property
    def values(self) -> Array:
        """Packed coefficients [k, B]."""
        return jnp.concatenate([self.solution.linear, self.solution.nonlinear])

    def predict(self, values: Array) -> Array:
        """The law's losses at the observations [n, B]."""
        law, domains = self.plan.law, self.points.mixture.shape[0]
        losses = law.loss(law.unpack(values[:, None, None], law.ordered(), domains), self.points)
        return flat(jnp.broadcast_to(losses, self.factor.shape))

    def in_user_units(self, values: Array) -> Array:
        """Packed coefficients in the user's units [k, B]."""
        law, domains = self.plan.law, self.points.mixture.shape[0]
        named = law.with_units(law.unpack(values, law.ordered(), domains), self.to)
        return jnp.concatenate([named[c.name].reshape(c.size(domains), -1) for c in law.ordered()])


View = Callable[[Solved], Any]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is known of B lanes before they are solved: their numbers, what laws read, and as in `Solved`."""

    lane: Array
    points: Point
    loss: Array
    weight: Array
    scale: Array

    def factor(self, emphasis: Array) -> Array:
        """What differences of losses are multiplied by [m, t, B], with the criterion's weights of residuals."""
        return jnp.sqrt(self.weight * emphasis) / self.scale

    def problem(self, plan: Plan, strength: Array | None, factor: Array) -> Problem:
        """The least squares."""
        return _problem(plan.law, self.points.mixture.shape[0], strength, flat(factor * self.loss))


def neighbours(work: Work, plan: Plan, first: Array, width: int) -> Part:
    """The lanes from number `first` on: sliced, which is far cheaper than to gather them."""
    lane = first + jnp.arange(width)
    # With resamples, the table's lanes start over and over again.
    if work.resamples is not None:
        return gathered(work, plan, lane)
    taken = partial(lax.dynamic_slice_in_dim, start_index=first, slice_size=width, axis=-1)
    return _part(work, plan, lane, take_lanes(work.lanes, taken))


def gathered(work: Work, plan: Plan, lane: Array) -> Part:
    """The lanes of these numbers [B]."""
    count = work.lanes.group.shape[0]
    return _part(work, plan, lane, take_lanes(work.lanes, lambda values: values[..., lane % count]))


def _part(work: Work, plan: Plan, lane: Array, taken: Lanes) -> Part:
    weight, count = taken.weight, work.lanes.group.shape[0]
    if work.resamples is not None:
        weight = weight * work.resamples.factor(lane // count, taken.run)
    scale = plan.criterion.scale(taken.loss, weight)
    return Part(lane=lane, points=points_of(taken), loss=taken.loss, weight=weight, scale=scale)


def starts_of(work: Work, plan: Plan, lane: Array) -> Starts:
    """Where lanes start: [k, q] for all, or [k, q, B] for each."""
    if work.starts is None:
        return start_grid(plan.law, work.lanes.mixture.shape[0])
    return work.starts[..., lane % work.starts.shape[-1]] if work.starts.ndim == 3 else work.starts


def terms(plan: Plan, points: Point, factor: Array, problem: Problem) -> Terms:
    """The problems by the law's structure, a sum of products of factors."""
    known = dependence(plan.law, points.mixture.shape[0])
    factors = partial(_factors, plan.law, points, known.varies)
    return Terms(factors=factors, reads=known.reads, scale=factor, problem=problem)


def _factors(law: Law, points: Point, varies: Sequence[Sequence[bool]], theta: Array) -> list[list[Array]]:
    """The factors of each term [m or 1, t or 1, B], at theta [q, B] or, of each run its own, [q, m, B]."""
    rows = theta[:, None] if theta.ndim == 2 else theta
    found = law.factors(law.unpack(rows[:, :, None], law.part(linear=False), points.mixture.shape[0]), points)
    # What depends on nothing may be a mere number, or as wide as the volumes.
    least = (1, 1, theta.shape[-1])

    def shaped(factor: Array, along: bool) -> Array:
        wide = jnp.broadcast_to(jnp.asarray(factor, theta.dtype), jnp.broadcast_shapes(jnp.shape(factor), least))
        return wide if along else wide[:, :1]

    names = [c.name for c in law.part(linear=True)]
    return [list(map(shaped, found[name], which)) for name, which in zip(names, varies, strict=True)]


def flat(rows: Array) -> Array:
    """Rows [m, t, B] along one axis [n, B]."""
    return rows.reshape(-1, rows.shape[-1])


def take_lanes(lanes: Lanes, taken: Callable[[Array], Array]) -> Lanes:
    """Some lanes, each with the mixtures, volumes and sizes of its group."""
    group = taken(lanes.group)
    named = {name: getattr(lanes, name) for name in ("mixture", "volume", "model_size", "run", "row")}
    by_group = {name: _of_group(values, group) for name, values in named.items()}
    by_lane = {name: taken(getattr(lanes, name)) for name in ("domain", "unit", "own", "loss", "weight")}
    return Lanes(group=group, **by_group, **by_lane)


def _of_group(values: Array, group: Array) -> Array:
    """The values [..., S] of each lane's group; those of the only one are not gathered."""
    if values.shape[-1] == 1:
        return jnp.broadcast_to(values, (*values.shape[:-1], len(group)))
    return values[..., group]


def points_of(part: Lanes) -> Point:
    """What the law reads, [d, m, t, B] and [m, t, B]."""
    return Point(
        mixture=part.mixture,
        own=part.own,
        volume=part.volume,
        model_size=part.model_size,
        is_own=jnp.arange(part.mixture.shape[0])[:, None, None, None] == part.domain,
        unit=part.unit,
    )


def basis_columns(law: Law, domains: int, theta: Array, data: tuple[Point, Array]) -> list[Array]:
    """The column [n, B] of each linear coefficient at theta [q, B], each row times its factor [m, t, B]."""
    points, factor = data
    terms = law.factors(law.unpack(theta[:, None, None], law.part(linear=False), domains), points)
    return [flat(reduce(mul, terms[c.name]) * factor) for c in law.part(linear=True)]


def _problem(law: Law, domains: int, strength: Array | None, target: Array) -> Problem:
    def each(parts: Sequence[Coefficient], read: Callable[[Coefficient], float]) -> Array:
        return jnp.array([read(c) for c in parts for _ in range(c.size(domains))], target.dtype)

    linear, nonlinear = law.part(linear=True), law.part(linear=False)
    return Problem(
        target=target,
        lower=each(nonlinear, lambda c: c.lower),
        upper=each(nonlinear, lambda c: c.upper),
        linear_prior=strength
        if strength is None
        else Quadratic(
            mean=each(linear, lambda c: c.prior[0]),
            precision=strength * each(linear, lambda c: 1 / c.prior[1]),
        ),
        nonlinear_prior=strength
        if strength is None
        else Quadratic(
            mean=each(nonlinear, lambda c: np.log(c.prior[0]) if c.logarithmic else c.prior[0]),
            precision=strength * jnp.asarray(prior_root(nonlinear, domains), target.dtype),
        ),
        signed=tuple(c.lower < 0 for c in linear for _ in range(c.size(domains))),
        logarithmic=tuple(c.logarithmic for c in nonlinear for _ in range(c.size(domains))),
    )


def prior_root(parts: Sequence[Coefficient], domains: int) -> np.ndarray:
    """The square root of the inverse prior covariance of packed coefficients [q, q]."""
    root = np.diag([1 / c.prior[1] for c in parts for _ in range(c.size(domains))])
    start = 0
    for c in parts:
        stop = start + c.size(domains)
        if c.spread is not None:
            mean = np.full((domains, domains), 1 / domains)
            root[start:stop, start:stop] = (np.eye(domains) - mean) / c.spread + mean / domains**0.5 / c.prior[1]
        start = stop
    return root
