"""Predictions carried to a model size that was not fitted are finite everywhere, corners included."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Auto, Observations
from bimixjax.auto.averaging import reach
from bimixjax.auto.beyond import Beyond, Carried
from bimixjax.laws import LAWS

SIZED = tuple(name for name, law in LAWS.items() if law.sized)


@pytest.mark.parametrize("name", SIZED)
def test_the_ratio_of_losses_is_finite_at_corners_and_so_are_its_slopes(name: str) -> None:
    law = LAWS[name]
    values = np.concatenate([np.full(c.size(3), 0.3) for c in law.ordered()])[None]
    with jax.enable_x64(True):
        carried = Carried(beyond=Beyond(law=law, values=values), fitted=jnp.array(70.0), wanted=jnp.array(410.0))

        def log_ratio(mixture: jax.Array) -> jax.Array:
            return carried.log_ratio(jnp.array([0]), mixture, jnp.array(16.0))[0][0]

        at = [[0.0, 0.5, 0.5], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]]
        found, slopes = jax.vmap(jax.value_and_grad(log_ratio))(jnp.array(at))
    assert np.isfinite(found).all()
    assert np.isfinite(slopes).all()
    assert (np.asarray(found) <= 0).all()


def test_limits_grow_by_a_share_of_what_the_law_adds_and_all_targets_are_off_together() -> None:
    """The log ratio is unsure by 15 % of itself; the mean is as unsure as all of its targets are."""
    share, size = np.repeat([0.1, 0.3, 0.5, 0.9], 2), np.tile([1e6, 1e7], 4)
    frame = pd.DataFrame({"run": [f"run{i}" for i in range(8)], "model_size": size, "mixture/x": share})
    frame["mixture/y"] = 1 - share
    for target, own in (("x", share), ("y", 1 - share)):
        frame[f"loss/{target}"] = (own + 0.01) ** -0.07 * (1.5 + 20 * size**-0.2)
    settings = Auto(members=("offset",), donor=False, beyond="additive_sized")
    fit, middle = bimixjax.fit(settings, Observations.from_frame(frame)), np.array([0.4, 0.6])

    def moments(model_size: float) -> tuple[np.ndarray, np.ndarray]:
        lower, upper = (np.log(np.asarray(end)) for end in fit.interval(middle, model_size=model_size))
        return (lower + upper) / 2, (upper - lower) / 2 / reach(0.9)

    (near, of_near), (far, of_far) = moments(1e7), moments(4e7)
    np.testing.assert_allclose(of_far**2, of_near**2 + (0.15 * (far - near)) ** 2, rtol=1e-6)
    lower, upper = fit.mean_interval(middle, model_size=4e7)
    losses = np.exp(far)
    np.testing.assert_allclose(np.log(upper / lower) / 2 / reach(0.9), losses @ of_far / losses.sum(), rtol=1e-6)
