"""The compiled part of a fit: one law, one target, one set of observations; batched once, at the top."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from bimixjax._lanes import Lanes
from bimixjax._records import Leaf, record
from bimixjax.laws import Coefficient, Law, Point, Units
from bimixjax.solve import (
    LBFGS,
    Problem,
    Quadratic,
    Solution,
    VarPro,
    along,
    nonlinear_prior,
    products,
    unit_directions,
)

Solver = VarPro | LBFGS

# A prior one standard deviation off costs as much as one observation that is 1 % off.
_PRIOR_RESIDUAL = 0.01

# Numbers that a chunk of lanes may hold: its columns and slopes then stay in the cache of one core.
_CACHED_NUMBERS = 25_600


@record
class Ends:
    """How each lane ended, lanes first.

    Args:
        solution: the solver's end, its cost with priors.
        values: packed coefficients [L, k] with volumes divided by their largest.
        user_values: the same in the user's unit of volume [L, k].
        to_user: derivative of the second by the first [L, k, k].
        information: J'J of the relative residuals [L, k, k].
        penalty: what the priors add to it [L, k, k].
        predicted: the law's losses at the observations [L, n].
    """

    solution: Solution
    values: Leaf
    user_values: Leaf
    to_user: Leaf
    information: Leaf
    penalty: Leaf
    predicted: Leaf


def start_grid(law: Law, domains: int) -> np.ndarray:
    """The product grid of a law's starting values, and its draws, as packed non-linear coefficients [k, q]."""
    grid = law.starts()
    parts = law.part(linear=False)
    points = product(*(grid[c.name] for c in parts))
    rows = [np.concatenate([np.full(c.size(domains), v) for c, v in zip(parts, p, strict=True)]) for p in points]
    return np.concatenate([rows, _drawn_starts(law, domains)])


def _drawn_starts(law: Law, domains: int) -> np.ndarray:
    """Starts about the medians of the priors, half as wide as these, the same in every fit."""
    noise = np.random.default_rng(0)

    def draw(c: Coefficient) -> np.ndarray:
        width = 0.5 * min(c.prior[1], c.spread or c.prior[1])
        moved = width * noise.normal(size=(law.draws, c.size(domains)))
        return np.clip(c.prior[0] * np.exp(moved) if c.logarithmic else c.prior[0] + moved, c.lower, c.upper)

    return np.concatenate([draw(c) for c in law.part(linear=False)], axis=1)


@partial(jax.jit, static_argnames=("law", "solver", "priors", "chunk"))
def solve_lanes(
    lanes: Lanes, starts: Array, units: tuple[Array, Array], *, law: Law, solver: Solver, priors: bool, chunk: int
) -> Ends:
    """Solve every lane, `chunk` at a time; `units` are those of the lanes' volumes and sizes in the user's."""
    count = lanes.group.shape[0]
    index = jnp.arange(-(-count // chunk) * chunk).reshape(-1, chunk)

    def some(lane: Array) -> Ends:
        part = _take(lanes, jnp.minimum(lane, count - 1))
        root = jnp.sqrt(part.weight) * (lane < count)
        problem = _problem(law, part.mixture.shape[0], priors, root)
        points = _points(part)
        columns = partial(_columns, law, part.mixture.shape[0])
        solution = solver.solve(columns, (points, root / part.loss), problem, starts)
        ends = _describe(law, points, solution, problem, root / part.loss, units)
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), ends)

    ends = lax.map(some, index) if len(index) > 1 else jax.tree.map(lambda leaf: leaf[None], some(index[0]))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], ends)


def lanes_at_once(rows: int, unknowns: int, lanes: int) -> int:
    """How many lanes to solve side by side: on a CPU as many as keep a chunk in its cache, elsewhere all."""
    if jax.default_backend() != "cpu":
        return lanes
    fitting = _CACHED_NUMBERS // (rows * unknowns)
    return min(lanes, max(8, 1 << max(fitting, 1).bit_length() - 1))


def _take(lanes: Lanes, lane: Array) -> Lanes:
    """Some lanes, each with the mixtures, volumes and sizes of its group."""
    group = lanes.group[lane]
    return Lanes(
        group=group,
        domain=lanes.domain[lane],
        unit=lanes.unit[..., lane],
        mixture=lanes.mixture[..., group],
        volume=lanes.volume[..., group],
        model_size=lanes.model_size[..., group],
        own=lanes.own[..., lane],
        loss=lanes.loss[..., lane],
        weight=lanes.weight[..., lane],
    )


def _points(part: Lanes) -> Point:
    """What the law reads, [d, n, B] and [n, B]."""
    return Point(
        mixture=part.mixture,
        own=part.own,
        volume=part.volume,
        model_size=part.model_size,
        is_own=jnp.arange(part.mixture.shape[0])[:, None, None] == part.domain,
        unit=part.unit,
    )


def _columns(law: Law, domains: int, theta: Array, data: tuple[Point, Array]) -> list[Array]:
    """The column [n, B] of each linear coefficient at theta [q, B], each row times its factor [n, B]."""
    points, factor = data
    terms = law.basis(law.unpack(theta[:, None], law.part(linear=False), domains), points)
    return [terms[c.name] * factor for c in law.part(linear=True)]


def _problem(law: Law, domains: int, priors: bool, target: Array) -> Problem:
    def each(parts: Sequence[Coefficient], read: Callable[[Coefficient], float]) -> Array:
        return jnp.array([read(c) for c in parts for _ in range(c.size(domains))], target.dtype)

    linear, nonlinear = law.part(linear=True), law.part(linear=False)
    strength = _PRIOR_RESIDUAL if priors else 0.0
    return Problem(
        target=target,
        lower=each(nonlinear, lambda c: c.lower),
        upper=each(nonlinear, lambda c: c.upper),
        linear_prior=Quadratic(
            mean=each(linear, lambda c: c.prior[0]),
            precision=each(linear, lambda c: strength / c.prior[1]),
        ),
        nonlinear_prior=Quadratic(
            mean=each(nonlinear, lambda c: np.log(c.prior[0]) if c.logarithmic else c.prior[0]),
            precision=strength * jnp.asarray(_prior_root(nonlinear, domains), target.dtype),
        ),
        signed=tuple(c.lower < 0 for c in linear for _ in range(c.size(domains))),
        logarithmic=tuple(c.logarithmic for c in nonlinear for _ in range(c.size(domains))),
    )


def _prior_root(parts: Sequence[Coefficient], domains: int) -> np.ndarray:
    """The square root of the inverse prior covariance of packed coefficients [q, q]."""
    root = np.diag([1 / c.prior[1] for c in parts for _ in range(c.size(domains))])
    start = 0
    for c in parts:
        stop = start + c.size(domains)
        if c.spread is not None:
            mean = np.full((domains, domains), 1 / domains)
            root[start:stop, start:stop] = (np.eye(domains) - mean) / c.spread + mean / domains**0.5 / c.prior[1]
        start = stop
    return root


def _describe(
    law: Law, points: Point, solution: Solution, problem: Problem, factor: Array, units: tuple[Array, Array]
) -> Ends:
    domains, parts = points.mixture.shape[0], law.ordered()
    to = Units(*units, is_own=jnp.asarray(points.is_own)[:, 0])

    def predict(values: Array) -> Array:
        return jnp.broadcast_to(law.loss(law.unpack(values[:, None], parts, domains), points), factor.shape)

    def user(values: Array) -> Array:
        named = law.with_units(law.unpack(values, parts, domains), to)
        return jnp.concatenate([named[c.name].reshape(c.size(domains), -1) for c in parts])

    values = jnp.concatenate([solution.linear, solution.nonlinear])
    predicted, push = jax.linearize(predict, values)
    jacobian = [change * factor for change in along(push, unit_directions(values))]
    _, slope = nonlinear_prior(problem, solution.nonlinear)
    count = solution.linear.shape[0]
    penalty = jnp.sum(slope[:, :, None] * slope[:, None], axis=0)
    penalty = jnp.pad(penalty, ((count, 0), (count, 0), (0, 0)))
    held = jnp.diag(jnp.pad(problem.linear_prior.precision**2, (0, slope.shape[0])))
    return Ends(
        solution=solution,
        values=values,
        user_values=user(values),
        to_user=jnp.moveaxis(jax.vmap(partial(_push, user, values))(unit_directions(values)), 0, 1),
        information=products(jacobian, jacobian),
        penalty=penalty + held[:, :, None],
        predicted=predicted,
    )


def _push(function: Callable[[Array], Array], point: Array, direction: Array) -> Array:
    return jax.jvp(function, (point,), (direction,))[1]
