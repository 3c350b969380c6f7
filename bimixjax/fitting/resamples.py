"""Two bootstraps over runs: the weights with which the same rows are fitted again."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int, PRNGKeyArray

from bimixjax._base.records import record, static


@record
class Bootstrap:
    """The Bayesian bootstrap over runs: each run gets a weight from the standard exponential distribution.

    Unlike counts of runs drawn with replacement, these weights leave no run out, so that designs of few runs stay
    identified. They depend on key, resample and run only: targets share them, and so do any number of devices.
    In float32 a key gives other weights than in float64.

    Source: Rubin, The Bayesian bootstrap, Annals of Statistics 9 (1981).
    """

    key: PRNGKeyArray
    count: int = static()
    runs: int = static()
    dtype: str = static(default="float64")

    def __len__(self) -> int:
        return self.count

    def factor(self, resample: Int[Array, " B"], run: Int[Array, "m 1 B"]) -> Float[Array, "m 1 B"]:
        """Draw what the weights of lanes are multiplied by in their resamples; its mean over runs is 1."""
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(self.key, resample)
        drawn = jax.vmap(lambda key: jax.random.exponential(key, (self.runs,), self.dtype))(keys)
        drawn = drawn.astype(float)
        there = run >= 0
        weight = jnp.where(there, drawn[jnp.arange(len(resample)), run], 0.0)
        return weight * jnp.sum(there, axis=0) / jnp.sum(weight, axis=0)


@record
class Redraw:
    """The bootstrap over runs: each resample draws as many runs as there are, with replacement.

    For `auto`, whose priors keep small designs well-posed, and whose noise is for the most part shared by a run's rows
    or by near mixtures: a run of half or twice the weight then moves the fit little, only one that is absent moves it.
    Coefficients that rest on priors do not vary: the spread is narrower than that between fits to other runs.

    Source: Efron, Bootstrap methods, Annals of Statistics 7 (1979).
    """

    key: PRNGKeyArray
    count: int = static()

    def __len__(self) -> int:
        return self.count

    def counts(self, size: int, runs: int) -> Int[Array, "R m"]:
        """Count how often each of the runs of a model size, by its number, is drawn in each resample."""
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(self.key, jnp.arange(self.count))
        drawn = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, size), (runs,), 0, runs))(keys)
        return jax.vmap(lambda each: jnp.bincount(each, length=runs))(drawn)
