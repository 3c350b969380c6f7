"""The compiled part of a fit: chunks of lanes, one after another, each solved side by side."""

from functools import partial
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Int

from bimixjax.fitting.problem import Batch, LeastSquares, gathered, neighbours, packed_values, starts_of
from bimixjax.solve import Solution, VarPro

# Most reweighted fits of one Huber fit, and the largest change of a weight at which they stop. Set by hand.
_REWEIGHTINGS = 60
_SETTLED = 1e-7


@partial(jax.jit, static_argnames="width")
def solve_lanes(batch: Batch, first: Int[Array, " c"], width: int) -> Any:
    """Solve `width` lanes from each of the numbers `first` on, one such chunk after another.

    Lanes are numbered as resamples x sizes x targets, resamples slowest.
    """

    def solve_chunk(chunk: tuple[Array, Solution | None]) -> Any:
        number, solution = chunk
        squares = neighbours(batch, number, width)
        if solution is None:
            solution = squares.solve(starts_of(batch, squares.lane))
        if batch.criterion.huber is not None:
            squares, solution = _reweighted(squares, solution)
        return jax.tree.map(partial(jnp.moveaxis, source=-1, destination=0), batch.view(squares, solution))

    # Where a cost has one local minimum, lanes take so few steps that to move them together is no gain.
    races = isinstance(batch.solver, VarPro) and batch.law.local_minima > 1
    raced = _raced(batch, first[:, None] + jnp.arange(width)) if races else None
    if len(first) == 1:
        # One chunk has no need of a loop.
        return solve_chunk(jax.tree.map(itemgetter(0), (first, raced)))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), lax.map(solve_chunk, (first, raced)))


def _raced(batch: Batch, lanes: Int[Array, "c B"]) -> Solution:
    """Race the starts of lanes, and return their ends: leaves [c, ..., B]."""
    assert isinstance(batch.solver, VarPro)

    ends = batch.solver.race(lambda lane: gathered(batch, lane).terms, partial(starts_of, batch), lanes)
    chunks = jax.tree.map(lambda leaf: leaf.reshape(*leaf.shape[:-1], *lanes.shape), ends)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -2, 0), chunks)


def _reweighted(squares: LeastSquares, solution: Solution) -> tuple[LeastSquares, Solution]:
    """Reweight least squares until they are Huber's criterion at their own end (iteratively reweighted)."""

    def emphasis(solution: Solution) -> Float[Array, "m t B"]:
        predicted = squares.predict(packed_values(solution)).reshape(squares.loss.shape)
        return squares.batch.criterion.emphasis((predicted - squares.loss) / squares.scale)

    def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        number, given, theta = state
        found = squares.emphasized(given).solve(theta[None])
        wanted = emphasis(found)
        settled = jnp.all(jnp.abs(wanted - given) <= _SETTLED)
        return jnp.where(settled, _REWEIGHTINGS, number + 1), wanted, found.nonlinear

    start = (jnp.zeros((), int), emphasis(solution), solution.nonlinear)
    _, last, theta = lax.while_loop(lambda state: state[0] < _REWEIGHTINGS, again, start)
    weighted = squares.emphasized(last)
    return weighted, weighted.solve(theta[None])
