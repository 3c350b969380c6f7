"""The exact minimum over mixtures of a sum of powers of the shares, through its dual.

One problem is solved by NumPy: a program for it is compiled ten thousand times as long as it runs. Many problems side
by side, and derivatives, are for the compiled function.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int

from bimixjax._base.arrays import Stored
from bimixjax._base.roots import MOST_STEPS, root

# At a share of e^-230 = 1e-100 of every domain a price is as high as any.
_LEAST_LOG_SHARE = -230.0

# A total that has a logarithm, where all shares are nothing.
_LEAST_TOTAL = float(np.finfo(float).tiny)


def power_dual(
    scale: Stored,
    exponent: Stored,
    lower: Stored,
    upper: Stored,
    group: Stored | None = None,
    least: Stored | None = None,
    most: Stored | None = None,
) -> Array:
    """Minimize sum_i scale_i r_i^-exponent_i over mixtures within limits, exactly, through its dual.

    Stationarity gives r_i(p) = clip((scale_i exponent_i / p)^(1 / (1 + exponent_i)), lower_i, upper_i) at a price p.
    That of the whole, mu, is the root of

        sum_k clip(T_k(mu), least_k, most_k) = 1,    T_k(p) = sum_{i in k} r_i(p),

    searched in log mu; a group whose total is then at a limit has a price of its own, the root of T_k(p) = that limit.
    A domain whose term is zero gets its lower limit; where the others cannot fill the mixture or a group, such domains
    share the rest in proportion to their room.

    Args:
        scale: c_i >= 0 [n].
        exponent: alpha_i >= 0 [n].
        lower: lower limits [n].
        upper: upper limits [n].
        group: the group of each domain, from 0 [n]; None for no groups.
        least: the least total of each group [G], infinite where it has none. Some mixture must keep to all limits.
        most: the greatest total [G].

    Returns:
        The mixture r [n], differentiable in all arguments by the implicit function theorem (to first order).

    Example:
        >>> import jax.numpy as jnp
        >>> from bimixjax.solve import power_dual
        >>> [round(float(x), 6) for x in power_dual(jnp.array([4.0, 1.0]), jnp.ones(2), jnp.zeros(2), jnp.ones(2))]
        [0.666667, 0.333333]

    Source: arXiv 2405.14908, Eq. 15-16; the closed form is derived from its Lagrangian.
    """
    drive = scale * exponent
    active = drive > 0
    log_drive = jnp.log(jnp.where(active, drive, 1.0))

    def shares(price: Array) -> Array:
        return jnp.where(active, jnp.clip(jnp.exp((log_drive - price) / (1 + exponent)), lower, upper), lower)

    # Shares from 1 down to the least of every active domain: the root lies between, or the limits decide.
    low = jnp.min(jnp.where(active, log_drive, jnp.inf)) - 1e-3
    high = jnp.max(jnp.where(active, log_drive - _LEAST_LOG_SHARE * (1 + exponent), -jnp.inf))
    low, high = (jnp.where(jnp.any(active), end, 0.0) for end in (low, high))
    start = jnp.clip(jax.nn.logsumexp(log_drive, where=active), low, high)
    room = jnp.where(active, 0.0, upper - lower)
    if group is None or least is None or most is None:
        r = shares(root(lambda mu: jnp.log(jnp.sum(shares(mu))), low, high, start, lambda mu: jnp.sum(shares(mu)) - 1))
        return _filled(r, room)

    total = partial(group_totals, group=group, count=least.shape[0])
    least, most = jnp.maximum(least, total(lower)), jnp.minimum(most, total(upper))

    def whole(mu: Array) -> Array:
        return jnp.sum(jnp.clip(total(shares(mu)), least, most))

    mu = root(lambda mu: jnp.log(whole(mu)), low, high, start, lambda mu: whole(mu) - 1)
    free = total(shares(mu))
    wanted, held = jnp.clip(free, least, most), (free < least) | (free > most)

    def excess(price: Array) -> Array:
        # Groups at no limit have the price of the whole, and no search.
        return jnp.where(held, jnp.log(total(shares(price[group]))) - jnp.log(wanted), mu - price)

    def equation(price: Array) -> Array:
        return jnp.where(held, total(shares(price[group])) - wanted, mu - price)

    at = jnp.full(least.shape, 1.0) * lax.stop_gradient(mu)
    prices = root(excess, jnp.ones_like(at) * low, jnp.ones_like(at) * high, at, equation)
    return _filled_by_group(shares(prices[group]), room, group, least, most)


def power_dual_on_host(
    scale: Float[np.ndarray, " n"],
    exponent: Float[np.ndarray, " n"],
    lower: Float[np.ndarray, " n"],
    upper: Float[np.ndarray, " n"],
    group: Int[np.ndarray, " n"] | None = None,
    least: Float[np.ndarray, " G"] | None = None,
    most: Float[np.ndarray, " G"] | None = None,
) -> Float[np.ndarray, " n"]:
    """Solve one problem of `power_dual` by NumPy, to the same digits but for rounding.

    Chosen by benchmarks/search.py: in a row of calls it is as fast as the compiled function (.07 and .05 ms for 22
    domains), whose first call takes more than a second.

    Example:
        >>> import numpy as np
        >>> from bimixjax.solve import power_dual_on_host
        >>> power_dual_on_host(np.array([4.0, 1.0]), np.ones(2), np.zeros(2), np.ones(2)).round(6).tolist()
        [0.666667, 0.333333]
    """
    drive = scale * exponent
    active = drive > 0
    alike = bool(active.all())
    # Where a term is zero its logarithm is that of nothing, and the share at any price is the lower limit.
    log_drive = np.log(drive) if alike else np.log(drive, out=np.full(len(drive), -np.inf), where=active)
    known, low, high, start = log_drive if alike else log_drive[active], 0.0, 0.0, 0.0
    if len(known):
        greatest = float(known.max())
        low, high = float(known.min()) - 1e-3, greatest - _LEAST_LOG_SHARE * (1 + float(exponent.max()))
        start = greatest + math.log(np.exp(known - greatest).sum())
    shares = _Shares(log_drive=log_drive, bend=1 / (1 + exponent), lower=lower, upper=upper)
    if group is None or least is None or most is None:
        r = shares.at(_price(shares.total, 1.0, low, high, start))
        return r if alike else _filled(r, np.where(active, 0.0, upper - lower))

    total = partial(group_totals, group=group, count=len(least))
    least, most = np.maximum(least, total(lower)), np.minimum(most, total(upper))

    def whole(price: float) -> tuple[float, float]:
        r = shares.at(price)
        free, drops = total(r), total(shares.drops(r))
        totals = np.minimum(np.maximum(free, least), most)
        return float(totals.sum()), float(drops[totals == free].sum())

    r = shares.at(_price(whole, 1.0, low, high, start))
    free = total(r)
    order = np.argsort(group, kind="stable")
    ends = np.searchsorted(group[order], np.arange(len(least) + 1))
    for k in np.flatnonzero((free < least) | (free > most)).tolist():
        some, wanted = order[ends[k] : ends[k + 1]], float(np.clip(free[k], least[k], most[k]))
        of_group = shares.take(some)
        r[some] = of_group.at(_price(of_group.total, wanted, low, high, start)) if wanted > 0 else lower[some]
    return r if alike else _filled_by_group(r, np.where(active, 0.0, upper - lower), group, least, most)


@dataclass(frozen=True, kw_only=True)
class _Shares:
    """The shares r_i = clip(exp(bend_i (log_drive_i - price)), lower_i, upper_i) of a price."""

    log_drive: Float[np.ndarray, " n"]
    bend: Float[np.ndarray, " n"]
    lower: Float[np.ndarray, " n"]
    upper: Float[np.ndarray, " n"]

    def at(self, price: float) -> Float[np.ndarray, " n"]:
        return np.minimum(np.maximum(np.exp((self.log_drive - price) * self.bend), self.lower), self.upper)

    def drops(self, r: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return by how much each share falls with the price."""
        return np.where((r > self.lower) & (r < self.upper), r * self.bend, 0.0)

    def total(self, price: float) -> tuple[float, float]:
        """Return the sum of all shares, and by how much it falls with the price."""
        r = self.at(price)
        return float(r.sum()), float(self.drops(r).sum())

    def take(self, some: Int[np.ndarray, " k"]) -> "_Shares":
        return _Shares(
            log_drive=self.log_drive[some], bend=self.bend[some], lower=self.lower[some], upper=self.upper[some]
        )


def _price(
    total: Callable[[float], tuple[float, float]], wanted: float, low: float, high: float, start: float
) -> float:
    """Find the price at which a total is what is wanted, by the steps of `root` in the logarithm of the total."""
    eps = float(np.finfo(float).eps)
    price, last = start, math.inf
    for _ in range(MOST_STEPS):
        found, drop = total(price)
        missed = math.log(max(found, _LEAST_TOTAL) / wanted)
        low, high = (price, high) if missed > 0 else (low, price)
        newton = price + missed * found / drop if drop > 0 else math.inf
        new = newton if low <= newton <= high and 2 * abs(newton - price) <= last else (low + high) / 2
        last, rounding = abs(new - price), eps * max(1.0, abs(price))
        settled = abs(missed) <= 2 * eps or last <= rounding
        # The last step polishes; a longer one comes of a slope that is rounding.
        price = price if settled and last > 4 * rounding else new
        if settled:
            break
    return price


def group_totals(values: Stored, group: Stored, count: int) -> Any:
    """Sum values [n] by group [G]."""
    if isinstance(values, np.ndarray):
        return np.bincount(group, values, count)
    return jax.ops.segment_sum(values, group, count)


def _filled(r: Stored, room: Stored) -> Any:
    """Let domains without effect share what the others cannot hold, in proportion to their room."""
    left = r.__array_namespace__().maximum(1 - r.sum(), 0.0)
    return r + left * _part(room, room.sum())


def _filled_by_group(r: Stored, room: Stored, group: Stored, least: Stored, most: Stored) -> Any:
    """Let such domains fill what a group lacks of its least total, then what the whole lacks."""
    space = r.__array_namespace__()
    own, rooms = (group_totals(values, group, least.shape[0]) for values in (r, room))
    lacking = space.clip(least - own, 0.0, rooms)
    more = space.minimum(rooms - lacking, space.maximum(most - own - lacking, 0.0))
    left = space.maximum(1 - own.sum() - lacking.sum(), 0.0)
    filled = lacking + space.minimum(left, more.sum()) * _part(more, more.sum())
    return r + _part(room, rooms[group]) * filled[group]


def _part(part: Stored, whole: Stored) -> Any:
    return part / whole.__array_namespace__().where(whole > 0, whole, 1.0)
