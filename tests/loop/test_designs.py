"""Mixtures that a swarm trains: named baselines, spread ones, and the runs made of them."""

import numpy as np
import pytest

from bimixjax import InputError
from bimixjax.corpus import TokenStore
from bimixjax.corpus.entropy import corpus_entropies, entropy_mixture
from bimixjax.loop.designs import MEASURES, Spread, make_design, run_id, training_free

BASE = {"uniform": np.full(4, 0.25)}


def least_distance(points: np.ndarray) -> float:
    """The least Hellinger distance between two of some mixtures."""
    affinity = np.sqrt(points) @ np.sqrt(points).T
    np.fill_diagonal(affinity, 0.0)
    return float(np.sqrt(1 - affinity.max()))


def test_training_free_mixtures_are_those_of_their_definitions(tiny_store: TokenStore) -> None:
    entropies = corpus_entropies(tiny_store)
    found = training_free(tiny_store, entropies, MEASURES)
    assert list(found) == ["natural", "uniform", "conditional-entropy", "joint-entropy", "shannon-entropy"]
    assert found["natural"] == pytest.approx(np.array([2, 3, 4]) / 9)
    assert found["uniform"] == pytest.approx(1 / 3)
    joint = [entropies[domain].joint for domain in tiny_store.domains]
    assert found["joint-entropy"] == pytest.approx(entropy_mixture(joint))


def test_an_unknown_measure_is_refused(tiny_store: TokenStore) -> None:
    with pytest.raises(InputError, match="entropy is 'conditionl'.*Did you mean 'conditional'"):
        training_free(tiny_store, corpus_entropies(tiny_store), ["conditionl"])


def test_spread_mixtures_are_mixtures_and_the_same_each_time() -> None:
    drawn = np.array([*Spread(count=6).draw(BASE).values()])
    assert drawn.shape == (6, 4)
    assert drawn.sum(axis=1) == pytest.approx(1)
    assert (drawn > 0).all()
    assert np.array_equal(drawn, [*Spread(count=6).draw(BASE).values()])
    assert not np.array_equal(drawn, [*Spread(count=6, seed=1).draw(BASE).values()])


def test_more_spread_mixtures_keep_the_first_ones() -> None:
    few, many = Spread(count=3).draw(BASE), Spread(count=6).draw(BASE)
    assert all(np.array_equal(few[name], many[name]) for name in few)


def test_spread_mixtures_lie_farther_apart_than_independent_ones() -> None:
    spread = least_distance(np.array([BASE["uniform"], *Spread(count=8).draw(BASE).values()]))
    random = np.random.default_rng(0)
    independent = [least_distance(random.dirichlet(np.full(4, 6.0), 9)) for _ in range(200)]
    assert spread > max(independent)


def test_no_spread_mixtures_are_none() -> None:
    assert Spread(count=0).draw(BASE) == {}


@pytest.mark.parametrize("wrong", [{"count": -1}, {"count": 513}, {"seed": -1}, {"concentration": 0.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="allowed"):
        Spread(**wrong)  # pyright: ignore[reportArgumentType]


def test_a_design_has_each_mixture_once_per_seed() -> None:
    mixtures = {"even": [0.5, 0.5], "odd": [0.9, 0.1]}
    design = make_design(mixtures, ["a", "b"], [3, 4])
    assert design.runs == tuple(run_id(name, seed) for name in mixtures for seed in (3, 4))
    assert design.seeds.tolist() == [3, 4, 3, 4]
    assert design.proportions[2:].tolist() == [[0.9, 0.1]] * 2
    assert make_design(mixtures, ["a", "b"], [7]).runs == ("even", "odd")


def test_a_design_without_seeds_is_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        make_design({"even": [0.5, 0.5]}, ["a", "b"], [])
