"""Largest remainders against every other way to give out whole parts."""

import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bimixjax import InputError
from bimixjax.interchange.apportionment import decimals, largest_remainder


def everything(total: int, parts: int) -> np.ndarray:
    """All whole numbers, not negative, that sum to the total: by where bars stand between stars."""
    bars = itertools.combinations(range(total + parts - 1), parts - 1)
    return np.array([np.diff((-1, *at, total + parts - 1)) - 1 for at in bars])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4).filter(lambda r: sum(r) > 1e-6), st.integers(1, 9))
def test_no_other_whole_numbers_are_nearer(shares: list[float], total: int) -> None:
    ideal = np.array(shares) / sum(shares) * total
    found = largest_remainder(shares, total)
    others = np.abs(everything(total, len(shares)) - ideal)
    assert found.sum() == total
    assert np.abs(found - ideal).sum() <= others.sum(1).min() + 1e-9
    assert np.abs(found - ideal).max() <= others.max(1).min() + 1e-9


def test_equal_remainders_go_to_the_larger_share_and_a_zero_stays_one() -> None:
    assert largest_remainder([0.125, 0.875], 4).tolist() == [0, 4]
    assert largest_remainder([0.0, 1.0, 2.0], 2048).tolist() == [0, 683, 1365]


def test_decimals_sum_to_one() -> None:
    shares = np.random.default_rng(0).dirichlet(np.ones(24))
    assert decimals(shares, 9).sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_allclose(decimals(shares, 9), shares, atol=1e-9)


@pytest.mark.parametrize(("shares", "total"), [([0, 0], 8), ([-0.1, 1.1], 8), ([np.nan, 1], 8), ([1], 0), ([1], 2**60)])
def test_what_is_no_share_is_refused(shares: list[float], total: int) -> None:
    with pytest.raises(InputError, match="share"):
        largest_remainder(shares, total)
