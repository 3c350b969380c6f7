"""The mixtures that keep to limits: of shares, of the totals of groups, a ball about a reference, a hull of others.

    lower_i <= r_i <= upper_i,    least_k <= sum_{i in k} r_i <= most_k,    D(r, reference) <= radius,    sum_i r_i = 1

Every domain is in one group; those that have none named share a last one without limits. The groups are disjoint, so
what they allow separates at a price of the whole and a price per group: a search for either is one for a root.
"""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from bimixjax._base.records import record, static
from bimixjax.mixtures import nearest
from bimixjax.solve.hull import Hull, Sums

# A total this near a limit stands there.
NEAR = 1e-9

# Slopes are those at shares of at least this, for at 0 those of a divergence, and of some laws, are not finite.
LEAST_SHARE = 1e-8

# Halvings of a bracket, more than double precision has digits.
_HALVINGS = 90

Divergence = Literal["kl", "hellinger"]


@record
class Ball:
    """The mixtures within a divergence of a reference.

    Attributes:
        reference: q [d].
        radius: in nats for "kl", sum r log(r / q); of the squared distance for "hellinger", 1 - sum sqrt(r q).
        center: the mixture of least divergence among those that keep to the other limits [d].
        divergence: which.
    """

    reference: Float[np.ndarray, " d"]
    radius: float
    center: Float[np.ndarray, " d"]
    divergence: Divergence = static(default="kl")

    def of(self, r: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n"]:
        """Compute the divergence of mixtures from the reference."""
        if self.divergence == "hellinger":
            return 1 - np.sqrt(np.maximum(r, 0) * self.reference).sum(-1)
        there = r > 0
        ratio = np.divide(r, self.reference, out=np.ones(np.shape(r)), where=there & (self.reference > 0))
        return np.where(there & (self.reference <= 0), np.inf, np.where(there, r, 0.0) * np.log(ratio)).sum(-1)

    def slopes(self, r: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        """Compute the gradient of the divergence, up to a constant that no mixture sees."""
        r, q = np.maximum(r, LEAST_SHARE), np.maximum(self.reference, 1e-300)
        return -0.5 * np.sqrt(q / r) if self.divergence == "hellinger" else np.log(r / q)

    def curvatures(self, r: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        """Compute the diagonal of the Hessian of the divergence, which has no other entries."""
        r = np.maximum(r, LEAST_SHARE)
        return 0.25 * np.sqrt(self.reference / r**3) if self.divergence == "hellinger" else 1 / r

    def drawn_in(self, r: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Move mixtures outside of the ball straight towards its center, until they are in it."""
        outside = self.of(r) > self.radius
        if not outside.any():
            return r
        short, long = np.zeros(outside.sum()), np.ones(outside.sum())
        way = r[outside] - self.center
        for _ in range(_HALVINGS):
            middle = (short + long) / 2
            inside = self.of(self.center + middle[:, None] * way) <= self.radius
            short, long = np.where(inside, middle, short), np.where(inside, long, middle)
        found = r.copy()
        found[outside] = self.center + short[:, None] * way
        return found


@record
class Region:
    """The mixtures within limits; some mixture keeps to them all, which their builder has checked.

    Attributes:
        lower, upper: of each share [d].
        group: the group of each domain, from 0 [d].
        least, most: of each group's total [G]; infinite where it has none.
        ball: about a reference; None where there is none.
        hull: the averages of some mixtures, and what lies near; None where there is none.
    """

    lower: Float[np.ndarray, "*n d"]
    upper: Float[np.ndarray, "*n d"]
    group: Int[np.ndarray, " d"]
    least: Float[np.ndarray, " G"]
    most: Float[np.ndarray, " G"]
    ball: Ball | None = None
    hull: Hull | None = None

    @classmethod
    def box(cls, lower: np.ndarray, upper: np.ndarray) -> "Region":
        """Return the mixtures within limits of each share."""
        none = np.zeros(len(lower), int)
        return cls(lower=lower, upper=upper, group=none, least=np.array([-np.inf]), most=np.array([np.inf]))

    @property
    def grouped(self) -> bool:
        """Whether any group has a limit."""
        return len(self.least) > 1

    @property
    def is_box(self) -> bool:
        """Whether shares alone have limits."""
        return not self.grouped and self.ball is None and self.hull is None

    @property
    def of_groups(self) -> Sums | None:
        """The limits of groups as sums of shares; None where there are none."""
        if not self.grouped:
            return None
        return (np.arange(len(self.least))[:, None] == self.group).astype(float), self.least, self.most

    @property
    def members(self) -> list[np.ndarray]:
        """The domains of each group."""
        order = np.argsort(self.group, kind="stable")
        return np.split(order, np.searchsorted(self.group[order], np.arange(1, len(self.least))))

    def totals(self, r: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n G"]:
        """Sum shares by group."""
        if not self.grouped:
            return np.sum(r, axis=-1, keepdims=True)
        if np.ndim(r) == 1:
            return np.bincount(self.group, r, len(self.least))
        return r @ (self.group[:, None] == np.arange(len(self.least)))

    def span(self) -> tuple[Float[np.ndarray, "*n G"], Float[np.ndarray, "*n G"]]:
        """Return the least and the greatest total of each group that its members and its own limits allow."""
        return np.maximum(self.least, self.totals(self.lower)), np.minimum(self.most, self.totals(self.upper))

    def within_box(self, lower: np.ndarray, upper: np.ndarray) -> "Region":
        """Return the same groups and ball with other limits of the shares."""
        return dataclasses.replace(self, lower=lower, upper=upper)

    def allows(self, r: Float[np.ndarray, " d"], slack: float = NEAR) -> bool:
        """Say whether a mixture keeps to all limits."""
        return self.violation(r) <= slack

    def violation(self, r: Float[np.ndarray, " d"]) -> float:
        """Compute by how much a mixture breaks the limit that it breaks most; 0 where it keeps to all."""
        totals = self.totals(r)
        worst = [0.0, np.max(self.lower - r), np.max(r - self.upper), abs(float(np.sum(r)) - 1)]
        worst += [np.max(self.least - totals), np.max(totals - self.most)] if self.grouped else []
        worst += [float(self.ball.of(r)) - self.ball.radius] if self.ball else []
        worst += [self.hull.missed(r)] if self.hull else []
        return float(max(worst))

    def nearest(self, x: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n d"]:
        """Return the mixtures within limits that are nearest to x by Euclid; from there straight into ball and hull."""
        x = np.asarray(x, float)
        found = self._nearest_of_groups(np.atleast_2d(x)) if self.grouped else nearest(x, self.lower, self.upper)
        found = found if self.ball is None else self.ball.drawn_in(np.atleast_2d(found))
        found = found if self.hull is None else self.hull.drawn_in(np.atleast_2d(found))
        return found.reshape(x.shape)

    def _nearest_of_groups(self, x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """Project onto shares clip(x - price_k), where a group at no limit has the price of the whole."""
        (least, most), lower, upper = self.span(), *np.broadcast_arrays(self.lower, self.upper)
        low, high = (x - upper).min(-1), (x - lower).max(-1)

        def totals(price: np.ndarray) -> np.ndarray:
            return np.clip(self.totals(np.clip(x - price[:, None], lower, upper)), least, most)

        for _ in range(_HALVINGS):
            price = (low + high) / 2
            over = totals(price).sum(-1) > 1
            low, high = np.where(over, price, low), np.where(over, high, price)
        wanted, found = nearest(totals(high), least, most), np.empty(x.shape)
        for k, some in enumerate(self.members):
            if not len(some):
                continue
            found[:, some] = nearest(x[:, some], lower[..., some], upper[..., some], wanted[:, k : k + 1])
        return found

    def in_proportion(self, like: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        """Return the mixture within limits, but for ball and hull, whose shares are most in the proportions of another.

        It is clip(scale_k like), the mixture of least KL divergence from `like`; domains that are absent there share
        what the others cannot hold, in proportion to their room.
        """
        if not self.grouped:
            return _scaled(like, self.lower, self.upper, 1.0)
        least, most = self.span()
        low, high = -700.0, 700.0
        for _ in range(_HALVINGS):
            log_scale = (low + high) / 2
            over = (
                np.clip(self.totals(_clipped(np.exp(log_scale), like, self.lower, self.upper)), least, most).sum() > 1
            )
            low, high = (low, log_scale) if over else (log_scale, high)
        totals = np.clip(self.totals(_clipped(np.exp(low), like, self.lower, self.upper)), least, most)
        wanted, found = nearest(totals, least, most), np.empty(len(like))
        for k, some in enumerate(self.members):
            found[some] = _scaled(like[some], self.lower[some], self.upper[some], wanted[k])
        return found

    def cheapest(self, slope: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        """Return the mixture of least slope . r within limits but for the ball: a vertex of them."""
        if self.hull is not None:
            found = self.hull.cheapest(slope, self.lower, self.upper, self.of_groups)
            # Its builder has checked that some mixture keeps to the limits; beyond rounding it is such a mixture.
            return self.hull.center if found is None else np.clip(found, self.lower, self.upper)
        least, _ = self.span()
        room, found = self.upper - self.lower, self.lower.astype(float)
        order = np.argsort(slope, kind="stable")
        if not self.grouped:
            return _poured(found, room, order, 1 - found.sum())
        # First each group's least total, by its cheapest members; then the cheapest of all, until the group is full.
        for k, some in enumerate(self.members):
            if len(some) and np.isfinite(self.least[k]):
                own = some[np.argsort(slope[some], kind="stable")]
                found = _poured(found, room, own, least[k] - found[some].sum())
        room = self.upper - found
        left = self.most - self.totals(found)
        for k in np.flatnonzero(np.isfinite(self.most)):
            own = self.members[k][np.argsort(slope[self.members[k]], kind="stable")]
            room[own] = np.clip(left[k] - (np.cumsum(room[own]) - room[own]), 0.0, room[own])
        return _poured(found, room, order, 1 - found.sum())


def _clipped(scale: float, like: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    return np.clip(np.where(like > 0, scale * like, lower), lower, upper)


def _scaled(like: np.ndarray, lower: np.ndarray, upper: np.ndarray, total: float) -> np.ndarray:
    """Return clip(scale like, lower, upper) that sums to a total; what it cannot hold is for absent domains."""
    if not len(like):
        return lower.astype(float)
    low, high = -700.0, 700.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        over = _clipped(np.exp(middle), like, lower, upper).sum() > total
        low, high = (low, middle) if over else (middle, high)
    found = _clipped(np.exp(low), like, lower, upper)
    # Exactly, from the shares that stand at no limit.
    free = (found > lower) & (found < upper)
    if free.any():
        part = total - found[~free].sum()
        return np.where(free, np.clip(like * part / like[free].sum(), lower, upper), found)
    room, left = np.where(like > 0, 0.0, upper - lower), max(total - found.sum(), 0.0)
    return found + left * room / max(room.sum(), float(np.finfo(float).tiny))


def _poured(found: np.ndarray, room: np.ndarray, order: np.ndarray, amount: float) -> np.ndarray:
    """Give an amount to domains in their order, to each as much as it has room for."""
    poured = found.copy()
    ordered = room[order]
    poured[order] += np.clip(amount - (np.cumsum(ordered) - ordered), 0.0, ordered)
    return poured
