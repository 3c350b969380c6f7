"""What `auto` fitted at one model size, and the log losses that follow from it at any mixture and volume."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from bimixjax._base.arrays import Stored
from bimixjax._base.float64 import in_float64
from bimixjax._base.records import Leaf, record, static
from bimixjax.auto.averaging import MOST_VARIANCE, SPREAD, sane
from bimixjax.auto.beyond import Carried
from bimixjax.auto.member import Fitted, Points, Prior, Rows, read_mean, read_variance
from bimixjax.auto.member_fits import noise_of
from bimixjax.auto.members import named_members, prior_of
from bimixjax.auto.noise import Noise, correlation, places
from bimixjax.fitting.coverage import Coverage, companions, share_range
from bimixjax.laws import Law

# What `read_mean` and `read_variance` take.
_Reading = tuple[Law, Fitted, Rows, Noise, Prior, Points]


@record
class Path:
    """A path of the process over mixtures, as a sum of its kernel, of unit variance, to some of them.

    Args:
        mixture: these [d, u].
        length: of the process [T].
        height: of the kernel to each [u, T].
    """

    mixture: Leaf
    length: Leaf
    height: Leaf

    def __call__(self, r: Array) -> Array:
        """Log losses [T] at a mixture r [d]."""
        to_each = correlation(self.length, places(r)[:, None, None], places(self.mixture)[..., None])
        return jnp.sum(to_each[0] * self.height, axis=0)


@record
class AutoSize:
    """The members of `auto` at one model size, m runs and t volumes, for T targets.

    Args:
        member_names: the laws that are averaged.
        model_size: parameters; 1 where the table has no size.
        mixture: r of the runs [d, m].
        volume: fitted volumes, over the largest [t].
        scale: the largest volume.
        mask: which losses were fitted [m, t, T].
        center: mean log loss of the fitted rows [T]; NaN where there is none.
        fitted: each member, targets last.
        weights: of each member [M, T].
        spread: by what the members' standard deviations are multiplied [T].
        left_out_error: mean absolute error of log losses on runs left out [T].
        log_range: the lowest and the highest log loss that was fitted, less their mean [2, T].
        rows: observations used [T].
        proportion_range [T, d, 2], volume_range [T, 2]: what was fitted; outside it, a prediction extrapolates.
        varies: whether losses differ between mixtures, see `Coverage` [T].
        lent: what a smaller model size lends, if any does.
        carried: where predictions are for a model size that was not fitted, what carries them there.
        drawn: in a draw of what the fit leaves open, where it differs from the fit.
    """

    member_names: tuple[str, ...] = static()
    model_size: Leaf
    mixture: Leaf
    volume: Leaf
    scale: Leaf
    mask: Leaf
    center: Leaf
    fitted: tuple[Fitted, ...]
    weights: Leaf
    spread: Leaf
    left_out_error: Leaf
    log_range: Leaf
    rows: Leaf
    proportion_range: Leaf
    volume_range: Leaf
    varies: Leaf
    lent: "Lent | None"
    carried: Carried | None = None
    drawn: "Drawn | None" = None

    @property
    def coverage(self) -> Coverage:
        """What its rows, and those of the size that lends, tell of mixtures and volumes."""
        mask, mixture = np.asarray(self.mask), np.asarray(self.mixture)
        used, volumes, varies = mask.max(1), (mask.max(0) > 0).sum(0), np.asarray(self.varies) > 0
        if self.lent is not None:
            lender = self.lent.size
            mixture = np.concatenate([mixture, np.asarray(lender.mixture)], axis=1)
            used = np.concatenate([used, np.asarray(lender.mask).max(1)])
            volumes, varies = np.maximum(volumes, lender.coverage.volumes), varies | lender.coverage.varies
        return Coverage(
            shares=np.stack([share_range(share, used) for share in mixture], axis=1),
            companion=companions(mixture, used),
            volumes=volumes,
            varies=varies,
            own=np.full(used.shape[1], -1),
        )


@record
class Drawn:
    """Where a draw differs from the fit.

    Args:
        chosen: 1 for the one member that each target takes, 0 for others [M, T].
        off: how far each member's z, pull and step are from those of the fit. Along z its law is taken for linear: a
            bent one leaves the valley of coefficients that the rows tell by their sum only.
        path: what the process adds.
    """

    chosen: Leaf
    off: tuple[tuple[Leaf, Leaf, Leaf], ...]
    path: Path


@record
class Lent:
    """The losses of a smaller model size, as a larger one reads them.

    Args:
        size: what was fitted at the smaller size.
        center: mean over the larger size's fitted rows of the log loss that it lends [T].
    """

    size: AutoSize
    center: Leaf


def losses(own: tuple[int, ...], size: AutoSize, mixture: Array, volume: Array, shift: Stored | None) -> Array:
    """Predict losses [T] at one mixture [d] and volume, `shift` standard deviations above what is expected."""
    leaves, tree = jax.tree.flatten((size, shift))

    def found(r: Array, s: Array, *leaves: Array) -> Array:
        size, shift = jax.tree.unflatten(tree, leaves)
        mean, variance = _average(jnp.array(own), size, r, s, with_variance=shift is not None)
        return jnp.exp(mean if shift is None else mean + shift * jnp.sqrt(variance))

    return in_float64(found)(mixture, volume, *leaves)


def _average(own: Array, size: AutoSize, r: Array, s: Array, *, with_variance: bool) -> tuple[Array, Array]:
    """Average the members at one mixture [d] and volume: expected log losses [T], and the variance of measured ones.

    With the weights w, means m and variances v of members that are sane at this point, and the spread of a fit,

        mean = center + sum w m,    variance = spread^2 (sum w (v + (m - sum w m)^2) + doubt)

    To v of a member that reads a donor, the donor's variance is added, less its own spread. The variance is 0 unless
    asked for: tracing it takes as long as tracing the mean.
    """
    lanes, donor, of_donor = len(own), jnp.zeros(len(own)), jnp.zeros(len(own))
    if size.lent is not None:
        donor, of_donor = _average(own, size.lent.size, r, s, with_variance=with_variance)
        donor = donor - size.lent.center
    mask, mixture, volume = size.mask, _repeat(size.mixture, lanes), _repeat(size.volume, lanes)
    rows = Rows(mixture=mixture, volume=volume, own=own, loss=mask, mask=mask, donor=mask)
    at = _repeat((s / size.scale)[None], lanes)
    points = Points(mixture=_repeat(r[:, None], lanes), volume=at, donor=donor[None])
    level = jnp.nan_to_num(size.center)
    members = named_members(size.member_names)
    readings: list[_Reading] = [
        (member.law, fitted, rows, noise_of(member), prior_of(member, len(r), level), points)
        for member, fitted in zip(members, size.fitted, strict=True)
    ]
    found = sane(
        size.member_names, size.weights, jnp.stack([read_mean(*reading)[0] for reading in readings]), size.log_range
    )
    between = jnp.sum(found.weights * found.means, axis=0)
    mean, variance, apart = size.center + between, jnp.zeros(lanes), found.means - between
    if size.drawn is not None:
        off = [_moved(reading, off) for reading, off in zip(readings, size.drawn.off, strict=True)]
        mean += jnp.sum(size.drawn.chosen * found.gate * (size.spread * apart + jnp.stack(off)), axis=0)
        mean += size.drawn.path(r)
    if with_variance:
        variances = jnp.stack([read_variance(*reading)[0] for reading in readings]).clip(0, MOST_VARIANCE)
        reads_donor = jnp.array([member.law.sized for member in members])[:, None]
        variances += jnp.where(reads_donor, of_donor / SPREAD**2, 0.0)
        variance = size.spread**2 * (jnp.sum(found.weights * (variances + apart**2), axis=0) + found.doubt)
    if size.carried is not None:
        ratio, of_ratio = size.carried.log_ratio(own, r, s)
        mean, variance = mean + ratio, variance + of_ratio
    return mean, variance


def _moved(reading: _Reading, off: tuple[Array, Array, Array]) -> Array:
    """Change a member's log losses [T] linearly, by `off` from its z, alpha and step effects."""
    law, fitted, *rest = reading

    def mean(z: Array, pull: Array, step: Array) -> Array:
        return read_mean(law, dataclasses.replace(fitted, z=z, pull=pull, step=step), *rest)[0]

    return jax.jvp(mean, (fitted.z, fitted.pull, fitted.step), off)[1]


def _repeat(values: Array, lanes: int) -> Array:
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
        found = losses(self.own, self.size, mixture, volume, self.deviations)
        return found if self.lanes is None else jnp.stack([found[t] for t in self.lanes])
