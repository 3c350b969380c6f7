"""How much of the differences between mixtures a fitted law describes, beside a constant at each volume."""

import numpy as np
from jaxtyping import Float, Int

from bimixjax.fitting.lanes import Lanes
from bimixjax.fitting.views import Ends
from bimixjax.laws import Law

# A law that describes less than this share of the differences between mixtures is no better than a constant.
LEAST_GAIN = 1e-3

# Losses that differ by less than the root of this share of them are the same.
_SAME = 1e-24


def gain(law: Law, lanes: Lanes, ends: Ends, proportions: Int[np.ndarray, " L"]) -> Float[np.ndarray, " L"]:
    """Find what share of the differences between losses at one volume (and model size) a law describes.

    With S(x) the weighted squares of x about its mean at each volume and size, it is

        1 - S(measured - predicted) / S(measured).

    It is NaN where losses do not differ; and 1 for laws to which all mixtures are alike, and in lanes with one of the
    `proportions` only, or without two rows at one volume.
    """
    found = np.ones(len(lanes.group))
    if not (law.own_proportion or any(c.per_domain or c.proportions > 1 for c in law.coefficients)):
        return found
    loss, places = lanes.flat(lanes.loss).T, lanes.places().T
    for size, place in enumerate(places):
        of = np.flatnonzero((lanes.group == size) & (proportions > 1))
        # 1 where a row is at a place [n, V].
        at = (place[:, None] == np.arange(place.max(initial=0) + 1)).astype(float)
        weight, measured = np.asarray(ends.factor)[of] ** 2, loss[of]
        differ = _squares(measured, weight, at)
        missed = _squares(np.where(weight > 0, measured - ends.predicted[of], 0.0), weight, at)
        varied = differ > _SAME * (weight * measured**2).sum(1)
        share = 1 - np.divide(missed, differ, out=np.full_like(differ, np.nan), where=varied)
        several = ((weight > 0) @ at > 1).any(1)
        found[of] = np.where(several, share, 1.0)
    return found


def _squares(
    values: Float[np.ndarray, "L n"], weight: Float[np.ndarray, "L n"], at: Float[np.ndarray, "n V"]
) -> Float[np.ndarray, " L"]:
    """Sum the weighted squares of values about their mean at each place."""
    total = weight @ at
    mean = np.divide((weight * values) @ at, total, out=np.zeros_like(total), where=total > 0)
    return (weight * (values - mean @ at.T) ** 2).sum(1)
