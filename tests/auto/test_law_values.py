"""Laws at pairs of a lane and a point, against each law evaluated and differentiated by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bimixjax.auto import law_values
from bimixjax.auto.law_values import Pairs, Points, log_law
from bimixjax.auto.members import DONATED, MEMBERS, Member, prior_of

RANDOM = np.random.default_rng(0)
DOMAINS, LANES, COUNT = 3, 4, 400
OWN = np.array([0, 2, -1, 1])
POINTS = Points(
    mixture=RANDOM.dirichlet(np.ones(DOMAINS), COUNT).T[..., None],
    volume=RANDOM.uniform(0.1, 1.0, (COUNT, 1)),
    donor=RANDOM.normal(size=(COUNT, LANES)) * 0.1,
)


def coefficients(member: Member) -> np.ndarray:
    prior = prior_of(member, DOMAINS, np.full(LANES, 0.1), OWN)
    return np.asarray(prior.coefficients(0.5 * RANDOM.standard_normal((len(prior.root), LANES))))


@pytest.mark.parametrize("member", [MEMBERS[0], MEMBERS[3], MEMBERS[6], DONATED[0]], ids=lambda member: member.name)
def test_values_and_slopes_are_those_of_the_law(member: Member) -> None:
    """In more pairs than one call holds, at the first and the last of them."""
    packed = coefficients(member)
    with jax.enable_x64(True):
        value, slopes = law_values.values_and_slopes(member.law, packed, Pairs.of(OWN, POINTS))
        places = Pairs.of_places(OWN, POINTS)
        again, by_mixture, by_donor = law_values.values_and_place_slopes(member.law, packed, places)
        alone = law_values.values(member.law, packed, Pairs.of(OWN, POINTS))
        for lane, at in ((0, 0), (1, 7), (2, COUNT // 2), (LANES - 1, COUNT - 1)):

            def loss(c: jax.Array, r: jax.Array, donor: jax.Array, lane: int = lane, at: int = at) -> jax.Array:
                volume, own = jnp.array([POINTS.volume[at, 0]]), OWN[lane : lane + 1]
                return log_law(member.law, c[:, None], r[:, None], volume, own, donor[None])[0]

            where = (packed[:, lane], POINTS.mixture[:, at, 0], jnp.asarray(POINTS.donor[at, lane]))
            wanted, (by_c, by_r, by_d) = jax.value_and_grad(loss, argnums=(0, 1, 2))(*map(jnp.asarray, where))
            np.testing.assert_allclose([value[at, lane], again[at, lane], alone[at, lane]], float(wanted), rtol=1e-12)
            np.testing.assert_allclose(slopes[:, lane, at], by_c, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(by_mixture[:, lane, at], by_r, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(by_donor[at, lane], by_d, rtol=1e-9, atol=1e-12)


def test_one_shape_serves_all_counts_of_pairs(caplog: pytest.LogCaptureFixture) -> None:
    """So that another table, or other points, have nothing compiled."""
    member = MEMBERS[2]
    packed = coefficients(member)
    some = jax.tree.map(lambda leaf: leaf[..., :5, :], POINTS)
    few = Pairs.of(OWN[:2], jax.tree.map(lambda leaf: leaf[..., :2], some))

    def compiled() -> int:
        return sum("XLA compilation of jit(_values)" in record.getMessage() for record in caplog.records)

    jax.clear_caches()
    with jax.enable_x64(True), jax.log_compiles():
        law_values.values(member.law, packed, Pairs.of(OWN, POINTS))
        assert compiled() == 1
        found = law_values.values(member.law, packed[:, :2], few)
    assert compiled() == 1
    assert found.shape == (5, 2)
