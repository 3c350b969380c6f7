"""The weights of two bootstraps over runs."""

import jax
import jax.numpy as jnp
from jax import Array

from bimixjax._base.records import Leaf, record, static


@record
class Bootstrap:
    """The Bayesian bootstrap over runs: each run gets a weight from the standard exponential distribution.

    Unlike counts of runs drawn with replacement, these weights leave no run out, so that designs of few runs stay
    identified. They depend on key, resample and run only: targets share them, and so do any number of devices.
    In float32 a key gives other weights than in float64.

    Source: Rubin, The Bayesian bootstrap, Annals of Statistics 9 (1981).
    """

    key: Leaf
    count: int = static()
    runs: int = static()
    dtype: str = static(default="float64")

    def __len__(self) -> int:
        return self.count

    def factor(self, resample: Array, run: Array) -> Array:
        """Draw factors [m, 1, B] of the weights of lanes' rows in resamples [B]; their mean over runs is 1."""
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
    or by near mixtures: a run with half or twice the weight then gives much the same information, and only its absence
    matters. What the priors determine does not vary: the spread is narrower than that between fits to other runs.

    Source: Efron, Bootstrap methods, Annals of Statistics 7 (1979).
    """

    key: Leaf
    count: int = static()

    def __len__(self) -> int:
        return self.count

    def counts(self, size: int, runs: int) -> Array:
        """Count how often each run of a model size is drawn in each resample [R, m]."""
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(self.key, jnp.arange(self.count))
        drawn = jax.vmap(lambda key: jax.random.randint(jax.random.fold_in(key, size), (runs,), 0, runs))(keys)
        return jax.vmap(lambda each: jnp.bincount(each, length=runs))(drawn)
