"""Extrapolate `auto` to a model size that was not fitted: by the ratio of a law that reads the size.

    L(r, s, N) = L_auto(r, s, N_0) law(r, s, N) / law(r, s, N_0)

N_0 is the fitted size nearest in log N. The error of the law at N_0 cancels, so that it only has to predict what a
larger model gains. How fast that gain decays, two sizes do not identify.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from bimixjax._base.arrays import Stored
from bimixjax._base.checks import InputError, choice
from bimixjax._base.records import record, static
from bimixjax._base.schema import Spot, numbers, record as record_of, text
from bimixjax.fitting.result import FitResult, target_loss
from bimixjax.laws import LAWS, Law

# Standard deviation of the log ratio, relative to it. Two sizes leave the exponent of N to its prior: after 70M
# and 160M parameters, exponents of .3 and .6 differ by 30 % in what 410M gains. From these two sizes of `data/5Mix`
# (arXiv 2403.16952), 90 % intervals hold .96 of the losses at 305M, and of no target less than .85; with .12 they hold
# .89, and .58 of one target. Losses at 410M did not choose it.
_UNSURE = 0.15

# A law may have no finite loss at a share of 0: the ratio is evaluated at this share instead.
_LEAST_SHARE = 1e-9


def check_beyond(name: str) -> None:
    """Raise an `InputError` unless it is the name of a law that reads the model size."""
    if not LAWS[choice("law", name, LAWS)].sized:
        raise InputError(f"law {name!r} does not read the model size; allowed beyond it: {', '.join(_SIZED)}")


@record
class Beyond:
    """A fitted law that reads the model size: its packed coefficients, in the user's units."""

    law: Law = static()
    values: Float[Stored, "T k"]

    @classmethod
    def of(cls, fit: FitResult) -> "Beyond":
        """Keep the law and the coefficients of a fit to all sizes."""
        return cls(law=fit.law, values=np.asarray(fit.values))

    def saved(self) -> dict[str, Any]:
        """Return what a file holds."""
        return {"law": self.law.name, "values": self.values}

    @classmethod
    def read(cls, value: Any, spot: Spot) -> "Beyond":
        """Read and check what `saved` gave; `spot` knows how many targets there are."""
        law = LAWS[record_of({"law": text(_SIZED), "values": lambda value, _: value})(value, spot)["law"]]
        domains = spot.lengths["domains"]
        count = sum(c.size(domains) for c in law.ordered())
        return cls(law=law, values=numbers("targets", count)(value["values"], spot.at("values")))


_SIZED = tuple(name for name, law in LAWS.items() if law.sized)


@record
class Carried:
    """The extrapolation from a fitted model size to another one, both in parameters."""

    beyond: Beyond
    fitted: Float[Stored, ""]
    wanted: Float[Stored, ""]

    def log_ratio(self, own: Array, mixture: Array, volume: Array) -> tuple[Array, Array]:
        """Compute the log ratio of losses [T] at a mixture [d] and volume, and its variance."""
        one, mixture = target_loss(self.beyond.law), jnp.maximum(mixture, _LEAST_SHARE)

        def log_loss(vector: Stored, domain: Array, size: Stored) -> Array:
            return jnp.log(one(vector, domain, mixture, volume, size))

        lanes = list(zip(self.beyond.values, own, strict=True))
        found = jnp.stack([log_loss(*lane, self.wanted) - log_loss(*lane, self.fitted) for lane in lanes])
        return found, (_UNSURE * found) ** 2
