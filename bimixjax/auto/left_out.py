"""Predict parts of many runs from the other parts, in closed form, without fitting again.

About the fitted coefficients a member is a Gaussian process: with noise S0 and slopes J in standard normal z, log
losses have the mean f(z) - J z and the covariance S = S0 + J J'. With x = loss - f(z) + J z, the residual of the rows b
of a part, given the rows of all other parts, and its covariance are

    [(S^-1)_bb]^-1 (S^-1 x)_b    and    [(S^-1)_bb]^-1

or [S^-1 x]_i / [S^-1]_ii for a single row, so that one factored S serves all parts. Woodbury's identity gives

    S^-1 = S0^-1 - U' U,    U = C J' S0^-1,    C' C = (I + J' S0^-1 J)^-1, the covariance of z

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), Eq. 5.12, with blocks in place of rows.
"""

import numpy as np
from jaxtyping import Float, Int

from bimixjax.auto.member import Linearized
from bimixjax.auto.noise import NoiseCovariance, times


def leave_out(
    covariance: NoiseCovariance,
    part: Int[np.ndarray, " m"],
    loss: Float[np.ndarray, "m t L"],
    about: Linearized,
    spread: Float[np.ndarray, "q q L"],
) -> Float[np.ndarray, "2 m t L"]:
    """Predict the log losses of each part of the runs from the other parts: mean and variance.

    Args:
        covariance: the noise S0.
        part: of each run, alike in all lanes; -1 for none.
        loss: measured log losses.
        about: the fit to all parts.
        spread: C.
    """
    slopes = about.slopes
    x = loss - about.value + (slopes * about.z[:, None, None]).sum(0)
    explained = covariance.inverse(x)
    u = np.moveaxis(times(spread, np.moveaxis(covariance.inverse(slopes), 0, -2)), -2, 0)
    explained = explained - ((u * x).sum((1, 2))[:, None, None] * u).sum(0)
    found, (_, volumes, lanes) = np.zeros((2, *loss.shape)), loss.shape
    for b in range(part.max() + 1):
        runs = np.flatnonzero(part == b)
        rows = len(runs) * volumes
        of_part = np.moveaxis(u[:, runs], -1, 0).reshape(lanes, -1, rows)
        block = covariance.block(runs) - np.swapaxes(of_part, 1, 2) @ of_part
        # A row without weight would make the block singular.
        weight = np.moveaxis(covariance.weight[runs], -1, 0).reshape(-1, 1, rows)
        left = np.linalg.inv(block + (weight == 0) * np.eye(rows))
        residual = (left @ explained[runs].reshape(rows, lanes).T[..., None])[..., 0]
        found[0, runs] = loss[runs] - residual.T.reshape(-1, volumes, lanes)
        found[1, runs] = np.diagonal(left, axis1=1, axis2=2).T.reshape(-1, volumes, lanes)
    # This variance scales that of `variance_at`, so it is in the same measure.
    found[1] += counted_twice(covariance) * (part >= 0)[:, None, None]
    return found


def counted_twice(covariance: NoiseCovariance) -> Float[np.ndarray, "m t B"]:
    """Compute by how much `variance_at` exceeds the variance of process plus step effect, the law being known.

    It adds the variance of the process to that of the step effects for known run effects, as if both were independent;
    at few volumes, though, rows tell their sum better than either. With P the process and U from volumes to rows,

        white^2 share - (step^2 - step^4 [U' S0^-1 U]_vv) + 2 step^2 [P Z' S0^-1 U]_mv

    The noise of the fit to all parts stands for that of the fits without a part.
    """
    step, volumes = covariance.noise.step**2, len(covariance.share)
    explained = step * covariance.inverse(np.eye(volumes)[:, None, :, None])
    of_step = step * (1 - np.einsum("vmvB->vB", explained))
    both = -np.swapaxes(times(covariance.process, explained.sum(2)), 0, 1)
    return covariance.step_variance() - of_step - 2 * both
