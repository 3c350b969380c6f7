"""The fit of `auto` at one model size, and the losses that it predicts at any mixture and volume."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from bimixjax._base.arrays import Stored
from bimixjax._base.float64 import in_float64
from bimixjax._base.records import record, static
from bimixjax.auto.averaging import MOST_VARIANCE, SPREAD, sane
from bimixjax.auto.beyond import Carried
from bimixjax.auto.member import Fitted, PackedPrior, Points, Rows, read_mean, read_variance
from bimixjax.auto.member_fits import noise_of
from bimixjax.auto.members import named_members, prior_of, relative_level
from bimixjax.auto.noise import Noise, correlation, places
from bimixjax.fitting.coverage import Coverage, companions, share_range
from bimixjax.laws import Law

# What `read_mean` and `read_variance` take.
_Reading = tuple[Law, Fitted, Rows, Noise, PackedPrior, Points]


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
        return jnp.sum(to_each[0] * self.height, axis=0)


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

    def weights_of(self, name: str, weights: Stored | None = None) -> Float[np.ndarray, "*R T"]:
        """Return the weights of a member, of this fit or of others [..., M, T]; 0 where the size does not have it."""
        found, names = np.asarray(self.weights if weights is None else weights), self.member_names
        return found[..., names.index(name), :] if name in names else np.zeros_like(found[..., 0, :])

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


def _average(own: Array, size: AutoSize, r: Array, s: Array, *, with_variance: bool) -> tuple[Array, Array]:
    """Average the members at one mixture [d] and volume: expected log losses [T], and the variance of measured ones.

    With the weights w, means m and variances v of members that are sane at this point, and the spread of a fit,

        mean = center + sum w m,    variance = spread^2 (sum w (v + (m - sum w m)^2) + doubt)

    To v of a member that reads a donor, the donor's variance is added, less its noise and its own spread. The variance
    is 0 unless asked for: tracing it takes as long as tracing the mean.
    """
    lanes, donor, of_donor = len(own), jnp.zeros(len(own)), jnp.zeros(len(own))
    if size.lent is not None:
        donor, of_donor = _average(own, size.lent.size, r, s, with_variance=with_variance)
        donor = donor - size.lent.center
    mask, mixture, volume = size.mask, _repeat(size.mixture, lanes), _repeat(size.volume, lanes)
    rows = Rows(mixture=mixture, volume=volume, own=own, loss=mask, mask=mask, donor=mask)
    at = _repeat((s / size.scale)[None], lanes)
    points = Points(mixture=_repeat(r[:, None], lanes), volume=at, donor=donor[None])
    level = relative_level(size.center, own)
    members = named_members(size.member_names)
    readings: list[_Reading] = [
        (member.law, fitted, rows, noise_of(member), prior_of(member, len(r), level, own), points)
        for member, fitted in zip(members, size.fitted, strict=True)
    ]
    found = sane(
        size.member_names, size.weights, jnp.stack([read_mean(*reading)[0] for reading in readings]), size.log_range
    )
    between = jnp.sum(found.weights * found.means, axis=0)
    mean, variance, apart = between + size.center, jnp.zeros(lanes), found.means - between
    if size.drawn is not None:
        off = [_moved(reading, off) for reading, off in zip(readings, size.drawn.off, strict=True)]
        mean += jnp.sum(size.drawn.chosen * found.gate * (size.spread * apart + jnp.stack(off)), axis=0)
        mean += size.drawn.path(r)
    if with_variance:
        variances = jnp.stack([read_variance(*reading)[0] for reading in readings]).clip(0, MOST_VARIANCE)
        if size.lent is not None:
            noise, reads_donor = noise_of(members[0]), jnp.array([member.law.sized for member in members])[:, None]
            of_donor = (of_donor - (noise.white**2 + noise.run**2) * size.lent.size.spread**2).clip(0)
            variances += jnp.where(reads_donor, of_donor / SPREAD**2, 0.0)
        variance = (jnp.sum(found.weights * (variances + apart**2), axis=0) + found.doubt) * size.spread**2
    if size.carried is not None:
        ratio, of_ratio = size.carried.log_ratio(own, r, s)
        mean, variance = mean + ratio, variance + of_ratio
    return mean, variance


def _moved(reading: _Reading, off: tuple[Stored, Stored, Stored]) -> Array:
    """Change a member's log losses [T] linearly, by `off` from its z, alpha and step effects."""
    law, fitted, rows, noise, prior, points = reading

    def mean(z: Array, alpha: Array, step: Array) -> Array:
        at = dataclasses.replace(fitted, z=z, alpha=alpha, step=step)
        return read_mean(law, at, rows, noise, prior, points)[0]

    return jax.jvp(mean, (fitted.z, fitted.alpha, fitted.step), off)[1]


def _repeat(values: Stored, lanes: int) -> Array:
    return jnp.broadcast_to(values[..., None], (*values.shape, lanes))


@record
class AutoLosses:
    """The averaged losses of one model size, as a function of a mixture and a volume.

    Attributes:
        own: for each target, which domain it is, or -1.
        lanes: the targets wanted; None for all.
        size: what was fitted.
        deviations: how many standard deviations above the expected log loss to answer; None for none.
    """

    own: tuple[int, ...] = static()
    lanes: tuple[int, ...] | None = static(default=None)
    size: AutoSize
    deviations: Float[Stored, ""] | None = None

    name = "auto"
    separable = False
    own_by_convention = ()

    def __call__(self, mixture: Float[Array, " d"], volume: Float[Array, ""]) -> Float[Array, " t"]:
        """Evaluate the losses in nats per token, in float64 and inside any transform."""
        leaves, tree = jax.tree.flatten((self.size, self.deviations))

        def found(r: Array, s: Array, *leaves: Array) -> Array:
            size, deviations = jax.tree.unflatten(tree, leaves)
            mean, variance = _average(jnp.array(self.own), size, r, s, with_variance=deviations is not None)
            return jnp.exp(mean if deviations is None else mean + deviations * jnp.sqrt(variance))

        losses = in_float64(found)(mixture, volume, *leaves)
        return losses if self.lanes is None else jnp.stack([losses[t] for t in self.lanes])
