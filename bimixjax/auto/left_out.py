"""What a fit with many runs would predict for parts of them, had it not seen these: in closed form.

About the fitted coefficients, a member is a Gaussian process: with noise S0 and slopes J in standard normal z, log
losses have mean f(z) - J z and covariance S = S0 + J J'. What the rows outside a part b say about those in it is then

    loss_b - [(S^-1)_bb]^-1 (S^-1 (loss - f + J z))_b,  with the covariance [(S^-1)_bb]^-1

so that one factored S serves all parts, and no coefficient is fitted again. The variance that is given is in the
measure of `read_variance`, since it is there to scale that one: see `counted_twice`.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), Eq. 5.12, with blocks in place of rows.
"""

import numpy as np

from bimixjax.auto.member import Ends
from bimixjax.auto.noise import Whitener


def leave_out(noise: Whitener, part: np.ndarray, loss: np.ndarray, ends: Ends) -> np.ndarray:
    """Mean and variance [2, L, m, t] of the losses [L, m, t] of each part of the runs [m], the other parts being known.

    The L lanes have their rows at the same places, with one factored noise; part -1 is of no part.
    """
    slopes = np.moveaxis(np.asarray(ends.slopes), -1, 0) * noise.mask
    z, spread = np.moveaxis(ends.fitted.z, -1, 0), np.moveaxis(ends.fitted.spread, -1, 0)
    moved = np.einsum("Lq,Lqmt->Lmt", z, slopes)
    x = (loss - np.moveaxis(ends.value, -1, 0)) * noise.mask + moved
    explained = precise(noise, x)
    # S^-1 = S0^-1 - U'U, by the covariance spread' spread of the coefficients.
    known = np.einsum("Lpq,Lqmt->Lpmt", spread, precise(noise, slopes), optimize=True)
    along = np.einsum("Lpmt,Lmt->Lp", known, x)
    explained = explained - np.einsum("Lp,Lpmt->Lmt", along, known)
    found = np.zeros((2, *loss.shape))
    for b in range(part.max() + 1):
        runs = np.flatnonzero(part == b)
        found[:, :, runs] = _part(noise, runs, loss[:, runs], explained[:, runs], known[:, :, runs])
    found[1] += counted_twice(noise) * (part >= 0)[:, None]
    return found


def counted_twice(noise: Whitener) -> np.ndarray:
    """By how much `read_variance` exceeds the variance of process plus step effect [m, t], the law being known.

    It adds the variance of the process to that of the step effects for known run effects, as if both were uncertain
    apart; at few volumes, though, rows tell their sum better than either. The whole fit's noise stands for that of all
    fits without a part.
    """
    step = noise.noise.step**2
    volumes = noise.mask.shape[1]
    explained = precise(noise, step * np.eye(volumes)[:, None] * noise.mask)
    of_step = step * (1 - np.einsum("vmv,mv->v", explained, noise.mask))
    both = -noise.process @ explained.sum(-1).T
    return noise.noise.white**2 * _share(noise) - of_step - 2 * both


def precise(noise: Whitener, x: np.ndarray) -> np.ndarray:
    """S0^-1 x for masked x [..., m, t]."""
    effects = _sums(noise, x) @ (noise.factor @ noise.gain).T
    return _rows_only(noise, x - effects[..., None] * noise.mask)


def _sums(noise: Whitener, x: np.ndarray) -> np.ndarray:
    """Sums over volumes, step effects removed [..., m]."""
    return _rows_only(noise, x).sum(-1) * noise.noise.white**2


def _rows_only(noise: Whitener, x: np.ndarray) -> np.ndarray:
    """A^-1 x for the covariance A of rows and steps alone."""
    shared = _share(noise) * x.sum(-2, keepdims=True)
    return (x - noise.mask * shared) / noise.noise.white**2


def _share(noise: Whitener) -> np.ndarray:
    """What share of a sum over runs is the step's effect [t]."""
    return noise.noise.step**2 / (noise.noise.white**2 + noise.mask.sum(0) * noise.noise.step**2)


def _part(
    noise: Whitener, runs: np.ndarray, loss: np.ndarray, explained: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance [L, k, t] of the losses of k runs that are left out."""
    lanes, count, volumes = loss.shape
    rows = count * volumes
    u = known.reshape(lanes, -1, rows)
    block = _block(noise, runs) - np.swapaxes(u, 1, 2) @ u
    # A row that is not there would make the block singular.
    block += np.diag(1 - noise.mask[runs].reshape(rows))
    covariance = np.linalg.inv(block)
    missed = (covariance @ explained.reshape(lanes, rows, 1))[..., 0]
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    return loss - missed.reshape(loss.shape), variance.reshape(loss.shape)


def _block(noise: Whitener, runs: np.ndarray) -> np.ndarray:
    """(S0^-1)_bb of the rows of some runs [k t, k t]."""
    mask, share, white = noise.mask[runs], _share(noise), noise.noise.white
    count, volumes = mask.shape
    own = np.eye(count)[:, None, :, None] * np.eye(volumes)[:, None] * mask[:, :, None, None]
    shared = np.eye(volumes)[:, None] * (mask * share)[:, :, None, None] * mask
    to_runs = (runs[:, None] == np.arange(len(noise.mask)))[:, None] * mask[:, :, None]
    to_runs = (to_runs - (mask * share)[..., None] * noise.mask.T).reshape(count * volumes, -1)
    within = to_runs @ (noise.factor @ noise.gain) @ to_runs.T
    return ((own - shared).reshape(within.shape) - within) / white**2
