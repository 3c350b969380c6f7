"""Every rule passes what is right and says what was got, what is allowed, and where."""

import math
from typing import Any

import numpy as np
import pytest

from bimixjax import InputError
from bimixjax._base import checks


def test_choice() -> None:
    assert checks.choice("law", "bimix", ["bimix", "auto"]) == "bimix"
    with pytest.raises(InputError, match=r"law is 'bimx'; allowed: bimix, auto. Did you mean 'bimix'\?"):
        checks.choice("law", "bimx", ["bimix", "auto"])
    with pytest.raises(InputError, match=r"allowed: bimix, auto$"):
        checks.choice("law", "zzz", ["bimix", "auto"])


def test_known() -> None:
    checks.known("run", ["a"], ("a", "b"), "my.csv")
    with pytest.raises(InputError, match="^unknown run 'c', 'd' in my.csv; known: a, b$"):
        checks.known("run", ["c", "a", "d"], ("a", "b"), "my.csv")


def test_known_does_not_list_thousands() -> None:
    with pytest.raises(InputError, match=r"known: 0, 1, 2, .*, 49, \.\.\. \(5000 in all\)$"):
        checks.known("run", ["x"], [str(i) for i in range(5000)], "my.csv")


def test_every() -> None:
    checks.every(np.ones(3, bool), lambda i: f"never {i}")
    with pytest.raises(InputError, match="^row 1$"):
        checks.every(np.array([True, False]), lambda i: f"row {i}")
    with pytest.raises(InputError, match=r"^row 0, column 1 \(and 1 more like it\)$"):
        checks.every(np.array([[True, False], [False, True]]), lambda i, j: f"row {i}, column {j}")


def test_positive() -> None:
    assert checks.positive("volume", np.int64(3)) == 3.0
    for bad in (0, -1.0, math.inf, math.nan, True, "3", None):
        with pytest.raises(InputError, match="volume is .*; allowed: a finite number above 0"):
            checks.positive("volume", bad)


def test_share() -> None:
    checks.share("level", 0.5)
    for bad in (0, 1, 1.5, math.nan):
        with pytest.raises(InputError, match=f"level is {bad}; allowed: above 0 and below 1"):
            checks.share("level", bad)


def test_limits_that_can_be_kept() -> None:
    checks.limits(np.zeros(2), np.ones(2), ("a", "b"))
    checks.limits(np.full(10, 0.1), np.full(10, 0.1), tuple("abcdefghij"))


@pytest.mark.parametrize(
    ("lower", "upper", "words"),
    [
        ([0, 0.5], [1, 0.4], "limits of 'b' are 0.5 to 0.4; allowed: 0 <= lower <= upper <= 1"),
        ([-0.1, 0], [1, 1], "limits of 'a' are -0.1 to 1.0"),
        ([0, 0], [1, 1.5], "limits of 'b' are 0.0 to 1.5"),
        ([0, math.nan], [1, 1], "limits of 'b' are nan to 1.0"),
        ([0.6, 0.6], [1, 1], "no mixture keeps to the limits: lower limits sum to 1.2 (allowed: at most 1)"),
        ([0, 0], [0.4, 0.4], "upper limits to 0.8 (allowed: at least 1)"),
    ],
)
def test_limits_that_cannot(lower: list[float], upper: list[float], words: str) -> None:
    with pytest.raises(InputError) as caught:
        checks.limits(np.array(lower, float), np.array(upper, float), ("a", "b"))
    assert words in str(caught.value)


def test_fields() -> None:
    assert checks.fields({"a": 1, "b": 2}, ["a"], "fit.json") == {"a": 1, "b": 2}
    with pytest.raises(InputError, match="fit.json lacks b, c"):
        checks.fields({"a": 1}, ["a", "b", "c"], "fit.json")
    with pytest.raises(InputError, match="fit.json holds list"):
        checks.fields([1], ["a"], "fit.json")


@pytest.mark.parametrize(
    ("got", "words"),
    [
        ([0.5, 0.25, 0.25], "mixtures have shape (3,); allowed: [2] or [n, 2], over the domains a, b"),
        ([[[0.5, 0.5]]], "mixtures have shape (1, 1, 2)"),
        ([[0.5, 0.5], [1.5, -0.5]], "mixture 2 has proportion -0.5 of 'b'"),
        ([[0.5, math.nan]], "mixture 1 has proportion nan of 'b'"),
        ([0.5, 0.6], "mixture 1 sums to 1.1; allowed: 1 within 0.01"),
    ],
)
def test_mixtures(got: Any, words: str) -> None:
    checks.mixtures(np.array([[0.5, 0.5]]), ("a", "b"))
    with pytest.raises(InputError) as caught:
        checks.mixtures(np.array(got), ("a", "b"))
    assert words in str(caught.value)
