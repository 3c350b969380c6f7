"""The search where the mixtures of runs bound it: over weights of corners, which linear programs find.

The best point of a polytope is an average of few of its corners V [k, d]. So J(V' w) is searched over the simplex of
the weights w, by the search that serves every objective; then the corner of least slope, min J'(r) . v, is what the
next search needs beside the corners that have weight. J'(r) . (r - v) is the Frank-Wolfe gap: where J is convex, no
mixture that keeps to the limits is better by more, and where it is 0 none is.

All of it only where the best mixture without the hull lies outside.

Source: simplicial decomposition, von Hohenbalken, Math. Program. 13 (1977).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from bimixjax.optimization import epigraph, search
from bimixjax.optimization.evaluation import goal_is_convex, gradients_at, values_at
from bimixjax.optimization.losses import Losses
from bimixjax.optimization.search import Found
from bimixjax.solve import LBFGS, NEAR, Hull, Region

# Corners of the first search: the best, and ends along the shares and random directions. So many domains it can also
# move between in turn, see `search`.
_CORNERS, _BEST, _IN_EIGHTS = 40, 16, 8
# Searches, and the gap in nats per token at which they end.
_ROUNDS, _CLOSED = 60, 1e-10


@dataclasses.dataclass(frozen=True, eq=False)
class OfWeights:
    """An objective as a function of the weights of corners [k, d], as `search` takes one."""

    goal: Any
    corners: Float[np.ndarray, "k d"]
    separable = False
    own_by_convention = ()

    @property
    def predictor(self) -> "OfWeights":
        """What the objective reads."""
        return self

    def convex(self, _: int) -> bool:
        """Say whether the objective is known to be convex: it is, in the weights, where it is in the mixture."""
        return goal_is_convex(self.goal, self.corners.shape[1])

    def on_host(
        self, weights: Float[np.ndarray, "n k"]
    ) -> tuple[Float[np.ndarray, " n"], Callable[[], Float[np.ndarray, "n k"]]]:
        """Evaluate it at weights, and return what computes its gradients there."""
        mixtures = weights @ self.corners
        return values_at(self.goal, mixtures), lambda: gradients_at(self.goal, mixtures) @ self.corners.T


@dataclasses.dataclass(frozen=True, eq=False)
class LossesOfWeights:
    """Losses as functions of the weights of corners [k, d], as `epigraph` takes them."""

    losses: Losses
    corners: Float[np.ndarray, "k d"]
    own_by_convention = ()

    def __len__(self) -> int:
        return len(self.losses)

    def convex(self, _: int) -> bool:
        """Say whether all losses are known to be convex."""
        return self.losses.convex(self.corners.shape[1])

    def values(self, weights: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n m"]:
        """Evaluate the losses at weights."""
        return self.losses.values(weights @ self.corners)

    def with_pull(
        self, weights: Float[np.ndarray, "n k"]
    ) -> tuple[Float[np.ndarray, "n m"], Callable[[np.ndarray], np.ndarray]]:
        """Evaluate the losses, and return a function from derivatives by them to those by weights."""
        values, pull = self.losses.with_pull(weights @ self.corners)
        return values, lambda by_losses: pull(by_losses) @ self.corners.T

    def jacobian(self, weights: Float[np.ndarray, " k"]) -> Float[np.ndarray, "m k"]:
        """Compute the slopes of the losses at weights."""
        return self.losses.jacobian(weights @ self.corners) @ self.corners.T


def best_mixture(goal: Any, region: Region, measured: np.ndarray, *, solver: LBFGS, starts: int) -> Found | None:
    """Find the best mixture within limits as `search.best_mixture` does, also where these have a hull."""
    at: dict[str, Any] = {"solver": solver, "starts": starts}
    found = search.best_mixture(goal, dataclasses.replace(region, hull=None), measured, **at)
    return kept(goal, found, region, measured, **at)


def kept(
    goal: Any, found: Found | None, region: Region, measured: np.ndarray, *, solver: LBFGS, starts: int
) -> Found | None:
    """Return the best mixture without the hull where it lies in it, else the best one in the hull."""
    if found is None or region.hull is None or region.hull.missed(found.mixture) <= NEAR:
        return found

    def solve(corners: np.ndarray, weights: np.ndarray | None) -> tuple[Found, np.ndarray, np.ndarray] | None:
        of_weights: Any = OfWeights(goal, corners)
        simplex = _simplex(len(corners))
        some: Found | None = None
        if weights is not None:
            # From where the last search ended; another from many starts only where that leads nowhere.
            ended, known = search.polished(of_weights, weights, simplex)
            some = Found(mixture=ended, certificate=known) if search.settled(known) else None
        if some is None:
            some = search.best_mixture(of_weights, simplex, np.eye(len(corners)), solver=solver, starts=starts)
        if some is None:
            return None
        return some, some.mixture, gradients_at(goal, (some.mixture @ corners)[None])[0]

    first = _corners(region, measured, lambda mixtures: values_at(goal, mixtures))
    if (ended := _decomposed(region, region.hull, first, solve)) is None:
        return None
    r, (last, begun), gap = ended
    known = dataclasses.replace(last.certificate, gap=gap)
    return dataclasses.replace(begun, mixture=r, certificate=known, in_hull=True)


def solve(
    problem: epigraph.Epigraph,
    region: Region,
    measured: np.ndarray,
    begin: list[np.ndarray],
    *,
    solver: LBFGS,
    starts: int,
) -> epigraph.Solved | None:
    """Find the best mixture as `epigraph.solve` does, also within a hull."""
    at: dict[str, Any] = {"solver": solver, "starts": starts}
    free = epigraph.solve(problem, dataclasses.replace(region, hull=None), measured, begin, **at)
    if free is None or region.hull is None or region.hull.missed(free.found.mixture) <= NEAR:
        return free

    def on(corners: np.ndarray, _: np.ndarray | None) -> tuple[epigraph.Solved, np.ndarray, np.ndarray] | None:
        losses: Any = LossesOfWeights(problem.losses, corners)
        of_weights = dataclasses.replace(problem, losses=losses)
        some = epigraph.solve(of_weights, _simplex(len(corners)), np.eye(len(corners)), [], **at)
        if some is None:
            return None
        w = some.found.mixture
        return some, w, some.multipliers @ problem.losses.jacobian(w @ corners)

    first = _corners(region, measured, lambda mixtures: problem.value(problem.losses.values(mixtures)))
    if (ended := _decomposed(region, region.hull, first, on)) is None:
        return None
    r, (last, begun), gap = ended
    known = dataclasses.replace(last.found.certificate, gap=gap)
    return dataclasses.replace(last, found=dataclasses.replace(begun.found, mixture=r, certificate=known, in_hull=True))


def _decomposed(
    region: Region, hull: Hull, corners: np.ndarray, solve: Callable[..., Any]
) -> tuple[np.ndarray, tuple[Any, Any], float] | None:
    """Search over weights of corners, with one corner more each time, until none is missing.

    Returns:
        The mixture, what the last and the first search returned, and the gap.
    """
    first, weights = None, None
    best: tuple[np.ndarray, tuple[Any, Any], float] | None = None
    for _ in range(_ROUNDS):
        if (found := solve(corners, weights)) is None:
            break
        some, w, slope = found
        first = some if first is None else first
        r = w @ corners
        corner = region.cheapest(slope)
        gap = float(slope @ (r - corner))
        best = r, (some, first), max(gap, 0.0)
        used = w > 0
        if gap <= _CLOSED or np.abs(corners[used] - corner).sum(1).min() <= NEAR:
            break
        corners, weights = np.concatenate([corners[used], corner[None]]), np.append(w[used] / w[used].sum(), 0.0)
    if best is None:
        return None
    # Corners keep to the limits to the precision of the linear programs.
    return dataclasses.replace(region, hull=None).nearest(best[0]), *best[1:]


def _corners(region: Region, measured: np.ndarray, values: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Choose corners to begin with: of the mixtures that were measured the best, and ends of the polytope."""
    plain = dataclasses.replace(region, hull=None)
    inside = measured[[plain.allows(each) for each in measured]]
    if len(inside):
        found = values(inside)
        inside = inside[np.argsort(np.where(np.isfinite(found), found, np.inf), kind="stable")]
    d = len(region.lower)
    ways = np.concatenate([-np.eye(d), np.random.default_rng(0).standard_normal((_CORNERS, d))])
    ends = [region.cheapest(way) for way in ways[: _CORNERS - min(len(inside), _BEST)]]
    found = np.unique(np.concatenate([inside[:_BEST], ends]), axis=0)
    # Some of them twice, so that few shapes are compiled.
    return np.resize(found, (-(-len(found) // _IN_EIGHTS) * _IN_EIGHTS, d))


def _simplex(size: int) -> Region:
    return Region.box(np.zeros(size), np.ones(size))
