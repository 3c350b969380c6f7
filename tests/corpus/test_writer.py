"""Writing a store: whole or not at all, whatever happens on the way."""

import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from bimixjax._base import files
from bimixjax._base.checks import InputError
from bimixjax.corpus import TokenStore, writing

GOOD = {"a": ([0, 1], [1])}


def _left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_appends_in_any_order_add_up(tmp_path: Path) -> None:
    with writing(tmp_path / "c", vocab_size=9) as writer:
        writer.append("a", "validation", np.array([8]), documents=2)
        writer.append("b", "train", np.array([1]))
        writer.append("a", "train", np.array([2, 3], dtype=np.uint64))
        writer.append("a", "train", np.array([], dtype=np.uint8), documents=0)
        writer.append("b", "validation", np.arange(8)[::-2])
        writer.append("a", "train", np.array([4]))
        writer.notes.append("a note")
    store = TokenStore.open(tmp_path / "c")
    assert store.domains == ("a", "b")
    assert store.train("a").tolist() == [2, 3, 4]
    assert store.validation("b").tolist() == [7, 5, 3, 1]
    assert store.shards["a"]["validation"].documents == 2
    assert store.notes == ("a note",)
    store.verify()


@pytest.mark.parametrize(
    ("domains", "vocab_size", "message"),
    [
        ({"a": ([0, 2], [0])}, 2, "span 0 to 2; allowed: 0 to 1"),
        ({"a": ([0, -1], [0])}, 2, "span -1 to 0"),
        ({"a": ([0.5], [0])}, 2, r"float64\[1\]; allowed: 1-D integers"),
        ({"a": ([[0]], [0])}, 2, r"int64\[1, 1\]"),
        ({"a": ([0], [])}, 2, "domain 'a' has no validation tokens"),
        ({}, 2, "no domain was given"),
        ({"../a": ([0], [0])}, 2, "cannot name a folder"),
        ({"": ([0], [0])}, 2, "cannot name a folder"),
        ({"C": ([0], [0]), "c": ([0], [0])}, 2, "differs from another only in case"),
        ({"a": ([0], [0])}, 0, "vocab_size is 0"),
        ({"a": ([0], [0])}, 2**32 + 1, "vocab_size is 4294967297"),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_nothing(
    tmp_path: Path, domains: dict, vocab_size: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TokenStore.write(tmp_path / "c", domains, vocab_size=vocab_size)
    assert _left_in(tmp_path) == []


def test_an_unknown_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'test'.*train, validation"), writing(tmp_path / "c", vocab_size=2) as writer:
        writer.append("a", "test", np.array([0]))


def test_a_store_is_replaced_and_anything_else_is_refused(tmp_path: Path) -> None:
    TokenStore.write(tmp_path / "c", {"old": ([1], [0])}, vocab_size=2)
    assert TokenStore.write(tmp_path / "c", GOOD, vocab_size=2).domains == ("a",)
    assert _left_in(tmp_path) == ["c"]
    (tmp_path / "empty").mkdir()
    TokenStore.write(tmp_path / "empty", GOOD, vocab_size=2).verify()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(InputError, match="something other than a token store"):
        TokenStore.write(tmp_path / "thesis", GOOD, vocab_size=2)
    with pytest.raises(InputError, match="a file is there"):
        TokenStore.write(tmp_path / "thesis" / "chapter.tex", GOOD, vocab_size=2)
    assert _left_in(tmp_path / "thesis") == ["chapter.tex"]


def test_a_store_in_which_something_else_lies_is_not_replaced(tmp_path: Path) -> None:
    old = TokenStore.write(tmp_path / "c", {"old": ([1], [0])}, vocab_size=2)
    (tmp_path / "c" / "config.yaml").touch()
    for name in ("observations.csv", "old/notes.txt"):
        (tmp_path / "c" / name).touch()
        with pytest.raises(InputError, match=f"other than a token store: {name.partition('/')[0]}; choose another"):
            TokenStore.write(tmp_path / "c", GOOD, vocab_size=2)
        assert TokenStore.open(tmp_path / "c") == old
        (tmp_path / "c" / name).unlink()
    assert TokenStore.write(tmp_path / "c", GOOD, vocab_size=2).domains == ("a",)


def test_an_exception_leaves_the_old_store_and_nothing_else(tmp_path: Path) -> None:
    old = TokenStore.write(tmp_path / "c", GOOD, vocab_size=2)
    with suppress(KeyboardInterrupt), writing(tmp_path / "c", vocab_size=2) as writer:
        writer.append("a", "train", np.array([1, 1, 1]))
        writer.append("a", "validation", np.array([1]))
        raise KeyboardInterrupt
    assert TokenStore.open(tmp_path / "c") == old
    assert _left_in(tmp_path) == ["c"]


def test_a_failed_rename_puts_the_old_store_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = TokenStore.write(tmp_path / "c", GOOD, vocab_size=2)
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="cannot write the token store: Input/output error"):
        TokenStore.write(tmp_path / "c", {"b": ([0], [0])}, vocab_size=2)
    assert TokenStore.open(tmp_path / "c") == old
    assert _left_in(tmp_path) == ["c"]


def test_a_read_only_folder_is_one_line_that_names_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/hidden")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match="cannot write the token store: Read-only file system") as caught:
        TokenStore.write(tmp_path / "c", GOOD, vocab_size=2)
    assert str(tmp_path / "c") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)


# A limit on the size of files makes a write fail for real, half-way, as a full disk does.
FULL = """
import resource, sys
import numpy as np
from bimixjax.corpus import writing
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with writing(sys.argv[1], vocab_size=2) as writer:
        for _ in range(20):
            writer.append("a", "train", np.ones(10_000, dtype=np.uint8))
except OSError as error:
    print(error)
"""


def test_a_write_that_fails_half_way_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", FULL, str(tmp_path / "c")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "cannot write the token store: File too large" in done.stdout
    assert str(tmp_path / "c") in done.stdout
    assert done.stdout.count("\n") == 1
    assert _left_in(tmp_path) == []


KILLED = """
import os, signal, sys
import numpy as np
from bimixjax.corpus import writing
with writing(sys.argv[1], vocab_size=2) as writer:
    writer.append("a", "train", np.ones(10_000, dtype=np.uint8))
    writer.append("a", "validation", np.ones(10_000, dtype=np.uint8))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_write_leaves_nothing_that_opens(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "c")], check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(InputError, match="no such folder"):
        TokenStore.open(tmp_path / "c")
    (hidden,) = tmp_path.iterdir()
    with pytest.raises(InputError, match="not a token store"):
        TokenStore.open(hidden / "new")
    TokenStore.write(tmp_path / "c", GOOD, vocab_size=2).verify()
    assert _left_in(tmp_path) == ["c"]


def test_a_store_that_a_kill_left_aside_goes_back(tmp_path: Path) -> None:
    TokenStore.write(tmp_path / "c", GOOD, vocab_size=2)
    hidden = tmp_path / files.hidden_name(tmp_path / "c")
    hidden.mkdir()
    (tmp_path / "c").rename(hidden / "old")
    with pytest.raises(InputError, match="no domain"):
        TokenStore.write(tmp_path / "c", {}, vocab_size=2)
    assert _left_in(tmp_path) == ["c"]
    TokenStore.open(tmp_path / "c").verify()
