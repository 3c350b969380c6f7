"""Search for the mixture of the least worst loss, or of the least mean with losses held below caps.

    minimize t over r within limits,  s_j (f_j(r) - c_j) <= t  for the losses that count,  f_j(r) <= cap_j

or with sum_j w_j f_j in place of t. Neither is smooth where losses meet, so

1. the same with smoothed edges is searched by `search.best_mixture`: tau log sum exp(. / tau) for the maximum, and
   tau log(1 + exp(. / tau)) for each cap;
2. from where it ends, and from references, sequential quadratic programs solve the problem itself;
3. multipliers of the losses that are active make of it a smooth objective, sum_j mu_j f_j, whose certificate holds:
   for convex losses no mixture within limits and caps is better by more than its gap and what mu_j gives away where
   s_j (f_j - c_j) < t or f_j < cap_j.

Source: SLSQP, Kraft (1988); multipliers by non-negative least squares, Lawson and Hanson (1974).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bimixjax.optimization import search
from bimixjax.optimization.losses import Losses
from bimixjax.solve import LBFGS, Region, certify

# Width of the smoothed edges in nats, and the price of a nat beyond a cap: the multipliers of caps are gains of the
# objective per nat of a loss, which seldom exceed a few.
_EDGE, _PRICE = 0.005, 10.0

# Losses this near to the worst one or to their cap, as a share of it, are active; caps are kept to this precision.
_ACTIVE, _KEPT = 1e-6, 1e-9

# Shares of at least this in the programs where a loss has no bound at 0.
_OFF_ZERO = 1e-12

_TURNS, _PRECISION = 300, 1e-15

# As in `search`: the KKT residual is relative to the multiplier, or to this part of the value where that is larger.
_LEAST_SLOPE = 1e-2


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Epigraph:
    """m losses, how they count, and their caps.

    Attributes:
        losses: f as functions of the mixture.
        weights: w, where their mean is minimized.
        scales, shifts: s and c, where their worst is; s is 0 where a loss does not count.
        caps: the most that each may be, infinite where there is none.
        worst: whether the worst is minimized, not the mean.
    """

    losses: Losses
    weights: Float[np.ndarray, " m"]
    scales: Float[np.ndarray, " m"]
    shifts: Float[np.ndarray, " m"]
    caps: Float[np.ndarray, " m"]
    worst: bool

    def heights(self, values: Float[np.ndarray, "*n m"]) -> Float[np.ndarray, "*n m"]:
        """Compute s (f - c), minus infinity where a loss does not count."""
        counts = self.scales > 0
        return np.where(counts, self.scales * (values - np.where(counts, self.shifts, 0.0)), -np.inf)

    def value(self, values: Float[np.ndarray, "*n m"]) -> Float[np.ndarray, "*n"]:
        """Compute what is minimized from the losses."""
        return self.heights(values).max(-1) if self.worst else values @ self.weights

    def beyond(self, values: Float[np.ndarray, "*n m"]) -> Float[np.ndarray, "*n"]:
        """Compute by how much the losses break the cap that they break most."""
        capped = np.isfinite(self.caps)
        return np.where(capped, np.maximum(values - np.where(capped, self.caps, 0.0), 0.0), 0.0).max(-1)


@dataclasses.dataclass(frozen=True, eq=False)
class Smoothed:
    """The same with smoothed edges, as `search` takes an objective."""

    problem: Epigraph
    separable = False

    @property
    def predictor(self) -> Losses:
        """What the objective reads."""
        return self.problem.losses

    def on_host(
        self, mixtures: Float[np.ndarray, "n d"]
    ) -> tuple[Float[np.ndarray, " n"], Callable[[], Float[np.ndarray, "n d"]]]:
        """Evaluate it at mixtures, and return what computes its gradients there."""
        problem = self.problem
        values, pull = problem.losses.with_pull(mixtures)
        known = np.asarray(np.isfinite(values).all(1))
        values = np.where(known[:, None], values, 0.0)
        capped = np.isfinite(problem.caps)
        over = np.where(capped, (values - np.where(capped, problem.caps, 0.0)) / _EDGE, -np.inf)
        found = _PRICE * _EDGE * np.logaddexp(0.0, over).sum(1)
        if problem.worst:
            heights = problem.heights(values) / _EDGE
            top = heights.max(1, keepdims=True)
            parts = np.exp(heights - top)
            found += _EDGE * (top[:, 0] + np.log(parts.sum(1)))
            by_losses = problem.scales * parts / parts.sum(1, keepdims=True)
        else:
            found += values @ problem.weights
            by_losses = np.broadcast_to(problem.weights, values.shape)
        by_losses = by_losses + np.where(capped, _PRICE / (1 + np.exp(-np.clip(over, -500, 500))), 0.0)
        return np.where(known, found, np.inf), lambda: pull(by_losses)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solved:
    """Where the search ended.

    Attributes:
        found: the mixture with its certificate; the gap counts what the multipliers give away.
        value: what was minimized, there.
        multipliers: mu of each loss, that of the objective and of its cap [m].
        active: whether each loss that counts as the worst, or has a cap, stands there [m].
        beyond: by how much a cap is broken, in nats.
    """

    found: search.Found
    value: float
    multipliers: Float[np.ndarray, " m"]
    active: np.ndarray
    beyond: float


def solve(
    problem: Epigraph, region: Region, measured: np.ndarray, begin: Sequence[np.ndarray], *, solver: LBFGS, starts: int
) -> Solved | None:
    """Find the best mixture; None where the losses are finite at no mixture that was evaluated.

    Args:
        problem: losses, how they count, and their caps.
        region: the limits.
        measured: mixtures to evaluate beside random ones [m, d].
        begin: further mixtures to begin the programs from, such as the reference of guardrails.
        solver: settings of the L-BFGS.
        starts: how many of its descents run side by side.
    """
    smoothed: Any = Smoothed(problem)
    smooth = search.best_mixture(smoothed, region, measured, solver=solver, starts=starts)
    if smooth is None:
        return None
    first = [smooth.mixture, *(region.nearest(np.asarray(each, float)) for each in begin)]
    tried = np.stack([*first, *(_programmed(problem, each, region) for each in first)])
    values = problem.losses.values(tried)
    known = np.isfinite(problem.value(values))
    cost, beyond = np.where(known, problem.value(values), np.inf), np.where(known, problem.beyond(values), np.inf)
    # Of those that keep to the caps the best; where none does, the one that breaks them least.
    kept = beyond <= max(_KEPT, float(beyond.min()) * (1 + _KEPT))
    best = int(np.argmin(np.where(kept, cost, np.inf)))
    return _certified(problem, tried[best], region, smooth, float(beyond[best]))


def followed(problem: Epigraph, begin: np.ndarray, region: Region, smooth: search.Found) -> Solved:
    """Find the best mixture that programs reach from one, without the smoothed search, whose counts are `smooth`."""
    r = _programmed(problem, begin, region)
    return _certified(problem, r, region, smooth, float(problem.beyond(problem.losses.values(r[None]))[0]))


def _programmed(problem: Epigraph, begin: np.ndarray, region: Region) -> np.ndarray:
    """Solve the problem itself from a mixture, by sequential quadratic programs in (r, t)."""
    from scipy.optimize import Bounds, minimize

    d, losses = len(begin), problem.losses
    unbounded = ~np.isfinite(losses.values(np.where(np.eye(d) > 0, 0.0, begin))).all(1)
    lower = np.where(unbounded, np.maximum(region.lower, _OFF_ZERO), region.lower)
    begin = np.clip(begin, lower, region.upper)
    known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def at(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return losses and slopes; the program asks for them several times at each mixture."""
        r = np.clip(x[:d], 0.0, 1.0)
        if (found := known.get(r.tobytes())) is None:
            known.clear()
            found = known[r.tobytes()] = losses.values(r[None])[0], losses.jacobian(r)
        return found

    counts, capped = problem.scales > 0, np.isfinite(problem.caps)
    constraints: list[dict[str, Any]] = [_linear(np.ones(d), 1.0, d, "eq")]
    for sign, ends in ((1.0, region.least), (-1.0, region.most)):
        bounded = np.flatnonzero(np.isfinite(ends))
        constraints += [_linear(sign * np.equal(region.group, k), sign * float(ends[k]), d, "ineq") for k in bounded]
    if (ball := region.ball) is not None:
        constraints.append(
            {
                "type": "ineq",
                "fun": lambda x: float(ball.radius) - float(ball.of(np.maximum(x[:d], 0.0))),
                "jac": lambda x: np.append(-ball.slopes(np.maximum(x[:d], _OFF_ZERO)), 0.0),
            }
        )
    if capped.any():
        constraints.append(
            {
                "type": "ineq",
                "fun": lambda x: (problem.caps - at(x)[0])[capped],
                "jac": lambda x: np.column_stack([-at(x)[1][capped], np.zeros(capped.sum())]),
            }
        )
    if problem.worst:
        scales = problem.scales[counts]
        constraints.append(
            {
                "type": "ineq",
                "fun": lambda x: x[d] - problem.heights(at(x)[0])[counts],
                "jac": lambda x: np.column_stack([-scales[:, None] * at(x)[1][counts], np.ones(len(scales))]),
            }
        )
    first = np.append(begin, problem.value(losses.values(begin[None]))[0])
    if not np.isfinite(first).all():
        return region.nearest(begin)
    ends: Any = np.append(lower, -np.inf), np.append(region.upper, np.inf)
    found = minimize(
        (lambda x: x[d]) if problem.worst else (lambda x: float(problem.weights @ at(x)[0])),
        first,
        jac=(lambda x: np.eye(d + 1)[d]) if problem.worst else (lambda x: np.append(problem.weights @ at(x)[1], 0.0)),
        bounds=Bounds(*ends),
        constraints=constraints,
        method="SLSQP",
        options={"maxiter": _TURNS, "ftol": _PRECISION},
    )
    end = found.x[:d] if np.isfinite(found.x).all() else begin
    return region.nearest(np.where(end <= lower + 10 * _OFF_ZERO, region.lower, end))


def _linear(row: np.ndarray, least: float, d: int, kind: str) -> dict[str, Any]:
    """State row . r >= least, or = least, for a program in (r, t)."""
    slope = np.append(row, 0.0)
    return {"type": kind, "fun": lambda x: row @ x[:d] - least, "jac": lambda _: slope}


def _certified(problem: Epigraph, r: np.ndarray, region: Region, smooth: search.Found, beyond: float) -> Solved:
    """Find the multipliers of the active losses, and certify the mixture by the objective that they make."""
    from scipy.optimize import nnls

    values, slopes = problem.losses.values(r[None])[0], problem.losses.jacobian(r)
    value = float(problem.value(values))
    near = _ACTIVE * max(abs(value), 1.0)
    at_top = (value - problem.heights(values) <= near) & problem.worst
    at_cap = np.isfinite(problem.caps) & (values >= problem.caps - near)
    base = np.zeros(len(r)) if problem.worst else problem.weights @ slopes
    of_losses = [*(problem.scales[at_top, None] * slopes[at_top]), *slopes[at_cap]]
    # Each column is what a multiplier that is not negative adds to the slopes; together they should leave none.
    ones = np.ones(len(r))
    columns = [*of_losses, ones, -ones, *-np.eye(len(r))[r <= region.lower], *np.eye(len(r))[r >= region.upper]]
    totals = region.totals(r)
    for k in range(len(totals) if region.grouped else 0):
        members = (region.group == k).astype(float)
        columns += [-members] * bool(totals[k] - region.least[k] <= near)
        columns += [members] * bool(region.most[k] - totals[k] <= near)
    if (ball := region.ball) is not None and ball.radius - ball.of(r) <= near:
        columns.append(ball.slopes(r))
    system, target = np.column_stack(columns), -base
    if problem.worst:
        # Multipliers of the worst losses sum to 1: the slope of t.
        one = np.concatenate([np.ones(at_top.sum()), np.zeros(len(columns) - at_top.sum())])
        heavy = 1e3 * max(1.0, float(np.abs(slopes[np.isfinite(slopes)]).max(initial=0.0)))
        system, target = np.vstack([system, heavy * one]), np.append(target, heavy)
    found = nnls(np.nan_to_num(system), np.nan_to_num(target))[0] if at_top.any() or at_cap.any() else np.zeros(0)
    multipliers = np.zeros(len(values)) if problem.worst else problem.weights.astype(float).copy()
    tops = found[: at_top.sum()]
    if problem.worst and tops.sum() > 0:
        multipliers[at_top] = problem.scales[at_top] * tops / tops.sum()
    given = (
        float(multipliers[at_top] @ (value / problem.scales - values + problem.shifts)[at_top]) if at_top.any() else 0
    )
    price = found[at_top.sum() : at_top.sum() + at_cap.sum()]
    multipliers[at_cap] += price
    given += float(price @ np.maximum(problem.caps - values, 0.0)[at_cap]) if at_cap.any() else 0.0
    known = certify(multipliers @ slopes, r, region, least=_LEAST_SLOPE * abs(value))
    known = dataclasses.replace(known, gap=known.gap + max(given, 0.0))
    return Solved(
        found=dataclasses.replace(smooth, mixture=r, certificate=known),
        value=value,
        multipliers=multipliers,
        active=at_top | at_cap,
        beyond=beyond,
    )
