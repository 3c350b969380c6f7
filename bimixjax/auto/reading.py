"""Read a fit of `auto` at many points, with how sure it is: on the host, with the programs that fitted it."""

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from bimixjax.auto.averaging import MOST_VARIANCE, SPREAD, sane, widest
from bimixjax.auto.block import RUN, WHITE, noise_of
from bimixjax.auto.law_values import Points
from bimixjax.auto.member import PackedPrior, Posterior, Rows, cross_and_same, law_at, mean_at, variance_at
from bimixjax.auto.members import Member, named_members, prior_of, relative_level
from bimixjax.auto.noise import NoiseCovariance
from bimixjax.auto.one_size import AutoSize
from bimixjax.fitting import devices


def read(
    size: AutoSize,
    own: tuple[int, ...],
    r: Float[np.ndarray, "Q d"],
    s: Float[np.ndarray, " Q"],
    unique: Float[np.ndarray, "*Q d"] | None = None,
) -> tuple[Float[np.ndarray, "Q T"], Float[np.ndarray, "Q T"]]:
    """Average the members at mixtures and volumes: expected log losses, and the variance of measured ones.

    With the weights w, means m and variances v of members that are sane at a point, and the spread of the fit,

        mean = center + sum w m,    variance = spread^2 (sum w (v + (m - sum w m)^2) + doubt)

    at most that of losses anywhere in the sane range. To v of a member that reads a donor, the donor's variance is
    added, less its noise and its own spread. With no unique tokens, there is no limit.
    """
    of_donor = np.zeros((len(r), len(own)))
    points = points_at(size, r, s, of_donor, unique)
    if size.lent is not None:
        donor, of_donor = read(size.lent.size, own, r, s, unique)
        points = replace(points, donor=donor - size.lent.center)
        # The covariate is an expected log loss, without the noise of a run and of a row.
        of_noise = (WHITE**2 + RUN**2) * np.asarray(size.lent.size.spread) ** 2
        of_donor = np.maximum(of_donor - of_noise, 0.0) / SPREAD**2
    means, variances, rows = [], [], _rows(size, own)
    members = named_members(size.member_names)
    with devices.one_core(), jax.enable_x64(True):
        for member, fitted, posterior in zip(members, size.fitted, posteriors(size, own), strict=True):
            prior, noise = packed_prior(member, size, own), noise_of(member)
            value, slopes = law_at(member.law, prior, np.asarray(fitted.z), rows.own, points)
            cross, same = cross_and_same(noise, rows, points)
            means.append(mean_at(fitted, value, cross, same))
            variance = variance_at(noise, posterior, np.tensordot(prior.root, slopes, axes=(0, 0)), cross, same)
            variances.append(variance.clip(0, MOST_VARIANCE) + (of_donor if member.law.sized else 0.0))
    found = sane(
        size.member_names, np.asarray(size.weights)[:, None], np.stack(means), np.asarray(size.log_range)[:, None]
    )
    between = (found.weights * found.means).sum(0)
    apart = (found.weights * (np.stack(variances) + (found.means - between) ** 2)).sum(0)
    most = widest(np.asarray(size.log_range)) ** 2
    mean, variance = between + size.center, np.minimum((apart + found.doubt) * np.asarray(size.spread) ** 2, most)
    if size.carried is not None:
        with jax.enable_x64(True):
            ratio, of_ratio = jax.vmap(size.carried.log_ratio, in_axes=(None, 0, 0))(*map(jnp.asarray, (own, r, s)))
        mean, variance = mean + np.asarray(ratio), variance + np.asarray(of_ratio)
    return mean, variance


def posteriors(size: AutoSize, own: tuple[int, ...]) -> Iterator[Posterior]:
    """Derive how sure each member is, from where the rows are and its slopes at the fit."""
    mask, used, rows = np.asarray(size.mask), np.asarray(size.rows) > 0, _rows(size, own)
    masks, covariances = mask[..., used], {}
    # The noise depends on where rows are: one lane stands for all targets that have the same.
    weight = masks[..., :1] if masks.size and (masks == masks[..., :1]).all() else mask
    with devices.one_core(), jax.enable_x64(True):
        for member, fitted in zip(named_members(size.member_names), size.fitted, strict=True):
            noise = noise_of(member)
            if (key := (noise.process, noise.length)) not in covariances:
                covariances[key] = NoiseCovariance.of(noise, rows.mixture[..., :1], weight)
            prior = packed_prior(member, size, own)
            yield Posterior.of(covariances[key], rows.evaluate(member.law, prior, np.asarray(fitted.z)).slopes)


def packed_prior(member: Member, size: AutoSize, own: tuple[int, ...]) -> PackedPrior:
    """Build the prior of a member for all targets of a fit."""
    of = np.array(own)
    return prior_of(member, len(size.mixture), relative_level(np.asarray(size.center), of), of)


def points_at(size: AutoSize, r: np.ndarray, s: np.ndarray, donor: np.ndarray, unique: np.ndarray | None) -> Points:
    """Lay out points for all targets, in the unit of volume of a fit."""
    limits = None if unique is None else np.broadcast_to(unique, r.shape).T[..., None] / size.scale
    return Points(
        mixture=np.asarray(size.asked(r)).T[..., None], volume=(s / size.scale)[:, None], donor=donor, unique=limits
    )


def _rows(size: AutoSize, own: tuple[int, ...]) -> Rows:
    """Lay out the fitted rows, without their losses, and what they read of a donor."""
    mask, mixture, volume = (np.asarray(each) for each in (size.mask, size.mixture, size.volume))
    runs, volumes, targets = mask.shape
    donor = np.zeros(mask.shape)
    if size.lent is not None:
        r, s = np.repeat(mixture.T, volumes, axis=0), np.tile(volume * size.scale, runs)
        unique = None if size.unique is None else np.repeat(size.unique.T, volumes, axis=0) * size.scale
        donor = (read(size.lent.size, own, r, s, unique)[0] - size.lent.center).reshape(mask.shape)
    return Rows(
        mixture=np.broadcast_to(mixture[..., None], (*mixture.shape, targets)),
        volume=np.broadcast_to(volume[:, None], (volumes, targets)),
        own=np.array(own),
        loss=np.zeros(mask.shape),
        mask=mask,
        donor=donor,
        unique=None if size.unique is None else np.broadcast_to(size.unique[..., None], (*mixture.shape, targets)),
    )
