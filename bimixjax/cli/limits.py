"""Options that limit a mixture: shares, groups with totals, epochs, and mixtures to stay near to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

import bimixjax
from bimixjax._base.checks import InputError
from bimixjax.cli.options import Number, Numbers, names, number, numbers

if TYPE_CHECKING:
    import numpy as np

_GROUP = "allowed: NAME=DOMAIN+DOMAIN:MOST or NAME=DOMAIN+DOMAIN:LEAST..MOST, such as web=cc+c4:0.7"
_NEAR = "allowed: a mixture and a radius in nats with a colon between, such as natural:0.1 or web=0.5,code=0.5:0.1"

Groups = Annotated[tuple[str, ...], arg(metavar="NAME=DOMAIN+...:MOST")]
Epochs = Annotated[tuple[str, ...], arg(metavar="NUMBER|NAME=NUMBER,...")]
Near = Annotated[tuple[str, ...], arg(metavar="natural|uniform|NAME=NUMBER,...:RADIUS")]


@dataclass(frozen=True, kw_only=True)
class Limited:
    """The options that limit mixtures."""

    lower: Numbers = ()
    """Least shares of domains."""
    upper: Numbers = ()
    """Greatest shares of domains."""
    fixed: Numbers = ()
    """Shares of domains that are given."""
    group: Groups = ()
    """A sum of shares: web=cc+c4:0.7 is at most .7, web=cc+c4:0.2..0.7 from .2 to .7. May be repeated."""
    max_epochs: Epochs = ()
    """How often the unique tokens of --inventory may be repeated in a training of --volume tokens."""
    near: Near = ()
    """Stay within so many nats of KL divergence from a mixture: natural:0.1."""

    def limits(self, mixtures: "Mapping[str, np.ndarray]") -> "bimixjax.Limits":
        """Return what mixtures must keep to, of which those with a name may be named as one nearby."""
        near = near_mixture(self.near[-1], mixtures) if self.near else None
        return bimixjax.Limits(
            lower=numbers("lower", self.lower),
            upper=numbers("upper", self.upper),
            fixed=numbers("fixed", self.fixed),
            groups=groups(self.group),
            max_epochs=epochs(self.max_epochs),
            near=near,
        )


@dataclass(frozen=True, kw_only=True)
class LimitedByRuns(Limited):
    """The options that limit mixtures where runs were fitted."""

    within_runs: Annotated[Number, arg(metavar="DISTANCE")] = None
    """Stay within so far of the averages of the runs that were fitted, in total variation: 0 for averages alone."""

    def limits(self, mixtures: "Mapping[str, np.ndarray]") -> "bimixjax.Limits":
        """Return what mixtures must keep to, the hull of the runs among it."""
        return replace(super().limits(mixtures), hull=self.within_runs)


def groups(given: Iterable[str]) -> dict[str, tuple[tuple[str, ...], float, float]]:
    """Turn `web=cc+c4:0.2..0.7` into the domains of a group, and the least and the greatest sum of their shares.

    Raises:
        InputError: for a part of another form, or a group that is there twice.

    Example:
        >>> groups(["web=cc+c4:0.7", "rest=code+books:0.2..0.5"])
        {'web': (('cc', 'c4'), 0.0, 0.7), 'rest': (('code', 'books'), 0.2, 0.5)}
    """
    found: dict[str, tuple[tuple[str, ...], float, float]] = {}
    for text in (text for part in given for text in names([part])):
        head, colon, ends = text.rpartition(":")
        name, equals, members = head.partition("=")
        if not (name.strip() and equals and colon and members.strip()):
            raise InputError(f"--group has {text!r}; {_GROUP}")
        if name in found:
            raise InputError(f"--group names {name!r} twice")
        least, between, most = ends.partition("..")
        low = number(f"group {name}", least) if between else 0.0
        high = number(f"group {name}", most if between else ends)
        found[name.strip()] = tuple(member.strip() for member in members.split("+")), low, high
    return found


def epochs(given: Iterable[str]) -> float | dict[str, float] | None:
    """Turn `4` into one number for all domains, `code=4,web=1` into numbers by domain; None where nothing is given.

    Example:
        >>> epochs(["4"]), epochs(["code=4,web=1"]), epochs([])
        (4.0, {'code': 4.0, 'web': 1.0}, None)
    """
    parts = list(given)
    if any("=" in part for part in parts):
        return numbers("max-epochs", parts)
    return number("max-epochs", parts[-1]) if parts else None


def near_mixture(text: str, mixtures: "Mapping[str, np.ndarray]") -> "tuple[Mapping[str, float] | np.ndarray, float]":
    """Turn `natural:0.1` into one of the mixtures and a radius, `web=0.5,code=0.5:0.1` into another.

    Raises:
        InputError: for another form, or a name that is none of the mixtures.

    Example:
        >>> near_mixture("uniform:0.1", {"uniform": [0.5, 0.5]})
        ([0.5, 0.5], 0.1)
    """
    given, colon, radius = text.rpartition(":")
    if not colon:
        raise InputError(f"--near has {text!r}; {_NEAR}")
    size = number("near", radius)
    if "=" in given:
        return numbers("near", [given]), size
    if given not in mixtures:
        instead = "; natural needs --inventory with the tokens of every domain" if given == "natural" else ""
        raise InputError(
            f"--near has the mixture {given!r}; allowed: {', '.join(mixtures)}, or NAME=NUMBER,...{instead}"
        )
    return mixtures[given], size
