"""Each way in which a table can be wrong is one error that names file, row, column and run; joins are by id."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from bimixjax import InputError, Observations

GOOD = """run,step,mixture/a,mixture/b,loss/a
r1,1000,0.25,0.75,4.5
r1,2000,0.25,0.75,4.0
r2,1000,0.5,0.5,4.25
"""


def read(folder: Path, text: str) -> Observations:
    path = folder / "my.csv"
    path.write_text(text, encoding="utf-8")
    return Observations.read(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, text)
    return str(caught.value).removeprefix(f"{folder}/")


def test_the_table_that_the_others_spoil_is_good(tmp_path: Path) -> None:
    assert len(read(tmp_path, GOOD)) == 3


SPOILED = {
    "negative proportion": (
        ("r2,1000,0.5,0.5", "r2,1000,-0.5,1.5"),
        "my.csv, data row 3 (line 4), column 'mixture/a', run 'r2': proportion is -0.5; allowed: finite and >= 0",
    ),
    "infinite proportion": (
        ("r2,1000,0.5", "r2,1000,inf"),
        "my.csv, data row 3 (line 4), column 'mixture/a', run 'r2': proportion is inf; allowed: finite and >= 0",
    ),
    "blank proportion": (
        ("r2,1000,0.5", "r2,1000,"),
        "my.csv, data row 3 (line 4), column 'mixture/a', run 'r2': proportion is blank; allowed: finite and >= 0",
    ),
    "sum": (
        ("r2,1000,0.5,0.5", "r2,1000,0.5,0.52"),
        (
            "my.csv, data row 3 (line 4), column 'mixture/a', run 'r2': the 2 proportions sum to 1.02; "
            "allowed: 1 within 0.01"
        ),
    ),
    "mixture that changes": (
        ("r1,2000,0.25,0.75", "r1,2000,0.26,0.74"),
        (
            "my.csv, data row 2 (line 3), column 'mixture/a', run 'r1': proportion is 0.26, in the run's first row "
            "(data row 1) 0.25; allowed: one proportion in a run"
        ),
    ),
    "twice the same step": (
        ("r1,2000", "r1,1000"),
        (
            "my.csv, data row 2 (line 3), column 'step', run 'r1': the same run and volume as data row 1; "
            "a run has one row per step value; after a restart, --keep last (in Python keep='last') takes the later one"
        ),
    ),
    "text in a loss": (
        ("4.25", "4.2.5"),
        "my.csv, data row 3 (line 4), column 'loss/a', run 'r2': got '4.2.5', a number belongs here",
    ),
    "text in a step": (
        ("r2,1000", "r2,1k"),
        "my.csv, data row 3 (line 4), column 'step', run 'r2': got '1k', a number belongs here",
    ),
    "no loss at all": (
        ("loss/a", "perplexity"),
        "my.csv has no loss column; needed: loss/<name>; columns: run, step, mixture/a, mixture/b, perplexity",
    ),
    "no mixture": (
        ("mixture/a,mixture/b", "weight/a,weight/b"),
        "my.csv has no mixture column; needed: mixture/<name>; columns: run, step, weight/a, weight/b, loss/a",
    ),
    "nameless domain": (("mixture/b", "mixture/"), "my.csv has a column 'mixture/' without a name behind it"),
    "no run": (("run,", "id,"), "my.csv has no column 'run'; columns: id, step, mixture/a, mixture/b, loss/a"),
    "blank run": (("r2,1000", ",1000"), "my.csv, data row 3 (line 4), column 'run', run '': blank"),
    "same column twice": (
        ("mixture/b", "mixture/a"),
        "my.csv: column 'mixture/a' occurs more than once; names must be unique",
    ),
    "zero loss": (
        ("4.25", "0"),
        (
            "my.csv, data row 3 (line 4), column 'loss/a', run 'r2': loss is 0; allowed: finite and above 0, "
            "or blank where missing"
        ),
    ),
    "infinite loss": (("4.25", "inf"), "column 'loss/a', run 'r2': loss is inf; allowed: finite and above 0"),
    "zero step": (("r2,1000", "r2,0"), "column 'step', run 'r2': step is 0; allowed: finite and above 0; --min-volume"),
    "blank step": (("r2,1000", "r2,"), "column 'step', run 'r2': step is blank; allowed: finite and above 0"),
    "short line": (("4.25", "4.25\nr3,1000,0.5"), "my.csv: not a readable csv file: CSV parse error: Row #5"),
    "long line": (("4.25", "4.25,1"), "my.csv: not a readable csv file: CSV parse error: Row #4: Expected 5"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_refused(tmp_path: Path, name: str) -> None:
    (old, new), words = SPOILED[name]
    assert old in GOOD
    assert words in refusal(tmp_path, GOOD.replace(old, new))


def test_the_first_of_many_is_named_and_the_rest_counted(tmp_path: Path) -> None:
    message = refusal(tmp_path, GOOD.replace("4.5", "-1").replace("4.0", "-2").replace("4.25", "-3"))
    assert message.startswith("my.csv, data row 1 (line 2)")
    assert message.endswith("(and 2 more like it)")


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    blank_lines = GOOD.replace("r2,", "\n\nr2,").replace("4.25", "x")
    assert "my.csv, data row 5 (line 6), column 'loss/a', run 'r2'" in refusal(tmp_path, blank_lines)


def test_empty_files(tmp_path: Path) -> None:
    assert refusal(tmp_path, "") == "my.csv: not a readable csv file: Empty CSV file"
    header = GOOD.splitlines()[0]
    assert "Empty CSV file" in refusal(tmp_path, header)
    for text in (header + "\n", header + "\n\n\n"):
        assert refusal(tmp_path, text) == "my.csv: no data rows; columns: run, step, mixture/a, mixture/b, loss/a"


def test_the_last_line_need_not_end(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD.removesuffix("\n")).losses[:, 0].tolist() == [4.5, 4.0, 4.25]


def test_blank_lines_and_missing_losses_are_fine(tmp_path: Path) -> None:
    for missing in ("", "nan", "NaN", "NA", "null", " "):
        observations = read(tmp_path, GOOD.replace("4.25", missing) + "\n\n")
        assert len(observations) == 3
        assert np.isnan(observations.losses[2, 0])


def test_spaces_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    observations = read(tmp_path, "\ufeff" + GOOD.replace(",", ", "))
    assert observations.runs == ("r1", "r2")
    assert observations.domains == ("a", "b")
    assert observations.losses[:, 0].tolist() == [4.5, 4.0, 4.25]


def test_ids_stay_as_written(tmp_path: Path) -> None:
    assert read(tmp_path, GOOD.replace("r1", "007").replace("r2", "1e3")).runs == ("007", "1e3")


def test_volume_is_the_key_where_there_is_one(tmp_path: Path) -> None:
    lines = "run,mixture/a,loss/a\nr1,1,4.5\nr1,1,4.0\n"
    assert refusal(tmp_path, lines) == (
        "my.csv, data row 2 (line 3), column 'run', run 'r1': the same run and volume as data row 1; "
        "a table without step and tokens has one row per run"
    )
    tokens = "run,tokens,mixture/a,loss/a\nr1,5,1,4.5\nr1,5,1,4.0\n"
    assert "column 'tokens', run 'r1': the same run and volume as data row 1" in refusal(tmp_path, tokens)
    steps = "run,step,tokens,mixture/a,loss/a\nr1,1,5,1,4.5\nr1,2,5,1,4.0\n"
    assert read(tmp_path, steps).volumes("steps").tolist() == [1, 2]


@pytest.mark.parametrize("column", ["model_size", "seed"])
def test_sizes_and_seeds_are_runs_of_their_own(tmp_path: Path, column: str) -> None:
    lines = f"run,step,{column},mixture/a,loss/a\nr1,1,70,1,4.5\nr1,2,410,1,4.0\n"
    assert refusal(tmp_path, lines) == (
        f"my.csv, data row 2 (line 3), column '{column}', run 'r1': {column} is 410, in the run's first row "
        f"(data row 1) 70; allowed: one {column} in a run"
    )


def test_a_seed_is_whole(tmp_path: Path) -> None:
    message = refusal(tmp_path, "run,seed,mixture/a,loss/a\nr1,1.5,1,4.5\n")
    assert message.endswith("seed is 1.5; allowed: a whole number")


def test_sums_near_one_are_renormalized_with_one_note(tmp_path: Path) -> None:
    observations = read(tmp_path, GOOD.replace("r2,1000,0.5,0.5", "r2,1000,0.5,0.508"))
    assert observations.notes == ("renormalized 1 of 2 mixtures, largest change 0.004",)
    assert observations.proportions.sum(axis=1).tolist() == [1, 1, 1]
    observations.write(tmp_path / "again.csv")
    assert Observations.read(tmp_path / "again.csv").notes == ()


def test_rows_of_a_run_have_identical_proportions() -> None:
    parts = np.random.default_rng(0).dirichlet(np.ones(17), 40).round(3)
    rows = np.repeat(parts, 5, axis=0) + np.tile([0, 1e-7, -0.0, 5e-7, 1e-8], 40)[:, None] * (np.arange(17) == 3)
    frame = pd.DataFrame(rows, columns=[f"mixture/{i}" for i in range(17)])
    frame = frame.assign(run=np.repeat(np.arange(40), 5), step=np.tile(np.arange(1, 6), 40), **{"loss/0": 1.0})
    shuffled = Observations.from_frame(frame.sample(frac=1, random_state=1))
    for run in shuffled.runs:
        assert len(np.unique(shuffled.proportions[shuffled.run == run], axis=0)) == 1


def test_frames_are_read_by_position_whatever_their_index() -> None:
    frame = pd.DataFrame({"run": ["a", "b"], "mixture/x": [1, 1], "loss/x": [1.0, -1.0]}, index=[7, 7])
    with pytest.raises(InputError, match="frame, data row 2, column 'loss/x', run 'b': loss is -1"):
        Observations.from_frame(frame)
    assert Observations.from_frame(frame.assign(**{"loss/x": 1}).set_index("run")).runs == ("a", "b")


def test_frames_of_any_number_type() -> None:
    frame = pd.DataFrame(
        {
            "run": pd.Categorical(["a", "b", "c"]),
            "mixture/x": pd.array([1, 1, 1], "Int8"),
            "loss/x": pd.array([1.5, None, 2.5], "Float32"),
            "loss/y": ["1", None, " 2.5 "],
            "step": np.array([1, 2, 3], np.uint8),
        }
    )
    observations = Observations.from_frame(frame)
    np.testing.assert_array_equal(observations.losses, [[1.5, 1], [np.nan, np.nan], [2.5, 2.5]])
    assert observations.proportions.dtype == observations.losses.dtype == np.float64


MIXTURES = pd.DataFrame({"run": ["r1", "r2", "r3"], "mixture/x": [0.1, 0.2, 0.3], "mixture/y": [0.9, 0.8, 0.7]})
LOSSES = pd.DataFrame({"run": ["r3", "r1", "r2"], "loss/x": [3.3, 3.1, 3.2]})


def test_join_is_by_id_not_position() -> None:
    joined = Observations.join(MIXTURES, LOSSES)
    pairs = dict(zip(joined.run, zip(joined.proportions[:, 0], joined.losses[:, 0], strict=True), strict=True))
    assert pairs == {"r1": (0.1, 3.1), "r2": (0.2, 3.2), "r3": (0.3, 3.3)}


def test_join_of_files_over_several_checkpoints(tmp_path: Path) -> None:
    mixtures = MIXTURES.rename(columns={"run": "index"}).assign(index=["01", "02", "03"], model_size=1e6)
    losses = pd.DataFrame({"index": ["02", "01", "02", "03"], "step": [1, 1, 2, 1], "loss/x": [1.0, 2.0, 3.0, 4.0]})
    mixtures.to_csv(tmp_path / "mixtures.csv", index=False)
    losses.to_parquet(tmp_path / "losses.parquet")
    joined = Observations.join(tmp_path / "mixtures.csv", tmp_path / "losses.parquet", on="index")
    assert joined.run.tolist() == ["02", "01", "02", "03"]
    assert joined.proportions[:, 0].tolist() == [0.2, 0.1, 0.2, 0.3]
    assert joined.model_sizes == (1e6,)
    assert joined.source == f"{tmp_path / 'losses.parquet'} + {tmp_path / 'mixtures.csv'}"


def test_join_of_numbers_and_text_as_ids() -> None:
    joined = Observations.join(MIXTURES.assign(run=[1, 2, 3]), LOSSES.assign(run=["3", "1", "2"]))
    assert joined.proportions[:, 0].tolist() == [0.3, 0.1, 0.2]


@pytest.mark.parametrize(
    ("mixtures", "losses", "words"),
    [
        (MIXTURES.assign(run=["r1", "r2", "r2"]), LOSSES, "mixtures, data row 3, column 'run', run 'r2': second row"),
        (MIXTURES.iloc[:2], LOSSES, "run 'r3' in losses but not in mixtures"),
        (MIXTURES, LOSSES.iloc[1:2], "run 'r2', 'r3' in mixtures but not in losses"),
        (MIXTURES, LOSSES.rename(columns={"run": "id"}), "losses has no column 'run' to join on; columns: id, loss/x"),
        (MIXTURES.assign(seed=1), LOSSES.assign(seed=1), "mixtures and losses both have seed"),
        (MIXTURES.assign(run=["r1", "", "r3"]), LOSSES, "mixtures, data row 2, column 'run', run '': blank"),
        (
            MIXTURES.assign(**{"mixture/x": [0.1, -1, 0.3]}),
            LOSSES,
            "mixtures, data row 2, column 'mixture/x', run 'r2'",
        ),
        (MIXTURES, LOSSES.assign(**{"loss/x": [1, 2, "?"]}), "losses, data row 3, column 'loss/x', run 'r2'"),
    ],
)
def test_join_refuses(mixtures: pd.DataFrame, losses: pd.DataFrame, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Observations.join(mixtures, losses)
    assert words in str(caught.value)


def test_join_on_one_id_column_only() -> None:
    with pytest.raises(InputError, match="mixtures has both 'index' and 'run'"):
        Observations.join(MIXTURES.assign(index=[1, 2, 3]), LOSSES, on="index")


TWICE = GOOD.replace("r2,1000", "r1,1000,0.25,0.75,4.25\nr2,1000")


def test_rows_before_the_training_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text(GOOD.replace("r1,1000", "r1,0,0.25,0.75,11\nr1,1000"), encoding="utf-8")
    assert Observations.read(path, min_volume=1).volumes().tolist() == [1000, 2000, 1000]
    assert Observations.from_frame(pd.read_csv(path), min_volume=2000, unit="steps").runs == ("r1",)
    with pytest.raises(InputError, match="my.csv has no step from 9000 on; most there: 2000"):
        Observations.read(path, min_volume=9000)
    with pytest.raises(InputError, match="my.csv has no column 'tokens'; --min-volume"):
        Observations.read(path, min_volume=1, unit="tokens")
    with pytest.raises(InputError, match="min_volume is nan"):
        Observations.read(path, min_volume=float("nan"))


@pytest.mark.parametrize(("keep", "loss"), [("first", 4.5), ("last", 4.25)])
def test_one_of_the_rows_of_a_step_can_be_kept(tmp_path: Path, keep: Literal["first", "last"], loss: float) -> None:
    path = tmp_path / "my.csv"
    path.write_text(TWICE, encoding="utf-8")
    found = Observations.read(path, keep=keep)
    assert (found.run.tolist().count("r1"), found.losses[found.volumes() == 1000][0, 0]) == (2, loss)
    assert found.notes == (f"1 of 4 rows left out: the {keep} of each run and volume is kept",)


def test_keep_takes_nothing_from_runs_that_share_an_id(tmp_path: Path) -> None:
    """Two sizes under one id are a mistake, not a restart."""
    path = tmp_path / "my.csv"
    path.write_text("run,step,model_size,mixture/a,loss/a\nr1,1,70,1,4.5\nr1,1,410,1,4.0\n", encoding="utf-8")
    with pytest.raises(InputError, match="allowed: one model_size in a run"):
        Observations.read(path, keep="last")


def test_rows_that_are_the_same_in_every_cell_are_one(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD + "r2,1000,0.5,0.5,4.25\n")
    assert len(found) == 3
    assert found.notes == ("1 of 4 rows left out: each is the same as another",)
    assert "the same run and volume" in refusal(tmp_path, TWICE + "r2,1000,0.5,0.5,4.25\n")


def test_of_many_columns_the_first_are_named(tmp_path: Path) -> None:
    header = ",".join(["run", *(f"metric{i}" for i in range(500))])
    message = refusal(tmp_path, f"{header}\nr1{',1' * 500}\n")
    assert "metric18, ... (501 in all)" in message
    assert "metric19" not in message


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            "run,step,mixture/a,eval/a/loss",
            "Losses seem to be in 'eval/a/loss' and the like; rename each",
        ),
        ("run,step,mixture/a,domain,loss", "a long table, one row per loss; needed: one row per run and step"),
        ("Step,r1 - eval/loss,r1 - eval/loss__MIN", "curves exported from W&B"),
    ],
)
def test_other_kinds_of_table_are_named(tmp_path: Path, header: str, words: str) -> None:
    assert words in refusal(tmp_path, f"{header}\n" + ",".join("1" * len(header.split(","))) + "\n")
