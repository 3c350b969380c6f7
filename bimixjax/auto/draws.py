"""Posterior draws of a fit of `auto`, from its file alone.

The posterior of a member is a Gaussian process: its standard normal coefficients z have covariance spread' spread, and
the process over mixtures, given z, that of kriging. A draw of it at every mixture at once is (Matheron's rule)

    f(r) = g(r) + k(r)' (alpha(z) - P (g(runs) + noise)),    P^-1 = Cov(g(runs) + noise)

for a path g of the prior process. A path is the kernel to the runs and to further mixtures, with random heights: exact
at the runs, and elsewhere short of the variance that all of these together do not explain. The law is linearized in z,
as in the intervals of a fit, since rows that identify coefficients by their sum only leave a curved valley, off which a
step in z leads. A draw takes one member for each target, by the members' weights, and its deviation from the mean is
multiplied by the calibrated spread. It holds neither the noise of a run and of a row, nor the uncertainty of a donor.

Source: Wilson et al., Efficiently sampling functions from Gaussian process posteriors (2020), Eq. 8, with the subset of
regressors (Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), section 8.3.1) for the path.
"""

import jax
import numpy as np
from jax import Array

from bimixjax.auto.block import noise_of
from bimixjax.auto.member import Fitted, Posterior
from bimixjax.auto.members import named_members
from bimixjax.auto.noise import Noise, kernel
from bimixjax.auto.one_size import AutoSize, Path
from bimixjax.auto.reading import posteriors
from bimixjax.auto.reweight import Reweighted

# Mixtures beside the runs in a path, and the least eigenvalue of their kernel that is not rounding.
_MIXTURES, _LEAST = 128, 1e-10


def draw(size: AutoSize, own: tuple[int, ...], key: Array, count: int) -> Reweighted:
    """Draw [R, ...] from the posterior of one model size."""
    of_member, of_path, of_effects = jax.random.split(key, 3)
    members, lanes = named_members(size.member_names), len(size.rows)
    usable = np.where(np.asarray(size.rows) > 0, np.nan_to_num(size.spread), 0.0)
    with np.errstate(divide="ignore"):
        chances = np.log(np.asarray(size.weights))
    chosen = np.asarray(jax.random.categorical(of_member, chances.T, shape=(count, lanes)))
    mixture = _mixtures(np.asarray(size.mixture))
    standard = np.asarray(jax.random.normal(of_path, (count, mixture.shape[1], lanes)))
    noises = [noise_of(member) for member in members]
    heights = [_heights(noise, mixture, standard) for noise in noises]
    found = [
        _moved(noise, each, (mixture, height), usable, one)
        for noise, each, height, one in zip(
            noises,
            zip(size.fitted, posteriors(size, own), strict=True),
            heights,
            jax.random.split(of_effects, len(members)),
            strict=True,
        )
    ]
    weights = np.moveaxis(np.eye(len(members))[chosen], -1, 1)
    return Reweighted(
        z=tuple(z for z, _, _ in found),
        alpha=tuple(alpha for _, alpha, _ in found),
        step=tuple(step for _, _, step in found),
        weights=weights,
        path=Path(
            mixture=np.broadcast_to(mixture, (count, *mixture.shape)),
            length=np.array([noise.length for noise in noises])[chosen],
            height=usable
            * sum(w[:, None] * height for w, height in zip(np.moveaxis(weights, 1, 0), heights, strict=True)),
        ),
    )


def _mixtures(runs: np.ndarray) -> np.ndarray:
    """Return the mixtures of the runs [d, m] and others, spread evenly in the process's distance: [d, u]."""
    others = np.random.default_rng(0).dirichlet(np.full(len(runs), 0.5), _MIXTURES)
    return np.concatenate([runs, others.T], axis=1)


def _heights(noise: Noise, mixture: np.ndarray, standard: np.ndarray) -> np.ndarray:
    """Return heights [R, u, T] of the kernel to mixtures [d, u], whose sum is a path, from standard normal numbers."""
    values, vectors = np.linalg.eigh(_kernel(noise, mixture, mixture) / noise.process**2)
    root = np.divide(1.0, np.sqrt(np.maximum(values, _LEAST)), where=values > _LEAST, out=np.zeros_like(values))
    return noise.process * np.einsum("uk,RkT->RuT", vectors * root, standard, optimize=True)


def _kernel(noise: Noise, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the covariance of the process between mixtures [d, a] and [d, b]: [a, b]."""
    return kernel(noise, left[..., None], right[..., None])[..., 0]


def _moved(
    noise: Noise,
    fit: tuple[Fitted, Posterior],
    path: tuple[np.ndarray, np.ndarray],
    spread: np.ndarray,
    key: Array,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw coefficients [R, q, T], alpha [R, m, T] and step effects [R, t, T] of one member."""
    of_z, of_alpha, of_step = jax.random.split(key, 3)
    (fitted, posterior), (mixture, height) = fit, path
    count, _, lanes = height.shape
    shared = np.asarray(posterior.precision)
    runs, precision = mixture[:, : len(shared)], np.broadcast_to(shared, (*shared.shape[:2], lanes))

    def normal(key: Array, size: int) -> np.ndarray:
        return np.asarray(jax.random.normal(key, (count, size, lanes)))

    off = spread * np.einsum("pqT,RpT->RqT", posterior.spread, normal(of_z, len(fitted.z)), optimize=True)
    at_runs = np.einsum("mu,RuT->RmT", _kernel(noise, runs, mixture) / noise.process**2, height, optimize=True)
    rest = np.einsum(
        "mkT,RkT->RmT", _root(precision, _kernel(noise, runs, runs)), normal(of_alpha, len(precision)), optimize=True
    )
    open_alpha = np.einsum("mkT,RkT->RmT", precision, at_runs, optimize=True) + rest
    open_step = np.sqrt(np.asarray(posterior.step_variance)) * normal(of_step, len(fitted.step))
    return (
        fitted.z + off,
        fitted.alpha + np.einsum("qmT,RqT->RmT", posterior.alpha_slope, off, optimize=True) - spread * open_alpha,
        fitted.step + np.einsum("qtT,RqT->RtT", posterior.step_slope, off, optimize=True) + spread * open_step,
    )


def _root(precision: np.ndarray, process: np.ndarray) -> np.ndarray:
    """Return a root of P - P K P [m, m, T], the covariance of P times the noise of the runs."""
    lanes = np.moveaxis((precision + np.swapaxes(precision, 0, 1)) / 2, -1, 0)
    values, vectors = np.linalg.eigh(lanes - lanes @ process @ lanes)
    return np.moveaxis(vectors * np.sqrt(np.maximum(values, 0.0))[:, None], 0, -1)
