"""Move the members of `auto` to where other weights of the runs lead them, without fitting them again.

With slopes J of the log law at the fitted z and the noise's covariance S under the weights, see `NoiseCovariance`, the
criterion has its minimum, were the law linear, at

    z' = (I + J' S^-1 J)^-1 J' S^-1 (log loss - log law(z) + J z)

Two more Gauss-Newton steps follow, with the residuals at z' but the same J, both in the gradient and in the curvature:
with fresh slopes in the gradient alone, laws with many coefficients leave the curved valley of their criterion. Alpha
and step effects are those of the last residuals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import jax
import numpy as np
from jaxtyping import Float

from bimixjax._base.arrays import Stored
from bimixjax._base.records import record
from bimixjax.auto import law_values
from bimixjax.auto.averaging import MemberFit, weigh
from bimixjax.auto.block import lane_priors, noise_of, same_rows
from bimixjax.auto.law_values import Pairs
from bimixjax.auto.member import PackedPrior, Rows
from bimixjax.auto.member_fits import Stack
from bimixjax.auto.members import Member
from bimixjax.auto.noise import NoiseCovariance
from bimixjax.auto.one_size import Path
from bimixjax.fitting import devices

# Resamples in one product of matrices, of which each thread works on its own. `benchmarks/auto.py` times them; no
# script here chose 32.
_RESAMPLES = 32

# Steps after the first; tests/auto/test_resampling.py measures how close they come to full fits.
_CORRECTIONS = 2

# The most standard deviations of its prior by which a step moves a coefficient, as in a fit.
_LONGEST = 3.0


@record
class Reweighted:
    """The members of one model size in R resamples of its runs.

    Attributes:
        z, alpha, step: of each member as in `Fitted`, resamples first and targets last.
        weights: of the members in the average.
        path: what the process adds in each, where they are draws from the posterior of a fit.
    """

    z: tuple[Float[Stored, "R q T"], ...]
    alpha: tuple[Float[Stored, "R m T"], ...]
    step: tuple[Float[Stored, "R t T"], ...]
    weights: Float[Stored, "R M T"]
    path: Path | None = None


@dataclass(frozen=True, kw_only=True)
class _Linear:
    """One member about its fit in one lane.

    Attributes:
        member: which.
        rows, prior: of the lane.
        z: the fit.
        columns: slopes J of the log law with z, 0 outside the mask, and beside them log loss - log law + J z.
        squares: products of these columns, summed over volumes.
    """

    member: Member
    rows: Rows
    prior: PackedPrior
    z: Float[np.ndarray, " q"]
    columns: Float[np.ndarray, "t m q+1"]
    squares: Float[np.ndarray, "q+1 m q+1"]

    def moved(
        self, covariance: NoiseCovariance, run_weight: Float[np.ndarray, "B m"]
    ) -> tuple[Float[np.ndarray, "B q"], Float[np.ndarray, "B m"], Float[np.ndarray, "B t"]]:
        """Compute coefficients z, alpha and step effects under weights of the runs."""
        unknowns, slopes = len(self.z), self.columns[..., :-1]
        products = weighted_products(covariance, self.columns, self.squares, run_weight)
        of_z = np.linalg.inv(products[:, :unknowns, :unknowns] + np.eye(unknowns))
        z = self.z + _clipped((of_z @ products[:, :unknowns, unknowns:])[..., 0] - self.z)
        for _ in range(_CORRECTIONS):
            inverse = np.asarray(covariance.inverse(self.residuals(z)))
            gradient = (np.transpose(inverse, (1, 2, 0)) @ slopes).sum(0) - z
            z = z + _clipped((of_z @ gradient[..., None])[..., 0])
        alpha, step = map(np.asarray, covariance.effects(self.residuals(z)))
        return z, alpha.T, step.T

    def residuals(self, z: Float[np.ndarray, "B q"]) -> Float[np.ndarray, "m t B"]:
        """Compute log loss - log law on the rows."""
        coefficients = np.asarray(self.prior.coefficients(z.T))
        own = np.broadcast_to(self.rows.own, len(z))
        value = law_values.values(self.member.law, coefficients, Pairs.of(own, self.rows.points()))
        return self.rows.loss - value.reshape(*self.rows.loss.shape[:2], -1)


def weighted_products(
    covariance: NoiseCovariance,
    columns: Float[np.ndarray, "t m p"],
    squares: Float[np.ndarray, "p m p"],
    run_weight: Float[np.ndarray, "B m"],
) -> Float[np.ndarray, "B p p"]:
    """Compute X' S^-1 X by the formulas of `NoiseCovariance`, for B weights of the runs together.

    Args:
        covariance: S under each of the weights.
        columns: X, 0 outside the mask.
        squares: products of columns, summed over volumes.
        run_weight: the weights.
    """
    arrays = (covariance.weight, covariance.posterior, covariance.share)
    weight, posterior, share = (np.moveaxis(np.asarray(array), -1, 0) for array in arrays)
    by_step = np.swapaxes(run_weight @ columns, 0, 1)
    shared = share[..., None] * by_step
    without_steps = np.swapaxes(run_weight @ squares, 0, 1) - np.swapaxes(by_step, 1, 2) @ shared
    by_run = run_weight[..., None] * columns.sum(0) - weight @ shared
    white = covariance.noise.white**2
    return (without_steps - np.swapaxes(by_run, 1, 2) @ (posterior @ by_run) / white) / white


def reweigh(stack: Stack, run_weights: Float[np.ndarray, "R m"]) -> Reweighted:
    """Move the members of a stack with one cell to where weights of its runs lead them, lanes last.

    Members that read a donor read it as it was fitted.
    """
    linear = [_linear(member, fit, stack) for member, fit in zip(stack.members, stack.fits, strict=True)]
    count = len(run_weights)
    # Blocks have one size, so that they share compiled programs: the last repeats its last resample.
    blocks = [np.minimum(np.arange(i, i + _RESAMPLES), count - 1) for i in range(0, count, _RESAMPLES)]

    def one(block: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        # The switch to float64 holds for the thread that makes it only.
        with jax.enable_x64(True):
            return _moved(stack, linear, run_weights[block])

    with devices.threads() as pool:
        found = jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *pool.map(one, blocks))
    z, alpha, step = zip(*found, strict=True)
    return Reweighted(z=z, alpha=alpha, step=step, weights=_weights(stack, run_weights))


def _moved(
    stack: Stack, linear: Sequence[Sequence[_Linear]], run_weight: Float[np.ndarray, "B m"]
) -> list[tuple[np.ndarray, ...]]:
    """Coefficients [B, q, L], alpha [B, m, L] and step effects [B, t, L] of all members in B resamples."""
    masks = stack.cells.masks(stack.lanes)
    first, place = same_rows(stack.cells, stack.lanes)
    noises = [noise_of(member) for member in stack.members]
    found: dict[tuple[int, int], tuple[np.ndarray, ...]] = {}
    # One factored noise at a time, for all lanes of the same rows and all members that share it.
    for process, length in {(noise.process, noise.length) for noise in noises}:
        members = [i for i, noise in enumerate(noises) if (noise.process, noise.length) == (process, length)]
        for number, lane in enumerate(first):
            weight = run_weight.T[:, None] * masks[lane][..., None]
            covariance = NoiseCovariance.of(noises[members[0]], stack.cells.mixture[0][..., None], weight)
            for i, k in product(members, np.flatnonzero(place == number).tolist()):
                found[i, k] = linear[i][k].moved(covariance, run_weight)
    lanes = range(len(stack.lanes))
    return [
        tuple(np.stack(values, axis=-1) for values in zip(*(found[i, k] for k in lanes), strict=True))
        for i in range(len(linear))
    ]


def _linear(member: Member, fit: MemberFit, stack: Stack) -> list[_Linear]:
    """Linearize a member's log law at the rows of each lane."""
    cells, rows = stack.cells, stack.cells.rows(stack.lanes)
    prior, z = lane_priors(member, cells, stack.lanes), np.asarray(fit.fitted.z)
    about = rows.evaluate(member.law, prior, z)
    slopes, missed = about.slopes * rows.mask, (rows.loss - about.value) * rows.mask
    columns = np.concatenate([slopes, missed[None] + np.einsum("qmtL,qL->mtL", slopes, z)[None]])
    return [
        _Linear(
            member=member,
            rows=cells.rows(stack.lanes[lane : lane + 1]),
            prior=prior.lanes(np.array([lane])),
            z=z[:, lane],
            columns=np.ascontiguousarray(columns[..., lane].T),
            squares=np.einsum("imt,jmt->imj", columns[..., lane], columns[..., lane]),
        )
        for lane in range(len(stack.lanes))
    ]


def _clipped(step: Float[np.ndarray, "B q"]) -> Float[np.ndarray, "B q"]:
    return step / np.maximum(1.0, np.abs(step).max(1, keepdims=True) / _LONGEST)


def _weights(stack: Stack, run_weights: Float[np.ndarray, "R m"]) -> Float[np.ndarray, "R M L"]:
    """Weigh members by their errors on runs left out, each run counting by its weight."""
    rows = stack.cells.rows(stack.lanes)
    missed = np.stack([(np.abs(fit.left_mean - rows.loss) * rows.mask).sum(1) for fit in stack.fits])
    count = run_weights @ np.asarray(rows.mask).sum(1)
    errors = np.einsum("Rm,MmL->RML", run_weights, missed) / count[:, None]
    return np.stack([weigh(stack.members, error, stack.cells, stack.lanes) for error in errors])
