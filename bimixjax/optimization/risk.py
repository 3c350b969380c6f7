"""The weighted mean of losses and a margin for what the fit leaves open, as an objective for the search."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from bimixjax.auto.averaging import reach
from bimixjax.auto.result import AutoFit
from bimixjax.fitting.resampling import Resamples
from bimixjax.optimization.losses import Losses
from bimixjax.optimization.objectives import Objective, of_resample

# Limits whose width gives the standard deviation; any level would.
_LEVEL = 0.5

# Central differences of this step: what a fit states of its deviation has no slopes. Values are exact to 1e-15, so that
# slopes are to some 1e-10.
_STEP = 1e-5

# Mixtures in one call of the compiled function.
_TOGETHER = 16

HostValues = tuple[Float[np.ndarray, " n"], Callable[[], Float[np.ndarray, "n d"]]]


@dataclass(frozen=True, eq=False)
class StatedRisk:
    """J + kappa sd(J), or a quantile, by the limits that a fit of `auto` states of J, see `AutoFit.mean_interval`.

    Attributes:
        fit: of one model size.
        goal: J.
        kappa: how many standard deviations.
        quantile: in place of them, the probability with which J is lower.
    """

    fit: AutoFit
    goal: Objective
    kappa: float
    quantile: float | None = None
    separable = False

    @property
    def predictor(self) -> Losses:
        """What the objective reads."""
        return Losses((self.goal,))

    def on_host(self, mixtures: Float[np.ndarray, "n d"]) -> HostValues:
        """Evaluate it at mixtures, and return what computes its gradients there."""
        return self._values(mixtures), partial(self._gradients, mixtures)

    def _values(self, mixtures: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        weights = np.zeros(len(self.fit.targets))
        weights[list(self.goal.chosen)] = self.goal.weights
        volume = None if self.fit.volume_unit is None else np.full(len(mixtures), float(self.goal.volume))
        options = {"level": _LEVEL, "inventory": self.goal.predictor.unique, "from_prior": True}
        ends = self.fit.mean_interval(mixtures, volume, weights=weights, **options)
        # The limits are J exp(-+ reach sd), of the mean's log.
        low, high = (np.log(np.asarray(end)) for end in ends)
        center, deviation = (low + high) / 2, (high - low) / 2 / reach(_LEVEL)
        if self.quantile is not None:
            return np.exp(center + reach(2 * self.quantile - 1) * deviation)
        return np.exp(center) * (1 + self.kappa * deviation)

    def _gradients(self, mixtures: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        count, d = mixtures.shape
        steps = np.eye(d)[None] * _STEP
        # Forward where there is no room below.
        below = np.minimum(mixtures, _STEP)[:, :, None] * np.eye(d)
        ends = mixtures[:, None] + steps, mixtures[:, None] - below
        high, low = np.split(self._values(np.concatenate([end.reshape(-1, d) for end in ends])), 2)
        return (high - low).reshape(count, d) / (_STEP + np.minimum(mixtures, _STEP))


@dataclass(frozen=True, eq=False)
class DrawnRisk:
    """mean_b J_b + kappa sd_b J_b over draws or resamples b of a fit.

    Attributes:
        goal: J by the fit itself, of which weights, targets and volume are read.
        draws: of the fit.
        kappa: how many standard deviations.
        model_size: N.
    """

    goal: Objective
    draws: Resamples
    kappa: float
    model_size: float | None
    separable = False

    @property
    def predictor(self) -> Losses:
        """What the objective reads."""
        return Losses((self.goal,))

    def on_host(self, mixtures: Float[np.ndarray, "n d"]) -> HostValues:
        """Evaluate it at mixtures, and return what computes its gradients there."""
        count = len(mixtures)
        padded = np.concatenate([mixtures, np.repeat(mixtures[-1:], -count % _TOGETHER, axis=0)])
        blocks = padded.reshape(-1, _TOGETHER, mixtures.shape[1])
        with jax.enable_x64(True):
            found = [_risk(self.goal, self.draws, self.kappa, each, model_size=self.model_size) for each in blocks]
        values, slopes = (np.concatenate([np.asarray(one[i]) for one in found])[:count] for i in (0, 1))
        return values, lambda: slopes


@partial(jax.jit, static_argnames=("model_size",))
def _risk(
    goal: Objective, draws: Resamples, kappa: Array, mixtures: Array, *, model_size: float | None
) -> tuple[Array, Array]:
    """Evaluate the mean over draws plus kappa standard deviations [n], and its gradients [n, d]."""

    def value(r: Array) -> Array:
        each = jax.vmap(lambda index: of_resample(goal, draws, index, model_size)(r))(jnp.arange(len(draws)))
        return jnp.mean(each) + kappa * jnp.std(each, ddof=1)

    return lax.map(jax.value_and_grad(value), mixtures)
