"""The losses that a fit of `auto` predicts at one model size, as a function of the mixture and the volume."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from bimixjax._base.float64 import in_float64
from bimixjax._base.records import record, static
from bimixjax.auto.one_size import AutoSize, average_at
from bimixjax.auto.reading import mean_and_pull

# Losses [Q, t], and what pulls derivatives by them [Q, t] back to the mixtures [Q, d].
HostLosses = tuple[Float[np.ndarray, "Q t"], Callable[[np.ndarray], np.ndarray]]


@record
class AutoLosses:
    """The averaged losses of one model size, as a function of a mixture and a volume.

    Attributes:
        own: for each target, which domain it is, or -1.
        lanes: the targets wanted; None for all.
        size: what was fitted.
    """

    own: tuple[int, ...] = static()
    lanes: tuple[int, ...] | None = static(default=None)
    size: AutoSize

    name = "auto"
    separable = False
    own_by_convention = ()

    def __call__(self, mixture: Float[Array, " d"], volume: Float[Array, ""]) -> Float[Array, " t"]:
        """Evaluate the losses in nats per token, in float64 and inside any transform."""
        leaves, tree = jax.tree.flatten(self.size)

        def found(r: Array, s: Array, *leaves: Array) -> Array:
            return jnp.exp(average_at(jnp.array(self.own), jax.tree.unflatten(tree, leaves), r, s))

        losses = in_float64(found)(mixture, volume, *leaves)
        return losses if self.lanes is None else jnp.stack([losses[t] for t in self.lanes])

    @property
    def on_host(self) -> Callable[[np.ndarray, np.ndarray], HostLosses] | None:
        """The same for many points at once, with NumPy and the programs that fit: a search need not compile more.

        None for a draw from the posterior, and for a model size that was not fitted.
        """
        return None if self.size.drawn is not None or self.size.carried is not None else self._on_host

    def _on_host(self, r: Float[np.ndarray, "Q d"], s: Float[np.ndarray, " Q"]) -> HostLosses:
        mean, pull = mean_and_pull(self.size, self.own, r, s)
        losses, kept = np.exp(mean), slice(None) if self.lanes is None else list(self.lanes)

        def by_mixture(by_losses: Float[np.ndarray, "Q t"]) -> Float[np.ndarray, "Q d"]:
            by_mean = np.zeros(losses.shape)
            by_mean[:, kept] = by_losses * losses[:, kept]
            return pull(by_mean)

        return losses[:, kept], by_mixture
