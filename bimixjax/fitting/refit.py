"""A fit of one law as a function of the losses it is fitted to, and of how much each row counts.

A fit minimizes F(c; y, w) over coefficients c, for losses y and weights w of the rows. At its end the slope by those
that are free is zero, and stays so as y and w move (the implicit function theorem):

    dc / dy = -(d^2 F / dc^2)^-1 d^2 F / dc dy,    dc / dw = -(d^2 F / dc^2)^-1 d^2 F / dc dw

over the free coefficients; those at a bound do not move.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from bimixjax._base.checks import InputError
from bimixjax.fitting import devices
from bimixjax.fitting.batch import solve_lanes
from bimixjax.fitting.diagnostics import at_bound
from bimixjax.fitting.lanes import Table
from bimixjax.fitting.one_law import prepared, reported
from bimixjax.fitting.options import FitOptions
from bimixjax.fitting.problem import Batch, LeastSquares, gathered, take_lanes
from bimixjax.fitting.result import FitResult
from bimixjax.fitting.views import scaled
from bimixjax.laws import Law
from bimixjax.observations import Observations
from bimixjax.solve import nonlinear_prior

# Directions in which the criterion is this much flatter than in the steepest one, coefficients scaled alike, do not
# move: no row says how.
_FLAT = 1e-11

# From a solver's end, that is off by the root of its tolerance, two steps reach the rounding of the criterion.
_NEWTON_STEPS, _ROUNDED = 2, 1e-10


@dataclass(frozen=True, kw_only=True)
class Refit:
    """A law fitted to a table, to be fitted again to other losses or weights of the same rows, inside any transform.

    Attributes:
        fit: of the table as it is.
        losses: y of the table's rows and the fit's targets, in nats per token; NaN where missing.

    Example:
        >>> import jax, pandas as pd
        >>> from bimixjax import Observations, refit
        >>> table = {"run": ["a", "b"], "mixture/x": [0.25, 1.0], "mixture/y": [0.75, 0.0], "loss/x": [4.0, 2.0]}
        >>> again = refit("bimix", Observations.from_frame(pd.DataFrame(table)), priors=False)
        >>> def predicted(losses):
        ...     return again(losses).predict([0.5, 0.5])[0]
        >>> slopes = jax.grad(predicted)(again.losses)  # The loss at r = 1/2 is the root of the product of both.
        >>> [round(float(slope), 4) for slope in slopes.ravel()]
        [0.3536, 0.7071]
    """

    fit: FitResult
    losses: Float[np.ndarray, "n T"]
    _table: Table
    _batch: Batch

    def __call__(self, losses: ArrayLike | None = None, weights: ArrayLike | None = None) -> FitResult:
        """Fit again, from where the first fit ended; differentiable to first order in losses and weights.

        Args:
            losses: y [n, T]; missing ones stay missing. By default those of the table.
            weights: what the squared residuals of each row count [n], by default 1; they multiply those of the fit.

        Returns:
            The fit with other coefficients; all else that it says, such as statuses and standard errors, is that of
            the table.

        Raises:
            InputError: for arrays of another shape.
        """
        y = jnp.asarray(self.losses if losses is None else losses)
        w = jnp.ones(len(self.losses)) if weights is None else jnp.asarray(weights)
        if y.shape != self.losses.shape or w.shape != self.losses.shape[:1]:
            got = f"losses {list(y.shape)} and weights {list(w.shape)}"
            raise InputError(f"got {got}; allowed: {list(self.losses.shape)} and [{len(self.losses)}], as in the table")
        row, lanes, count = np.asarray(self._batch.lanes.row), self._batch.lanes, y.shape[1]
        # Rows of padding, and those that were not fitted, keep what they had.
        fitted, place = np.asarray(lanes.weight) > 0, np.maximum(row, 0)
        of_rows = jnp.repeat(w[place], count, axis=-1)
        of_losses = y[place].reshape(*row.shape[:2], -1)
        with jax.enable_x64(True):
            loss = jnp.where(fitted, of_losses.astype(float), np.asarray(lanes.loss))
            weight = jnp.where(fitted, of_rows.astype(float) * np.asarray(lanes.weight), 0.0)
            values = _ends(self._batch, loss, weight)
            values = _in_user_units(self._batch, values)
            law, domains = self.fit.law, self._batch.domains
            fixed = np.stack([law.fixed(domains, own) for own in np.asarray(lanes.domain)])
            values = jnp.where(np.isnan(fixed), values, np.nan_to_num(fixed))
        return dataclasses.replace(self.fit, values=values)

    def influence(self, quantity: Callable[[FitResult], Any]) -> dict[str, np.ndarray]:
        """Estimate how a quantity of the fit would change, had each run been left out.

        To first order in the weight of the run, -dq/dw (the infinitesimal jackknife).

        Args:
            quantity: from a fit to an array, such as a prediction, or the best proportions by
                `Objective.optimal_proportions`.

        Returns:
            For each run, in the order of the table, what would be added to the quantity.

        Source: Jaeckel, The infinitesimal jackknife (1972).
        """
        runs = self._table.observations.run.astype(str)
        names = list(dict.fromkeys(runs.tolist()))
        slopes = jax.jacrev(lambda w: quantity(self(weights=w)))(np.ones(len(runs)))
        slopes = np.asarray(slopes)
        return {name: -slopes[..., runs == name].sum(-1) for name in names}


def refit(law: Law | str, observations: Observations, **options: Unpack[FitOptions]) -> Refit:
    """Fit a law to a table, so that it can be fitted again to other losses and weights under `jax.grad` and `jax.jit`.

    Args:
        law: a name in `LAWS`, or a law.
        observations: measured losses.
        **options: see `FitOptions`.

    Returns:
        The fit as a function, see `Refit`.

    Raises:
        InputError: as `fit`.

    Example:
        >>> import jax, pandas as pd
        >>> from bimixjax import Observations, refit
        >>> table = {"run": ["a", "b"], "mixture/x": [0.25, 1.0], "mixture/y": [0.75, 0.0], "loss/x": [4.0, 2.0]}
        >>> again = refit("bimix", Observations.from_frame(pd.DataFrame(table)), priors=False)
        >>> round(float(again(2 * again.losses).predict([0.5, 0.5])[0]), 4)
        5.6569
    """
    table, batch = prepared(law, observations, **options)
    ends = devices.solve(batch)
    batch = dataclasses.replace(batch, view=scaled, starts=np.asarray(ends.solution.nonlinear).T[None])
    return Refit(fit=reported(table, batch, ends), losses=table.losses, _table=table, _batch=batch)


@jax.custom_jvp
def _ends(batch: Batch, loss: Float[Array, "m t L"], weight: Float[Array, "m t L"]) -> Float[Array, "L k"]:
    """Solve the lanes with other losses and weights: packed coefficients in the units of the lanes."""
    with jax.enable_x64(True):
        lanes = dataclasses.replace(batch.lanes, loss=loss, weight=weight)
        values = solve_lanes(dataclasses.replace(batch, lanes=lanes), jnp.zeros(1, int), loss.shape[-1]).values
        return _polished(batch, values, loss, weight)


def _ends_jvp(primals: tuple[Batch, Array, Array], tangents: tuple[Any, Array, Array]) -> tuple[Array, Array]:
    batch, loss, weight = primals
    with jax.enable_x64(True):
        values = _ends(batch, loss, weight)
        slopes, change = _slopes(batch, values, loss, weight), jnp.zeros_like(values)
    # Jacobians times tangents: `_base.float64` says why.
    for slope, tangent in zip(slopes, tangents[1:], strict=True):
        if not isinstance(tangent, SymbolicZero):
            change += jnp.sum(slope * jnp.moveaxis(tangent, -1, 0)[:, None], axis=(2, 3))
    return values, change


_ends.defjvp(_ends_jvp, symbolic_zeros=True)


@jax.jit
def _polished(
    batch: Batch, values: Float[Array, "L k"], loss: Float[Array, "m t L"], weight: Float[Array, "m t L"]
) -> Float[Array, "L k"]:
    """Take Newton steps from where the solver ended, which is as near as a fit needs, but not as its slopes do."""

    def one(lane: Array, c: Array, free: Bool[Array, " k"], y: Array, w: Array) -> Array:
        def criterion(c: Array) -> Array:
            return _criterion(_one_lane(batch, lane, y, w), c)

        for _ in range(_NEWTON_STEPS):
            gradient, curvature = jax.grad(criterion)(c), jax.hessian(criterion)(c)
            moved = c - _inverse(curvature, free) @ gradient
            inside = ~jnp.any(free & at_bound(batch.law, batch.domains, moved))
            # At its minimum a criterion tells steps apart only as far as it is rounded.
            c = jnp.where(inside & (criterion(moved) <= (1 + _ROUNDED) * criterion(c)), moved, c)
        return c

    free = ~at_bound(batch.law, batch.domains, values)
    lanes = jnp.arange(loss.shape[-1])
    return jax.vmap(one, in_axes=(0, 0, 0, -1, -1))(lanes, values, free, loss, weight)


@jax.jit
def _slopes(
    batch: Batch, values: Float[Array, "L k"], loss: Float[Array, "m t L"], weight: Float[Array, "m t L"]
) -> tuple[Float[Array, "L k m t"], Float[Array, "L k m t"]]:
    """Compute the slopes of each lane's coefficients by the losses and the weights of its rows."""

    def one(lane: Array, c: Array, free: Bool[Array, " k"], y: Array, w: Array) -> tuple[Array, Array]:
        def criterion(c: Array, y: Array, w: Array) -> Array:
            return _criterion(_one_lane(batch, lane, y, w), c)

        inverse = _inverse(jax.hessian(criterion)(c, y, w), free)
        by_loss, by_weight = jax.jacfwd(jax.grad(criterion, argnums=(1, 2)))(c, y, w)
        return -jnp.tensordot(inverse, by_loss, axes=(1, 2)), -jnp.tensordot(inverse, by_weight, axes=(1, 2))

    free = ~at_bound(batch.law, batch.domains, values)
    lanes = jnp.arange(loss.shape[-1])
    return jax.vmap(one, in_axes=(0, 0, 0, -1, -1))(lanes, values, free, loss, weight)


def _criterion(squares: LeastSquares, c: Float[Array, " k"]) -> Float[Array, ""]:
    """Evaluate what a fit of one lane minimizes, priors included."""
    batch, problem = squares.batch, squares.problem
    residual = (squares.predict(c[:, None]).reshape(squares.loss.shape) - squares.loss) / squares.scale
    cost = jnp.sum(squares.weight * batch.criterion.value(residual))
    count = len(batch.law.packed(batch.domains, linear=True))
    if problem.linear_prior is not None:
        mean, precision = problem.linear_prior
        cost += jnp.sum(((c[:count] - mean) * precision) ** 2)
    if problem.nonlinear_prior is not None:
        cost += jnp.sum(nonlinear_prior(problem.nonlinear_prior, problem.logarithmic, c[count:, None])[0])
    return cost


def _inverse(curvature: Float[Array, "k k"], free: Bool[Array, " k"]) -> Float[Array, "k k"]:
    """Invert the curvature over the free coefficients and the directions that the rows determine; 0 in the others."""
    size = jnp.sqrt(jnp.abs(jnp.diagonal(curvature)))
    scale = jnp.where(free & (size > 0), 1 / jnp.where(size > 0, size, 1.0), 0.0)
    values, vectors = jnp.linalg.eigh(curvature * scale[:, None] * scale)
    kept = jnp.abs(values) > _FLAT * jnp.max(jnp.abs(values))
    inverse = (vectors * jnp.where(kept, 1 / jnp.where(kept, values, 1.0), 0.0)) @ vectors.T
    return inverse * scale[:, None] * scale


def _one_lane(batch: Batch, lane: Array, loss: Float[Array, "m t"], weight: Float[Array, "m t"]) -> LeastSquares:
    found = gathered(batch, lane[None])
    scale = batch.criterion.scale(loss[..., None], weight[..., None])
    return dataclasses.replace(
        found, loss=loss[..., None], weight=weight[..., None], scale=scale, factor=jnp.sqrt(weight[..., None]) / scale
    )


def _in_user_units(batch: Batch, values: Float[Array, "L k"]) -> Float[Array, "L k"]:
    """Convert packed coefficients to the user's units."""
    # All lanes as they lie: to gather them would trace the table where only the coefficients are traced.
    every = LeastSquares.of(batch, jnp.arange(len(values)), take_lanes(batch.lanes, lambda lanes: lanes))
    return every.in_user_units(values.T).T
