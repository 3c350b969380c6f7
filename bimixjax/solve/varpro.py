"""Variable projection with Levenberg-Marquardt steps, from one start per problem or from many that race.

Problems of many unknowns have many valleys, and take from ten to two hundred steps. So starts take turns of a few
steps; after the second and each one after that, the worse half of those of a problem is dropped. What is left moves
together, so that no chunk of problems waits for its slowest.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from bimixjax._base.records import record
from bimixjax.solve import precision as _precision
from bimixjax.solve.marquardt import Standing, advanced, at_start
from bimixjax.solve.precision import Precision
from bimixjax.solve.separable import Problem, Separated, Starts, lowest, of_lanes
from bimixjax.solve.solution import Solution, Status

# Steps of a turn, in each of which one evaluation is lost.
_TURN = 8

# From the numbers [B] of problems to these problems, their linear unknowns eliminated.
At = Callable[[Array], tuple[Separated, Problem]]


@dataclass(frozen=True, kw_only=True)
class VarPro:
    """Settings of the variable-projection solver.

    Args:
        starts: how many of the given starts, the best by cost, race; None: 1, and in a fit as many as the law has
            valleys.
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

    def solve(self, rows: Separated, problem: Problem, starts: Starts) -> Solution:
        """Solve B problems, each from the best of `starts` [k, q], or of starts of its own [k, q, B]."""
        theta = _best(rows, starts, rows.rounding.shape[0], 1)[0]
        begun = at_start(theta, len(problem.signed))
        return _solution(advanced(rows, problem, begun, self.max_steps, self.tolerance))

    def race(self, at: At, starts: Callable[[Array], Starts], lanes: Array) -> Solution:
        """Solve problems by number.

        Args:
            at: from numbers to these problems.
            starts: from numbers to the starts of these problems, as in `solve`.
            lanes: numbers of all problems, as many side by side as are in a row [c, B].

        Returns:
            The best end of each, in the order of `lanes` [cB].
        """
        return _solution(_Race(settings=self, at=at, lanes=lanes).run(starts))


@record
class _Course:
    """How many turns are over, where all starts stand [.., k x cB], and which of them still run [k x cB]."""

    turns: Array
    standing: Standing
    running: Array


@dataclass(frozen=True, kw_only=True)
class _Race:
    """Starts of problems, each start a job; those of one start are neighbours."""

    settings: VarPro
    at: At
    lanes: Array

    def run(self, starts: Callable[[Array], Starts]) -> Standing:
        """The best end of each problem."""
        standing, racing = self._begun(starts)
        turn = partial(self._turn, racing=racing)
        begun = _Course(turns=jnp.asarray(0), standing=standing, running=jnp.ones(standing.done.shape, bool))
        end = lax.while_loop(lambda course: jnp.any(course.running), turn, begun).standing
        best = jnp.argmin(end.cost.reshape(racing, -1), axis=0)
        return jax.tree.map(lambda leaf: leaf[..., best * self.lanes.size + jnp.arange(self.lanes.size)], end)

    def _begun(self, starts: Callable[[Array], Starts]) -> tuple[Standing, int]:
        """All jobs at their starts, and how many each problem has."""

        def some(numbers: Array) -> Standing:
            rows, problem = self.at(numbers)
            thetas = _best(rows, starts(numbers), len(numbers), self.settings.starts or 1)
            return jax.vmap(partial(at_start, unknowns=len(problem.signed)))(thetas)

        begun = lax.map(some, self.lanes)
        racing = begun.done.shape[1]
        # From [c, k, ..., B] to [..., k x cB].
        jobs = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, (1, 0), (-3, -2)), begun)
        return jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:-3], -1), jobs), racing

    def _turn(self, course: _Course, racing: int) -> _Course:
        """Some steps of every job that runs, these moved together."""
        width = self.lanes.shape[1]
        order, going = jnp.argsort(~course.running, stable=True), jnp.sum(course.running)
        most = jnp.minimum(_TURN, self.settings.max_steps - course.turns * _TURN)

        def some(chunk: Array, standing: Standing) -> Standing:
            place = chunk * width + jnp.arange(width)
            # The last chunk is filled up with jobs that have stopped, and of which nothing is kept.
            job = order[jnp.minimum(place, len(order) - 1)]
            return self._advanced(standing, job, place < going, most)

        standing = lax.fori_loop(0, -(-going // width), some, course.standing)
        turns = course.turns + 1
        running = ~standing.done & (turns * _TURN < self.settings.max_steps)
        return _Course(turns=turns, standing=standing, running=running & _ahead(standing, racing, turns))

    def _advanced(self, standing: Standing, job: Array, runs: Array, most: Array) -> Standing:
        """All jobs, after some steps of those of the given numbers that run."""
        rows, problem = self.at(self.lanes.reshape(-1)[job % self.lanes.size])
        part = jax.tree.map(lambda leaf: leaf[..., job], standing)
        part = dataclasses.replace(part, done=part.done | ~runs)
        moved = advanced(rows, problem, part, most, self.settings.tolerance)
        place = jnp.where(runs, job, standing.done.shape[0])
        return jax.tree.map(lambda whole, new: whole.at[..., place].set(new, mode="drop"), standing, moved)


def _ahead(standing: Standing, racing: int, turns: Array) -> Array:
    """Whether a job is among the best of its problem: all, after the second turn half of them, then a quarter, to one.

    What a start is worth shows late where a law has many valleys, so that none is dropped after its first turn.
    """
    costs = standing.cost.reshape(racing, -1)
    rank = jnp.argsort(jnp.argsort(costs, axis=0, stable=True), axis=0)
    return (rank < jnp.maximum(1, racing >> (turns - 1))).reshape(-1)


def _best(rows: Separated, starts: Starts, lanes: int, count: int) -> Array:
    """The `count` starts of least cost of each lane [count, q, B]; an only one needs no evaluation to be chosen."""
    thetas = of_lanes(starts, lanes)
    return lowest(rows.scan(starts), thetas, count) if len(starts) > count else thetas


def _solution(end: Standing) -> Solution:
    ended = jnp.where(end.done, Status.CONVERGED, Status.STEP_LIMIT)
    return Solution(
        nonlinear=end.theta,
        linear=end.linear,
        cost=end.cost,
        steps=end.steps,
        status=jnp.where(jnp.isfinite(end.cost), ended, Status.NOT_FINITE),
    )
