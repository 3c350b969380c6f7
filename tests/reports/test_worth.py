"""What a mixture is worth, as people and machines read it."""

import io

import numpy as np
from rich.console import Console

from bimixjax import Worth
from bimixjax.reports import worth


def found(**other) -> Worth:
    """Two baselines, two domains."""
    values = {
        "baselines": ("natural", "uniform"),
        "gains": np.array([0.2, 0.01]),
        "lower": np.array([0.1, -0.02]),
        "upper": np.array([0.3, 0.04]),
        "better": np.array([1.0, 0.7]),
        "domains": ("web", "code"),
        "proportions": np.array([0.6, 0.4]),
        "least": np.array([0.5, 0.2]),
        "most": np.array([0.8, 0.5]),
        "epochs": np.array([0.5, 12.0]),
        "law": "auto",
        "draws": 100,
        "missing": {},
        "extrapolated": (),
    }
    return Worth(**{**values, **other})


def text(value: Worth) -> str:
    console = Console(width=80, file=io.StringIO(), highlight=False)
    with console.capture() as captured:
        console.print(*worth.worth(value))
    return captured.get()


def test_gains_stand_with_their_limits_the_least_first() -> None:
    shown = text(found())
    rows = [line.split() for line in shown.splitlines() if line.startswith((" natural", " uniform"))]
    assert rows[0] == ["uniform", "0.0100", "-0.0200", "to", "0.0400", "70", "%"]
    assert rows[1][:2] == ["natural", "0.2000"]
    assert "100 draws" in shown


def test_shares_stand_with_their_room_and_epochs() -> None:
    rows = [line.split() for line in text(found()).splitlines() if line.startswith((" web", " code"))]
    assert rows == [["web", "0.6000", "0.500", "to", "0.800", "0.5"], ["code", "0.4000", "0.200", "to", "0.500", "12"]]


def test_what_is_not_known_has_no_column() -> None:
    unknown = np.full(2, np.nan)
    shown = text(found(draws=0, lower=unknown, upper=unknown, better=unknown, epochs=None))
    assert "of draws" not in shown
    assert "epochs" not in shown
    assert "by the average of laws alone" in shown
    assert "by the law alone" in text(found(law="bimix", draws=0, lower=unknown, upper=unknown, better=unknown))
    assert "What each share means" not in text(found(least=unknown, most=unknown, epochs=None))


def test_a_document_has_numbers_by_name() -> None:
    document = worth.document(found())
    assert document["baselines"]["uniform"] == {"gain": 0.01, "lower": -0.02, "upper": 0.04, "better": 0.7}
    assert document["domains"]["code"] == {"share": 0.4, "least": 0.2, "most": 0.5, "epochs": 12.0}
