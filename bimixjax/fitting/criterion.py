"""What a fit minimizes: the scale of a residual, and how much a large one counts."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from bimixjax._base import checks

Residual = Literal["relative", "absolute"]


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """A sum over observations of a function of the residual, (predicted - measured) / scale.

    Squares by default. With a `huber` threshold d, so that an outlier counts by its size and not by its square,

        rho(z) = z^2 up to |z| = d, and d (2 |z| - d) beyond.

    Attributes:
        residual: "relative" divides by the measured loss, "absolute" by the target's mean measured loss, weighted.
        huber: the threshold d, as a share of the loss; None for squares throughout.

    Raises:
        InputError: for another kind of residual, or a threshold that is not finite and above 0.

    Example:
        >>> from bimixjax.fitting import Criterion
        >>> Criterion(huber=0.01)
        Criterion(residual='relative', huber=0.01)

    Source: Huber, Annals of Mathematical Statistics 35 (1964).
    """

    residual: Residual = "relative"
    huber: float | None = None

    def __post_init__(self) -> None:
        checks.choice("residual", self.residual, ("relative", "absolute"))
        if self.huber is not None:
            checks.positive("huber", self.huber)

    def scale(self, loss: Float[Array, "m t B"], weight: Float[Array, "m t B"]) -> Float[Array, "m t B"]:
        """Return what residuals are divided by, for losses with weights of the criterion."""
        if self.residual == "relative":
            return loss
        total = jnp.sum(weight, axis=(0, 1))
        mean = jnp.sum(weight * loss, axis=(0, 1)) / jnp.where(total > 0, total, 1.0)
        return jnp.broadcast_to(jnp.where(mean > 0, mean, 1.0), loss.shape)

    def emphasis(self, residual: Array) -> Array:
        """Return the weight rho'(z) / (2 z), with which a square has the slope of the criterion."""
        if self.huber is None:
            return jnp.ones_like(residual)
        return self.huber / jnp.maximum(jnp.abs(residual), self.huber)

    def value(self, residual: Array) -> Array:
        """Evaluate rho, the function of the residual that is summed."""
        if self.huber is None:
            return residual**2
        size = jnp.abs(residual)
        return jnp.where(size <= self.huber, residual**2, self.huber * (2 * size - self.huber))
