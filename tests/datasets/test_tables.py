"""The tables that every installation carries."""

import re
from pathlib import Path

import pytest

from bimixjax import InputError, datasets
from experiments.datasets.run import TABLES
from experiments.proof.tables import TABLES as OF_PROOF


@pytest.mark.parametrize("name", datasets.names())
def test_each_table_is_read_has_a_card_and_is_small(name: str) -> None:
    table = datasets.load(name)
    assert table.own_targets == table.domains
    assert not table.notes
    card = datasets.card(name)
    assert card.startswith(f"# {name}: ")
    rows = re.search(r"- Rows: (\d+)", card)
    assert rows is not None
    assert int(rows[1]) == len(table)
    assert "License: Apache-2.0" in card
    assert datasets.path(name).stat().st_size < 1_000_000


def test_names_are_those_that_are_made() -> None:
    assert set(datasets.names()) == {*TABLES, *OF_PROOF}
    assert datasets.EXAMPLE in datasets.names()
    with pytest.raises(
        InputError,
        match=r"data set is 'dem'; allowed: demo, .* Did you mean 'demo'",
    ):
        datasets.path("dem")


def test_tables_lie_in_the_package_so_that_a_wheel_carries_them() -> None:
    assert all(datasets.path(name).parent == Path(datasets.__file__).parent for name in datasets.names())


def test_a_table_may_be_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large.md").write_text("# large: runs", encoding="utf-8")
    table = datasets.load("demo")
    table.write(tmp_path / "large.parquet")
    monkeypatch.setattr(datasets, "_HERE", tmp_path)
    assert datasets.names() == ("large",)
    assert datasets.card("large") == "# large: runs"
    assert datasets.load("large").to_frame().equals(table.to_frame())
