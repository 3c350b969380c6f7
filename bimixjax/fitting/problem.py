"""The least squares of lanes: what a batch of fits reads, what the law makes of it, and where it starts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import mul
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int

from bimixjax._base.arrays import Stored
from bimixjax._base.records import record, static
from bimixjax.fitting.criterion import Criterion
from bimixjax.fitting.lanes import Lanes
from bimixjax.fitting.options import Solver
from bimixjax.fitting.resamples import Bootstrap
from bimixjax.laws import Law, Point, Units
from bimixjax.laws.dependence import dependence
from bimixjax.laws.prior import packed_root
from bimixjax.solve import Problem, Projection, Solution, Starts, Terms, VarPro


@record
class Batch:
    """Fits of one law to many lanes, and how they are computed.

    Attributes:
        law: the law.
        solver, criterion: how its coefficients are found, and what they minimize.
        view: what is kept of solved lanes.
        chunk: how many lanes are solved side by side.
        lanes: the table; every resample fits all of its lanes.
        resamples: weights of the runs in each resample, or None for one fit of the table as it is.
        starts: packed non-linear coefficients to start from, for all lanes, or for each lane, or each lane of each
            resample, its own; None for those of the law.
        units: those of the lanes' volumes and sizes in the user's.
        strength: the weight of a prior one standard deviation off, in relative residuals; None for no priors.
    """

    law: Law = static()
    solver: Solver | Projection = static()
    criterion: Criterion = static()
    view: "View" = static()
    chunk: int = static()
    lanes: Lanes
    resamples: Bootstrap | None
    starts: Float[Stored, "k q"] | Float[Stored, "k q L"] | None
    units: tuple[Float[Stored, ""], Float[Stored, ""]]
    strength: Float[Stored, ""] | None

    def __len__(self) -> int:
        return self.lanes.group.shape[0] * (1 if self.resamples is None else self.resamples.count)

    @property
    def domains(self) -> int:
        """How many domains the mixtures have."""
        return self.lanes.mixture.shape[0]

    @property
    def unknowns(self) -> int:
        """How many non-linear coefficients each lane has."""
        return len(self.law.packed(self.domains, linear=False))

    @property
    def racing(self) -> int:
        """How many starts of a lane are in memory at once."""
        if not isinstance(self.solver, VarPro):
            return 1
        return len(self.starts) if self.starts is not None else self.solver.starts or 1


def start_grid(law: Law, domains: int) -> Float[np.ndarray, "k q"]:
    """Return the product grid of a law's starting values, and its draws, as packed non-linear coefficients.

    Draws are about the medians of the priors, half as wide as these, the same in every fit.
    """
    grid, parts, noise = law.starts(), law.part(linear=False), np.random.default_rng(0)
    points = np.stack(np.meshgrid(*(grid[c.name] for c in parts), indexing="ij"), axis=-1).reshape(-1, len(parts))
    columns = []
    for c, values in zip(parts, points.T, strict=True):
        width = 0.5 * min(c.prior[1], c.spread or c.prior[1])
        moved = width * noise.normal(size=(law.draws, c.size(domains)))
        drawn = np.clip(c.prior[0] * np.exp(moved) if c.logarithmic else c.prior[0] + moved, c.lower, c.upper)
        columns.append(np.concatenate([np.tile(values[:, None], c.size(domains)), drawn]))
    return np.concatenate(columns, axis=1)


@dataclass(frozen=True, kw_only=True)
class LeastSquares:
    """The least squares of B lanes: the sum over rows of (factor (predicted - measured))^2, and the priors.

    Attributes:
        batch: the batch that these lanes are of.
        lane: their numbers in it.
        points: what the law reads, [d, m, t, B] and [m, t, B].
        loss: measured losses.
        weight: weights of the criterion.
        scale: what residuals are divided by.
        factor: sqrt(weight) / scale, also times the root of the criterion's emphasis on each row.
    """

    batch: Batch
    lane: Int[Array, " B"]
    points: Point
    loss: Float[Array, "m t B"]
    weight: Float[Array, "m t B"]
    scale: Float[Array, "m t B"]
    factor: Float[Array, "m t B"]

    @classmethod
    def of(cls, batch: Batch, lane: Int[Array, " B"], taken: Lanes) -> "LeastSquares":
        """Weight some lanes of a batch as their resamples say."""
        loss, weight = jnp.asarray(taken.loss), jnp.asarray(taken.weight)
        if batch.resamples is not None:
            weight = weight * batch.resamples.factor(lane // batch.lanes.group.shape[0], jnp.asarray(taken.run))
        scale, points = batch.criterion.scale(loss, weight), points_of(taken)
        factor = jnp.sqrt(weight) / scale
        return cls(batch=batch, lane=lane, points=points, loss=loss, weight=weight, scale=scale, factor=factor)

    def emphasized(self, emphasis: Float[Array, "m t B"]) -> "LeastSquares":
        """Multiply the weights by the criterion's emphasis on each row."""
        return replace(self, factor=jnp.sqrt(self.weight * emphasis) / self.scale)

    @property
    def problem(self) -> Problem:
        """The target, bounds and priors that a solver reads."""
        law, domains, strength, dtype = self.batch.law, self.batch.domains, self.batch.strength, self.loss.dtype
        linear, nonlinear = law.packed(domains, linear=True), law.packed(domains, linear=False)
        logarithmic = tuple(c.logarithmic for c in nonlinear)
        lower, upper, middle = np.array([(c.lower, c.upper, c.prior[0]) for c in nonlinear]).reshape(-1, 3).T
        mean, deviation = np.array([c.prior for c in linear]).reshape(-1, 2).T
        linear_prior = nonlinear_prior = None
        if strength is not None:
            strength = jnp.asarray(strength)
            linear_prior = jnp.asarray(mean, dtype), strength * jnp.asarray(1 / deviation, dtype)
            parts = law.part(linear=False)
            root = packed_root([c.weak_prior for c in parts], [c.size(domains) for c in parts], power=-1)
            center = np.log(middle, out=middle.copy(), where=logarithmic)
            nonlinear_prior = jnp.asarray(center, dtype), strength * jnp.asarray(root, dtype)
        return Problem(
            target=flat(self.factor * self.loss),
            lower=jnp.asarray(lower, dtype),
            upper=jnp.asarray(upper, dtype),
            linear_prior=linear_prior,
            nonlinear_prior=nonlinear_prior,
            signed=tuple(c.lower < 0 for c in linear),
            logarithmic=logarithmic,
        )

    @property
    def terms(self) -> Terms:
        """The problem by the law's structure, a sum of products of factors."""
        reads, varies = dependence(self.batch.law, self.batch.domains)
        factors = partial(_factors, self.batch.law, self.points, varies)
        return Terms(factors=factors, reads=reads, scale=self.factor, problem=self.problem)

    def solve(self, starts: Starts) -> Solution:
        """Solve from the best start, or as the solver says."""
        solver = self.batch.solver
        if isinstance(solver, VarPro):
            return solver.solve(self.terms, starts)
        columns = partial(basis_columns, self.batch.law, self.batch.domains)
        return solver.solve(columns, (self.points, self.factor), self.problem, starts)

    def predict(self, values: Float[Array, "k B"]) -> Float[Array, "n B"]:
        """Predict the losses of the rows with packed coefficients."""
        law = self.batch.law
        losses = law.loss(law.unpack(values[:, None, None], law.ordered(), self.batch.domains), self.points)
        return flat(jnp.broadcast_to(losses, self.loss.shape))

    def in_user_units(self, values: Float[Array, "k B"]) -> Float[Array, "k B"]:
        """Convert packed coefficients to the user's units."""
        law, domains = self.batch.law, self.batch.domains
        units = Units(*self.batch.units, is_own=jnp.asarray(self.points.is_own)[:, 0, 0])
        named = law.with_units(law.unpack(values, law.ordered(), domains), units)
        return jnp.concatenate([named[c.name].reshape(c.size(domains), -1) for c in law.ordered()])


# What is kept of solved lanes.
View = Callable[[LeastSquares, Solution], Any]


def packed_values(solution: Solution) -> Float[Array, "k B"]:
    """Join all coefficients of a solution, the linear ones first."""
    return jnp.concatenate([solution.linear, solution.nonlinear])


def neighbours(batch: Batch, first: Int[Array, ""], width: int) -> LeastSquares:
    """Take the lanes from number `first` on: sliced, which is far cheaper than to gather them."""
    lane = first + jnp.arange(width)
    # With resamples, the table's lanes start over and over again.
    if batch.resamples is not None:
        return gathered(batch, lane)
    taken = partial(lax.dynamic_slice_in_dim, start_index=first, slice_size=width, axis=-1)
    return LeastSquares.of(batch, lane, take_lanes(batch.lanes, taken))


def gathered(batch: Batch, lane: Int[Array, " B"]) -> LeastSquares:
    """Take the lanes of these numbers."""
    count = batch.lanes.group.shape[0]
    return LeastSquares.of(batch, lane, take_lanes(batch.lanes, lambda values: values[..., lane % count]))


def starts_of(batch: Batch, lane: Int[Array, " B"]) -> Starts:
    """Return where lanes start: [k, q] for all, or [k, q, B] for each."""
    if batch.starts is None:
        return start_grid(batch.law, batch.domains)
    return batch.starts[..., lane % batch.starts.shape[-1]] if batch.starts.ndim == 3 else batch.starts


def _factors(
    law: Law, points: Point, varies: Sequence[Sequence[bool]], theta: Float[Array, "q *m B"]
) -> list[list[Float[Array, "m_or_1 t_or_1 B"]]]:
    """Compute the factors of each term at theta, that of the lane or of each run its own."""
    rows = theta[:, None] if theta.ndim == 2 else theta
    found = law.factors(law.unpack(rows[:, :, None], law.part(linear=False), points.mixture.shape[0]), points)
    shaped = []
    for c, along in zip(law.part(linear=True), varies, strict=True):
        shaped.append([])
        for factor, varied in zip(found[c.name], along, strict=True):
            # What depends on nothing may be a mere number, or as wide as the volumes.
            shape = jnp.broadcast_shapes(jnp.shape(factor), (1, 1, theta.shape[-1]))
            wide = jnp.broadcast_to(jnp.asarray(factor, theta.dtype), shape)
            shaped[-1].append(wide if varied else wide[:, :1])
    return shaped


def flat(rows: Float[Array, "m t B"]) -> Float[Array, "n B"]:
    """Lay rows along one axis."""
    return rows.reshape(-1, rows.shape[-1])


def take_lanes(lanes: Lanes, taken: Callable[[Stored], Stored]) -> Lanes:
    """Take some lanes, each with the mixtures, volumes and sizes of its group."""
    group, found = taken(lanes.group), {}
    for name in ("domain", "unit", "own", "loss", "weight"):
        found[name] = taken(getattr(lanes, name))
    shared = ("mixture", "volume", "model_size", "run", "row", *(() if lanes.unique is None else ("unique",)))
    for name in shared:
        values = getattr(lanes, name)
        # Those of an only group are not gathered.
        alone = values.shape[-1] == 1
        found[name] = jnp.broadcast_to(values, (*values.shape[:-1], len(group))) if alone else values[..., group]
    return Lanes(group=group, **found)


def points_of(lanes: Lanes) -> Point:
    """Return what the law reads of lanes, [d, m, t, B] and [m, t, B]."""
    # No limit has an axis of lanes too: a solver may map over it.
    unique = np.full((1, 1, 1, len(lanes.domain)), np.inf) if lanes.unique is None else lanes.unique
    return Point(
        mixture=jnp.asarray(lanes.mixture),
        own=jnp.asarray(lanes.own),
        volume=jnp.asarray(lanes.volume),
        model_size=jnp.asarray(lanes.model_size),
        is_own=jnp.arange(lanes.mixture.shape[0])[:, None, None, None] == lanes.domain,
        unit=lanes.unit,
        unique=jnp.asarray(unique, lanes.volume.dtype),
    )


def basis_columns(
    law: Law, domains: int, theta: Float[Array, "q B"], data: tuple[Point, Float[Array, "m t B"]]
) -> list[Float[Array, "n B"]]:
    """Compute the column of each linear coefficient at theta, each row times its factor."""
    points, factor = data
    terms = law.factors(law.unpack(theta[:, None, None], law.part(linear=False), domains), points)
    return [flat(reduce(mul, terms[c.name]) * factor) for c in law.part(linear=True)]
