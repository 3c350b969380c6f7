"""Rules say what columns are: the user's before a reader's, one column to a role."""

import pytest

from bimixjax import InputError
from bimixjax.interchange import naming
from bimixjax.interchange.naming import Rule

OWN = (Rule("run", "run"), Rule("run_id", "run"), Rule("name", "run"), Rule("loss/*", "loss/*"))


def test_the_users_rules_go_first_and_free_what_they_leave_out() -> None:
    columns = ["name", "run_id", "w.web", "loss/web", "loss/code"]
    found = naming.roles(columns, naming.parse(["name=run", "w.*=mixture/*", "loss/code="]), OWN, "x.csv")
    assert found == {"name": "run", "w.web": "mixture/web", "loss/web": "loss/web"}


def test_of_a_readers_rules_the_first_that_matches_a_column_has_the_role() -> None:
    assert naming.roles(["name", "run_id"], (), OWN, "x.csv") == {"run_id": "run"}


def test_the_last_star_of_a_pattern_is_what_the_star_of_a_role_stands_for() -> None:
    (rule,) = naming.parse(["*train_weights/*=mixture/*"])
    assert rule.role_of("data/train_weights/web=a") == "mixture/web=a"
    assert rule.role_of("train_weights/web") is None


def test_two_columns_for_one_role_are_named() -> None:
    with pytest.raises(InputError, match=r"x\.csv: columns 'a/web', 'b/web' would all be 'loss/web'.*--map 'b/web'="):
        naming.roles(["a/web", "b/web"], naming.parse(["*/web=loss/web"]), (), "x.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("eval", "allowed: PATTERN=ROLE"),
        ("x=weight/web", "'weight/web' is no role of a column; allowed: run, step"),
        ("x=loss/", "'loss/' is no role"),
        ("x=loss/*", r"the \* of 'loss/\*' stands for nothing"),
    ],
)
def test_a_rule_that_is_none_is_named(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        naming.parse([text])
