"""One member on some lanes of cells: fit it, read it on the grids and at points, and leave parts out."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from bimixjax.auto.grids import Cells
from bimixjax.auto.law_values import Points
from bimixjax.auto.left_out import leave_out
from bimixjax.auto.member import (
    MOST_STEPS,
    Fitted,
    Linearized,
    PackedPrior,
    Posterior,
    Rows,
    cross_and_same,
    fit_lanes,
    law_at,
    mean_at,
    variance_at,
)
from bimixjax.auto.members import Member, prior_of, relative_level
from bimixjax.auto.noise import Noise, NoiseCovariance

# Noise of log losses about every member: of a row, of a step over all runs, of a run over all its steps.
# Set on draws 0-4 of a table of 26 runs x 4 sizes (arXiv 2403.16952, `data/5Mix`); scores of other draws choose anew
# from the same runs.
WHITE, STEP, RUN = 0.006, 0.006, 0.003


@dataclass(frozen=True, kw_only=True)
class Block:
    """One member on some lanes of cells: their rows, prior and noise.

    Attributes:
        member: which.
        rows: what is fitted.
        prior: of each lane.
        covariance: the noise of their rows, of one lane where all have the same.
        part: of the runs that are left out in turn, if all lanes have the same.
    """

    member: Member
    rows: Rows
    prior: PackedPrior
    covariance: NoiseCovariance
    part: Int[np.ndarray, " m"]

    @classmethod
    def of(cls, member: Member, cells: Cells, lanes: Int[np.ndarray, "b 3"]) -> "Block":
        """Read the lanes and factor their noise, once for all with the same rows."""
        first, place = same_rows(cells, lanes)
        mixture, mask = cells.mixture[lanes[first, 0]], cells.masks(lanes[first])
        noise = NoiseCovariance.of(noise_of(member), np.moveaxis(mixture, 0, -1), np.moveaxis(mask, 0, -1))
        return cls(
            member=member,
            rows=cells.rows(lanes),
            prior=lane_priors(member, cells, lanes),
            covariance=noise.lanes(place),
            part=cells.part[lanes[0, 0]],
        )

    def fit(self, starts: Float[np.ndarray, "q b"], most: int = MOST_STEPS) -> tuple[Fitted, Linearized]:
        """Fit all lanes, each from one start, in so many steps."""
        law = self.member.law
        z = np.asarray(fit_lanes(law, self.rows, self.covariance, self.prior, starts, most).point)
        about = self.at(z)
        alpha, step = self.covariance.effects(self.rows.loss - about.value)
        return Fitted(z=z, alpha=alpha, step=step), about

    def at(self, z: Float[np.ndarray, "q b"]) -> Linearized:
        """Linearize the log law about z."""
        return self.rows.evaluate(self.member.law, self.prior, z)

    def grid(self, fitted: Fitted, about: Linearized) -> tuple[np.ndarray, np.ndarray]:
        """Compute mean and variance of log losses on the grids [m, t, b], rows masked included."""
        shape, points = self.rows.loss.shape, self.rows.points()
        cross, same = cross_and_same(self.covariance.noise, self.rows, points)
        posterior = Posterior.of(self.covariance, about.slopes)
        mean = mean_at(fitted, about.value.reshape(-1, shape[-1]), cross, same)
        slopes = about.slopes.reshape(len(about.z), -1, shape[-1])
        variance = variance_at(self.covariance.noise, posterior, slopes, cross, same)
        return mean.reshape(shape), variance.reshape(shape)

    def left_out(self, about: Linearized) -> Float[np.ndarray, "2 m t b"]:
        """Predict the log losses of each part from the other parts, in closed form."""
        spread = Posterior.of(self.covariance, about.slopes).spread
        return leave_out(self.covariance, self.part, self.rows.loss, about, np.asarray(spread))

    def read(self, fitted: Fitted, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """Predict log losses at points: mean and variance [Q, b]."""
        noise, z = self.covariance.noise, np.asarray(fitted.z)
        value, slopes = law_at(self.member.law, self.prior, z, self.rows.own, points)
        slopes = np.tensordot(self.prior.root, slopes, axes=(0, 0))
        cross, same = cross_and_same(noise, self.rows, points)
        posterior = Posterior.of(self.covariance, self.at(z).slopes)
        return mean_at(fitted, value, cross, same), variance_at(noise, posterior, slopes, cross, same)


def noise_of(member: Member) -> Noise:
    """Return the noise of log losses about a member."""
    return Noise(white=WHITE, step=STEP, run=RUN, process=member.process, length=member.length)


def lane_priors(member: Member, cells: Cells, lanes: Int[np.ndarray, "L 3"]) -> PackedPrior:
    """Build the priors of a member in some lanes."""
    cell, target, _ = lanes.T
    center = np.where(cells.mask.any((1, 2)), cells.center, np.nan)
    return prior_of(member, cells.mixture.shape[1], relative_level(center, cells.own)[cell, target], cells.own[target])


def same_rows(cells: Cells, lanes: Int[np.ndarray, "L 3"]) -> tuple[Int[np.ndarray, " P"], Int[np.ndarray, " L"]]:
    """Find the first of all lanes that have the same rows, and which of these each lane is like."""
    bits = np.packbits(cells.masks(lanes).reshape(len(lanes), -1).astype(bool), axis=1)
    _, first, place = np.unique(np.column_stack([lanes[:, 0], bits]), axis=0, return_index=True, return_inverse=True)
    return first, place.reshape(-1)
