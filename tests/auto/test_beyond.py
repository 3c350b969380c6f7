"""Predictions carried to a model size that was not fitted are finite everywhere, corners included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
