"""How many lanes are solved side by side: on a CPU as many as keep what a step takes in the cache of one core."""

import jax

from bimixjax.fitting.lanes import Lanes
from bimixjax.laws import Law, ProductLaw
from bimixjax.laws.dependence import dependence
from bimixjax.solve import UNROLLED

# Numbers that a chunk of lanes may hold.
_CACHED_NUMBERS = 25_600

# The same on an accelerator, where a chunk is all that its memory holds with ease.
_ACCELERATED_NUMBERS = 1 << 30


def lanes_at_once(law: Law, lanes: Lanes, platform: str | None = None) -> int:
    """How many lanes of a law to solve side by side.

    On a CPU not a power of two: rows that lie so far apart all share a few lines of the cache.
    """
    on_cpu = (platform or jax.default_backend()) == "cpu"
    numbers = _CACHED_NUMBERS if on_cpu else _ACCELERATED_NUMBERS
    width = max(8, 1 << max(numbers // _numbers(law, lanes), 1).bit_length() - 1)
    return width + 4 if on_cpu else width


def _numbers(law: Law, lanes: Lanes) -> int:
    """About how many numbers a step of one lane goes over: data and slopes of rows, and matrices of unknowns."""
    domains = lanes.mixture.shape[0]
    unknowns = sum(c.size(domains) for c in law.part(linear=False))
    matrices = 2 * unknowns**2 if unknowns > UNROLLED else 0
    return lanes.rows * max(4, 2 + _slopes_by_row(law, lanes, unknowns)) + matrices


def _slopes_by_row(law: Law, lanes: Lanes, unknowns: int) -> int:
    """How many slopes have a value of their own in every row."""
    if isinstance(law, ProductLaw) and lanes.volume.shape[0] == 1:
        return 0
    found = dependence(law, lanes.mixture.shape[0])
    return unknowns if lanes.loss.shape[1] == 1 else found.slopes_by_row()
