"""Limits of the mixtures that a search may choose, as people state them, and the region that follows from them."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from bimixjax._base import checks
from bimixjax._base.checks import InputError
from bimixjax.solve import Ball, Hull, Region

# Members, the least and the greatest total of a group.
Group = tuple[tuple[str, ...], float, float]

# A mixture, a radius and, for the squared Hellinger distance in place of the KL divergence, its name.
Near = tuple[Mapping[str, float] | ArrayLike, float] | tuple[Mapping[str, float] | ArrayLike, float, str]

# The center of a hull within further limits is the mean of its ends along so many shares.
_CENTERED = 8

# Limits such as ten times 0.1 sum to 1 up to rounding only.
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupTotal:
    """The limits of the sum of some domains' shares.

    Attributes:
        name: of the group.
        domains: its members.
        least, most: of their sum.
    """

    name: str
    domains: tuple[str, ...]
    least: float
    most: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nearby:
    """A mixture that another keeps near to.

    Attributes:
        mixture: its shares, in the order of the domains.
        radius: how far the other may be from it, as in `Limits`.
        divergence: "kl" or "hellinger".
    """

    mixture: tuple[float, ...]
    radius: float
    divergence: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a mixture must keep to.

    lower_i <= r_i <= upper_i,  least_k <= sum of a group's shares <= most_k,  r_i T / U_i <= max_epochs_i,
    sum_i r_i log(r_i / q_i) <= radius,  sum_i |r_i - sum_k w_k m_ki| / 2 <= hull for some weights w of runs

    Attributes:
        lower, upper: the least and the most of domains, by name; of one not named, 0 and 1.
        fixed: shares that are given, by domain.
        groups: by a name of your choice, the domains of a group, and the least and the greatest sum of their shares. A
            domain is in one group at most.
        max_epochs: how often the data of a domain may be repeated, one number or by domain. What is there, U, comes of
            the inventory.
        train_tokens: T, the tokens of the training in which domains may be repeated so often; by default, those of a
            budget in tokens. Where small runs stand for a large one, it is the large one that repeats.
        near: a mixture q, by domain or in their order, and how far from it r may be: in nats of KL divergence, or with
            "hellinger" as a third part in Hellinger distance, sqrt(sum (sqrt r - sqrt q)^2 / 2), which is 0 to 1.
        hull: how far from the nearest average of the mixtures m that were fitted, in total variation; 0, or True, for
            averages alone, where a law does not extrapolate in the shares. By default there is no such limit.

    Example:
        >>> from bimixjax import Limits
        >>> Limits(lower={"code": 0.05}, upper={"web": 0.6}).arrays(("web", "code"))[1].tolist()
        [0.6, 1.0]
        >>> held = Limits(fixed={"code": 0.1}, groups={"web": (("cc", "c4"), 0.0, 0.7)})
        >>> held.region(("cc", "c4", "code", "books")).nearest([0.5, 0.4, 0.1, 0.0]).round(3).tolist()
        [0.4, 0.3, 0.1, 0.2]
    """

    lower: Mapping[str, float] = dataclasses.field(default_factory=dict)
    upper: Mapping[str, float] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, float] = dataclasses.field(default_factory=dict)
    groups: Mapping[str, Group] = dataclasses.field(default_factory=dict)
    max_epochs: float | Mapping[str, float] | None = None
    near: Near | None = None
    train_tokens: float | None = None
    hull: float | bool | None = None

    @property
    def reach(self) -> float | None:
        """How far from averages of fitted mixtures others may be, in total variation; None without such a limit.

        Raises:
            InputError: where `hull` is neither true or false nor a number from 0 to below 1.
        """
        if self.hull is None or isinstance(self.hull, bool):
            return 0.0 if self.hull else None
        reach = checks.not_negative("hull", self.hull)
        if reach >= 1:
            raise InputError(f"hull is {reach:g}; allowed: 0, for averages of runs, to below 1, or True")
        return reach

    def arrays(self, domains: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper limits in the order of `domains`; raise `InputError` where no mixture meets them.

        Those of groups, epochs, a mixture nearby and a hull are in `region`.
        """
        found = dataclasses.replace(self, groups={}, max_epochs=None, near=None, hull=None).region(domains)
        return np.asarray(found.lower), np.asarray(found.upper)

    def region(
        self,
        domains: tuple[str, ...],
        *,
        unique: Float[np.ndarray, " d"] | None = None,
        tokens: float | None = None,
        measured: Float[np.ndarray, "m d"] | None = None,
    ) -> Region:
        """Return the mixtures that keep to all limits.

        Args:
            domains: names, in the order of the mixtures.
            unique: U, unique tokens of each domain, infinite where unlimited [d].
            tokens: T, how many tokens are trained on.
            measured: the mixtures that were fitted, for a hull [m, d].

        Raises:
            InputError: for an unknown domain, numbers that are no limits, epochs without an inventory or a budget in
                tokens, a hull without runs or beside a mixture nearby, or limits that no mixture meets; it names those
                that conflict.
        """
        stated = list(self._stated(domains, unique, tokens))
        lower, upper = np.zeros(len(domains)), np.ones(len(domains))
        for one in stated:
            if len(one.members) == 1 and not one.group:
                (i,) = one.members
                lower[i], upper[i] = max(lower[i], one.least), min(upper[i], one.most)
        region = Region.box(lower, upper)
        if self.groups:
            group, least, most = np.full(len(domains), len(self.groups)), [], []
            for k, one in enumerate(one for one in stated if one.group):
                group[list(one.members)] = k
                least.append(one.least if one.least > 0 else -np.inf)
                most.append(one.most if one.most < 1 else np.inf)
            ends = (np.array([*least, -np.inf]), np.array([*most, np.inf]))
            region = Region(lower=lower, upper=upper, group=group, least=ends[0], most=ends[1])
        if not _feasible(region):
            raise InputError(f"no mixture keeps to the limits: {_conflict(stated, len(domains))}")
        if self.reach is not None:
            return self._hull(region, stated, measured, self.reach)
        return region if self.near is None else self._near(region, domains, stated)

    def group_totals(self) -> tuple[GroupTotal, ...]:
        """Return the groups as records."""
        return tuple(
            GroupTotal(name=name, domains=tuple(members), least=float(least), most=float(most))
            for name, (members, least, most) in self.groups.items()
        )

    def nearby(self, domains: tuple[str, ...]) -> Nearby | None:
        """Return what mixtures keep near to, with the reference in the order of `domains`.

        Raises:
            InputError: for an unknown domain, a reference that is no mixture, or a radius that is not above 0.
        """
        if self.near is None:
            return None
        given, radius, *kind = self.near
        divergence = checks.choice("the divergence of near", kind[0] if kind else "kl", ("kl", "hellinger"))
        if isinstance(given, Mapping):
            checks.known("domain", tuple(given), domains, "near")
            given = [float(given.get(domain, 0.0)) for domain in domains]
        reference = np.asarray(given, float)
        checks.mixtures(reference[None] if reference.ndim == 1 else reference, domains)
        radius = checks.positive("the radius of near", radius)
        return Nearby(mixture=tuple((reference / reference.sum()).tolist()), radius=radius, divergence=divergence)

    def _stated(self, domains: tuple[str, ...], unique: np.ndarray | None, tokens: float | None) -> Iterator["_Stated"]:
        """List the limits that were stated, each in words."""
        for name in ("lower", "upper", "fixed"):
            checks.known("domain", tuple(getattr(self, name)), domains, "limits" if name != "fixed" else "fixed")
        for i, domain in enumerate(domains):
            low, high = float(self.lower.get(domain, 0.0)), float(self.upper.get(domain, 1.0))
            if not 0 <= low <= high <= 1:
                raise InputError(f"limits of {domain!r} are {low} to {high}; allowed: 0 <= lower <= upper <= 1")
            if low > 0:
                yield _Stated((i,), low, 1.0, f"lower {domain}={low:g}")
            if high < 1:
                yield _Stated((i,), 0.0, high, f"upper {domain}={high:g}")
            if domain in self.fixed:
                share = float(self.fixed[domain])
                if not 0 <= share <= 1:
                    raise InputError(f"fixed {domain!r} is {share}; allowed: 0 to 1")
                yield _Stated((i,), share, share, f"fixed {domain}={share:g}")
        yield from self._of_groups(domains)
        yield from self._of_epochs(domains, unique, tokens)

    def _of_groups(self, domains: tuple[str, ...]) -> Iterator["_Stated"]:
        place, taken = {domain: i for i, domain in enumerate(domains)}, dict[str, str]()
        for name, (members, least, most) in self.groups.items():
            checks.known("domain", members, domains, f"group {name!r}")
            checks.distinct("domain", members, f"group {name!r}")
            if not members:
                raise InputError(f"group {name!r} has no domain; allowed: at least one")
            if not 0 <= least <= most <= 1:
                raise InputError(f"group {name!r} has {least} to {most}; allowed: 0 <= least <= greatest total <= 1")
            for domain in members:
                if domain in taken:
                    where = f"groups {taken[domain]!r} and {name!r}"
                    raise InputError(f"{domain!r} is in the {where}; allowed: one group for each domain")
                taken[domain] = name
            words = f"group {name} ({'+'.join(members)}) {least:g} to {most:g}"
            yield _Stated(tuple(place[domain] for domain in members), least, most, words, group=True)

    def _of_epochs(
        self, domains: tuple[str, ...], unique: np.ndarray | None, tokens: float | None
    ) -> Iterator["_Stated"]:
        if self.max_epochs is None:
            return
        if unique is None:
            raise InputError("max_epochs needs the unique tokens of the domains: an inventory")
        if self.train_tokens is not None:
            tokens = checks.positive("train_tokens", self.train_tokens)
        if tokens is None:
            raise InputError(
                "max_epochs needs to know how many tokens are trained on: train_tokens, or a budget with unit 'tokens'"
            )
        if isinstance(self.max_epochs, Mapping):
            checks.known("domain", tuple(self.max_epochs), domains, "max_epochs")
        for i, domain in enumerate(domains):
            epochs = self.max_epochs.get(domain) if isinstance(self.max_epochs, Mapping) else self.max_epochs
            if epochs is None:
                continue
            checks.positive(f"max_epochs of {domain!r}", epochs)
            share = float(epochs) * float(unique[i]) / tokens
            if share < 1:
                words = (
                    f"max_epochs {epochs:g} of {domain} ({unique[i]:.3g} of {tokens:.3g} tokens: at most {share:.3g})"
                )
                yield _Stated((i,), 0.0, share, words)

    def _hull(self, region: Region, stated: list["_Stated"], measured: np.ndarray | None, reach: float) -> Region:
        """Add the hull of the fitted mixtures; its center is a mean of mixtures that keep to all limits."""
        if self.near is not None:
            raise InputError("near and hull both keep mixtures to what is known; allowed: one of them")
        if measured is None or not len(measured):
            raise InputError("hull is of the mixtures of fitted runs, and here there are none; leave hull out")
        hull = Hull(mixtures=measured, reach=reach, center=measured.mean(0))
        inside = [each for each in measured if region.allows(each)]
        if not inside:
            axes = np.eye(len(region.lower))[:_CENTERED]
            ends = [hull.cheapest(way, region.lower, region.upper, region.of_groups) for way in (*axes, *-axes)]
            inside = [end for end in ends if end is not None]
        if not inside:
            words = f"hull ({'averages of' if not reach else f'{reach:g} from averages of'} {len(measured)} mixtures)"
            both = [*stated, _Stated((), 0.0, 0.0, words, hull=hull)]
            raise InputError(f"no mixture keeps to the limits: {_conflict(both, len(region.lower))}")
        return dataclasses.replace(region, hull=dataclasses.replace(hull, center=np.mean(inside, axis=0)))

    def _near(self, region: Region, domains: tuple[str, ...], stated: list["_Stated"]) -> Region:
        """Add the ball about a mixture; its center is the allowed mixture of least divergence."""
        near = self.nearby(domains)
        assert near is not None
        reference, radius, kl = np.array(near.mixture), near.radius, near.divergence == "kl"
        if kl:
            # Where the reference has nothing, the divergence of any share is infinite.
            empty = reference == 0
            absent = [_Stated((i,), 0.0, 0.0, f"near: no {domains[i]} there") for i in np.flatnonzero(empty).tolist()]
            region = dataclasses.replace(region, upper=np.where(empty, 0.0, region.upper))
            if not _feasible(region):
                raise InputError(f"no mixture keeps to the limits: {_conflict([*stated, *absent], len(domains))}")
        ball = Ball(
            reference=reference,
            radius=radius if kl else min(radius, 1.0) ** 2,
            center=region.in_proportion(reference),
            divergence="kl" if kl else "hellinger",
        )
        least = float(ball.of(ball.center))
        if least >= ball.radius:
            least = least if kl else least**0.5
            words = ", ".join(one.words for one in _binding(region, ball.center, stated))
            raise InputError(
                f"no mixture keeps to the limits: near allows {radius:g} from its mixture, and {words} leave "
                f"{least:.4g} at least; allowed: a larger radius"
            )
        return dataclasses.replace(region, ball=ball)


@dataclasses.dataclass(frozen=True)
class _Stated:
    """One limit as it was stated: on the sum of some shares, in words."""

    members: tuple[int, ...]
    least: float
    most: float
    words: str
    group: bool = False
    hull: Hull | None = None


def _feasible(region: Region) -> bool:
    least, most = region.span()
    ordered = np.all(region.lower <= region.upper + _ROUNDING) and np.all(least <= most + _ROUNDING)
    return bool(ordered and least.sum() - _ROUNDING <= 1 <= most.sum() + _ROUNDING)


def _binding(region: Region, r: np.ndarray, stated: list[_Stated]) -> list[_Stated]:
    """Return the limits that stand in the way at a mixture."""
    totals = [r[list(one.members)].sum() for one in stated]
    return [one for one, t in zip(stated, totals, strict=True) if min(t - one.least, one.most - t) <= 1e-9] or stated


def _conflict(stated: list[_Stated], domains: int) -> str:
    """Name limits of which no one can be left out: without any of them, the others can be met.

    Which they are is asked of linear programs: limits are dropped one after the other as long as no mixture meets those
    that are left.
    """
    from scipy.optimize import linprog

    def possible(some: list[_Stated]) -> bool:
        hull, some = next((one.hull for one in some if one.hull), None), [one for one in some if not one.hull]
        rows = np.zeros((len(some), domains))
        for row, one in zip(rows, some, strict=True):
            row[list(one.members)] = 1.0
        ends = np.array([[one.least, one.most] for one in some]).reshape(-1, 2)
        if hull is not None:
            zeros = np.zeros(domains)
            return hull.cheapest(zeros, zeros, zeros + 1, (rows, ends[:, 0], ends[:, 1])) is not None
        options: dict[str, Any] = {"A_eq": np.ones((1, domains)), "b_eq": [1.0], "bounds": (0, 1)}
        if len(some):
            options |= {"A_ub": np.concatenate([-rows, rows]), "b_ub": np.concatenate([-ends[:, 0], ends[:, 1]])}
        return linprog(np.zeros(domains), **options).status == 0

    needed, size = list(stated), 2 * len(stated)
    while size > 1:
        size = (size + 1) // 2
        for start in reversed(range(0, len(needed), size)):
            without = needed[:start] + needed[start + size :]
            needed = needed if possible(without) else without
    return f"{', '.join(one.words for one in needed)} conflict with each other"
