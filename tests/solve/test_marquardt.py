"""The same steps in a compiled loop and on the host, on small problems with curved valleys."""

import jax
import jax.numpy as jnp
import numpy as np

from bimixjax.solve.marquardt import Marquardt, Quadratic

STEPS = Marquardt(relief=0.1, ease=0.1, caution=0.1, growth=8.0, most_damping=1e8, last_damping=0.0)
STARTS = np.array([[-1.2, 0.5, 2.0, 1.0], [1.0, -0.5, 2.0, 1.0]])
LANES = STARTS.shape[1]


def linearize(z) -> Quadratic:
    """Rosenbrock's residuals 10 (y - x^2) and 1 - x."""
    space = z.__array_namespace__()
    x, y = z
    residual = space.stack([10 * (y - x**2), 1 - x])
    flat = space.zeros_like(x)
    jacobian = space.stack([space.stack([-20 * x, flat - 1]), space.stack([flat + 10, flat])])
    return Quadratic(
        cost=space.sum(residual**2, axis=0),
        gradient=space.sum(jacobian * residual[None], axis=1),
        curvature=space.sum(jacobian[:, None] * jacobian[None], axis=2),
    )


def step(z, model: Quadratic, damping):
    space = z.__array_namespace__()
    matrix = space.moveaxis(model.curvature, -1, 0) * (1 + damping[:, None, None] * space.eye(2))
    matrix = space.where(space.isfinite(model.cost)[:, None, None], matrix, space.eye(2))
    return -space.linalg.solve(matrix, model.gradient.T[..., None])[..., 0].T


def negligible(cost):
    return 1e-16 + 0 * cost


def test_the_host_takes_the_steps_of_the_compiled_loop() -> None:
    """From four starts, one of which is the minimum; lanes that are done wait for the others."""
    asked: list[int] = []

    def counted(z: np.ndarray, lanes: np.ndarray) -> Quadratic:
        asked.append(len(lanes))
        return linearize(z)

    host = STEPS.run_on_host(counted, step, negligible, STARTS, damping=np.full(LANES, 1e-3), most=200)
    with jax.enable_x64(True):
        nowhere = jnp.zeros(LANES, bool)
        damping = jnp.full(LANES, 1e-3)
        compiled = STEPS.run(linearize, step, negligible, jnp.asarray(STARTS), damping=damping, done=nowhere, most=200)
    np.testing.assert_allclose(host.point, 1.0, atol=1e-6)
    np.testing.assert_allclose(host.point, compiled.point, atol=1e-9)
    np.testing.assert_array_equal(host.steps, compiled.steps)
    assert asked[0] == LANES
    assert asked[-1] < LANES


def test_a_start_without_a_finite_cost_stops_alone() -> None:
    starts = np.array([[np.nan, 0.5], [1.0, -0.5]])
    ends = STEPS.run_on_host(
        lambda z, lanes: linearize(z), step, negligible, starts, damping=np.full(2, 1e-3), most=200
    )
    assert not np.isfinite(ends.model.cost[0])
    np.testing.assert_allclose(ends.point[:, 1], 1.0, atol=1e-6)
