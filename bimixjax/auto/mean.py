"""The losses that a fit of `auto` expects, and their gradients: on the host, for a search that asks often.

Log losses of a member at a mixture r and a volume s are its law plus the process and the step effects there,

    m(r, s) = log law(r, s) + sum_j k(r, r_j) alpha_j + [s is a fitted volume] step_s

With the places x = sqrt(r + shift) and y of the runs, k = process^2 exp(-|x - y|^2 / (2 length^2)) has

    dk / dr_i = -k (x_i - y_i) / (2 length^2 x_i)
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from bimixjax.auto import law_values
from bimixjax.auto.averaging import Sane, sane
from bimixjax.auto.law_values import Pairs, Points
from bimixjax.auto.member import SAME_VOLUME, Fitted
from bimixjax.auto.members import Member, named_members
from bimixjax.auto.noise import shifted_root, times
from bimixjax.auto.one_size import AutoSize
from bimixjax.auto.reading import packed_prior, points_at
from bimixjax.fitting import devices

# Derivatives by expected log losses [Q, T] -> derivatives by mixtures [Q, d].
Pull = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class FittedMember:
    """A member and its fit, with what of it no point changes.

    Attributes:
        member: its law and process.
        coefficients: packed, of each target.
        fitted: alpha and step effects of each target.
    """

    member: Member
    coefficients: Float[np.ndarray, "q T"]
    fitted: Fitted


@dataclass(frozen=True, kw_only=True)
class ExpectedLosses:
    """Expected log losses of all targets at one model size, as a function of mixtures and volumes.

    Attributes:
        size: the fit.
        own: for each target, which domain it is, or -1.
        members: those that are averaged.
        runs: places of the runs.
        seen: whether each target has rows at each fitted volume.
        donor: the same of the smaller model size that is read, if any is.
        unique: unique tokens of each domain, [d], or [Q, d] at each point; None for no limit.
    """

    size: AutoSize
    own: np.ndarray
    members: tuple[FittedMember, ...]
    runs: Float[np.ndarray, "m d"]
    seen: Float[np.ndarray, "t T"]
    donor: "ExpectedLosses | None" = field(default=None)
    unique: Float[np.ndarray, "*Q d"] | None = None

    @classmethod
    def of(cls, size: AutoSize, own: tuple[int, ...], unique: np.ndarray | None = None) -> Self:
        """Prepare a fit."""
        members = named_members(size.member_names)
        return cls(
            size=size,
            own=np.array(own),
            members=tuple(
                FittedMember(
                    member=member,
                    coefficients=np.asarray(packed_prior(member, size, own).coefficients(np.asarray(fitted.z))),
                    fitted=Fitted(z=fitted.z, alpha=np.asarray(fitted.alpha), step=np.asarray(fitted.step)),
                )
                for member, fitted in zip(members, size.fitted, strict=True)
            ),
            runs=shifted_root(np.asarray(size.mixture).T),
            seen=(np.asarray(size.mask) > 0).any(0).astype(float),
            donor=None if size.lent is None else cls.of(size.lent.size, own, unique),
            unique=unique,
        )

    def __call__(self, r: Float[np.ndarray, "Q d"], s: Float[np.ndarray, " Q"]) -> Float[np.ndarray, "Q T"]:
        """Average the members' means at mixtures r and volumes s."""
        donor = None if self.donor is None else self.donor(r, s)
        points, means = self._points(r, s, donor), []
        pairs, same = Pairs.of(self.own, points), self._at_fitted(points)
        with devices.one_core(), jax.enable_x64(True):
            kernels = self._kernels(shifted_root(r))
            for one in self.members:
                value = law_values.values(one.member.law, one.coefficients, pairs)
                means.append(_mean(one, value, kernels[one.member.length], same))
        found = self._sane(np.stack(means))
        return (found.weights * found.means).sum(0) + self.size.center

    def with_pull(
        self, r: Float[np.ndarray, "Q d"], s: Float[np.ndarray, " Q"]
    ) -> tuple[Float[np.ndarray, "Q T"], Pull]:
        """Average the members' means, and return what pulls derivatives by them back to the mixtures."""
        donor, of_donor_pull = (None, None) if self.donor is None else self.donor.with_pull(r, s)
        points, x, means, slopes = self._points(r, s, donor), shifted_root(r), [], []
        pairs, same = Pairs.of_places(self.own, points), self._at_fitted(points)
        with devices.one_core(), jax.enable_x64(True):
            kernels = self._kernels(x)
            for one in self.members:
                value, *by_place = law_values.values_and_place_slopes(one.member.law, one.coefficients, pairs)
                means.append(_mean(one, value, kernels[one.member.length], same))
                slopes.append(by_place)
        means = np.stack(means)
        found, asked = self._sane(means), np.asarray(points.mixture)[..., 0].T
        by_share = np.divide(r, asked, out=np.ones(r.shape), where=asked > 0)

        def pull(by_mean: Float[np.ndarray, "Q T"]) -> Float[np.ndarray, "Q d"]:
            gradient, of_donor = np.zeros(r.shape), np.zeros(by_mean.shape)
            with devices.one_core(), jax.enable_x64(True):
                weights, ends = _broadcast(self.size)
                as_they_are = (found.gate == 1).all() and np.array_equal(found.means, means)
                shares = weights if as_they_are else _shares(self.size.member_names, weights, means, ends)
                for one, (by_mixture, by_donor), each in zip(
                    self.members, slopes, by_mean * np.asarray(shares), strict=True
                ):
                    gradient += np.einsum("dTQ,QT->Qd", by_mixture, each) * by_share
                    of_donor += each * by_donor
                    scale = one.member.process**2 / (2 * one.member.length**2)
                    toward = scale * kernels[one.member.length] * (each @ one.fitted.alpha.T)
                    gradient -= toward.sum(1, keepdims=True) - toward @ self.runs / x
            return gradient if of_donor_pull is None else gradient + of_donor_pull(of_donor)

        return (found.weights * found.means).sum(0) + self.size.center, pull

    def _points(self, r: np.ndarray, s: np.ndarray, donor: np.ndarray | None) -> Points:
        """Lay out points for all targets, with what they read of the donor."""
        lent = self.size.lent
        read = np.zeros((len(r), len(self.own))) if donor is None or lent is None else donor - lent.center
        return points_at(self.size, r, s, read, self.unique)

    def _kernels(self, x: Float[np.ndarray, "Q d"]) -> dict[float, Float[np.ndarray, "Q m"]]:
        """Correlate the process between points and runs, for each of the few lengths that members have."""
        squared = (x**2).sum(1)[:, None] + (self.runs**2).sum(1) - 2 * x @ self.runs.T
        lengths = {one.member.length for one in self.members}
        return {length: np.exp(-np.maximum(squared, 0.0) / (2 * length**2)) for length in lengths}

    def _at_fitted(self, points: Points) -> Float[np.ndarray, "Q t T"] | None:
        """Say at which points the step effects of fitted volumes count; None where they do at none."""
        volume = np.asarray(self.size.volume)
        near = np.abs(np.asarray(points.volume) - volume) <= SAME_VOLUME * volume
        return near[..., None] * self.seen if near.any() else None

    def _sane(self, means: Float[np.ndarray, "M Q T"]) -> Sane:
        return sane(self.size.member_names, _broadcast(self.size)[0], means, _broadcast(self.size)[1])


def _mean(
    one: FittedMember, law: Float[np.ndarray, "Q T"], correlation: Float[np.ndarray, "Q m"], same: np.ndarray | None
) -> Float[np.ndarray, "Q T"]:
    """Add the process and the step effects to a law."""
    mean = law + one.member.process**2 * (correlation @ one.fitted.alpha)
    return mean if same is None else mean + times(same, one.fitted.step)


def _broadcast(size: AutoSize) -> tuple[np.ndarray, np.ndarray]:
    """Return weights [M, 1, T] and the ends of the fitted range [2, 1, T]."""
    return np.asarray(size.weights)[:, None], np.asarray(size.log_range)[:, None]


@partial(jax.jit, static_argnames=("names",))
def _shares(names: tuple[str, ...], weights: Array, means: Array, ends: Array) -> Array:
    """Compute the derivatives of averages of sane members by each member's mean [M, Q, T]."""

    def total(means: Array) -> Array:
        found = sane(names, weights, means, ends)
        return jnp.sum(found.weights * found.means)

    return jax.grad(total)(means)
