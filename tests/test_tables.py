"""Tables in files: suffixes, unreadable files, whole writes, size."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bimixjax import InputError, Observations, _tables


def test_only_csv_and_parquet(tmp_path: Path) -> None:
    for call in (lambda path: _tables.read(path), lambda path: _tables.write(path, pd.DataFrame({"a": [1]}))):
        with pytest.raises(InputError, match=r"the file's suffix is '.xlsx'; allowed: .csv, .parquet"):
            call(tmp_path / "table.xlsx")
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


def test_a_hundred_thousand_rows_take_about_a_second(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = 5000
    frame = pd.DataFrame({"run": np.repeat([f"run-{i}" for i in range(runs)], 20), "step": np.tile(range(1, 21), runs)})
    frame[[f"mixture/{i}" for i in range(5)]] = np.repeat(rng.dirichlet(np.ones(5), runs), 20, axis=0)
    frame[[f"loss/{i}" for i in range(5)]] = rng.random((20 * runs, 5)) + 1
    frame.to_csv(tmp_path / "large.csv", index=False)
    start = time.perf_counter()
    assert len(Observations.read(tmp_path / "large.csv")) == 100_000
    # A loop over the cells would take far longer; the margin is for a busy machine.
    assert time.perf_counter() - start < 10
