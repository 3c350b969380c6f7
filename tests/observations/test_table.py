"""Observations: the same table from a frame, CSV and Parquet; rows and targets chosen by name; tables joined by id."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from bimixjax import Budget, InputError, Observations


def table(**changes: Any) -> pd.DataFrame:
    """Two runs of two sizes with two checkpoints each, a missing loss, and three columns of metadata."""
    columns = {
        "run": ["a", "a", "b", "b"],
        "model_size": [7e7, 7e7, 1.6e8, 1.6e8],
        "step": [1000, 2000, 1000, 3000],
        "tokens": [1e9, 2e9, 1e9, 3e9],
        "seed": [0, 0, 1, 1],
        "mixture/code": [0.25, 0.25, 0.1, 0.1],
        "mixture/web": [0.75, 0.75, 0.9, 0.9],
        "loss/web": [4.0, 3.5, 3.9, 3.0],
        "loss/math": [5.0, np.nan, 4.9, 4.1],
        "cluster": ["x", "x", "", "y"],
        "job": [11, 12, 13, 14],
        "learning_rate": [1e-3, 1e-3, 3e-4, np.nan],
    }
    return pd.DataFrame(columns | changes)


@pytest.fixture
def observations() -> Observations:
    return Observations.from_frame(table())


def same(one: Observations, other: Observations) -> None:
    pd.testing.assert_frame_equal(one.to_frame(), other.to_frame(), check_exact=True)


def test_columns_become_fields(observations: Observations) -> None:
    assert observations.domains == ("code", "web")
    assert observations.targets == ("web", "math")
    assert observations.own_targets == ("web",)
    assert observations.runs == ("a", "b")
    assert observations.model_sizes == (7e7, 1.6e8)
    assert observations.proportions.tolist() == [[0.25, 0.75], [0.25, 0.75], [0.1, 0.9], [0.1, 0.9]]
    assert observations.metadata.columns.tolist() == ["cluster", "job", "learning_rate"]
    assert observations.notes == ()
    assert observations.source == "frame"
    assert len(observations) == 4


def test_blank_losses_are_missing(observations: Observations) -> None:
    assert np.isnan(observations.losses).tolist() == [[False, False], [False, True], [False, False], [False, False]]


def test_optional_columns_may_be_absent() -> None:
    observations = Observations.from_frame(table().iloc[[0, 2]][["run", "mixture/code", "mixture/web", "loss/web"]])
    assert observations.step is observations.tokens is observations.model_size is observations.seed is None
    assert observations.model_sizes == ()
    assert observations.volume_unit() is None
    assert observations.volumes().tolist() == [1, 1]
    assert observations.to_frame().columns.tolist() == ["run", "mixture/code", "mixture/web", "loss/web"]


def test_observations_are_frozen(observations: Observations) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        observations.source = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_round_trip(observations: Observations, tmp_path: Path, name: str) -> None:
    observations.write(tmp_path / name)
    again = Observations.read(tmp_path / name)
    same(again, observations)
    assert again.source == str(tmp_path / name)


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_round_trip_of_every_kind_of_metadata(tmp_path: Path, name: str) -> None:
    frame = table(
        when=pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-03", None]),
        code=["007", "1.50", "nan", "1e3"],
        done=[True, False, True, True],
        text=['comma, "quote"', "two\nlines", "é", None],
        kind=pd.Categorical(["x", "y", "x", "x"]),
        count=pd.array([1, None, 3, 4], "Int64"),
        huge=[2**70, 1, 2, 3],
        third=np.array([1 / 3, 0.1, np.inf, -0.0], np.float32),
        nothing=[np.nan] * 4,
    )
    observations = Observations.from_frame(frame)
    observations.write(tmp_path / name)
    same(Observations.read(tmp_path / name), observations)
    assert observations.metadata["code"].tolist() == ["007", "1.50", "nan", "1e3"]
    assert observations.metadata["done"].dtype == bool
    assert observations.metadata["huge"].tolist()[0] == str(2**70)


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(float, (6, 3), elements=st.floats(0.01, 1)),
    hnp.arrays(float, (6, 2), elements=st.floats(1e-300, 1e300) | st.just(np.nan)),
)
def test_floats_are_written_in_full(
    tmp_path_factory: pytest.TempPathFactory, parts: np.ndarray, losses: np.ndarray
) -> None:
    frame = pd.DataFrame(parts / parts.sum(1, keepdims=True), columns=[f"mixture/{i}" for i in range(3)])
    frame[["loss/0", "loss/1"]] = losses
    observations = Observations.from_frame(frame.assign(run=range(6)))
    path = tmp_path_factory.getbasetemp() / "floats.csv"
    observations.write(path)
    same(Observations.read(path), observations)


def test_volume_is_tokens_unless_steps_are_requested(observations: Observations) -> None:
    assert observations.volume_unit() == "tokens"
    assert observations.volumes().tolist() == [1e9, 2e9, 1e9, 3e9]
    assert observations.volumes("steps").tolist() == [1000, 2000, 1000, 3000]
    steps_only = Observations.from_frame(table().drop(columns="tokens"))
    assert steps_only.volume_unit() == "steps"
    with pytest.raises(InputError, match="frame has no column 'tokens'; units there: steps"):
        steps_only.volumes("tokens")
    with pytest.raises(InputError, match=r"volume unit is 'step'; allowed: tokens, steps. Did you mean 'steps'"):
        observations.volumes("step")  # type: ignore[arg-type]


def test_select(observations: Observations) -> None:
    same(observations.select(model_size=7e7), observations.select(runs=["a"]))
    assert observations.select(runs="b").run.tolist() == ["b", "b"]
    same(observations.select(without_runs=["b"]), observations.select(runs=["a"]))
    assert observations.select(volume=(2e9, None)).volumes().tolist() == [2e9, 3e9]
    assert observations.select(volume=(None, 1000), unit="steps").volumes("steps").tolist() == [1000, 1000]
    assert observations.select(runs=["a", "b"], volume=(2000, 2000), unit="steps").run.tolist() == ["a"]
    assert observations.select().to_frame().equals(observations.to_frame())


def test_select_targets_in_the_order_wanted(observations: Observations) -> None:
    chosen = observations.select(targets=["math", "web"])
    assert chosen.targets == ("math", "web")
    assert chosen.losses[0].tolist() == [5.0, 4.0]
    assert observations.select(targets="math").losses.shape == (4, 1)


def test_select_keeps_metadata_with_its_rows(observations: Observations) -> None:
    assert observations.select(runs=["b"]).metadata["job"].tolist() == [13, 14]
    assert observations.select(runs=["b"]).metadata.index.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ({"model_size": 1e9}, "frame has no model size 1000000000.0; sizes there: 70000000, 160000000"),
        ({"runs": ["a", "c"]}, "unknown run 'c' in frame; known: a, b"),
        ({"without_runs": ["c"]}, "unknown run 'c' in frame; known: a, b"),
        ({"without_runs": ["a", "b"]}, "no row meets all of the conditions together"),
        ({"targets": ["code"]}, "unknown target 'code' in frame; known: web, math"),
        (
            {"volume": (5e9, None)},
            "frame has no volume from 5000000000.0 to None tokens; volumes there: 1e+09 to 3e+09",
        ),
        ({"runs": ["a"], "model_size": 1.6e8}, "no row meets all of the conditions together"),
    ],
)
def test_selecting_what_is_not_there(observations: Observations, condition: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        observations.select(**condition)
    assert words in str(caught.value)


def test_no_size_to_select() -> None:
    with pytest.raises(InputError, match="sizes there: none"):
        Observations.from_frame(table().drop(columns="model_size")).select(model_size=7e7)


def test_split_is_by_run(observations: Observations) -> None:
    train, test = observations.split(["b"])
    assert (train.runs, test.runs) == (("a",), ("b",))
    assert len(train) + len(test) == len(observations)
    assert test.metadata["job"].tolist() == [13, 14]


@pytest.mark.parametrize(
    ("held_out", "words"),
    [
        (["z"], "unknown run 'z'"),
        ([], "held_out names no run of frame"),
        (["a", "b"], "held_out names every run of frame"),
    ],
)
def test_split_needs_runs_on_both_sides(observations: Observations, held_out: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        observations.split(held_out)


def test_concat_undoes_split(observations: Observations) -> None:
    train, test = observations.split(["b"])
    same(Observations.concat(train, test), observations)


def test_concat_unites_targets_and_notes() -> None:
    one = Observations.from_frame(table(), source="one").select(runs="a")
    other = Observations.from_frame(table(**{"mixture/web": [0.752, 0.752, 0.9, 0.9]}), source="other")
    both = Observations.concat(one, other.select(runs="b", targets="math"))
    assert both.targets == ("web", "math")
    assert np.isnan(both.losses[2:, 0]).all()
    assert both.source == "one + other"
    assert both.notes == other.notes != ()


def test_concat_needs_the_same_domains(observations: Observations) -> None:
    other = Observations.from_frame(table().rename(columns={"mixture/code": "mixture/prose"}), source="other")
    with pytest.raises(InputError, match="other has domains prose, web; frame has code, web"):
        Observations.concat(observations, other)


def test_concat_finds_what_is_in_both(observations: Observations) -> None:
    other = Observations.from_frame(table(**{"loss/web": [4.1, 3.5, 3.9, 3.0]}))
    with pytest.raises(InputError, match="data row 5, column 'step', run 'a': the same run and volume as data row 1"):
        Observations.concat(observations, other)
    both = Observations.concat(observations, observations)
    same(both, observations)
    assert both.notes == ("4 of 8 rows left out: each is the same as another",)


def test_concat_tells_runs_of_other_sizes_and_seeds_apart(observations: Observations) -> None:
    """Sweeps over sizes bear the same ids at each; what stands in one table only keeps its id."""
    other = Observations.from_frame(table(model_size=[4.1e8] * 4, run=["a", "a", "c", "c"]))
    both = Observations.concat(observations, other)
    assert both.runs == ("a/model_size-70000000", "b", "a/model_size-410000000", "c")
    assert both.model_sizes == (7e7, 1.6e8, 4.1e8)
    seeds = Observations.concat(observations, Observations.from_frame(table(seed=[5, 5, 1, 1])).select(runs="a"))
    assert seeds.runs == ("a/seed-0", "b", "a/seed-5")


def test_budget() -> None:
    assert Budget(volume=3e4, unit="steps", model_size=7e7) == Budget(volume=30_000, unit="steps", model_size=7e7)
    assert Budget() == Budget(volume=None, unit=None, model_size=None)


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"volume": 0}, "volume is 0; allowed: a finite number above 0"),
        ({"volume": float("nan")}, "volume is nan"),
        ({"model_size": "70M"}, "model_size is '70M'"),
        ({"unit": "epochs"}, "unit is 'epochs'; allowed: tokens, steps"),
    ],
)
def test_budget_refuses(field: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        Budget(**field)
    assert words in str(caught.value)


def test_reading_takes_no_jax_along() -> None:
    code = "import sys, bimixjax.observations, bimixjax.metrics; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "rows", "runs", "domains", "targets", "own"),
    [
        ("pile_5groups", 1425, 110, 5, 27, 5),
        ("pile_3domains", 1088, 41, 3, 3, 3),
        ("pile_2domains", 110, 10, 2, 2, 2),
        ("pile_17domains_train", 512, 512, 17, 13, 13),
        ("pile_17domains_test", 256, 256, 17, 13, 13),
    ],
)
def test_public_tables(
    observations_folder: Path, tmp_path: Path, name: str, rows: int, runs: int, domains: int, targets: int, own: int
) -> None:
    observations = Observations.read(observations_folder / f"{name}.csv")
    sizes = [observations.runs, observations.domains, observations.targets, observations.own_targets]
    assert [len(observations), *map(len, sizes)] == [rows, runs, domains, targets, own]
    assert np.abs(observations.proportions.sum(1) - 1).max() < 1e-14
    observations.write(tmp_path / "again.parquet")
    same(Observations.read(tmp_path / "again.parquet"), observations)


def test_public_tables_have_the_traps_that_they_tell_of(observations_folder: Path) -> None:
    groups = Observations.read(observations_folder / "pile_5groups.csv")
    assert np.isnan(groups.select(model_size=7e7).losses).sum() == np.isnan(groups.losses).sum() == 113
    swarm = Observations.read(observations_folder / "pile_17domains_train.csv")
    assert groups.notes == ()
    assert swarm.notes == ("renormalized 303 of 512 mixtures, largest change 0.0018",)


def test_unique_tokens_are_kept_by_every_way_of_a_table(tmp_path: Path) -> None:
    given = table(**{"unique/web": [5e8, 5e8, np.nan, np.nan]})
    one = Observations.from_frame(given)
    assert one.unique is not None
    assert one.unique.tolist() == [[np.inf, 5e8]] * 2 + [[np.inf, np.inf]] * 2
    assert one.metadata.columns.tolist() == ["cluster", "job", "learning_rate"]
    assert one.has_inventory
    for name in ("table.csv", "table.parquet"):
        one.write(tmp_path / name)
        same(Observations.read(tmp_path / name), one)
    (tmp_path / "counts.csv").write_text((tmp_path / "table.csv").read_text().replace("500000000.0", '"500,000,000"'))
    same(Observations.read(tmp_path / "counts.csv"), one)
    later = one.select(runs=["b"])
    assert later.unique is not None
    assert later.unique.tolist() == [[np.inf, np.inf]] * 2
    assert not later.has_inventory
    whole = Observations.concat(one.select(runs=["a"]), Observations.from_frame(table()).select(runs=["b"]))
    assert whole.unique is not None
    assert whole.unique.tolist() == one.unique.tolist()
    assert Observations.from_frame(table()).unique is None


@pytest.mark.parametrize(
    ("column", "cells", "words"),
    [
        ("unique/math", [1.0] * 4, "unknown domain 'math' in the columns unique/<domain> of frame; known: code, web"),
        ("unique/web", [1.0, 1.0, 0.0, 0.0], "data row 3, column 'unique/web', run 'b': 0 unique tokens"),
        (
            "unique/web",
            [1.0, 2.0, 1.0, 1.0],
            "data row 2, .* 2 unique tokens, 1 in the first row of the run; allowed: one",
        ),
        ("unique/web", [1.0, None, 1.0, 1.0], "data row 2, .* inf unique tokens"),
        ("unique/web", ["many"] * 4, "got 'many', a number belongs here"),
    ],
)
def test_unique_tokens_that_cannot_be_are_named_by_their_place(column: str, cells: list[object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Observations.from_frame(table(**{column: cells}))
