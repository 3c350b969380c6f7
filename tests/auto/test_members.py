"""Priors ask the table: which of its losses are low, and which of its targets are no domains."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Auto, Observations
from bimixjax.auto.averaging import weigh
from bimixjax.auto.grids import build_cells
from bimixjax.auto.members import MEMBERS, Belief, Member, named_members, prior_of, relative_level
from bimixjax.laws import BiMixOffset

DOMAINS = ("web", "books", "code")
OWN = np.array([0, 2, -1])


def table(losses: np.ndarray, targets: tuple[str, ...]) -> Observations:
    mixtures = np.random.default_rng(5).dirichlet(np.ones(3), len(losses))
    frame = pd.DataFrame({"run": [f"run{i}" for i in range(len(losses))]})
    frame = frame.assign(**{f"mixture/{name}": mixtures[:, i] for i, name in enumerate(DOMAINS)})
    return Observations.from_frame(frame.assign(**{f"loss/{name}": losses[:, i] for i, name in enumerate(targets)}))


def test_level_is_over_the_geometric_mean_of_the_domains_that_have_losses() -> None:
    center = np.log([[1.0, 4.0, 9.0], [np.nan, 4.0, 9.0]])
    expected = [[-np.log(2), np.log(2), 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(relative_level(center, OWN), expected, atol=1e-12)
    with jax.enable_x64(True):
        np.testing.assert_allclose(relative_level(jnp.array(center), jnp.array(OWN)), expected, atol=1e-12)


def test_median_of_a_prior_depends_on_the_level_and_on_what_the_target_is() -> None:
    """median * 2^-fall * l^level for 3 domains, and the other median for a task."""
    beliefs = {
        **named_members(("offset",))[0].beliefs,
        "alpha": Belief(0.1, 0.5, level=-1.0, other=0.3),
        "eps": Belief(0.02, 0.5, fall=2.0, other=0.04),
    }
    member = Member("made", BiMixOffset(), beliefs, process=0.02)
    prior = prior_of(member, 3, np.log([0.5, 2.0, 1.0]), OWN)
    found = dict(zip([c.name for c in member.law.ordered()], np.exp(prior.center), strict=True))
    np.testing.assert_allclose(found["alpha"], [0.2, 0.05, 0.3])
    np.testing.assert_allclose(found["eps"], [0.005, 0.005, 0.01])


def test_another_unit_of_loss_changes_no_prediction_but_by_its_factor() -> None:
    """Nats, bits, or a tokenizer with shorter tokens: all losses are multiplied by one number."""
    losses = np.random.default_rng(2).uniform([1.0, 2.5, 0.5], [1.4, 3.5, 0.9], (4, 3))
    names = ("web", "code", "task")
    where = np.random.default_rng(3).dirichlet(np.ones(3), 20)
    nats, others = (bimixjax.fit("auto", table(factor * losses, names)).predict(where) for factor in (1.0, 4.3))
    np.testing.assert_allclose(others, 4.3 * np.asarray(nats), rtol=1e-6)


def test_a_low_loss_is_expected_to_fall_faster_with_its_own_share() -> None:
    """Two runs with nearly equal shares say little of slopes: the prior does, in logarithms of losses."""
    shares = np.array([[0.50, 0.30, 0.20], [0.48, 0.31, 0.21]])
    frame = pd.DataFrame({"run": ["a", "b"], **{f"mixture/{name}": shares[:, i] for i, name in enumerate(DOMAINS)}})
    frame = frame.assign(**{"loss/web": [3.0, 3.0], "loss/books": [1.0, 1.0]})
    fit = bimixjax.fit(Auto(members=("transfer", "offset")), Observations.from_frame(frame))
    less = np.log(np.asarray(fit.predict([[0.05, 0.05, 0.9], [0.3, 0.3, 0.4]])))
    of_high, of_low = less[0] - less[1]
    assert of_low > 1.3 * of_high > 0


@pytest.mark.parametrize("names", [tuple(m.name for m in MEMBERS), ("offset", "dcpt")])
def test_laws_of_the_own_share_leave_tasks_to_the_others(names: tuple[str, ...]) -> None:
    """Unless there are no others: then they share the weight as they do for domains."""
    cells = build_cells(table(np.full((4, 3), 2.0), ("web", "books", "task")), np.ones((1, 4)), None, ("web", "task"))
    members = named_members(names)
    weights = weigh(members, np.full((len(members), 2), 0.01), cells, cells.lanes())
    np.testing.assert_allclose(weights.sum(0), 1.0)
    own = np.array([member.own for member in members])
    if own.all():
        np.testing.assert_allclose(weights[:, 1], weights[:, 0])
    else:
        assert weights[own, 0].sum() > 0.2
        assert weights[own, 1].sum() < 1e-5
