"""The compiled part of `auto`: one member law fitted to many lanes of rows, and its predictions at other points.

A lane's coefficients are z, independent standard normal by their priors. Its fit minimizes, over z,

    |whitened(log law(z) - log loss)|^2 + |z|^2

by damped Gauss-Newton steps; the curvature there gives the covariance of z. Lanes are last in every array.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from bimixjax._base.arrays import Stored
from bimixjax._base.records import record
from bimixjax.auto.noise import Noise, NoiseCovariance, kernel, places
from bimixjax.laws import Law, Point
from bimixjax.solve.linear import cholesky_solve, inverse_root
from bimixjax.solve.marquardt import Marquardt, State
from bimixjax.solve.separable import unit_directions

# A step that promises to lower a sum of squared standard deviations by less than this changes no prediction.
_TOLERANCE = 1e-3
_MOST_STEPS = 60
_DAMPING = 1e-3
_STEPS = Marquardt(relief=0.1, ease=0.1, caution=0.1, growth=8.0, most_damping=1e8, last_damping=0.0)
# No step moves a coefficient by more standard deviations of its prior.
_LONGEST = 3.0
_SAME_VOLUME = 1e-9
# Below this share of the mean fitted loss, a law's logarithm goes on along its tangent.
_LEAST_LOSS = 0.2


@record
class PackedPrior:
    """Coefficients c of standard normal z: c = exp(center + root z) or, where they may be negative, center + root z.

    Attributes:
        center: the medians, or their logarithms.
        root: a root of the covariance.
        logarithmic: which coefficients are log-normal.
    """

    center: Float[Stored, "q B"]
    root: Float[Stored, "q q"]
    logarithmic: Bool[Stored, " q"]

    def coefficients(self, z: Float[Stored, "q B"]) -> Float[Array, "q B"]:
        """Return the packed coefficients at z."""
        moved = self.center + jnp.matmul(self.root, z)
        logarithmic = self.logarithmic[:, None]
        return jnp.where(logarithmic, jnp.exp(jnp.where(logarithmic, moved, 0.0)), moved)


@record
class Rows:
    """What B lanes are fitted to, on grids of m runs x t volumes.

    Attributes:
        mixture: r.
        volume: s, over the largest.
        own: which domain each lane's target is, or -1.
        loss: log of the losses, less their mean.
        mask: 1 where a row is fitted.
        donor: log loss at a smaller model size, less its mean; 0 where none is read.
    """

    mixture: Float[Stored, "d m B"]
    volume: Float[Stored, "t B"]
    own: Int[Stored, " B"]
    loss: Float[Stored, "m t B"]
    mask: Float[Stored, "m t B"]
    donor: Float[Stored, "m t B"]


@record
class Points:
    """Points at which lanes predict.

    Attributes:
        mixture: r.
        volume: s, over the largest that was fitted.
        donor: as in `Rows`.
    """

    mixture: Float[Stored, "d Q B"]
    volume: Float[Stored, "Q B"]
    donor: Float[Stored, "Q B"]


@record
class Fitted:
    """The posterior of B lanes.

    Attributes:
        z: standardized coefficients.
        spread: inverse Cholesky factor of their curvature, so that spread' spread is their covariance.
        alpha: K^-1 y of the process: at a mixture, it is the kernel to the runs times this.
        alpha_slope: derivative of alpha by z.
        step: step effects.
        step_slope: their derivative by z.
        step_variance: their posterior variance.
        precision: P, so that the rows explain k' P k of the process's variance for a kernel k to the runs.
    """

    z: Float[Stored, "q B"]
    spread: Float[Stored, "q q B"]
    alpha: Float[Stored, "m B"]
    alpha_slope: Float[Stored, "q m B"]
    step: Float[Stored, "t B"]
    step_slope: Float[Stored, "q t B"]
    step_variance: Float[Stored, "t B"]
    precision: Float[Stored, "m m B"]


@record
class Ends:
    """The ends of B fits.

    Attributes:
        fitted: their posteriors.
        cost: the criterion.
        steps: iterations.
        value: log law at the rows, masked ones included.
        slopes: its derivative by z.
    """

    fitted: Fitted
    cost: Float[Stored, " B"]
    steps: Int[Stored, " B"]
    value: Float[Stored, "m t B"]
    slopes: Float[Stored, "q m t B"]


def log_law(law: Law, coefficients: Array, mixture: Stored, volume: Stored, own: Stored, donor: Stored) -> Array:
    """Return the log of the law at points [..., B] with packed coefficients [q, B] and mixtures [d, ..., B].

    Every model size is fitted by itself: in its place the law gets the loss of the donor.
    """
    domains, between = mixture.shape[0], (None,) * (mixture.ndim - 2)
    is_own = jnp.arange(domains)[:, *between, None] == own
    share = jnp.sum(jnp.where(is_own, mixture, 0.0), axis=0)
    named = law.unpack(coefficients[:, *between], law.ordered(), domains)
    point = Point(
        mixture=jnp.asarray(mixture), own=share, volume=jnp.asarray(volume), model_size=jnp.exp(donor), is_own=is_own
    )
    loss = law.loss(named, point)
    # The logarithm goes on along its tangent where a law falls to zero and below: finite, with slopes.
    low = loss < _LEAST_LOSS
    return jnp.where(low, loss / _LEAST_LOSS - 1, 0.0) + jnp.log(jnp.where(low, _LEAST_LOSS, loss))


@partial(jax.jit, static_argnames=("law",))
def fit_lanes(law: Law, rows: Rows, covariance: NoiseCovariance, prior: PackedPrior, starts: Array) -> Ends:
    """Fit B lanes, each from one of `starts` [q, B]."""

    def grid(z: Array) -> Array:
        mixture, volume = rows.mixture[:, :, None], rows.volume[None]
        return log_law(law, prior.coefficients(z), mixture, volume, rows.own, rows.donor)

    last = _minimize(grid, rows, covariance, starts)
    found, eye = last.model, unit_directions(starts)
    # No curvature was found where no cost is finite.
    curvature = jnp.where(jnp.isfinite(found.cost), found.curvature, eye)
    alpha, step = covariance.effects(rows.loss - found.value)
    alpha_slope, step_slope = covariance.effects(-found.slopes)
    fitted = Fitted(
        z=last.point,
        spread=inverse_root(curvature),
        alpha=alpha,
        alpha_slope=alpha_slope,
        step=step,
        step_slope=step_slope,
        step_variance=covariance.step_variance(),
        precision=covariance.precision,
    )
    return Ends(fitted=fitted, cost=found.cost, steps=last.steps, value=found.value, slopes=found.slopes)


@jax.jit
def read_grid(ends: Ends, covariance: NoiseCovariance) -> tuple[Array, Array]:
    """Return mean and variance of log losses at the runs and volumes of the grid [m, t, B], those masked included."""
    fitted, cross = ends.fitted, covariance.process
    moved = ends.slopes + _process(cross, fitted.alpha_slope)[:, :, None] + fitted.step_slope[:, None]
    variance = _along(fitted, moved) + _unexplained(covariance.noise, fitted, cross)[:, None] + fitted.step_variance
    return jnp.asarray(ends.value + _process(cross, fitted.alpha)[:, None] + fitted.step), variance


def read_mean(law: Law, fitted: Fitted, rows: Rows, noise: Noise, prior: PackedPrior, points: Points) -> Array:
    """Return the expected log losses of B lanes at their points [Q, B], less their lanes' means."""
    cross = kernel(noise, places(points.mixture), places(rows.mixture))
    found = log_law(law, prior.coefficients(fitted.z), points.mixture, points.volume, rows.own, points.donor)
    return found + _process(cross, fitted.alpha) + _at_step(fitted.step, _same(rows, points))


def read_variance(law: Law, fitted: Fitted, rows: Rows, noise: Noise, prior: PackedPrior, points: Points) -> Array:
    """Return the variance of measured log losses about their expectation, noise included [Q, B]."""
    cross, same = kernel(noise, places(points.mixture), places(rows.mixture)), _same(rows, points)

    def found(z: Array) -> Array:
        return log_law(law, prior.coefficients(z), points.mixture, points.volume, rows.own, points.donor)

    _, push = jax.linearize(found, fitted.z)
    slopes = jax.vmap(push)(unit_directions(jnp.asarray(fitted.z)))
    moved = slopes + _process(cross, fitted.alpha_slope) + _at_step(fitted.step_slope, same)
    new = noise.step**2 * (1 - jnp.sum(same, axis=-2))
    return _along(fitted, moved) + _unexplained(noise, fitted, cross) + _at_step(fitted.step_variance, same) + new


@partial(jax.jit, static_argnames=("law",))
def read_lanes(
    law: Law, fitted: Fitted, rows: Rows, noise: Noise, prior: PackedPrior, points: Points
) -> tuple[Array, Array]:
    """Return mean and variance of log losses at points, for lanes of a study."""
    return (read_mean(law, fitted, rows, noise, prior, points), read_variance(law, fitted, rows, noise, prior, points))


def _process(cross: Stored, alpha: Stored) -> Array:
    """Return the process [..., a, B] at points with covariances [a, m, B] to the runs, for its alpha [..., m, B]."""
    return jnp.einsum("amB,...mB->...aB", cross, alpha)


def _same(rows: Rows, points: Points) -> Array:
    """Say which fitted volume each point is at: 1 or 0 [Q, t, B]. Padded volumes, without rows, are none."""
    near = jnp.abs(points.volume[:, None] - rows.volume) <= _SAME_VOLUME * rows.volume
    near = near & jnp.any(rows.mask > 0, axis=0)
    return near.astype(rows.volume.dtype)


def _at_step(step: Stored, same: Array) -> Array:
    return jnp.einsum("QtB,...tB->...QB", same, step)


def _along(fitted: Fitted, moved: Stored) -> Array:
    """Return the variance of what changes with z by [q, ..., B]."""
    return jnp.sum(jnp.einsum("pqB,q...B->p...B", fitted.spread, moved) ** 2, axis=0)


def _unexplained(noise: Noise, fitted: Fitted, cross: Array) -> Array:
    """Return the variance of the process, of a run of its own and of a row of its own, at points [a, B]."""
    explained = jnp.sum(cross * jnp.einsum("abB,bcB->acB", cross, fitted.precision), axis=1)
    return noise.process**2 - explained + noise.run**2 + noise.white**2


@record
class _Model:
    """The criterion at z, and what of it the fit keeps.

    Attributes:
        cost: |whitened residuals|^2 + |z|^2.
        gradient: half its gradient.
        curvature: its Gauss-Newton matrix.
        value: log law at the rows.
        slopes: its derivative by z.
    """

    cost: Float[Array, " B"]
    gradient: Float[Array, "q B"]
    curvature: Float[Array, "q q B"]
    value: Float[Array, "m t B"]
    slopes: Float[Array, "q m t B"]


def _minimize(grid: Callable[[Array], Array], rows: Rows, covariance: NoiseCovariance, starts: Array) -> State:
    """Minimize |whitened(grid(z) - loss)|^2 + |z|^2 from `starts` [q, B]."""
    eye, lanes = unit_directions(starts), starts.shape[1]

    def linearize(z: Array) -> _Model:
        value, push = jax.linearize(grid, z)
        slopes = jax.vmap(push)(eye)
        residual, jacobian = covariance.whiten((value - rows.loss) * rows.mask), covariance.whiten(slopes * rows.mask)
        return _Model(
            cost=jnp.sum(residual**2, axis=0) + jnp.sum(z**2, axis=0),
            gradient=jnp.sum(jacobian * residual, axis=1) + z,
            curvature=jnp.einsum("iRB,jRB->ijB", jacobian, jacobian) + eye,
            value=value,
            slopes=slopes,
        )

    def step(z: Array, model: _Model, damping: Array) -> Array:
        moved = -cholesky_solve(model.curvature * (1 + damping * eye), model.gradient)
        return moved / jnp.maximum(1.0, jnp.max(jnp.abs(moved), axis=0) / _LONGEST)

    return _STEPS.run(
        linearize,
        step,
        lambda cost: _TOLERANCE * (1 + 1e-2 * cost),
        starts,
        damping=jnp.full(lanes, _DAMPING),
        done=jnp.zeros(lanes, bool),
        most=_MOST_STEPS,
    )
