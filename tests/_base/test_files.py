"""Files are whole or absent."""

import multiprocessing
import os
import signal
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bimixjax._base import files
from bimixjax._base.files import hidden_name, replacing, write_text


def test_text_is_written_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "note.txt"
    write_text(path, "naïve\n")
    assert path.read_bytes() == "naïve\n".encode()


def test_success_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old", encoding="utf-8")
    with replacing(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".csv"
        temporary.write_text("new", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
    assert path.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [path]


def half_write(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise RuntimeError("power cut")


def test_failure_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with pytest.raises(RuntimeError, match="power cut"):
        half_write(path)
    assert not list(tmp_path.iterdir())
    path.write_text("old", encoding="utf-8")
    with pytest.raises(RuntimeError, match="power cut"):
        half_write(path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_are_those_of_a_plain_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "ours", "")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == 0o640


def test_the_umask_is_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to the whole process: a thread that reads it by setting it opens every file of the others."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail(f"umask({mask})"))
    write_text(tmp_path / "ours", "")


def test_threads_that_save_at_once_leave_umask_and_permissions_alone(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:

        def save(name: str) -> None:
            for i in range(200):
                write_text(tmp_path / name, name * i)

        threads = [threading.Thread(target=save, args=(name,)) for name in ("a", "b", "a")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "a" * 199, "b": "b" * 199}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}


def _write_and_wait(path: Path, begun: Any) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        begun.set()
        time.sleep(60)


def test_what_a_killed_process_left_is_cleared_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    begun = context.Event()
    writer = context.Process(target=_write_and_wait, args=(tmp_path / "table.csv", begun))
    writer.start()
    assert begun.wait(60)
    (hidden,) = tmp_path.iterdir()
    write_text(tmp_path / "note.txt", "")
    assert hidden.exists()
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert hidden.exists()
    write_text(tmp_path / "note.txt", "")
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_another_machine_may_be_writing_in_a_shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock may not be seen here, so that only age tells."""
    with monkeypatch.context() as there:
        there.setattr(files.platform, "node", lambda: "elsewhere")
        hidden = tmp_path / hidden_name(tmp_path / "table.csv")
    hidden.write_text("half")
    write_text(tmp_path / "note.txt", "")
    assert hidden.exists()
    os.utime(hidden, (0, 0))
    write_text(tmp_path / "note.txt", "")
    assert not hidden.exists()


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    others = [tmp_path / name for name in (".bimix-notes", ".table-ab12cd34.csv", ".bimix-a-0123abcd.json")]
    for path in others:
        path.write_text("mine")
        os.utime(path, (0, 0))
    write_text(tmp_path / "note.txt", "")
    assert all(path.exists() for path in others)
