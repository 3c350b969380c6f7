"""With which weights the same rows are fitted again: a bootstrap over runs."""

import jax
import jax.numpy as jnp
from jax import Array

from bimixjax._records import Leaf, record, static


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
        """What the weights [m, t, B] of lanes are multiplied by in resamples [B]; its mean over runs [m, 1, B] is 1."""
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(self.key, resample)
        drawn = jax.vmap(lambda key: jax.random.exponential(key, (self.runs,), self.dtype))(keys)
        drawn = drawn.astype(float)
        there = run >= 0
        weight = jnp.where(there, drawn[jnp.arange(len(resample)), run], 0.0)
        return weight * jnp.sum(there, axis=0) / jnp.sum(weight, axis=0)
