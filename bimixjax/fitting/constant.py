"""Whether a fitted law tells mixtures from one another, or is no better than a constant at each volume."""

import numpy as np

from bimixjax.fitting.lanes import Lanes
from bimixjax.fitting.views import Ends
from bimixjax.laws import Law

# A law that describes less than this share of the differences between mixtures is no better than a constant.
LEAST_GAIN = 1e-3

# Losses that differ by less than the root of this share of them are the same.
_SAME = 1e-24


def gain(law: Law, lanes: Lanes, ends: Ends, proportions: np.ndarray) -> np.ndarray:
    """What share of the differences between losses at one volume (and model size) a law describes, in squares [L].

    NaN where losses do not differ. It is 1 where there is nothing to ask: for laws to which all mixtures are alike, and
    in lanes with one of `proportions` [L] only, or without two rows at one volume.
    """
    found = np.ones(len(lanes.group))
    if not (law.own_proportion or any(c.per_domain or c.proportions > 1 for c in law.coefficients)):
        return found
    loss, volume, size = (lanes.flat(values) for values in (lanes.loss, lanes.volume, lanes.model_size))
    for i in range(volume.shape[1]):
        of = np.flatnonzero((lanes.group == i) & (proportions > 1))
        number = np.unique(np.column_stack([volume[:, i], size[:, i]]), axis=0, return_inverse=True)[1].reshape(-1)
        member = (number[:, None] == np.arange(number.max(initial=0) + 1)).astype(float)
        weight, measured = ends.factor[of] ** 2, loss.T[of]
        differ = _squares(measured, weight, member)
        missed = _squares(np.where(weight > 0, measured - ends.predicted[of], 0.0), weight, member)
        varied = differ > _SAME * (weight * measured**2).sum(-1)
        share = 1 - np.divide(missed, differ, out=np.zeros_like(differ), where=varied)
        asked = ((weight > 0) @ member > 1).any(-1)
        found[of] = np.where(asked, np.where(varied, share, np.nan), 1.0)
    return found


def _squares(values: np.ndarray, weight: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Weighted squares of values [L, n] about their mean at each volume; `member` [n, V] says which volume is whose."""
    total = weight @ member
    mean = np.divide((weight * values) @ member, total, out=np.zeros_like(total), where=total > 0)
    return (weight * (values - mean @ member.T) ** 2).sum(-1)
