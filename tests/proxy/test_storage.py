import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bimixjax._base.checks import InputError
from bimixjax.proxy import gather_shards, storage

HEADER = ["run", "step", "loss/a"]


def test_a_resumed_table_keeps_whole_rows_up_to_the_step(tmp_path: Path) -> None:
    table = tmp_path / "observations.csv"
    storage.begin_table(table, HEADER, 0)
    rows = [[run, str(step), "2.5"] for step in (5, 10, 15) for run in ("plain", 'with, comma and "quotes"')]
    storage.append_rows(table, rows)
    whole = table.read_text()
    table.write_text(whole + "plain,15,2")
    storage.begin_table(table, HEADER, 10)
    assert table.read_text() == "".join(whole.splitlines(keepends=True)[:5])
    storage.append_rows(table, rows[4:])
    assert table.read_text() == whole


def test_a_table_cut_anywhere_is_mended(tmp_path: Path) -> None:
    table = tmp_path / "observations.csv"
    storage.begin_table(table, HEADER, 0)
    storage.append_rows(table, [["r", "5", "2.5"], ["r", "10", "2.25"]])
    whole = table.read_bytes()
    for cut in range(len(whole)):
        table.write_bytes(whole[:cut])
        storage.begin_table(table, HEADER, 10)
        kept = table.read_bytes()
        assert kept.endswith(b"\n")
        assert whole.startswith(kept)


def test_settings_that_differ_are_named(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"config": {"steps": 10, "rates": (0.1, 0.2)}, "runs": {"r": 1}}
    storage.settle(tmp_path, settings)
    storage.settle(tmp_path, settings)
    other = {"config": {"steps": 20, "rates": (0.1, 0.2)}, "runs": {"s": 1}}
    with pytest.raises(InputError, match=r"config.steps is 20, there 10; runs.s is 1, there None; runs.r is None"):
        storage.settle(tmp_path, other)


def test_a_folder_that_cannot_be_locked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(InputError, match="no locks"), storage.held(tmp_path):
        pytest.fail("the folder was held")


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bimixjax._base.checks import InputError\n"
        "from bimixjax.proxy.storage import held\n"
        "try:\n    with held(Path(sys.argv[1])): print('held')\nexcept InputError: print('refused')"
    )

    def other() -> str:
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    with storage.held(tmp_path):
        assert other() == "refused"
    assert other() == "held"


def test_rows_that_do_not_fit_leave_no_part_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "observations.csv"
    storage.begin_table(table, HEADER, 0)
    before = table.read_text()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device: '.*observations.csv'"):
        storage.append_rows(table, [["r", "5", "2.5"]])
    assert table.read_text() == before


def test_an_object_store_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for address in ("gs://bucket/swarm", "s3:/bucket/swarm"):
        with (
            pytest.raises(InputError, match="(gs|s3)://bucket/swarm is in an object store"),
            storage.held(Path(address)),
        ):
            pytest.fail("the folder was held")
    assert not list(tmp_path.iterdir())


def test_only_finished_shards_are_gathered(tmp_path: Path) -> None:
    for index, steps in enumerate([(5, 10), (5, 10)]):
        folder = storage.shard_folder(tmp_path, index, 2)
        folder.mkdir()
        storage.begin_table(folder / "observations.csv", HEADER, 0)
        storage.append_rows(folder / "observations.csv", [[f"r{index}", str(step), "2"] for step in steps])
    (tmp_path / "shard-0-of-2" / "done.json").write_text("{}")
    with pytest.raises(InputError, match="not done: shard-1-of-2"):
        gather_shards(tmp_path, 2)
    (tmp_path / "shard-1-of-2" / "done.json").write_text("{}")
    assert gather_shards(tmp_path, 2).read_text() == "run,step,loss/a\nr0,5,2\nr1,5,2\nr0,10,2\nr1,10,2\n"
