"""Fit one member law to many lanes of rows, and predict at other points.

A lane's coefficients are z, independent standard normal by their priors. Its fit minimizes, over z,

    (log law(z) - log loss)' S^-1 (log law(z) - log loss) + |z|^2

by damped Gauss-Newton steps; the curvature there gives the covariance of z. Lanes are last in every array.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from bimixjax._base.arrays import Stored
from bimixjax._base.records import record
from bimixjax.auto import law_values
from bimixjax.auto.law_values import Pairs, Points
from bimixjax.auto.noise import Noise, NoiseCovariance, kernel, times
from bimixjax.laws import Law
from bimixjax.solve.marquardt import Marquardt, Quadratic, State

# A step that promises to lower a sum of squared standard deviations by less than this changes no prediction.
_TOLERANCE = 1e-3
MOST_STEPS = 60
_DAMPING = 1e-3
_STEPS = Marquardt(relief=0.1, ease=0.1, caution=0.1, growth=8.0, most_damping=1e8, last_damping=0.0)
# No step moves a coefficient by more standard deviations of its prior.
_LONGEST = 3.0
# Volumes that differ by no more than this part of them are one volume.
SAME_VOLUME = 1e-9


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

    def coefficients(self, z: Float[Stored, "q B"]) -> Float[Stored, "q B"]:
        """Return the packed coefficients at z; NumPy or JAX, as all arrays here."""
        moved, logarithmic = self.center + self.root @ z, self.logarithmic[:, None]
        space = moved.__array_namespace__()
        return space.where(logarithmic, space.exp(space.where(logarithmic, moved, 0.0)), moved)

    def scale(self, coefficients: Float[np.ndarray, "q B"]) -> Float[np.ndarray, "q B"]:
        """Return the slopes of the coefficients by root z, of which z is the standardized form."""
        return np.where(self.logarithmic[:, None], coefficients, 1.0)

    def lanes(self, index: Int[np.ndarray, " b"]) -> "PackedPrior":
        """Take some of the lanes."""
        return PackedPrior(center=self.center[:, index], root=self.root, logarithmic=self.logarithmic)


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
        unique: unique tokens of each domain in the unit of `volume`, infinite for no limit; None where nobody says.
    """

    mixture: Float[np.ndarray, "d m B"]
    volume: Float[np.ndarray, "t B"]
    own: Int[np.ndarray, " B"]
    loss: Float[np.ndarray, "m t B"]
    mask: Float[np.ndarray, "m t B"]
    donor: Float[np.ndarray, "m t B"]
    unique: Float[np.ndarray, "d m B"] | None = None

    def lanes(self, index: Int[np.ndarray, " b"]) -> "Rows":
        """Take some of the lanes."""

        def taken(values: Any) -> Any:
            return None if values is None else values[..., index]

        return Rows(**{name: taken(getattr(self, name)) for name in Rows.__dataclass_fields__})

    def points(self) -> Points:
        """Return all points of the grids, volumes fastest."""
        runs, volumes, lanes = self.loss.shape
        return Points(
            mixture=np.repeat(self.mixture, volumes, axis=1),
            volume=np.tile(self.volume, (runs, 1)),
            donor=self.donor.reshape(-1, lanes),
            unique=None if self.unique is None else np.repeat(self.unique, volumes, axis=1),
        )

    def evaluate(self, law: Law, prior: PackedPrior, z: Float[np.ndarray, "q B"]) -> "Linearized":
        """Evaluate the log law on the grids, rows masked included, and its slopes by z."""
        value, slopes = law_at(law, prior, z, self.own, self.points())
        by_z = np.tensordot(prior.root, slopes, axes=(0, 0))
        return Linearized(z=z, value=value.reshape(self.loss.shape), slopes=by_z.reshape(-1, *self.loss.shape))


def law_at(
    law: Law, prior: PackedPrior, z: Float[np.ndarray, "q B"], own: Int[np.ndarray, " B"], points: Points
) -> tuple[Float[np.ndarray, "Q B"], Float[np.ndarray, "q Q B"]]:
    """Evaluate the log law at the points of each lane, and its slopes by root z; those by z are root' times them."""
    coefficients = np.asarray(prior.coefficients(z))
    value, slopes = law_values.values_and_slopes(law, coefficients, Pairs.of(own, points))
    return value, np.swapaxes(slopes * prior.scale(coefficients)[..., None], 1, 2)


@record
class Linearized:
    """A law on the rows of B lanes, about their fits.

    Attributes:
        z: the fits.
        value: log law on the grids.
        slopes: its derivative by z.
    """

    z: Float[np.ndarray, "q B"]
    value: Float[np.ndarray, "m t B"]
    slopes: Float[np.ndarray, "q m t B"]

    def lanes(self, index: Int[np.ndarray, " b"]) -> "Linearized":
        """Take some of the lanes."""
        return Linearized(z=self.z[:, index], value=self.value[..., index], slopes=self.slopes[..., index])


@record
class Fitted:
    """The fits of B lanes: what predictions need.

    Attributes:
        z: standardized coefficients.
        alpha: S^-1 times residuals, summed over each run: at a mixture, the process is the kernel to the runs times it.
        step: step effects.
    """

    z: Float[Stored, "q B"]
    alpha: Float[Stored, "m B"]
    step: Float[Stored, "t B"]


@record
class Posterior:
    """How sure the fits of B lanes are: what follows from where their rows are, and from slopes at the fits.

    Attributes:
        spread: inverse Cholesky factor of the curvature, so that spread' spread is the covariance of z.
        alpha_slope: derivative of alpha by z.
        step_slope: derivative of the step effects by z.
        step_variance: their posterior variance.
        precision: P, so that the rows explain k' P k of the process's variance for a kernel k to the runs.
    """

    spread: Float[Stored, "q q B"]
    alpha_slope: Float[Stored, "q m B"]
    step_slope: Float[Stored, "q t B"]
    step_variance: Float[Stored, "t B"]
    precision: Float[Stored, "m m B"]

    @classmethod
    def of(cls, covariance: NoiseCovariance, slopes: Float[np.ndarray, "q m t B"]) -> "Posterior":
        """Derive it from slopes of the log law by z at the fit."""
        alpha_slope, step_slope = covariance.effects(-slopes)
        curvature = np.moveaxis(covariance.products(slopes), -1, 0) + np.eye(len(slopes))
        # No curvature was found where no cost is finite.
        sound = np.isfinite(curvature).all((1, 2), keepdims=True)
        lower = np.linalg.cholesky(np.where(sound, curvature, np.eye(len(slopes))))
        return cls(
            spread=np.moveaxis(np.linalg.inv(lower), 0, -1),
            alpha_slope=alpha_slope,
            step_slope=step_slope,
            step_variance=covariance.step_variance(),
            precision=covariance.precision,
        )


def fit_lanes(
    law: Law,
    rows: Rows,
    covariance: NoiseCovariance,
    prior: PackedPrior,
    starts: Float[np.ndarray, "q B"],
    most: int = MOST_STEPS,
) -> State:
    """Fit B lanes, each from one start, in so many steps: their z are the `point` of what is returned."""
    eye = np.eye(len(starts))[..., None]
    # Slopes by z are slopes by root z times the root, which is cheaper to apply to their products.
    root = np.eye(len(starts) + 1)
    root[:-1, :-1] = prior.root

    def linearize(z: np.ndarray, at: np.ndarray) -> Quadratic:
        some = rows.lanes(at)
        value, slopes = law_at(law, prior.lanes(at), z, some.own, some.points())
        columns = np.concatenate([slopes, (value - some.loss.reshape(value.shape))[None]])
        products = covariance.lanes(at).products(columns.reshape(-1, *some.loss.shape))
        products = np.moveaxis(root.T @ np.moveaxis(products, -1, 0) @ root, 0, -1)
        return Quadratic(
            cost=products[-1, -1] + (z**2).sum(0),
            gradient=products[:-1, -1] + z,
            curvature=products[:-1, :-1] + eye,
        )

    def step(z: np.ndarray, model: Quadratic, damping: np.ndarray) -> np.ndarray:
        matrix = np.moveaxis(np.asarray(model.curvature * (1 + damping * eye)), -1, 0)
        # Where a cost is not finite no step is taken, whatever it is.
        matrix = np.where(np.isfinite(model.cost)[:, None, None], matrix, eye[..., 0])
        moved = -np.linalg.solve(matrix, np.asarray(model.gradient).T[..., None])[..., 0].T
        return moved / np.maximum(1.0, np.abs(moved).max(0) / _LONGEST)

    return _STEPS.run_on_host(
        linearize,
        step,
        lambda cost: _TOLERANCE * (1 + 1e-2 * cost),
        starts,
        damping=np.full(starts.shape[1], _DAMPING),
        most=most,
    )


def mean_at(
    fitted: Fitted, value: Float[np.ndarray, "Q B"], cross: Float[np.ndarray, "Q m B"], same: Float[np.ndarray, "Q t B"]
) -> Float[np.ndarray, "Q B"]:
    """Compute the expected log losses at points, less their lanes' means.

    Args:
        fitted: the fits.
        value: log law at the points.
        cross: covariance of the process between the points and the runs.
        same: 1 where a point is at a fitted volume.
    """
    return value + times(cross, fitted.alpha) + times(same, fitted.step)


def variance_at(
    noise: Noise,
    posterior: Posterior,
    slopes: Float[np.ndarray, "q Q B"],
    cross: Float[np.ndarray, "Q m B"],
    same: Float[np.ndarray, "Q t B"],
) -> Float[np.ndarray, "Q B"]:
    """Compute the variance of measured log losses about their expectation, noise included; arguments as `mean_at`."""
    moved = slopes + times(cross, posterior.alpha_slope) + times(same, posterior.step_slope)
    along = (times(posterior.spread, np.swapaxes(moved, 0, 1)) ** 2).sum(1)
    explained = (cross * times(posterior.precision, cross)).sum(1)
    own = noise.process**2 - explained + noise.run**2 + noise.white**2
    return along + own + times(same, posterior.step_variance) + noise.step**2 * (1 - same.sum(1))


def cross_and_same(
    noise: Noise, rows: Rows, points: Points
) -> tuple[Float[np.ndarray, "Q m B"], Float[np.ndarray, "Q t B"]]:
    """Compute covariances of the process between points and runs, and which fitted volume each point is at."""
    volume = np.asarray(points.volume)[:, None]
    # Padded volumes, without rows, are none.
    near = (np.abs(volume - rows.volume) <= SAME_VOLUME * rows.volume) & (rows.mask > 0).any(0)
    return kernel(noise, np.asarray(points.mixture), rows.mixture), near.astype(float)
