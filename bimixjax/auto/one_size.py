"""What `auto` fitted at one model size, and the log losses that follow from it at any mixture and volume."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from bimixjax._base.arrays import Stored
from bimixjax._base.float64 import in_float64
from bimixjax._base.records import Leaf, record, static
from bimixjax.auto.averaging import MOST_VARIANCE, SPREAD, Sane, sane
from bimixjax.auto.beyond import Carried
from bimixjax.auto.member import Fitted, Points, Prior, Rows, read_mean, read_variance
from bimixjax.auto.member_fits import noise_of, prior_of
from bimixjax.auto.members import named_members
from bimixjax.auto.noise import Noise, correlation, places
from bimixjax.fitting.coverage import Coverage, companions, share_range
from bimixjax.laws import Law


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
    """Losses [T] at one mixture [d] and volume, `shift` standard deviations above what is expected."""
    leaves, tree = jax.tree.flatten((size, shift))

    def found(r: Array, s: Array, *leaves: Array) -> Array:
        size, shift = jax.tree.unflatten(tree, leaves)
        average = _average(jnp.array(own), size, r, s)
        mean = average.mean()
        return jnp.exp(mean if shift is None else mean + shift * jnp.sqrt(average.variance()))

    return in_float64(found)(mixture, volume, *leaves)


class _Reading(NamedTuple):
    """What a member is read by at one point."""

    law: Law
    fitted: Fitted
    rows: Rows
    noise: Noise
    prior: Prior
    points: Points

    def moved(self, off: tuple[Array, Array, Array]) -> Array:
        """By how much its log losses [T] change along `off` from its z, pull and step."""

        def mean(z: Array, pull: Array, step: Array) -> Array:
            fitted = dataclasses.replace(self.fitted, z=z, pull=pull, step=step)
            return read_mean(self.law, fitted, self.rows, self.noise, self.prior, self.points)[0]

        return jax.jvp(mean, (self.fitted.z, self.fitted.pull, self.fitted.step), off)[1]


@dataclass(frozen=True, kw_only=True)
class _Average:
    """The average of the members of a size at one mixture [d] and volume, and that of the size that lends, if any."""

    own: Array
    size: AutoSize
    r: Array
    s: Array
    readings: Sequence[_Reading]
    sane: Sane
    lent: "_Average | None"

    def mean(self) -> Array:
        """Expected log losses [T]."""
        size, between = self.size, self._between()
        drawn = 0.0
        if size.drawn is not None:
            drawn = self._drawn(size.drawn, between) + size.drawn.path(self.r)
        return size.center + between + drawn + self._carried()[0]

    def variance(self) -> Array:
        """Variance of measured log losses about them [T]."""
        size = self.size
        variances = jnp.stack([read_variance(*reading)[0] for reading in self.readings]).clip(0, MOST_VARIANCE)
        weights, apart = self.sane.weights, self.sane.means - self._between()
        variance = jnp.sum(weights * (variances + apart**2), axis=0) + self.sane.doubt
        if self.lent is not None:
            borrow = jnp.array([reading.law.sized for reading in self.readings])[:, None]
            variance += jnp.sum(jnp.where(borrow, weights, 0.0), axis=0) * self.lent.variance() / SPREAD**2
        return size.spread**2 * variance + self._carried()[1]

    def _between(self) -> Array:
        return jnp.sum(self.sane.weights * self.sane.means, axis=0)

    def _drawn(self, drawn: Drawn, between: Array) -> Array:
        """By how much a draw's members, but for those that left all sense, are above the average [T]."""
        moved = jnp.stack([reading.moved(off) for reading, off in zip(self.readings, drawn.off, strict=True)])
        apart = self.size.spread * (self.sane.means - between) + moved
        return jnp.sum(drawn.chosen * self.sane.gate * apart, axis=0)

    def _carried(self) -> tuple[Array | float, Array | float]:
        """What a law of the model size adds to the log losses, and to their variance."""
        size = self.size
        return (0.0, 0.0) if size.carried is None else size.carried.log_ratio(self.own, self.r, self.s)


def _average(own: Array, size: AutoSize, r: Array, s: Array) -> _Average:
    lanes = len(own)
    lent = None if size.lent is None else _average(own, size.lent.size, r, s)
    donor = jnp.zeros(lanes) if lent is None or size.lent is None else lent.mean() - size.lent.center
    rows = Rows(
        mixture=_repeat(size.mixture, lanes),
        volume=_repeat(size.volume, lanes),
        own=own,
        loss=size.mask,
        mask=size.mask,
        donor=size.mask,
    )
    points = Points(
        mixture=_repeat(r[:, None], lanes), volume=_repeat((s / size.scale)[None], lanes), donor=donor[None]
    )
    level = jnp.nan_to_num(size.center)
    readings = [
        _Reading(member.law, fitted, rows, noise_of(member), prior_of(member, len(r), level), points)
        for member, fitted in zip(named_members(size.member_names), size.fitted, strict=True)
    ]
    means = jnp.stack([read_mean(*reading)[0] for reading in readings])
    found = sane(size.member_names, size.weights, means, size.log_range)
    return _Average(own=own, size=size, r=r, s=s, readings=readings, sane=found, lent=lent)


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
