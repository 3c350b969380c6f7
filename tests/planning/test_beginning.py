"""The first runs: the zero-run order and the farthest mixtures, checked one by one."""

import numpy as np
import pytest
from scipy import optimize

from bimixjax import Limits
from bimixjax.optimization.baselines import zero_run_values
from bimixjax.planning.beginning import begin
from bimixjax.planning.space import Space

RANDOM = np.random.default_rng(0)


def space(candidates, lower=(0.0, 0.0, 0.0), upper=(1.0, 1.0, 1.0)) -> Space:
    domains = tuple("abcd"[: len(lower)])
    ends = (dict(zip(domains, side, strict=True)) for side in (lower, upper))
    return Space.of(
        candidates, Limits(**dict(zip(("lower", "upper"), ends, strict=True))).region(domains), domains, 1, 0
    )


def test_by_turns_the_next_of_the_order_and_the_farthest_from_all_before():
    candidates = RANDOM.dirichlet(np.ones(3), 60)
    chosen = begin(space(candidates), np.full(3, 1 / 3), 4, None)
    value = -np.log(candidates + 0.001).mean(axis=1)
    assert chosen.rows[0] == value.argmin()
    distance = np.sqrt(np.maximum(1 - np.sqrt(candidates) @ np.sqrt(candidates).T, 0))
    for turn in (1, 3):
        apart = np.where(value <= np.median(value), distance[:, chosen.rows[:turn]].min(axis=1), -1)
        assert chosen.rows[turn] == apart.argmax()
    assert chosen.rows[2] not in chosen.rows[:2]
    near = distance[:, chosen.rows[:2]].min(axis=1)
    assert value[chosen.rows[2]] == value[near >= 0.05].min()
    assert chosen.reasons[0] == "number 1 of 60 in the zero-run order"


def test_all_candidates_are_chosen_in_the_end():
    candidates = RANDOM.dirichlet(np.ones(3), 7)
    assert sorted(begin(space(candidates), np.full(3, 1 / 3), 7, None).rows) == list(range(7))


def test_without_domains_among_the_targets_there_is_no_zero_run_order():
    candidates = np.array([[1.0, 0, 0], [0.4, 0.3, 0.3], [0, 1.0, 0], [0.3, 0.4, 0.3]])
    chosen = begin(space(candidates), None, 4, None)
    assert set(chosen.rows) == {0, 1, 2, 3}
    assert np.sqrt(candidates[chosen.rows[0]]).sum() == np.sqrt(candidates).sum(axis=1).max()
    assert not any("zero-run" in reason for reason in chosen.reasons)


def test_the_natural_mixture_is_the_last_run_and_others_keep_away_from_it():
    natural = np.array([0.7, 0.2, 0.1])
    chosen = begin(space(None), np.full(3, 1 / 3), 3, natural)
    np.testing.assert_array_equal(chosen.mixtures[-1], natural)
    assert all(np.sqrt(mixture * natural).sum() < 0.99 for mixture in chosen.mixtures[:-1])


@pytest.mark.parametrize("seed", range(5))
def test_the_first_mixture_within_limits_is_the_minimum_of_the_order(seed):
    """Up to what .001 beside a share makes of it."""
    random = np.random.default_rng(seed)
    weights = np.array([0.5, 0.3, 0.2, 0.0])
    lower, upper = random.uniform(0, 0.15, 4), random.uniform(0.3, 0.9, 4)
    found = begin(space(None, lower, upper), weights, 1, None).mixtures[0]
    best = optimize.minimize(
        lambda r: zero_run_values(r, weights),
        (lower + upper) / (lower + upper).sum(),
        bounds=list(zip(lower, upper, strict=True)),
        constraints=[{"type": "eq", "fun": lambda r: r.sum() - 1}],
        options={"ftol": 1e-14},
    )
    assert ((found >= lower - 1e-12) & (found <= upper + 1e-12)).all()
    assert zero_run_values(found, weights) <= best.fun + 1e-4
