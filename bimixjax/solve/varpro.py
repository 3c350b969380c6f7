"""Variable projection with Levenberg-Marquardt steps, from one start per problem or from many that race.

Problems of many unknowns have many local minima, and take from ten to two hundred steps. So starts take turns of a few
steps; after the second and each one after that, the worse half of those of a problem is dropped. What is left moves
together, so that no chunk of problems waits for its slowest.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from bimixjax._base.records import record
from bimixjax.solve import linear as _linear, precision as _precision
from bimixjax.solve.marquardt import COST_ROUNDINGS, Marquardt
from bimixjax.solve.precision import Precision
from bimixjax.solve.separable import Columns, Model, Problem, Starts, lowest, of_lanes, project
from bimixjax.solve.solution import Solution, Status
from bimixjax.solve.terms import Terms

_DAMPING = 1e-2
_STEPS = Marquardt(relief=0.1, ease=0.5, caution=3.0, growth=6.0, most_damping=1e12, last_damping=_DAMPING)

# Costs nearer than this share of them are one cost.
_SAME_COST = 1e-13

# Steps of a turn, in each of which one evaluation is repeated: set by hand.
_TURN = 8

# From the numbers [B] of problems to these problems.
At = Callable[[Array], Terms]


@dataclass(frozen=True, kw_only=True)
class VarPro:
    """Settings of the variable-projection solver.

    Attributes:
        starts: how many of the given starts, the best by cost, race; None: 1, and in a fit as many as the law has
            local minima.
        max_steps: iterations per start.
        tolerance: stop when a step promises to lower the cost by less than this share of it.
        precision: "float64"; "float32", for iterations only: the end is then described in float64; "refined", float64
            iterations from there. None: float64, but float32 where a device has no float64 of its own, as TPUs.

    Raises:
        InputError: for another precision.
    """

    starts: int | None = None
    max_steps: int = 1000
    tolerance: float = 1e-12
    precision: Precision | None = None

    def __post_init__(self) -> None:
        _precision.check(self.precision)

    def solve(self, rows: Terms, starts: Starts) -> Solution:
        """Solve B problems, each from the best of `starts` [k, q], or of starts of its own [k, q, B]."""
        thetas = of_lanes(starts, rows.rounding.shape[0])
        theta = lowest(rows.scan(starts), thetas, 1)[0] if len(thetas) > 1 else thetas[0]
        return advanced(rows, *_begun(theta, len(rows.problem.signed)), self.max_steps, self.tolerance)[0]

    def race(self, at: At, starts: Callable[[Array], Starts], lanes: Array) -> Solution:
        """Solve problems by number.

        Args:
            at: from numbers to these problems.
            starts: from numbers to the starts of these problems, as in `solve`.
            lanes: numbers of all problems, as many side by side as are in a row [c, B].

        Returns:
            The best end of each, in the order of `lanes` [cB].
        """
        return _Race(settings=self, at=at, lanes=lanes).run(starts)


@record
class _Course:
    """A race after some turns.

    Attributes:
        turns: how many are over.
        ends: where all starts are, jobs last.
        damping: of the next step of each job.
        running: which jobs still run.
    """

    turns: Int[Array, ""]
    ends: Solution
    damping: Float[Array, " jobs"]
    running: Bool[Array, " jobs"]


@dataclass(frozen=True, kw_only=True)
class _Race:
    """Starts of problems, each start a job; those of one start are neighbours."""

    settings: VarPro
    at: At
    lanes: Int[Array, "c B"]

    def run(self, starts: Callable[[Array], Starts]) -> Solution:
        """Return the best end of each problem."""

        def some(numbers: Array) -> tuple[Solution, Array]:
            rows = self.at(numbers)
            given, count = starts(numbers), self.settings.starts or 1
            thetas = of_lanes(given, len(numbers))
            thetas = lowest(rows.scan(given), thetas, count) if len(thetas) > count else thetas
            return jax.vmap(partial(_begun, unknowns=len(rows.problem.signed)))(thetas)

        begun = lax.map(some, self.lanes)
        racing = begun[1].shape[1]
        # From [c, k, ..., B] to [..., k x cB].
        begun = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, (1, 0), (-3, -2)), begun)
        ends, damping = jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:-3], -1), begun)
        first = _Course(turns=jnp.asarray(0), ends=ends, damping=damping, running=jnp.ones(damping.shape, bool))
        end = lax.while_loop(lambda course: jnp.any(course.running), partial(self._turn, racing), first).ends
        best = jnp.argmin(end.cost.reshape(racing, -1), axis=0)
        return jax.tree.map(lambda leaf: leaf[..., best * self.lanes.size + jnp.arange(self.lanes.size)], end)

    def _turn(self, racing: int, course: _Course) -> _Course:
        """Take some steps of every job that runs, these moved together."""
        width, settings = self.lanes.shape[1], self.settings
        order, running = jnp.argsort(~course.running, stable=True), jnp.sum(course.running)
        most = jnp.minimum(_TURN, settings.max_steps - course.turns * _TURN)

        def some(chunk: Array, jobs: tuple[Solution, Array]) -> tuple[Solution, Array]:
            place = chunk * width + jnp.arange(width)
            # The last chunk is filled up with jobs that have stopped, and of which nothing is kept.
            job = order[jnp.minimum(place, len(order) - 1)]
            rows = self.at(self.lanes.reshape(-1)[job % self.lanes.size])
            part, damping = jax.tree.map(lambda leaf: leaf[..., job], jobs)
            part = dataclasses.replace(part, status=jnp.where(place < running, part.status, Status.CONVERGED))
            moved = advanced(rows, part, damping, most, settings.tolerance)
            kept = jnp.where(place < running, job, len(order))
            return jax.tree.map(lambda whole, new: whole.at[..., kept].set(new, mode="drop"), jobs, moved)

        ends, damping = lax.fori_loop(0, -(-running // width), some, (course.ends, course.damping))
        turns = course.turns + 1
        going = (ends.status == Status.STEP_LIMIT) & (turns * _TURN < settings.max_steps)
        return _Course(turns=turns, ends=ends, damping=damping, running=going & _ahead(ends.cost, racing, turns))


def _ahead(cost: Float[Array, " jobs"], racing: int, turns: Array) -> Array:
    """Say which jobs are among the best of their problem: all, after two turns half of them, then a quarter, to one.

    What a start is worth shows late where a cost has many local minima, so that none is dropped after its first turn.
    """
    rank = jnp.argsort(jnp.argsort(cost.reshape(racing, -1), axis=0, stable=True), axis=0)
    return (rank < jnp.maximum(1, racing >> (turns - 1))).reshape(-1)


def _begun(theta: Float[Array, "q B"], unknowns: int) -> tuple[Solution, Array]:
    """Return lanes at theta, of `unknowns` linear coefficients, before their first step; and their damping."""
    lanes = theta.shape[1]
    begun = Solution(
        nonlinear=theta,
        linear=jnp.zeros((unknowns, lanes), theta.dtype),
        cost=jnp.full(lanes, jnp.inf, theta.dtype),
        steps=jnp.zeros(lanes, jnp.int32),
        status=jnp.full(lanes, Status.STEP_LIMIT, jnp.int32),
    )
    return begun, jnp.full(lanes, _DAMPING, theta.dtype)


def advanced(
    rows: Terms, begun: Solution, damping: Array, most: Array | int, tolerance: float
) -> tuple[Solution, Array]:
    """Return lanes after at most so many more steps, and their damping; those that had stopped stay.

    Steps do not depend on how they are parted into turns, so lanes end where they would have ended in one go.
    """
    done = begun.status != Status.STEP_LIMIT
    step = partial(_bounded_step, rows)

    def negligible(cost: Array) -> Array:
        return _precision.share(tolerance, cost.dtype) * cost + rows.rounding

    last = _STEPS.run(rows.linearize, step, negligible, begun.nonlinear, damping=damping, done=done, most=most)
    # A cost tells two points apart to the root of the rounding only, and a gradient to the rounding itself. So an
    # undamped step is taken where the cost does not rise by more than rounding, and lanes end at the same point
    # whatever else is in their chunk.
    theta = jnp.asarray(last.point + step(jnp.asarray(last.point), last.model, jnp.zeros_like(damping)))
    linear, cost = rows.project(theta)
    slack = _SAME_COST + _precision.slack(COST_ROUNDINGS, theta.dtype)
    taken = last.done & (cost <= last.model.cost * (1 + slack) + rows.rounding)
    cost = jnp.where(taken, cost, last.model.cost)
    end = Solution(
        nonlinear=jnp.where(taken, theta, last.point),
        linear=jnp.where(taken, linear, last.model.linear),
        cost=cost,
        steps=begun.steps + last.steps,
        status=jnp.where(
            jnp.isfinite(cost), jnp.where(last.done, Status.CONVERGED, Status.STEP_LIMIT), Status.NOT_FINITE
        ).astype(jnp.int32),
    )
    return jax.tree.map(lambda new, old: jnp.where(done, old, new), (end, last.damping), (begun, damping))


def _bounded_step(
    rows: Terms, theta: Float[Array, "q B"], model: Model, damping: Float[Array, " B"]
) -> Float[Array, "q B"]:
    """Solve (H + damping diag H) s = -g in the coordinates that are free to move, and clip the step to the bounds."""
    lower, upper = rows.problem.lower[:, None], rows.problem.upper[:, None]
    at_bound = ((theta <= lower) & (model.gradient > 0)) | ((theta >= upper) & (model.gradient < 0))
    curvature = _linear.of_diagonal(model.curvature)
    # A coefficient on which the rows do not depend must stay where it is, not wander on rounding.
    free = ~at_bound & model.identified
    damped = model.curvature + _linear.diagonal(damping / rows.one * curvature)
    step, _ = _linear.solve(_linear.masked(damped, free), jnp.where(free, -model.gradient, 0.0)[:, None])
    return jnp.clip(theta + step[:, 0], lower, upper) - theta


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Take the best of the starts, within bounds, for the end: its best linear coefficients, and the cost there.

    So the end of a float32 solve gets what float64 makes of its non-linear coefficients.
    """

    def solve(self, columns: Columns, data: Any, problem: Problem, starts: Starts) -> Solution:
        """Solve B separable problems, given by their columns, at one of the given points."""
        own = of_lanes(starts, problem.target.shape[-1])

        def projected(theta: Array) -> tuple[Array, Array]:
            return project(columns(theta, data), problem, theta)

        theta = own[0] if len(own) == 1 else lowest(lax.map(lambda theta: projected(theta)[1], own), own, 1)[0]
        theta = jnp.clip(theta, problem.lower[:, None], problem.upper[:, None])
        linear, cost = projected(theta)
        status = jnp.where(jnp.isfinite(cost), Status.CONVERGED, Status.NOT_FINITE)
        return Solution(nonlinear=theta, linear=linear, cost=cost, steps=jnp.zeros(len(cost), jnp.int32), status=status)
