"""The losses that a fit of `auto` predicts at one model size, as a function of the mixture and the volume."""

from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from bimixjax._base.arrays import Stored
from bimixjax._base.float64 import in_float64
from bimixjax._base.records import record, static
from bimixjax.auto.mean import ExpectedLosses, Pull
from bimixjax.auto.one_size import AutoSize, average_at


@record
class AutoLosses:
    """The averaged losses of one model size, as a function of a mixture and a volume.

    Attributes:
        own: for each target, which domain it is, or -1.
        lanes: the targets wanted; None for all.
        size: what was fitted.
        unique: unique tokens of each domain, for members that read epochs; None for no limit.
    """

    own: tuple[int, ...] = static()
    lanes: tuple[int, ...] | None = static(default=None)
    size: AutoSize
    unique: Float[Stored, " d"] | Float[Stored, "n d"] | None = None

    name = "auto"
    separable = False
    own_by_convention = ()

    def __call__(self, mixture: Float[Array, " d"], volume: Float[Array, ""]) -> Float[Array, " t"]:
        """Evaluate the losses in nats per token, in float64 and inside any transform."""
        leaves, tree = jax.tree.flatten((self.size, self.unique))

        def found(r: Array, s: Array, *leaves: Array) -> Array:
            size, unique = jax.tree.unflatten(tree, leaves)
            return jnp.exp(average_at(jnp.array(self.own), size, r, s, unique))

        losses = in_float64(found)(mixture, volume, *leaves)
        return losses if self.lanes is None else jnp.stack([losses[t] for t in self.lanes])

    @property
    def on_host(self) -> "AutoLosses | None":
        """Itself where `values` and `with_pull` work, which need not compile more than a fit; else None.

        They do not for a draw from the posterior, and for a model size that was not fitted.
        """
        return None if self.size.drawn is not None or self.size.carried is not None else self

    def values(self, r: Float[np.ndarray, "Q d"], s: Float[np.ndarray, " Q"]) -> Float[np.ndarray, "Q t"]:
        """Evaluate the losses at mixtures and volumes with NumPy and the programs that fit."""
        return np.exp(self._expected(r, s))[:, self._kept]

    def with_pull(
        self, r: Float[np.ndarray, "Q d"], s: Float[np.ndarray, " Q"]
    ) -> tuple[Float[np.ndarray, "Q t"], Pull]:
        """Evaluate the losses, and return what pulls derivatives by them [Q, t] back to the mixtures [Q, d]."""
        mean, pull = self._expected.with_pull(r, s)
        losses = np.exp(mean)

        def by_mixture(by_losses: Float[np.ndarray, "Q t"]) -> Float[np.ndarray, "Q d"]:
            by_mean = np.zeros(losses.shape)
            by_mean[:, self._kept] = by_losses * losses[:, self._kept]
            return pull(by_mean)

        return losses[:, self._kept], by_mixture

    @cached_property
    def _expected(self) -> ExpectedLosses:
        return ExpectedLosses.of(self.size, self.own, None if self.unique is None else np.asarray(self.unique))

    @property
    def _kept(self) -> slice | list[int]:
        return slice(None) if self.lanes is None else list(self.lanes)
