"""Evaluate a law and its slopes at pairs of a lane and a point, so many in a call that all tables share one program.

A fit of `auto` is short: nearly all of its first one would be the time to compile. So what is compiled is the log of
the law alone, in one shape for each number of domains, and NumPy does the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int

from bimixjax._base.arrays import Stored
from bimixjax._base.compilation import program
from bimixjax._base.records import record
from bimixjax.fitting import devices
from bimixjax.laws import Law, Point

# Pairs in one call, and where slopes by places are wanted, which a search asks of a few mixtures at once;
# `benchmarks/auto.py` times fits and searches with them.
_PAIRS, _PAIRS_OF_PLACES = 1024, 256

# Below this share of the mean fitted loss, a law's logarithm goes on along its tangent.
_LEAST_LOSS = 0.2


@record
class Points:
    """Points at which lanes are evaluated; what all lanes share may have one lane.

    Attributes:
        mixture: r.
        volume: s, over the largest that was fitted.
        donor: log loss at a smaller model size, less its mean over the fitted rows; 0 where none is read.
        unique: unique tokens of each domain in the unit of `volume`, infinite for no limit; None where nobody says.
    """

    mixture: Float[Stored, "d Q B"]
    volume: Float[Stored, "Q B"]
    donor: Float[Stored, "Q B"]
    unique: Float[Stored, "d Q B"] | None = None


def log_law(
    law: Law,
    coefficients: Stored,
    mixture: Stored,
    volume: Stored,
    own: Stored,
    donor: Stored,
    unique: ArrayLike = np.inf,
) -> Array:
    """Return the log of the law [N] for N packed coefficients [q, N] at mixtures [d, N], volumes, own domains, donors.

    A law that reads epochs gets unique tokens [d, N].

    Every model size is fitted by itself: in its place the law gets the loss of the donor.
    """
    domains = mixture.shape[0]
    is_own = jnp.arange(domains)[:, None] == own
    share = jnp.sum(jnp.where(is_own, mixture, 0.0), axis=0)
    named = law.unpack(jnp.asarray(coefficients), law.ordered(), domains)
    point = Point(
        mixture=jnp.asarray(mixture),
        own=share,
        volume=jnp.asarray(volume),
        model_size=jnp.exp(donor),
        is_own=is_own,
        unique=unique,
    )
    loss = law.loss(named, point)
    # The logarithm goes on along its tangent where a law falls to zero and below: finite, with slopes.
    low = loss < _LEAST_LOSS
    return jnp.where(low, loss / _LEAST_LOSS - 1, 0.0) + jnp.log(jnp.where(low, _LEAST_LOSS, loss))


@program(static=("law",))
def _values(law: Law, coefficients: Array, *where: Array) -> tuple[Array]:
    return (log_law(law, coefficients, *where),)


@program(static=("law",))
def _values_and_slopes(law: Law, coefficients: Array, *where: Array) -> tuple[Array, Array]:
    # A pair depends on its own coefficients only, so one pull gives the slopes of all.
    value, pull = jax.vjp(lambda c: log_law(law, c, *where), coefficients)
    return value, pull(jnp.ones_like(value))[0]


@program(static=("law",))
def _values_and_place_slopes(law: Law, coefficients: Array, *where: Array) -> tuple[Array, Array, Array]:
    mixture, volume, own, donor, *unique = where
    value, pull = jax.vjp(lambda r, donor: log_law(law, coefficients, r, volume, own, donor, *unique), mixture, donor)
    return value, *pull(jnp.ones_like(value))


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pairs of B lanes and Q points, laid out for calls of one shape; lanes vary slowest, the first pair fills up.

    Attributes:
        lanes: B.
        points: Q.
        size: pairs in a call; N is a multiple of it.
        where: mixtures [d, N], volumes, own domains and donors [N].
        unique: unique tokens of each domain, for laws that read epochs.
    """

    lanes: int
    points: int
    size: int
    where: tuple[np.ndarray, ...]
    unique: Float[np.ndarray, "d N"] | None

    @classmethod
    def of(cls, own: Int[np.ndarray, " B"], points: Points, size: int = _PAIRS) -> Self:
        """Lay out the points of each lane."""
        lanes, count = len(own), points.volume.shape[0]

        def flat(values: Stored) -> np.ndarray:
            """Flatten [..., Q, B or 1] to [..., N]."""
            whole = np.broadcast_to(values, (*np.shape(values)[:-2], count, lanes)).swapaxes(-1, -2)
            return _filled(whole.reshape(*whole.shape[:-2], lanes * count), size)

        where = points.mixture, points.volume, own[None], points.donor
        unique = None if points.unique is None else flat(points.unique)
        return cls(lanes=lanes, points=count, size=size, where=tuple(map(flat, where)), unique=unique)

    @classmethod
    def of_places(cls, own: Int[np.ndarray, " B"], points: Points) -> Self:
        """Lay out points at which slopes by places are wanted."""
        return cls.of(own, points, _PAIRS_OF_PLACES)


def values(law: Law, coefficients: Float[np.ndarray, "q B"], pairs: Pairs) -> Float[np.ndarray, "Q B"]:
    """Evaluate the log law at the points of each lane."""
    return _in_calls(_values, law, coefficients, pairs)[0][0].T


def values_and_slopes(
    law: Law, coefficients: Float[np.ndarray, "q B"], pairs: Pairs
) -> tuple[Float[np.ndarray, "Q B"], Float[np.ndarray, "q B Q"]]:
    """Evaluate the log law at the points of each lane, and its derivatives by the packed coefficients."""
    value, slopes = _in_calls(_values_and_slopes, law, coefficients, pairs)
    return value[0].T, slopes


def values_and_place_slopes(
    law: Law, coefficients: Float[np.ndarray, "q B"], pairs: Pairs
) -> tuple[Float[np.ndarray, "Q B"], Float[np.ndarray, "d B Q"], Float[np.ndarray, "Q B"]]:
    """Evaluate the log law at the points of each lane, and its derivatives by their mixtures and by the donor."""
    value, by_mixture, by_donor = _in_calls(_values_and_place_slopes, law, coefficients, pairs)
    return value[0].T, by_mixture, by_donor[0].T


def _in_calls(
    function: Callable[..., tuple[Array, ...]], law: Law, coefficients: np.ndarray, pairs: Pairs
) -> list[np.ndarray]:
    """Call a function of pairs in calls of one shape. What comes back is [rows, B, Q]."""
    of_pairs = [_filled(np.repeat(coefficients, pairs.points, axis=1), pairs.size), *pairs.where]
    # Other laws keep to the programs that they have without an inventory.
    if law.reads_unique:
        of_pairs.append(np.full_like(pairs.where[0], np.inf) if pairs.unique is None else pairs.unique)
    with devices.on_host():
        starts = range(0, of_pairs[0].shape[1], pairs.size)
        found = [function(law, *(each[..., start : start + pairs.size] for each in of_pairs)) for start in starts]
    joined = [np.concatenate([np.atleast_2d(part) for part in parts], axis=1) for parts in zip(*found, strict=True)]
    return [each[:, : pairs.lanes * pairs.points].reshape(len(each), pairs.lanes, pairs.points) for each in joined]


def _filled(values: np.ndarray, size: int) -> np.ndarray:
    """Repeat the first pair until the last call is full."""
    return np.concatenate([values, np.repeat(values[..., :1], -values.shape[-1] % size, axis=-1)], axis=-1)
