"""How far a mixture within limits is from optimal, from the gradient of the objective there."""

import dataclasses

import numpy as np
from jaxtyping import Float

from bimixjax.solve.region import NEAR, Region


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificate:
    """How far a mixture is from optimal.

    Attributes:
        multiplier: price mu of the constraint sum r = 1: what the objective gains per unit of share.
        kkt_residual: largest of stationarity over |mu| (or over the least slope that counts), sign violations and
            broken limits; a coordinate is excused from stationarity only as far as it stands at the limit that holds
            it, and a group from the price of the others likewise.
        gap: Frank-Wolfe gap, the most that any feasible move gains to first order; where the objective is convex, an
            upper bound on what is lost against the optimum.
        prices: mu plus the multiplier of the group's total, by group [G].
        pull: the multiplier of the ball, 0 where there is none or it does not bind.
    """

    multiplier: float
    kkt_residual: float
    gap: float
    prices: Float[np.ndarray, " G"]
    pull: float


def certify(
    gradient: Float[np.ndarray, " d"], r: Float[np.ndarray, " d"], region: Region, *, least: float = 0.0
) -> Certificate:
    """Certify a mixture within limits; stationarity is taken over |mu|, or over `least` where that is larger.

    With the multiplier eta of the ball, the slope is g = gradient + eta D'(r), and a group's price p_k = mu + nu_k:

        g_i + p_k >= 0 at the lower limit of i, <= 0 at its upper one, = 0 between;  -nu_k likewise, by the total of k.

    As D is convex, J(r) - min J <= g . (r - v) + eta (radius - D(r)) for convex J, with v the cheapest vertex.
    """
    pull = ball_pull(gradient, r, region)
    alone = _certified(gradient, r, region, 0.0, least)
    if pull == 0:
        return alone
    pulled = _certified(gradient, r, region, pull, least)
    return pulled if pulled.kkt_residual <= alone.kkt_residual else alone


def _certified(gradient: np.ndarray, r: np.ndarray, region: Region, pull: float, least: float) -> Certificate:
    """Certify with a given multiplier of the ball."""
    totals = region.totals(r)
    slope = gradient if region.ball is None or pull == 0 else gradient + pull * region.ball.slopes(r)
    mu, prices = _prices(slope, r, region, totals)
    scale = max(abs(mu), least, float(np.finfo(float).tiny))
    reduced, nu = (slope + prices[region.group]) / scale, (prices - mu) / scale
    worst = [region.violation(r), _unexcused(reduced, r - region.lower, region.upper - r)]
    if region.grouped:
        worst.append(_unexcused(-nu, totals - region.least, region.most - totals))
    gap = float(slope @ (r - region.cheapest(slope)))
    if region.ball is not None:
        slack = max(region.ball.radius - float(region.ball.of(r)), 0.0)
        worst.append(min(pull / scale, slack))
        gap += pull * slack
    return Certificate(multiplier=mu, kkt_residual=float(np.max(worst)), gap=gap, prices=prices, pull=pull)


def _unexcused(slope: np.ndarray, below: np.ndarray, above: np.ndarray) -> float:
    """Return the largest slope that no limit holds: towards the lower limit by the room below, and likewise above."""
    return float(np.max(np.minimum(np.maximum(slope, 0), below) + np.minimum(np.maximum(-slope, 0), above)))


def tight(region: Region, totals: np.ndarray) -> np.ndarray:
    """Say which groups stand at a limit of their total [G]."""
    return (totals - region.least <= NEAR) | (region.most - totals <= NEAR)


def ball_pull(gradient: np.ndarray, r: np.ndarray, region: Region) -> float:
    """Return the multiplier of the ball, as if it held r, that leaves the least of the slopes of shares with room."""
    if region.ball is None:
        return 0.0
    totals = region.totals(r)
    place = np.where(tight(region, totals), np.arange(1, len(totals) + 1), 0)[region.group]
    room = np.minimum(r - region.lower, region.upper - r)
    room = np.where(room > NEAR, room, 0.0)
    mass = np.bincount(place, room)

    def centered(x: np.ndarray) -> np.ndarray:
        return x - (np.bincount(place, room * x) / np.where(mass > 0, mass, 1))[place]

    # Where a share is at 0 the slope of the divergence is not finite; such shares have no room.
    by_ball = np.where(room > 0, region.ball.slopes(r), 0.0)
    by_goal, by_ball = centered(np.where(room > 0, gradient, 0.0)), centered(by_ball)
    square = (room * by_ball) @ by_ball
    return max(0.0, float(-((room * by_goal) @ by_ball) / square)) if square > 0 else 0.0


def _prices(slope: np.ndarray, r: np.ndarray, region: Region, totals: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the price of the whole, and that of each group."""
    held = tight(region, totals)
    if not held.any():
        mu = _price(slope, r, region.lower, region.upper)
        return mu, np.full(len(totals), mu)
    ends = [_between(slope[m], r[m], region.lower[m], region.upper[m]) for m in region.members]
    some = ~held[region.group]
    if some.any():
        mu = _price(slope[some], r[some], region.lower[some], region.upper[some])
    else:
        # Groups at their least total ask for less than mu, those at the greatest offer more.
        least = max(
            (low for (low, _), t, m in zip(ends, totals, region.least, strict=True) if t - m <= NEAR), default=-np.inf
        )
        most = min(
            (high for (_, high), t, m in zip(ends, totals, region.most, strict=True) if m - t <= NEAR), default=np.inf
        )
        mu = _middle(least, most)
    return mu, np.array([np.clip(mu, *end) if stays else mu for end, stays in zip(ends, held, strict=True)])


def _price(slope: np.ndarray, r: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """Return the mean of -slope over shares with room on both sides; a price between the sides if none has."""
    return _middle(*_between(slope, r, lower, upper))


def _between(slope: np.ndarray, r: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> tuple[float, float]:
    """Return the least and the greatest price that shares at limits allow; twice the mean, where some have room."""
    room = np.minimum(r - lower, upper - r)
    inside = room.sum() if len(r) else 0.0
    if inside > 1e-12:
        mean = float(-(room @ slope) / inside)
        return mean, mean
    below = r - lower <= upper - r
    fixed = lower == upper
    low = np.max(-slope, where=below & ~fixed, initial=-np.inf)
    high = np.min(-slope, where=~below & ~fixed, initial=np.inf)
    return (float(low), float(high)) if low <= high else ((low + high) / 2,) * 2


def _middle(low: float, high: float) -> float:
    """Return a price between two, of which one may be infinite."""
    if np.isfinite(low) and np.isfinite(high):
        return (low + high) / 2
    return low if np.isfinite(low) else high if np.isfinite(high) else 0.0
