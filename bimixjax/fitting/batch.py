"""The compiled part of a fit: one law, one target, one set of observations; batched once, at the top."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bimixjax._base.records import Leaf, record
from bimixjax.fitting.criterion import Criterion
from bimixjax.fitting.lanes import Lanes
from bimixjax.fitting.resamples import Bootstrap
from bimixjax.laws import Coefficient, Law, Point, ProductLaw, Units
from bimixjax.laws.dependence import dependence
from bimixjax.solve import (
    LBFGS,
    Problem,
    Product,
    Projection,
    Quadratic,
    Separated,
    Solution,
    Starts,
    Terms,
    VarPro,
    along,
    nonlinear_prior,
    products,
    unit_directions,
)

Solver = VarPro | LBFGS

# Reweighted fits of one Huber fit, and how little the last may have moved any weight.
_REWEIGHTINGS = 60
_SETTLED = 1e-7


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


@record
class Ends:
    """How each lane ended, lanes first.

    Args:
        solution: the solver's end, its cost with priors.
        values: packed coefficients [L, k] with volumes divided by their largest.
        user_values: the same in the user's unit of volume [L, k].
        to_user: derivative of the second by the first [L, k, k].
        information: J'J of the residuals [L, k, k].
        penalty: what the priors add to it [L, k, k].
        predicted: the law's losses at the observations [L, n].
        factor: what differences of losses are multiplied by [L, n]; the solver minimized the sum of their squares.
        cost: the criterion, without priors [L].
    """

    solution: Solution
    values: Leaf
    user_values: Leaf
    to_user: Leaf
    information: Leaf
    penalty: Leaf
    predicted: Leaf
    factor: Leaf
    cost: Leaf


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


@partial(jax.jit, static_argnames=("plan", "width"))
def solve_lanes(work: Work, first: Array, plan: Plan, width: int) -> Any:
    """Solve `width` lanes from each of the numbers `first` [c] on, one such chunk after another.

    Lanes are numbered as resamples x sizes x targets, resamples slowest.
    """

    def some(chunk: tuple[Array, Solution | None]) -> Any:
        kept = plan.view(_solved(work, plan, _neighbours(work, plan, chunk[0], width), chunk[1]))
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), kept)

    # Where a law has one valley, lanes take so few steps that to move them together is no gain.
    races = isinstance(plan.solver, VarPro) and plan.law.valleys > 1
    raced = _raced(work, plan, first[:, None] + jnp.arange(width)) if races else None
    # One chunk has no need of a loop.
    whole = jax.tree.map(lambda leaf: leaf[0], (first, raced))
    ends = lax.map(some, (first, raced)) if len(first) > 1 else jax.tree.map(lambda leaf: leaf[None], some(whole))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), ends)


def _raced(work: Work, plan: Plan, lanes: Array) -> Solution:
    """The ends of the lanes of these numbers [c, B], whose starts race: leaves [c, ..., B]."""
    assert isinstance(plan.solver, VarPro)

    def at(lane: Array) -> tuple[Separated, Problem]:
        part = _gathered(work, plan, lane)
        factor = part.factor(jnp.ones_like(part.weight))
        problem = part.problem(plan, work.strength, factor)
        return _separated(plan, part.points, factor, problem), problem

    ends = plan.solver.race(at, lambda lane: _starts(work, plan, lane), lanes)
    chunks = jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:-1], *lanes.shape), ends)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -2, 0), chunks)


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
        return _flat(jnp.broadcast_to(losses, self.factor.shape))

    def in_user_units(self, values: Array) -> Array:
        """Packed coefficients in the user's units [k, B]."""
        law, domains = self.plan.law, self.points.mixture.shape[0]
        named = law.with_units(law.unpack(values, law.ordered(), domains), self.to)
        return jnp.concatenate([named[c.name].reshape(c.size(domains), -1) for c in law.ordered()])


View = Callable[[Solved], Any]


def describe(solved: Solved) -> Ends:
    """All that a `FitResult` says of a lane."""
    values, problem = solved.values, solved.problem
    factor = _flat(solved.factor)
    predicted, push = jax.linearize(solved.predict, values)
    jacobian = [change * factor for change in along(push, unit_directions(values))]
    moves = jax.vmap(partial(_push, solved.in_user_units, values))(unit_directions(values))
    return Ends(
        solution=solved.solution,
        values=values,
        user_values=solved.in_user_units(values),
        to_user=jnp.moveaxis(moves, 0, 1),
        information=products(jacobian, jacobian),
        penalty=_penalty(problem, solved.solution.nonlinear, values),
        predicted=predicted,
        factor=factor,
        cost=jnp.sum(
            _flat(solved.weight) * solved.plan.criterion.value((predicted - _flat(solved.loss)) / _flat(solved.scale)),
            axis=0,
        ),
    )


def _penalty(problem: Problem, theta: Array, values: Array) -> Array:
    """What the priors add to J'J of all coefficients [k, k, B]."""
    penalty = jnp.zeros((len(values), *values.shape), values.dtype)
    linear, nonlinear = problem.linear_prior, problem.nonlinear_prior
    if linear is not None:
        penalty += jnp.diag(jnp.pad(linear.precision**2, (0, len(theta))))[:, :, None]
    if nonlinear is not None:
        curvature = nonlinear_prior(nonlinear, problem.logarithmic, theta).curvature
        count = len(values) - len(theta)
        penalty += jnp.pad(curvature, ((count, 0), (count, 0), (0, 0)))
    return penalty


@record
class Brief:
    """The little that is kept of each of very many lanes: coefficients in the user's units [L, k], and the end."""

    values: Leaf
    cost: Leaf
    steps: Leaf
    status: Leaf


def brief(solved: Solved) -> Brief:
    """What a bootstrap keeps of a lane."""
    end = solved.solution
    return Brief(values=solved.in_user_units(solved.values), cost=end.cost, steps=end.steps, status=end.status)


@record
class Scaled:
    """What cross-validation keeps of lanes: packed coefficients in the units of the lanes [L, k], and the end."""

    values: Leaf
    steps: Leaf
    status: Leaf


def scaled(solved: Solved) -> Scaled:
    """What cross-validation keeps of a lane."""
    end = solved.solution
    return Scaled(values=solved.values, steps=end.steps, status=end.status)


@partial(jax.jit, static_argnames="law")
def losses(law: Law, lanes: Lanes, values: Array) -> Array:
    """What a law says of all rows of each lane, for C times all lanes' coefficients [C, L, k]: [C, L, n]."""
    points, shape = _points(_take(lanes, lambda values: values)), lanes.loss.shape

    def one(vectors: Array) -> Array:
        named = law.unpack(vectors.T[:, None, None], law.ordered(), points.mixture.shape[0])
        return _flat(jnp.broadcast_to(law.loss(named, points), shape)).T

    return lax.map(one, values)


@dataclass(frozen=True, kw_only=True)
class _Part:
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
        return _problem(plan.law, self.points.mixture.shape[0], strength, _flat(factor * self.loss))


def _neighbours(work: Work, plan: Plan, first: Array, width: int) -> _Part:
    """The lanes from number `first` on: sliced, which is far cheaper than to gather them."""
    lane = first + jnp.arange(width)
    # With resamples, the table's lanes start over and over again.
    if work.resamples is not None:
        return _gathered(work, plan, lane)
    taken = partial(lax.dynamic_slice_in_dim, start_index=first, slice_size=width, axis=-1)
    return _part(work, plan, lane, _take(work.lanes, taken))


def _gathered(work: Work, plan: Plan, lane: Array) -> _Part:
    """The lanes of these numbers [B]."""
    count = work.lanes.group.shape[0]
    return _part(work, plan, lane, _take(work.lanes, lambda values: values[..., lane % count]))


def _part(work: Work, plan: Plan, lane: Array, taken: Lanes) -> _Part:
    weight, count = taken.weight, work.lanes.group.shape[0]
    if work.resamples is not None:
        weight = weight * work.resamples.factor(lane // count, taken.run)
    scale = plan.criterion.scale(taken.loss, weight)
    return _Part(lane=lane, points=_points(taken), loss=taken.loss, weight=weight, scale=scale)


def _starts(work: Work, plan: Plan, lane: Array) -> Starts:
    """Where lanes start: [k, q] for all, or [k, q, B] for each."""
    if work.starts is None:
        # Those of the law are constants of the program, so that it can tell what they have in common.
        return start_grid(plan.law, work.lanes.mixture.shape[0])
    return work.starts[..., lane % work.starts.shape[-1]] if work.starts.ndim == 3 else work.starts


def _solved(work: Work, plan: Plan, part: _Part, known: Solution | None) -> Solved:
    """Solve some lanes, unless their least squares are known."""

    def fit(emphasis: Array, starts: Starts, known: Solution | None = None) -> Solved:
        factor = part.factor(emphasis)
        problem = part.problem(plan, work.strength, factor)
        return Solved(
            plan=plan,
            points=part.points,
            problem=problem,
            solution=_solve(plan, part.points, factor, problem, starts) if known is None else known,
            loss=part.loss,
            weight=part.weight,
            scale=part.scale,
            factor=factor,
            to=Units(*work.units, is_own=jnp.asarray(part.points.is_own)[:, 0, 0]),
        )

    squares = fit(jnp.ones_like(part.weight), _starts(work, plan, part.lane), known)
    return squares if plan.criterion.huber is None else _reweighted(fit, squares)


def _reweighted(fit: Callable[[Array, Starts], Solved], squares: Solved) -> Solved:
    """Least squares with weights that make them Huber's criterion at their own end."""

    def emphasis(values: Array) -> Array:
        predicted = squares.predict(values).reshape(squares.loss.shape)
        return squares.plan.criterion.emphasis((predicted - squares.loss) / squares.scale)

    def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        number, given, theta = state
        solved = fit(given, theta[None])
        wanted = emphasis(solved.values)
        settled = jnp.all(jnp.abs(wanted - given) <= _SETTLED)
        return jnp.where(settled, _REWEIGHTINGS, number + 1), wanted, solved.solution.nonlinear

    start = (jnp.zeros((), int), emphasis(squares.values), squares.solution.nonlinear)
    _, last, theta = lax.while_loop(lambda state: state[0] < _REWEIGHTINGS, again, start)
    return fit(last, theta[None])


def _solve(plan: Plan, points: Point, factor: Array, problem: Problem, starts: Starts) -> Solution:
    """The solution from the best start, or as the solver says."""
    if isinstance(plan.solver, VarPro):
        return plan.solver.solve(_separated(plan, points, factor, problem), problem, starts)
    columns = partial(_columns, plan.law, points.mixture.shape[0])
    return plan.solver.solve(columns, (points, factor), problem, starts)


def _separated(plan: Plan, points: Point, factor: Array, problem: Problem) -> Separated:
    """The problems by the law's structure: a product where rows are a grid, else a sum of terms."""
    law, domains, shape = plan.law, points.mixture.shape[0], factor.shape
    target = problem.target.reshape(shape)
    if not isinstance(law, ProductLaw) or points.volume.shape[0] > 1:
        known = dependence(law, domains)
        factors = partial(_factors, law, points, known.varies)
        return Terms(factors=factors, reads=known.reads, scale=factor, target=target).separated(problem)
    rows = Product(
        share=lambda theta: _share(law, theta, points, (shape[0], shape[2])),
        curves=lambda theta: _curves(law, _named(law, theta, domains), points, shape[1:]),
        on_curve=tuple(
            c.name in law.curve_coefficients for c in law.part(linear=False) for _ in range(c.size(domains))
        ),
        factor=factor,
        target=target,
    )
    return rows.separated(problem)


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


def _named(law: Law, theta: Array, domains: int) -> dict[str, Array]:
    return law.unpack(theta[:, None, None], law.part(linear=False), domains)


def _share(law: ProductLaw, theta: Array, points: Point, shape: tuple[int, ...]) -> Array:
    """The factor of the mixture [m, B], at theta [q, B] or, for each mixture its own, [q, m, B]."""
    rows = theta[:, None] if theta.ndim == 2 else theta
    named = law.unpack(rows[:, :, None], law.part(linear=False), points.mixture.shape[0])
    return jnp.broadcast_to(law.share(named, points)[:, 0], shape)


def _curves(law: ProductLaw, named: dict[str, Array], points: Point, shape: tuple[int, ...]) -> list[Array]:
    """The curve [t, B] of each linear coefficient."""
    curves = law.curves(named, points)
    return [jnp.broadcast_to(curves[c.name][0], shape) for c in law.part(linear=True)]


def _flat(rows: Array) -> Array:
    """Rows [m, t, B] along one axis [n, B]."""
    return rows.reshape(-1, rows.shape[-1])


def _take(lanes: Lanes, taken: Callable[[Array], Array]) -> Lanes:
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


def _points(part: Lanes) -> Point:
    """What the law reads, [d, m, t, B] and [m, t, B]."""
    return Point(
        mixture=part.mixture,
        own=part.own,
        volume=part.volume,
        model_size=part.model_size,
        is_own=jnp.arange(part.mixture.shape[0])[:, None, None, None] == part.domain,
        unit=part.unit,
    )


def _columns(law: Law, domains: int, theta: Array, data: tuple[Point, Array]) -> list[Array]:
    """The column [n, B] of each linear coefficient at theta [q, B], each row times its factor [m, t, B]."""
    points, factor = data
    terms = law.basis(_named(law, theta, domains), points)
    return [_flat(terms[c.name] * factor) for c in law.part(linear=True)]


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
            precision=strength * jnp.asarray(_prior_root(nonlinear, domains), target.dtype),
        ),
        signed=tuple(c.lower < 0 for c in linear for _ in range(c.size(domains))),
        logarithmic=tuple(c.logarithmic for c in nonlinear for _ in range(c.size(domains))),
    )


def _prior_root(parts: Sequence[Coefficient], domains: int) -> np.ndarray:
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


def _push(function: Callable[[Array], Array], point: Array, direction: Array) -> Array:
    return jax.jvp(function, (point,), (direction,))[1]
