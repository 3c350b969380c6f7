import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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


def test_a_checkpoint_is_what_was_saved_though_the_buffers_are_reused(tmp_path: Path) -> None:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = {"x": jnp.arange(200_000, dtype=jnp.float32), "blocks": {0: jnp.ones(3), 1: jnp.zeros((), jnp.int32)}}
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state)
    change = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf * 2 + 1, state), donate_argnums=0)
    checkpoints = storage.Checkpoints(tmp_path, 2)
    assert checkpoints.restore(like) is None
    kept = {}
    for step in (1, 2, 3, 4):
        kept[step] = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
        checkpoints.save(step, state)
        for _ in range(5):
            state = change(state)
    checkpoints.close()
    again = storage.Checkpoints(tmp_path, 2)
    found = again.restore(like)
    again.close()
    assert found is not None
    assert found[0] == 4
    for left, right in zip(*map(jax.tree.leaves, (found[1], kept[4])), strict=True):
        np.testing.assert_array_equal(left, right)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3", "4"]


def test_a_checkpoint_that_was_cut_off_is_none(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp").mkdir(parents=True)
    checkpoints = storage.Checkpoints(tmp_path, 2)
    assert checkpoints.restore({"x": jax.ShapeDtypeStruct((), jnp.float32)}) is None
    checkpoints.close()


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


def test_a_full_disk_is_one_error_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = storage.Checkpoints(tmp_path, keep=1)
    full = SimpleNamespace(total=100, used=100, free=0)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda folder: full)
    with pytest.raises(OSError, match="No space left on device: a checkpoint takes 16 bytes, 0 are free"):
        checkpoints.save(1, {"weights": np.zeros(4, np.float32)})
    checkpoints.close()
    assert not list((tmp_path / storage.CHECKPOINTS).iterdir())
