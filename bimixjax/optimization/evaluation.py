"""The objective of a search at many mixtures: values, gradients, and what is known of its shape."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bimixjax.optimization.objectives import Objective, own_powers
from bimixjax.solve import LEAST_SHARE

# Mixtures in one call, of values and of slopes, and how many of these run side by side.
_VALUES, _SLOPES, _TOGETHER = 256, 8, 32

# Slopes of powers, whose exponents are 10 at most, are finite from this share on.
_LEAST_OF_POWERS = 1e-25


def goal_is_convex(goal: Objective, domains: int) -> bool:
    """Say whether an objective is known to be convex in the mixture."""
    known = getattr(goal.predictor, "convex", None)
    return known is not None and bool(known(domains))


def flat_domains(goal: Objective, domains: int) -> np.ndarray:
    """Find the domains on which the objective does not depend [d], by its gradient at random mixtures."""
    if goal.separable:
        scale, exponent, _ = np.asarray(own_powers(goal, domains))
        return scale * exponent == 0
    drawn = np.random.default_rng(1).dirichlet(np.ones(domains), _SLOPES)
    return np.all(gradients_at(goal, drawn) == 0, axis=0)


def values_at(goal: Objective, mixtures: np.ndarray) -> np.ndarray:
    """Evaluate the objective at mixtures [n, d], where it is compiled in calls of one shape."""
    if (found := goal.on_host(mixtures)) is not None:
        return found[0]
    if goal.separable:
        return _of_powers(goal, mixtures)[0]
    return _in_calls(_values, goal, mixtures, _VALUES)


def gradients_at(goal: Objective, mixtures: np.ndarray) -> np.ndarray:
    """Evaluate the gradient of the objective at mixtures [n, d], with shares of at least `LEAST_SHARE`."""
    if (found := goal.on_host(np.maximum(mixtures, LEAST_SHARE))) is not None:
        return found[1]()
    if goal.separable:
        return _of_powers(goal, mixtures)[1]
    return _in_calls(_gradients, goal, mixtures, _SLOPES)


def _of_powers(goal: Objective, mixtures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate sum_i c_i (r_i + e_i)^-a_i and its gradients, in time that grows as the number of shares."""
    scale, exponent, offset = np.asarray(own_powers(goal, mixtures.shape[1]))
    share, there = mixtures + offset, scale > 0
    # A term that is not there counts nothing, also where it would be infinite.
    powers = np.where(there, np.where(exponent > 0, np.maximum(share, 0.0), 1.0), 1.0)
    with np.errstate(divide="ignore"):
        values = np.where(there, scale * powers**-exponent, 0.0).sum(-1)
    least = np.maximum(share, _LEAST_OF_POWERS)
    return values, -scale * exponent * least ** (-exponent - 1)


def _in_calls(function, goal: Objective, mixtures: np.ndarray, size: int) -> np.ndarray:
    count = len(mixtures)
    padded = np.concatenate([mixtures, np.repeat(mixtures[-1:], -count % size, axis=0)])
    return np.concatenate([np.asarray(function(goal, part)) for part in padded.reshape(-1, size, padded.shape[1])])[
        :count
    ]


@jax.jit
def _values(goal: Objective, mixtures: Array) -> Array:
    return lax.map(goal, mixtures, batch_size=_TOGETHER)


@jax.jit
def _gradients(goal: Objective, mixtures: Array) -> Array:
    return jax.vmap(jax.grad(goal))(jnp.maximum(mixtures, LEAST_SHARE))
