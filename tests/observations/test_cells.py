"""Tables in files: suffixes, unreadable files, whole writes, size."""

import gzip
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bimixjax import InputError, Observations
from bimixjax.observations import cells as _tables


def test_only_csv_and_parquet(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"the file's suffix is '.xlsx'; allowed: .csv, .tsv, .csv.gz, .tsv.gz, .parquet"
    ):
        _tables.read(tmp_path / "table.xlsx")
    with pytest.raises(InputError, match=r"the file's suffix is '.xlsx'; allowed: .csv, .parquet"):
        _tables.write(tmp_path / "table.xlsx", pd.DataFrame({"a": [1]}))
    assert not list(tmp_path.iterdir())


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.csv: no such file"):
        _tables.read(tmp_path / "none.csv")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_unreadable_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"run,a\nr1,\xff\xfe\n")
    with pytest.raises(InputError, match=f"broken{suffix}: not a readable {suffix[1:]} file: "):
        _tables.read(path)
    (tmp_path / f"folder{suffix}").mkdir()
    with pytest.raises(InputError, match=f"folder{suffix}"):
        _tables.read(tmp_path / f"folder{suffix}")


def texts(mark: str, point: str, thousands: str) -> str:
    """A table with other marks between cells, before decimals, and between thousands."""
    rows = [["run", "step", "mixture/x, y", "mixture/z", "loss/z"]]
    rows += [["a", "2,000", "0.25", "0.75", "3.5"], ["a", "1,002,000", "0.25", "0.75", "3"]]
    head, *numbers = rows
    cells = [head, *([cell.replace(",", thousands).replace(".", point) for cell in row] for row in numbers)]
    quoted = [[f'"{cell}"' if mark in cell or "," in cell else cell for cell in row] for row in cells]
    return "".join(mark.join(row) + "\n" for row in quoted)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".tsv.gz"])
@pytest.mark.parametrize(
    ("mark", "point", "thousands"),
    [(",", ".", ""), (",", ".", ","), ("\t", ".", ","), (";", ".", ","), (";", ",", ""), ("\t", ",", "")],
)
def test_marks_of_other_programs(tmp_path: Path, suffix: str, mark: str, point: str, thousands: str) -> None:
    path = tmp_path / f"table{suffix}"
    content = texts(mark, point, thousands).encode()
    path.write_bytes(gzip.compress(content) if suffix.endswith(".gz") else content)
    found = Observations.read(path)
    assert found.domains == ("x, y", "z")
    assert found.volumes().tolist() == [2000, 1_002_000]
    assert found.proportions[0].tolist() == [0.25, 0.75]
    assert found.losses[:, 0].tolist() == [3.5, 3.0]


@pytest.mark.parametrize(
    "line",
    [
        'r1,2000,"0,25","0,75",3.5',  # decimal commas between commas: 3,512 could be a loss of 3512
        'r1,2000,0.25,0.75,"3,512"',
    ],
)
def test_commas_that_may_mean_either_are_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "table.csv").write_text(f"run,step,mixture/x,mixture/z,loss/z\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match="got '[03],[0-9]+'; write decimals with a point, and nothing betw"):
        Observations.read(tmp_path / "table.csv")


def test_points_and_commas_in_one_file_are_named(tmp_path: Path) -> None:
    """2.000 may be two or two thousand where other decimals have a comma."""
    (tmp_path / "table.csv").write_text("run;step;mixture/x;loss/x\nr1;2.000;1;3,5\n", encoding="utf-8")
    with pytest.raises(InputError, match="column 'loss/x', run 'r1': got '3,5'; write decimals with a point"):
        Observations.read(tmp_path / "table.csv")


def test_a_torn_compressed_file_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(b"run,mixture/x,loss/x\nr1,1,3\n" * 99)[:40])
    with pytest.raises(InputError, match="not a readable gz file"):
        _tables.read(tmp_path / "table.csv.gz")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old", encoding="utf-8")

    def fails(_: pd.DataFrame, target: Path, **__: object) -> None:
        Path(target).write_text("half", encoding="utf-8")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fails)
    with pytest.raises(OSError, match="disk full"):
        _tables.write(path, pd.DataFrame({"a": [1]}))
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_columns_without_a_name_get_one(tmp_path: Path) -> None:
    frame = pd.DataFrame({"run": ["a", "b"], "mixture/x": [1.0, 1.0], "loss/x": [1.0, 2.0]}, index=[5, 6])
    frame.to_csv(tmp_path / "with_index.csv")
    observations = Observations.read(tmp_path / "with_index.csv")
    assert observations.metadata.to_dict("list") == {"Unnamed: 0": [5, 6]}


def test_cells_may_hold_lines_anywhere_in_a_long_file(tmp_path: Path) -> None:
    note = "\n".join("a line of a note" for _ in range(10))
    frame = pd.DataFrame({"run": range(20_000), "note": note})
    frame.to_csv(tmp_path / "notes.csv", index=False)
    assert (tmp_path / "notes.csv").stat().st_size > 2 * 2**20
    assert _tables.read(tmp_path / "notes.csv").frame["note"].tolist() == [note] * 20_000


def test_a_number_in_any_notation() -> None:
    frame = pd.DataFrame({"x": ["1", "+1.5", "-2", "1e5", ".5", "5.", "inf", "1_000", " 7 "]})
    assert _tables.from_frame(frame, "frame").numbers("x").tolist() == [1, 1.5, -2, 1e5, 0.5, 5, np.inf, 1000, 7]


def test_truth_values_are_no_numbers() -> None:
    with pytest.raises(InputError, match="frame, data row 1, column 'x': got 'True', a number belongs here"):
        _tables.from_frame(pd.DataFrame({"x": [True, False]}), "frame").numbers("x")


def test_taken_rows_keep_their_places() -> None:
    table = _tables.from_frame(pd.DataFrame({"run": list("abc")}), "frame").take(np.array([2, 0]))
    assert table.place(0, "run") == "frame, data row 3, column 'run', run 'c'"


def test_no_function_is_called_for_each_row_of_a_large_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = 5000
    frame = pd.DataFrame({"run": np.repeat([f"run-{i}" for i in range(runs)], 20), "step": np.tile(range(1, 21), runs)})
    frame[[f"mixture/{i}" for i in range(5)]] = np.repeat(rng.dirichlet(np.ones(5), runs), 20, axis=0)
    frame[[f"loss/{i}" for i in range(5)]] = rng.random((20 * runs, 5)) + 1
    frame.to_csv(tmp_path / "large.csv", index=False)
    calls: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, _: calls.update([event]))
    try:
        read = Observations.read(tmp_path / "large.csv")
    finally:
        sys.setprofile(None)
    assert len(read) == 100_000
    # A loop over the cells would take minutes of a table of millions.
    assert calls["call"] < 50_000
