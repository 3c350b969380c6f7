"""Variable projection: least squares that are linear in some unknowns, iterated over the others only.

For given theta the best linear coefficients c(theta) are a small non-negative least-squares problem, solved exactly.
What remains is a problem in theta, for which Levenberg-Marquardt takes Kaufman's approximation: the Gauss-Newton matrix
of the full problem with the linear block eliminated by its Schur complement.

Source: Golub and Pereyra, SIAM J. Numer. Anal. 10 (1973); Kaufman, BIT 15 (1975).
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax

from bimixjax._records import record
from bimixjax.solve import _tiny
from bimixjax.solve.solution import Solution, Status

Columns = Callable[[Array], Array]


@record
class Quadratic:
    """Independent normal priors: a sum of ((x - mean) precision)^2; a precision of zero is no prior."""

    mean: Array
    precision: Array


@record
class Problem:
    """One separable least-squares problem: the sum over rows of (columns(theta) c - target)^2, plus priors.

    Args:
        target: right-hand side [n]; a masked row is zero here and in the columns.
        lower, upper: bounds on theta [q].
        linear_prior: prior on c [p]; nonlinear_prior: prior on log theta [q].
    """

    target: Array
    lower: Array
    upper: Array
    linear_prior: Quadratic
    nonlinear_prior: Quadratic


@dataclass(frozen=True, kw_only=True)
class VarPro:
    """Settings of the variable-projection solver.

    Args:
        starts: how many of the given starts, the best by cost, are iterated.
        max_steps: iterations per start.
        tolerance: stop when a step promises to lower the cost by less than this share of it.
    """

    starts: int = 3
    max_steps: int = 200
    tolerance: float = 1e-12

    def solve(self, columns: Columns, problem: Problem, starts: Array, signed: tuple[bool, ...]) -> Solution:
        """Solve one problem from the best of `starts` [k, q]; `columns` maps theta [q] to [n, p]."""
        costs = jax.vmap(lambda theta: project(columns(theta), problem, theta, signed)[1])(starts)
        order = jnp.argsort(jnp.where(jnp.isfinite(costs), costs, jnp.inf))[: self.starts]
        ends = jax.vmap(lambda theta: self._iterate(columns, problem, theta, signed))(starts[order])
        best = jnp.argmin(jnp.where(jnp.isfinite(ends.cost), ends.cost, jnp.inf))
        return jax.tree.map(lambda leaf: leaf[best], ends)

    def _iterate(self, columns: Columns, problem: Problem, theta: Array, signed: tuple[bool, ...]) -> Solution:
        def advance(state: _State) -> _State:
            return _advance(columns, problem, state, signed, self.tolerance)

        first = _State(
            theta=theta,
            model=_linearize(columns, problem, theta, signed),
            damping=jnp.asarray(1e-3, theta.dtype),
            steps=jnp.asarray(0),
            done=jnp.asarray(False),
        )
        last = lax.while_loop(lambda s: ~s.done & (s.steps < self.max_steps), advance, first)
        ended = jnp.where(last.done, Status.CONVERGED, Status.STEP_LIMIT)
        status = jnp.where(jnp.isfinite(last.model.cost), ended, Status.NOT_FINITE)
        return Solution(
            nonlinear=last.theta, linear=last.model.linear, cost=last.model.cost, steps=last.steps, status=status
        )


@record
class _Model:
    """The projected problem around one theta: cost, c, and the reduced gradient [q] and curvature [q, q]."""

    cost: Array
    linear: Array
    gradient: Array
    curvature: Array


@record
class _State:
    theta: Array
    model: _Model
    damping: Array
    steps: Array
    done: Array


def project(values: Array, problem: Problem, theta: Array, signed: tuple[bool, ...]) -> tuple[Array, Array, Array]:
    """The best c for given columns [n, p], the cost there, and the support of c."""
    prior = problem.linear_prior
    gram = values.T @ values + jnp.diag(prior.precision**2)
    moment = values.T @ problem.target + prior.precision**2 * prior.mean
    linear, support = _tiny.nonnegative_least_squares(gram, moment, signed)
    return linear, criterion(values, linear, problem, theta), support


def criterion(values: Array, linear: Array, problem: Problem, theta: Array) -> Array:
    """What is minimized: the sum of squared residuals and squared priors."""
    prior = problem.linear_prior
    residual = values @ linear - problem.target
    linear_cost = jnp.sum((prior.precision * (linear - prior.mean)) ** 2)
    return residual @ residual + linear_cost + jnp.sum(_log_prior(problem, theta) ** 2)


def _log_prior(problem: Problem, theta: Array) -> Array:
    prior = problem.nonlinear_prior
    held = prior.precision > 0
    return jnp.where(held, prior.precision * (jnp.log(jnp.where(held, theta, 1.0)) - prior.mean), 0.0)


def _linearize(columns: Columns, problem: Problem, theta: Array, signed: tuple[bool, ...]) -> _Model:
    directions = jnp.eye(theta.shape[0], dtype=theta.dtype)
    values, push = jax.linearize(columns, theta)
    linear, cost, support = project(values, problem, theta, signed)
    slopes = jax.vmap(lambda direction: push(direction) @ linear, out_axes=1)(directions)
    residual = values @ linear - problem.target
    active = jnp.where(support, values, 0.0)
    gram = values.T @ values + jnp.diag(problem.linear_prior.precision**2)
    factor, _ = _tiny.cholesky(_tiny.masked(gram, support))
    mixed = active.T @ slopes
    eliminated = jax.vmap(lambda column: _tiny.substitute(factor, column), in_axes=1, out_axes=1)(mixed)
    log_prior = _log_prior(problem, theta)
    log_slope = problem.nonlinear_prior.precision / theta
    log_slope = jnp.where(problem.nonlinear_prior.precision > 0, log_slope, 0.0)
    return _Model(
        cost=cost,
        linear=linear,
        gradient=slopes.T @ residual + log_slope * log_prior,
        curvature=slopes.T @ slopes - mixed.T @ eliminated + jnp.diag(log_slope**2),
    )


def _advance(columns: Columns, problem: Problem, state: _State, signed: tuple[bool, ...], tolerance: float) -> _State:
    """One damped step, taken if it lowers the cost; the damping falls after a good step and grows after a bad one."""
    model = state.model
    step = _bounded_step(problem, state)
    trial = _linearize(columns, problem, state.theta + step, signed)
    promised = -(2 * model.gradient @ step + step @ model.curvature @ step)
    achieved = model.cost - trial.cost
    better = achieved > 0
    floor = jnp.finfo(step.dtype).eps * jnp.sum(problem.target**2)
    small = promised <= tolerance * model.cost + floor * jnp.finfo(step.dtype).eps
    stuck = ~better & (state.damping > 1e12)
    damping = jnp.where(better, jnp.maximum(state.damping / 10, 1e-12), state.damping * 8)
    theta = jnp.where(better, state.theta + step, state.theta)
    return _State(
        theta=theta,
        model=jax.tree.map(lambda new, old: jnp.where(better, new, old), trial, model),
        damping=damping,
        steps=state.steps + 1,
        done=small | stuck | ~jnp.isfinite(model.cost),
    )


def _bounded_step(problem: Problem, state: _State) -> Array:
    """The Levenberg-Marquardt step in the coordinates that are free to move, clipped to the bounds."""
    theta, model = state.theta, state.model
    held = ((theta <= problem.lower) & (model.gradient > 0)) | ((theta >= problem.upper) & (model.gradient < 0))
    diagonal = jnp.diag(model.curvature)
    # A direction without curvature (a coefficient that the rows say nothing of) must stay where it is.
    flat = diagonal <= jnp.finfo(theta.dtype).eps * jnp.max(diagonal)
    free = ~held & ~flat
    factor, _ = _tiny.cholesky(_tiny.masked(model.curvature + state.damping * jnp.diag(diagonal), free))
    step = _tiny.substitute(factor, jnp.where(free, -model.gradient, 0.0))
    return jnp.clip(theta + step, problem.lower, problem.upper) - theta
