"""The compiled part of a fit: one law, one target, one set of observations; batched once, at the top."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from bimixjax.fitting.problem import Part, Plan, Solved, Work, basis_columns, gathered, neighbours, starts_of, terms
from bimixjax.laws import Point, Units
from bimixjax.solve import Problem, Solution, Starts, Terms, VarPro

# Reweighted fits of one Huber fit, and how little the last may have moved any weight.
_REWEIGHTINGS = 60
_SETTLED = 1e-7


@partial(jax.jit, static_argnames=("plan", "width"))
def solve_lanes(work: Work, first: Array, plan: Plan, width: int) -> Any:
    """Solve `width` lanes from each of the numbers `first` [c] on, one such chunk after another.

    Lanes are numbered as resamples x sizes x targets, resamples slowest.
    """

    def some(chunk: tuple[Array, Solution | None]) -> Any:
        kept = plan.view(_solved(work, plan, neighbours(work, plan, chunk[0], width), chunk[1]))
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), kept)

    # Where a cost has one local minimum, lanes take so few steps that to move them together is no gain.
    races = isinstance(plan.solver, VarPro) and plan.law.local_minima > 1
    raced = _raced(work, plan, first[:, None] + jnp.arange(width)) if races else None
    # One chunk has no need of a loop.
    whole = jax.tree.map(lambda leaf: leaf[0], (first, raced))
    ends = lax.map(some, (first, raced)) if len(first) > 1 else jax.tree.map(lambda leaf: leaf[None], some(whole))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), ends)


def _raced(work: Work, plan: Plan, lanes: Array) -> Solution:
    """The ends of the lanes of these numbers [c, B], whose starts race: leaves [c, ..., B]."""
    assert isinstance(plan.solver, VarPro)

    def at(lane: Array) -> Terms:
        part = gathered(work, plan, lane)
        factor = part.factor(jnp.ones_like(part.weight))
        problem = part.problem(plan, work.strength, factor)
        return terms(plan, part.points, factor, problem)

    ends = plan.solver.race(at, lambda lane: starts_of(work, plan, lane), lanes)
    chunks = jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:-1], *lanes.shape), ends)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -2, 0), chunks)


def _solved(work: Work, plan: Plan, part: Part, known: Solution | None) -> Solved:
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

    squares = fit(jnp.ones_like(part.weight), starts_of(work, plan, part.lane), known)
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
        return plan.solver.solve(terms(plan, points, factor, problem), starts)
    columns = partial(basis_columns, plan.law, points.mixture.shape[0])
    return plan.solver.solve(columns, (points, factor), problem, starts)
