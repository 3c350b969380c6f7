"""Numbers with a scale, and lists with commas."""

from decimal import Decimal

import pytest

from bimixjax import InputError
from bimixjax._base.quantities import pairs, scaled, split


@pytest.mark.parametrize(
    ("text", "number"),
    [("500", 500), (" 32k", 32_000), ("1.5M", 1_500_000), ("2B", 2e9), ("2g", 2e9), ("1T", 1e12), ("8e9", 8e9)],
)
def test_a_letter_behind_a_number_is_its_scale(text: str, number: float) -> None:
    assert scaled(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "k", "many", "1 000", "3kk"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert scaled(text) is None


def test_infinity_is_a_number() -> None:
    assert scaled("inf") == Decimal("Infinity")


def test_a_name_in_quotes_may_hold_a_comma() -> None:
    assert split('web, "a,b"') == ["web", "a,b"]
    assert pairs("inventory", '"a,b"=3,c=d=4') == {"a,b": "3", "c=d": "4"}


@pytest.mark.parametrize(("part", "words"), [("web", "NAME=NUMBER"), ("a=1,a=2", "twice"), ('"a=1', "does not close")])
def test_what_is_no_list_of_pairs_is_an_error(part: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        pairs("inventory", part)
