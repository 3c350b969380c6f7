"""The fit of `auto` at one model size, and the losses that it predicts at any mixture and volume."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from bimixjax._base.arrays import Stored
from bimixjax._base.records import record, static
from bimixjax.auto.averaging import sane
from bimixjax.auto.beyond import Carried
from bimixjax.auto.block import noise_of
from bimixjax.auto.law_values import log_law
from bimixjax.auto.member import SAME_VOLUME, Fitted
from bimixjax.auto.members import Member, named_members, prior_of, relative_level
from bimixjax.auto.noise import correlation, places
from bimixjax.fitting.coverage import Coverage, companions, share_range

# Laws are asked about no share far below this, unless runs had one. At a share of 0 a power of it is infinite and drops
# out of the average, while at 1e-300 it may still count, by its small exponent: such a jump draws searches to a corner.
# `experiments/open_questions` (shares) holds predictions there against runs without any of a domain.
_LEAST_SHARE = 1e-6


@record
class Path:
    """A path of the process over mixtures, as a sum of its kernel, of unit variance, to some of them.

    Attributes:
        mixture: these.
        length: of the process.
        height: of the kernel to each.
    """

    mixture: Float[Stored, "d u"]
    length: Float[Stored, " T"]
    height: Float[Stored, "u T"]

    def __call__(self, r: Float[Array, " d"]) -> Float[Array, " T"]:
        """Evaluate the path at a mixture, in log loss."""
        to_each = correlation(self.length, places(r)[:, None, None], places(self.mixture)[..., None])
        return jnp.sum(to_each * self.height, axis=0)


@record
class AutoSize:
    """The members of `auto` at one model size, m runs and t volumes, for T targets.

    Attributes:
        member_names: the laws that are averaged.
        model_size: parameters; 1 where the table has no size.
        mixture: r of the runs.
        volume: fitted volumes, over the largest.
        scale: the largest volume.
        mask: which losses were fitted.
        center: mean log loss of the fitted rows; NaN where there is none.
        fitted: each member, targets last.
        weights: of each member.
        spread: by what the members' standard deviations are multiplied.
        correlation: between the errors of two targets.
        left_out_error: mean absolute error of log losses on runs left out.
        log_range: the lowest and the highest log loss that was fitted, less their mean.
        rows: observations used.
        proportion_range, volume_range: what was fitted; outside it, a prediction extrapolates.
        varies: whether losses differ between mixtures, see `Coverage`.
        lent: the smaller model size whose losses are a covariate, if any is.
        carried: where predictions are for a model size that was not fitted, the law that extrapolates to it.
        drawn: in a draw from the posterior, where it differs from the fit.
        unique: unique tokens of each run, over the largest volume; None where none has a limit.
    """

    member_names: tuple[str, ...] = static()
    model_size: Float[Stored, ""]
    mixture: Float[Stored, "d m"]
    volume: Float[Stored, " t"]
    scale: Float[Stored, ""]
    mask: Float[Stored, "m t T"]
    center: Float[Stored, " T"]
    fitted: tuple[Fitted, ...]
    weights: Float[Stored, "M T"]
    spread: Float[Stored, " T"]
    correlation: Float[Stored, " T"]
    left_out_error: Float[Stored, " T"]
    log_range: Float[Stored, "2 T"]
    rows: Float[Stored, " T"]
    proportion_range: Float[Stored, "T d 2"]
    volume_range: Float[Stored, "T 2"]
    varies: Float[Stored, " T"]
    lent: "Lent | None"
    carried: Carried | None = None
    drawn: "Drawn | None" = None
    unique: Float[Stored, "d m"] | None = None

    @property
    def run_counts(self) -> Int[np.ndarray, " T"]:
        """How many runs each target was fitted to."""
        return np.any(np.asarray(self.mask) > 0, axis=1).sum(0)

    def weights_of(self, name: str, weights: Stored | None = None) -> Float[np.ndarray, "*R T"]:
        """Return the weights of a member, of this fit or of others [..., M, T]; 0 where the size does not have it."""
        found, names = np.asarray(self.weights if weights is None else weights), self.member_names
        return found[..., names.index(name), :] if name in names else np.zeros_like(found[..., 0, :])

    def asked(self, r: Float[Stored, "*points d"]) -> Float[Stored, "*points d"]:
        """Return the shares that laws are asked about: (r^2 + least^2)^(1/2), smooth, as a search needs.

        The least is that of the fitted runs, at most `_LEAST_SHARE`.
        """
        space, used = r.__array_namespace__(), (self.mask > 0).any((1, 2))
        least = space.where(used, self.mixture, _LEAST_SHARE).min(1).clip(0, _LEAST_SHARE)
        # Where runs had none, the root has no derivative at 0.
        return space.where(least > 0, space.sqrt(r**2 + space.where(least > 0, least, 1.0) ** 2), r)

    @property
    def most_epochs(self) -> Float[np.ndarray, "T d"]:
        """The most epochs of each domain among its rows; 0 where no run had a limit."""
        unique = np.full(np.shape(self.mixture), np.inf) if self.unique is None else np.asarray(self.unique)
        epochs = (np.asarray(self.mixture) / unique)[:, :, None] * np.asarray(self.volume)
        return np.max(epochs[..., None] * (np.asarray(self.mask) > 0), axis=(1, 2)).T

    @property
    def coverage(self) -> Coverage:
        """Which mixtures and volumes its rows cover, with those of the smaller size that is a covariate."""
        mask, mixture = np.asarray(self.mask), np.asarray(self.mixture)
        used, volumes, varies = mask.max(1), (mask.max(0) > 0).sum(0), np.asarray(self.varies) > 0
        if self.lent is not None:
            lender = self.lent.size
            mixture = np.concatenate([mixture, np.asarray(lender.mixture)], axis=1)
            used = np.concatenate([used, np.asarray(lender.mask).max(1)])
            volumes, varies = np.maximum(volumes, lender.coverage.volumes), varies | lender.coverage.varies
        return Coverage(
            shares=np.moveaxis(share_range(mixture[..., None], used), 0, 1),
            companion=companions(mixture, used),
            volumes=volumes,
            varies=varies,
            own=np.full(used.shape[1], -1),
        )


@record
class Drawn:
    """Where a draw from the posterior differs from the fit.

    Attributes:
        chosen: 1 for the one member that each target takes, 0 for others.
        off: by how much each member's z, alpha and step effects differ from those of the fit. The law is linearized in
            z: rows that identify coefficients by their sum only leave a curved valley, off which a step in z leads.
        path: what the process adds.
    """

    chosen: Float[Stored, "M T"]
    off: tuple[tuple[Stored, Stored, Stored], ...]
    path: Path


@record
class Lent:
    """A smaller model size whose losses are a covariate of a larger one.

    Attributes:
        size: what was fitted at the smaller size.
        center: mean of its predicted log loss over the larger size's fitted rows.
    """

    size: AutoSize
    center: Float[Stored, " T"]


def average_at(own: Array, size: AutoSize, r: Array, s: Array, unique: Array | None = None) -> Array:
    """Average the members at one mixture [d] and volume: expected log losses [T].

    With the weights w and means m of members that are sane at this point, it is center + sum w m. Unique tokens [d] are
    those of the domains, by default without limit.
    """
    lanes, donor, asked = len(own), jnp.zeros(len(own)), size.asked(r)
    if size.lent is not None:
        donor = average_at(own, size.lent.size, r, s, unique) - size.lent.center
    at = s / size.scale
    members, level = named_members(size.member_names), relative_level(size.center, own)

    def log_laws(coefficients: Sequence[Array]) -> Array:
        """Evaluate all members at the point [M, T], those of one law together, so that it is compiled once."""
        found: dict[int, Array] = {}
        for law in dict.fromkeys(member.law for member in members):
            alike = [k for k, member in enumerate(members) if member.law == law]
            packed = jnp.concatenate([coefficients[k] for k in alike], axis=1)
            count = packed.shape[1]
            mixture, volume = jnp.broadcast_to(asked[:, None], (len(r), count)), jnp.broadcast_to(at, (count,))
            repeated = [jnp.tile(each, len(alike)) for each in (own, donor)]
            if law.reads_unique and unique is not None:
                repeated.append(jnp.broadcast_to((unique / size.scale)[:, None], (len(r), count)))
            found |= dict(zip(alike, log_law(law, packed, mixture, volume, *repeated).reshape(-1, lanes), strict=True))
        return jnp.stack([found[k] for k in range(len(members))])

    priors = [prior_of(member, len(r), level, own) for member in members]
    packed = [jnp.asarray(prior.coefficients(each.z)) for prior, each in zip(priors, size.fitted, strict=True)]
    # What the runs and the fitted volumes say beside the laws, for all members at once.
    cross = _cross(members, size, r)
    same = (jnp.abs(at - size.volume) <= SAME_VOLUME * size.volume)[:, None] & jnp.any(size.mask > 0, axis=0)
    effects = _effects(cross, same, [(each.alpha, each.step) for each in size.fitted])
    laws = log_laws(packed)
    found = sane(size.member_names, size.weights, laws + effects, size.log_range)
    between = jnp.sum(found.weights * found.means, axis=0)
    mean = between + size.center
    if size.drawn is not None:
        moved = [
            jax.jvp(prior.coefficients, (each.z,), (z,))[1]
            for prior, each, (z, _, _) in zip(priors, size.fitted, size.drawn.off, strict=True)
        ]
        off = jax.jvp(log_laws, (packed,), (moved,))[1]
        off += _effects(cross, same, [(alpha, step) for _, alpha, step in size.drawn.off])
        mean += jnp.sum(size.drawn.chosen * found.gate * (size.spread * (found.means - between) + off), axis=0)
        mean += size.drawn.path(r)
    return mean if size.carried is None else mean + size.carried.log_ratio(own, r, s)[0]


def _cross(members: Sequence[Member], size: AutoSize, r: Array) -> Float[Array, "M m"]:
    """Compute the covariance of each member's process between a mixture and the runs."""
    noises = [noise_of(member) for member in members]
    left, runs = places(r)[:, None], places(size.mixture)
    alike = {length: correlation(length, left, runs) for length in {noise.length for noise in noises}}
    return jnp.stack([noise.process**2 * alike[noise.length] for noise in noises])


def _effects(
    cross: Float[Array, "M m"], same: Bool[Array, "t T"], effects: Sequence[tuple[Stored, Stored]]
) -> Float[Array, "M T"]:
    """Add up the process and the step effects at a point, for alpha [m, T] and step effects [t, T] of each member."""
    alpha, step = (jnp.stack(list(each)) for each in zip(*effects, strict=True))
    return jnp.einsum("Mm,MmT->MT", cross, alpha) + jnp.sum(jnp.where(same, step, 0.0), axis=1)
