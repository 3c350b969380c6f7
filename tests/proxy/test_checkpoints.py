import errno
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bimixjax._base.checks import InputError
from bimixjax.proxy import checkpoints as module
from bimixjax.proxy.checkpoints import ORBAX_LOG, Checkpoints


def test_a_checkpoint_is_what_was_saved_though_the_buffers_are_reused(tmp_path: Path) -> None:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = {"x": jnp.arange(200_000, dtype=jnp.float32), "blocks": {0: jnp.ones(3), 1: jnp.zeros((), jnp.int32)}}
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state)
    change = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf * 2 + 1, state), donate_argnums=0)
    checkpoints = Checkpoints(tmp_path, 2)
    assert checkpoints.restore(like) is None
    kept = {}
    for step in (1, 2, 3, 4):
        kept[step] = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
        checkpoints.save(step, state)
        for _ in range(5):
            state = change(state)
    checkpoints.close()
    again = Checkpoints(tmp_path, 2)
    found = again.restore(like)
    again.close()
    assert found is not None
    assert found[0] == 4
    for left, right in zip(*map(jax.tree.leaves, (found[1], kept[4])), strict=True):
        np.testing.assert_array_equal(left, right)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3", "4"]


def spoiled(path: Path, how: str) -> None:
    """Cut a file, or change one byte of it."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content if how == "changed" else content[: len(content) // 2])


@pytest.fixture
def two_checkpoints(tmp_path: Path) -> tuple[Path, Any, Any]:
    """The folder of checkpoints at steps 1 and 2, the state saved at both, and its shapes."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = {"x": jax.random.normal(jax.random.key(0), (3, 2000)), "blocks": {0: jnp.ones(3, jnp.int32)}}
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state)
    checkpoints = Checkpoints(tmp_path, 2)
    for step in (1, 2):
        checkpoints.save(step, state)
    checkpoints.close()
    return tmp_path, state, like


@pytest.mark.parametrize(("how", "word"), [("cut", "cannot be read"), ("changed", "has changed since it was written")])
def test_a_broken_checkpoint_gives_way_to_the_one_before(
    two_checkpoints: tuple[Path, Any, Any], how: str, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder, state, like = two_checkpoints
    data = max((folder / "checkpoints" / "2").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    spoiled(data, how)
    checkpoints = Checkpoints(folder, 2)
    found = checkpoints.restore(like)
    assert found is not None
    assert found[0] == 1
    assert jax.tree.all(jax.tree.map(np.array_equal, found[1], state))
    (said,) = [record.getMessage() for record in caplog.records if record.name == "bimixjax"]
    assert f"checkpoints/2 {word}" in said
    assert said.endswith("it is removed, step 1 goes on")
    checkpoints.save(2, state)
    checkpoints.close()


def test_checkpoints_that_are_all_broken_are_an_error(two_checkpoints: tuple[Path, Any, Any]) -> None:
    folder, _, like = two_checkpoints
    for step in "12":
        spoiled(folder / "checkpoints" / step / "default" / "_METADATA", "cut")
    checkpoints = Checkpoints(folder, 2)
    with pytest.raises(InputError, match=r"no checkpoint can be read: 2 cannot be read .*; 1 cannot .*remove .*anew"):
        checkpoints.restore(like)
    checkpoints.close()
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["1", "2"]


def test_a_checkpoint_that_was_cut_off_is_none(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp").mkdir(parents=True)
    checkpoints = Checkpoints(tmp_path, 2)
    assert checkpoints.restore({"x": jax.ShapeDtypeStruct((), jnp.float32)}) is None
    checkpoints.close()


def test_a_checkpoint_that_cannot_be_written_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("first line\nand many more")

    checkpoints = Checkpoints(tmp_path, 2)
    monkeypatch.setattr(checkpoints._manager, "save", fail)
    with pytest.raises(OSError, match=r"a checkpoint could not be written: first line: '.*/checkpoints'"):
        checkpoints.save(1, {"x": np.ones(3, np.float32)})
    checkpoints.close()


def test_what_orbax_logs_beside_an_error_is_left_out_while_it_writes(tmp_path: Path) -> None:
    def passes(level: int, path: str) -> bool:
        return bool(ORBAX_LOG.filter(logging.LogRecord("absl", level, path, 1, "a traceback", None, None)))

    checkpoints = Checkpoints(tmp_path, 2)
    assert not passes(logging.ERROR, "/site-packages/orbax/checkpoint/future.py")
    assert passes(logging.WARNING, "/site-packages/orbax/checkpoint/future.py")
    assert passes(logging.ERROR, "/site-packages/another/future.py")
    assert passes(logging.ERROR, "/site-packages/orbax/checkpoint/storage_backend.py")
    checkpoints.close()
    assert passes(logging.ERROR, "/site-packages/orbax/checkpoint/future.py")


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC])
def test_the_reason_of_the_system_is_found_in_what_tensorstore_says(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError(f'PERMISSION_DENIED: Failed to open: "{"x" * 200}": {os.strerror(code)} [os_error_code]')

    checkpoints = Checkpoints(tmp_path, 2)
    monkeypatch.setattr(checkpoints._manager, "save", fail)
    with pytest.raises(OSError, match=f"a checkpoint could not be written: {os.strerror(code)}: '") as caught:
        checkpoints.save(1, {"x": np.ones(3, np.float32)})
    checkpoints.close()
    assert caught.value.errno == code


def test_a_disk_that_has_become_read_only_is_one_error_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path))

    checkpoints = Checkpoints(tmp_path, keep=1)
    monkeypatch.setattr(module.tempfile, "TemporaryFile", refuse)
    with pytest.raises(OSError, match="Read-only file system"):
        checkpoints.save(1, {"weights": np.zeros(4, np.float32)})
    checkpoints.close()
    assert not list((tmp_path / module.CHECKPOINTS).iterdir())


def test_all_files_of_a_checkpoint_are_on_the_disk_when_the_next_one_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    monkeypatch.setattr(module.os, "fsync", lambda file: synced.add(str(Path(f"/proc/self/fd/{file}").readlink())))
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.save(1, {"x": np.ones(3, np.float32)})
    checkpoints.save(2, {"x": np.ones(3, np.float32)})
    first = tmp_path / module.CHECKPOINTS / "1"
    assert {str(path) for path in first.rglob("*")} <= synced
    checkpoints.close()
    assert {str(path) for path in (tmp_path / module.CHECKPOINTS).rglob("*")} <= synced


def test_a_full_disk_is_one_error_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    full = SimpleNamespace(total=100, used=100, free=0)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: full)
    with pytest.raises(OSError, match="No space left on device: a checkpoint takes 16 bytes, 0 are free"):
        checkpoints.save(1, {"weights": np.zeros(4, np.float32)})
    checkpoints.close()
    assert not list((tmp_path / module.CHECKPOINTS).iterdir())


def test_a_checkpoint_of_another_version_is_named_and_kept(two_checkpoints: tuple[Path, Any, Any]) -> None:
    folder, _, like = two_checkpoints
    for change, words in (
        ({"trained": like["x"]}, "it lacks members.trained"),
        ({"blocks": {}}, "it also has members.blocks.0"),
        ({"x": jax.ShapeDtypeStruct((3, 2001), np.float32)}, "it has another shape of members.x"),
    ):
        checkpoints = Checkpoints(folder, 2)
        with pytest.raises(InputError, match=f"checkpoints/2 was written by another version of bimixjax.*: {words}"):
            checkpoints.restore(like | change)
        checkpoints.close()
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["1", "2"]
    # More members are no other version.
    checkpoints = Checkpoints(folder, 2)
    checkpoints._require_same_arrays(2, like | {"x": jax.ShapeDtypeStruct((8, 2000), np.float32)})
    checkpoints.close()
