"""The mixture whose weighted mean of losses is least in all but some draws of a fit.

    minimize over r within limits the k-th least of J_1(r) .. J_B(r),    k = ceil(q B)

is the least t that k of the B draws stay below. With these k draws S held, it is the least worst of them,

    min over r of max_{b in S} J_b(r),

which sequential quadratic programs solve, see `epigraph`. At the mixture found, other k draws may be the least ones:
their worst is no higher, so that it goes on with them until S stays. Where that ends depends on where it began, and so
it begins from several mixtures. For a law with convex losses the certificate holds among all mixtures for the S of the
end, not for every S.
"""

import dataclasses
from functools import partial
from math import ceil
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from bimixjax.fitting.resampling import Resamples
from bimixjax.optimization import search
from bimixjax.optimization.epigraph import Epigraph, Solved, followed
from bimixjax.optimization.objectives import Objective, of_resample
from bimixjax.optimization.risk import DrawnRisk
from bimixjax.solve import LBFGS, LEAST_SHARE, Region

# Mixtures looked at for where to begin, beside those that were fitted; the descents from the best that are this far
# from each other in total variation, and how often each takes other draws.
_LOOKED_AT, _BEGUN, _APART, _TURNS = 200, 4, 0.1, 50

# Mixtures in one call of the compiled function.
_TOGETHER = 16

# Descents agree whose values differ by less than this part of them, as in `search`; it is also the least that is gained
# by other draws.
_AGREES, _GAINED = 1e-7, 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class DrawnMeans:
    """The weighted means of losses in some draws, as functions of the mixture, as `epigraph` takes losses.

    Attributes:
        goal: J by the fit itself, of which weights, targets and volume are read.
        draws: of the fit.
        model_size: N.
        held: which draws.
    """

    goal: Objective
    draws: Resamples
    model_size: float | None
    held: np.ndarray

    def values(self, mixtures: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """Evaluate the means at mixtures, or beside them, where programs look too."""
        padded = np.concatenate([mixtures, np.repeat(mixtures[-1:], -len(mixtures) % _TOGETHER, axis=0)])
        with jax.enable_x64(True):
            found = [
                np.asarray(_values(self.goal, self.draws, block, model_size=self.model_size)).T
                for block in padded.reshape(-1, _TOGETHER, mixtures.shape[1])
            ]
        return np.concatenate(found)[: len(mixtures), self.held]

    def jacobian(self, r: Float[np.ndarray, " d"]) -> Float[np.ndarray, "k d"]:
        """Compute the slopes of the means at a mixture."""
        with jax.enable_x64(True):
            slopes = _slopes(self.goal, self.draws, np.maximum(r, LEAST_SHARE), model_size=self.model_size)
        return np.asarray(slopes)[self.held]


@partial(jax.jit, static_argnames=("model_size",))
def _values(goal: Objective, draws: Resamples, mixtures: Array, *, model_size: float | None) -> Array:
    return lax.map(
        lambda index: jax.vmap(of_resample(goal, draws, index, model_size))(mixtures), jnp.arange(len(draws))
    )


@partial(jax.jit, static_argnames=("model_size",))
def _slopes(goal: Objective, draws: Resamples, r: Array, *, model_size: float | None) -> Array:
    return lax.map(lambda index: jax.grad(of_resample(goal, draws, index, model_size))(r), jnp.arange(len(draws)))


def least_quantile(
    means: DrawnMeans, quantile: float, region: Region, measured: np.ndarray, *, solver: LBFGS, starts: int
) -> Solved | None:
    """Find the mixture of the least quantile of the draws; None where they are finite at no mixture that was evaluated.

    Args:
        means: of all draws.
        quantile: q, above 0 and below 1.
        region: the limits, without a hull.
        measured: mixtures to look at beside random ones [m, d].
        solver: settings of the L-BFGS in the first search, for the mean and as many standard deviations as make this
            quantile of a normal distribution.
        starts: how many of its descents run side by side.
    """
    kept = ceil(quantile * len(means.held) - 1e-9)
    risk: Any = DrawnRisk(means.goal, means.draws, NormalDist().inv_cdf(quantile), means.model_size)
    first = search.best_mixture(risk, region, measured, solver=solver, starts=starts)
    if first is None:
        return None
    drawn = np.random.default_rng(0).dirichlet(np.ones(len(region.lower)), _LOOKED_AT)
    tried = region.nearest(np.concatenate([measured, drawn]))
    begin = [first.mixture]
    for i in np.argsort(np.sort(means.values(tried), axis=1)[:, kept - 1], kind="stable").tolist():
        if len(begin) < _BEGUN and min(np.abs(tried[i] - one).sum() for one in begin) > 2 * _APART:
            begin.append(tried[i])
    ends = [_descended(means, kept, each, region, first) for each in begin]
    best = min(ends, key=lambda end: end.value)
    same = [end.value <= best.value + _AGREES * abs(best.value) for end in ends]
    others = [
        end.value - best.value
        for end, alike in zip(ends, same, strict=True)
        if not alike and search.settled(end.found.certificate)
    ]
    found = dataclasses.replace(best.found, starts=len(ends), agreed=sum(same), second=min(others) if others else None)
    return dataclasses.replace(best, found=found)


def _descended(means: DrawnMeans, kept: int, begin: np.ndarray, region: Region, first: search.Found) -> Solved:
    """Minimize the worst of the draws that are least at a mixture, until these stay the same."""
    best: Solved | None = None
    r = begin
    for _ in range(_TURNS):
        held = np.argsort(means.values(r[None])[0], kind="stable")[:kept]
        ones, none = np.ones(kept), np.full(kept, np.inf)
        some: Any = dataclasses.replace(means, held=held)
        problem = Epigraph(losses=some, weights=ones / kept, scales=ones, shifts=ones * 0, caps=none, worst=True)
        solved = followed(problem, r, region, first)
        value = float(np.sort(means.values(solved.found.mixture[None])[0])[kept - 1])
        if best is not None and value > best.value:
            break
        gained = np.inf if best is None else best.value - value
        best, r = dataclasses.replace(solved, value=value), solved.found.mixture
        if gained <= _GAINED * abs(value):
            break
    assert best is not None
    return best
