"""The best mixture as a function of what it follows from, by the implicit function theorem.

At a strict minimum r, with the limits that bind as equations E(r) = e (shares at a limit, sums of groups, the sum of
all, the surface of a ball of divergence D),

    F = (dJ/dr + eta D' + E' lambda,  E(r) - e) = 0,

so that one Newton step r - K^-1 F from there, K = dF/d(r, lambda, eta), stays where it is and has the derivatives of r.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from bimixjax._base.checks import InputError
from bimixjax._base.float64 import in_float64
from bimixjax.optimization.objectives import Objective
from bimixjax.solve import NEAR, Region
from bimixjax.solve.simplex import divergence

# In place of a share that is held at 0, where slopes may not be finite: small enough to change no other slope.
_ANY_SHARE = 1e-12


def differentiable_optimum(goal: Objective, region: Region, mixture: Float[np.ndarray, " d"]) -> Float[Array, " d"]:
    """Return an optimum that was found, with its first derivatives in the objective and the limits.

    By the leaves of the objective (weights, volume, the fit's coefficients) and of the region (limits of shares and
    groups, and so of epochs; radius and reference of a ball). Shares at a limit stay there, also where they would leave
    it at once.

    Args:
        goal: the objective; its leaves may be traced.
        region: the limits, as `OptimalMixture.region` gives them; its leaves may be traced.
        mixture: the optimum of this objective within these limits; NaN follows where it is no strict minimum, as with
            domains on which nothing depends.

    Raises:
        InputError: where the region has a hull of runs; where that does not bind, leave it out of the region.

    Returns:
        The mixture, differentiable under grad, jacfwd, jit and vmap.

    Example:
        >>> import bimixjax, dataclasses, jax, pandas as pd
        >>> from bimixjax.optimization import differentiable_optimum
        >>> table = {"run": ["a", "b"], "mixture/x": [0.25, 0.5], "mixture/y": [0.75, 0.5]}
        >>> table |= {"loss/x": [4.0, 8.0**0.5], "loss/y": [4 / 3**0.5, 8.0**0.5]}
        >>> fit = bimixjax.fit("bimix", bimixjax.Observations.from_frame(pd.DataFrame(table)), priors=False)
        >>> goal, best = bimixjax.objective(fit), bimixjax.optimize(fit)
        >>> def share_of_x(weights):
        ...     moved = dataclasses.replace(goal, weights=weights)
        ...     return differentiable_optimum(moved, best.region, best.proportions)[0]
        >>> [round(float(slope), 3) for slope in jax.grad(share_of_x)(jax.numpy.array([0.5, 0.5]))]
        [0.333, -0.333]
    """
    if region.hull is not None:
        raise InputError(
            "an optimum within a hull of runs has no derivatives here; where it does not bind, leave it out"
        )
    leaves, tree = jax.tree.flatten((goal, region))
    r = np.asarray(mixture, float)

    def found(*leaves: Array) -> Array:
        goal, region = jax.tree.unflatten(tree, leaves)
        return _newton_step(goal, region, r)

    with jax.enable_x64(True):
        leaves = [leaf if isinstance(leaf, jax.Array) else np.asarray(leaf) for leaf in leaves]
        wide = [leaf if leaf.dtype.kind == "i" else jnp.asarray(leaf, jnp.float64) for leaf in leaves]
        return in_float64(found)(*wide)


def _newton_step(goal: Callable[[Array], Array], region: Any, mixture: np.ndarray) -> Array:
    """Compute the step, as matrices of one size whatever binds: what does not has the equation price = 0."""
    r, count = jnp.asarray(mixture), region.least.shape[0]
    fixed = jax.tree.map(lax.stop_gradient, region)
    low, high = r - fixed.lower <= NEAR, fixed.upper - r <= NEAR
    held, end = low | high, jnp.where(low, region.lower, region.upper)
    # The price of each share: 0 that of the whole, k + 1 that of a group at a limit of its total.
    totals = jax.ops.segment_sum(r, region.group, count)
    least, most = totals - fixed.least <= NEAR, fixed.most - totals <= NEAR
    place = jnp.where(least | most, jnp.arange(1, count + 1), 0)[region.group]
    sums = (place == jnp.arange(count + 1)[:, None]).astype(r.dtype)
    bounds = jnp.where(least, region.least, jnp.where(most, region.most, 0.0))
    wanted = jnp.concatenate([1 - jnp.sum(bounds)[None], bounds])
    used = (sums @ (~held).astype(r.dtype)) > 0

    # Shares at a limit have no equation of slope; elsewhere than at 0 theirs are finite.
    point = jnp.where(held & (r <= 0), _ANY_SHARE, r)
    slope = jax.grad(goal)(point)
    bends = lax.stop_gradient(jax.hessian(goal)(point))
    tangent, curved, slack = jnp.zeros_like(r), jnp.zeros_like(bends), jnp.zeros(())
    if region.ball is not None:

        def of_ball(x: Array, ball: Any) -> Array:
            return divergence(x, ball)

        tangent = jax.grad(of_ball)(point, region.ball)
        curved = lax.stop_gradient(jax.hessian(of_ball)(point, fixed.ball))
        slack = of_ball(r, region.ball) - region.ball.radius
        binds = lax.stop_gradient(jnp.abs(slack)) <= NEAR * jnp.maximum(1.0, fixed.ball.radius)
        tangent = jnp.where(binds, tangent, 0.0)
    prices, pull = _multipliers(lax.stop_gradient(slope), lax.stop_gradient(tangent), sums, held, used)

    free = (~held).astype(r.dtype)
    off_face = jnp.where(held, r - end, slope + pull * tangent + prices @ sums)
    off_sums = jnp.where(used, sums @ r - wanted, 0.0)
    ball = lax.stop_gradient(jnp.any(tangent * free != 0)) & (pull > 0)
    off = jnp.concatenate([off_face, off_sums, jnp.where(ball, slack, 0.0)[None]])
    top = jnp.concatenate(
        [
            jnp.where(held[:, None], jnp.eye(len(mixture)), bends + pull * curved),
            free[:, None] * (sums * used[:, None]).T,
            (free * lax.stop_gradient(tangent) * ball)[:, None],
        ],
        axis=1,
    )
    middle = jnp.concatenate([sums * used[:, None], jnp.diag(1.0 - used), jnp.zeros((count + 1, 1))], axis=1)
    last = jnp.concatenate([lax.stop_gradient(tangent) * ball, jnp.zeros(count + 1), (1.0 - ball)[None]])
    matrix = lax.stop_gradient(jnp.concatenate([top, middle, last[None]]))
    step = jnp.linalg.solve(matrix, off - lax.stop_gradient(off))
    return r - step[: len(mixture)]


def _multipliers(slope: Array, tangent: Array, sums: Array, held: Array, used: Array) -> tuple[Array, Array]:
    """Return the prices [G + 1] and the pull of the ball that leave the least of the slopes of free shares."""
    rows = jnp.where(held, 0.0, jnp.concatenate([sums * used[:, None], tangent[None]]))
    found = jnp.linalg.lstsq(rows.T, -jnp.where(held, 0.0, slope))[0]
    return found[:-1], jnp.maximum(found[-1], 0.0)
