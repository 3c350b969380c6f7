"""Checkpoints of a swarm: whole, absent, or known to be broken, and then the one before is taken."""

import errno
import gc
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import LatestN

from bimixjax import __version__
from bimixjax._base.checks import InputError
from bimixjax.proxy.layout import CHECKPOINTS
from bimixjax.proxy.programs import with_slots
from bimixjax.proxy.storage import agreed, writes

# Bytes beside the members: what Orbax says about them, and the table.
SPARE = 1 << 20

# What a checkpoint says of the version that wrote it, under this name.
VERSION = "bimixjax"

# What a file system may answer to whoever writes.
_OF_DISKS = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES)

# Modules of Orbax whose errors are raised, too.
_OF_WRITES = ("future.py", "async_checkpointer.py", "checkpoint_manager.py")

LOG, ORBAX_LOG = logging.getLogger("bimixjax"), logging.getLogger("absl")


class Checkpoints:
    """Orbax checkpoints of a swarm by step: written in the background, whole or absent, the newest `keep` kept."""

    def __init__(self, folder: Path, keep: int) -> None:
        options = ocp.CheckpointManagerOptions(preservation_policy=LatestN(keep), cleanup_tmp_directories=True)
        self._folder = (folder / CHECKPOINTS).absolute()
        handler = ocp.StandardCheckpointHandler()
        self._manager = ocp.CheckpointManager(self._folder, options=options, item_handlers=handler)
        self._synced: int | None = None
        ORBAX_LOG.addFilter(_is_said_once)

    def save(self, step: int, members: Any) -> None:
        """Begin to write `members`; they are copied first, so that their buffers may be reused.

        Raises:
            OSError: where this one, or the one before, which was written meanwhile, cannot be written.
        """
        with self._written():
            self._manager.wait_until_finished()
            self._sync()
        _require_space(self._folder, members)
        with self._written():
            saved = ocp.args.StandardSave({"members": members, "sums": _sums(members)})
            self._manager.save(step, args=saved, custom_metadata={VERSION: __version__})

    def restore(self, members: Any) -> tuple[int, Any] | None:
        """Return step and members of the newest checkpoint that is whole; newer ones are removed, and the log says so.

        Args:
            members: shapes with shardings of what was saved.

        Raises:
            InputError: where there are checkpoints and none is whole; or for one of another version of the package,
                which is not removed.
        """
        broken: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            self._require_same_arrays(step, members)
            found, why = self._read(step, members)
            if not agreed(found is None):
                for later, reason in broken.items():
                    LOG.warning(f"bimix: {self._folder / str(later)} {reason}; it is removed, step {step} goes on")
                    self._manager.delete(later)
                return step, found
            broken[step] = why
        if broken:
            reasons = "; ".join(f"{step} {why}" for step, why in broken.items())
            allowed = f"one whole checkpoint, or none: remove {self._folder} to begin anew"
            raise InputError(f"{self._folder}: no checkpoint can be read: {reasons}; allowed: {allowed}")
        return None

    def _require_same_arrays(self, step: int, members: Any) -> None:
        """Raise where a checkpoint holds other arrays than those of `members`: then it is not broken."""
        try:
            saved, about = cast("Any", self._manager.item_metadata(step)), self._manager.metadata(step).custom_metadata
            there, version = _arrays(saved.tree), (about or {}).get(VERSION)
        except Exception:  # of Orbax or JSON, each of its own kind; whoever reads the checkpoint says so
            return
        here = _arrays({"members": members, "sums": members})
        lacks, more = sorted(here.keys() - there.keys()), sorted(there.keys() - here.keys())
        other = [
            name for name in here.keys() & there.keys() if name.startswith("members.") and here[name] != there[name]
        ]
        if lacks or more or other:
            found = {"lacks": lacks, "also has": more, "has another shape of": sorted(other)}
            what = ", ".join(f"{words} {names[0]}" for words, names in found.items() if names)
            by = "another version of bimixjax" if version in (None, __version__) else f"bimixjax {version}"
            raise InputError(
                f"{self._folder / str(step)} was written by {by}, this is {__version__}: it {what}; allowed: that "
                "version, which goes on with it, or another folder"
            )

    def _read(self, step: int, members: Any) -> tuple[Any, str]:
        """Return the members of one checkpoint, or None and why they cannot be had."""
        sums = jax.tree.map(lambda leaf: np.zeros((), np.uint32), members)
        with _one_complaint():
            try:
                slots = _slots(cast("Any", self._manager.item_metadata(step)).tree["members"])
                same = slots == _slots(members)
                # On other devices there are other slots; what was saved of them goes by the host then. Of these arrays,
                # which take no memory, Orbax reads shapes and types.
                blank = jax.tree.map(
                    lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), (slots, *leaf.shape[1:])), members
                )
                there = members if same else blank
                found = self._manager.restore(step, args=ocp.args.StandardRestore({"members": there, "sums": sums}))
            except Exception as error:  # of Orbax, TensorStore or JSON, each of its own kind
                return None, f"cannot be read ({type(error).__name__}: {_cut_line(str(error))})"
        held = found["members"]
        own = _sums(held) if same else jax.tree.map(lambda leaf: leaf.view(np.uint32).sum(dtype=np.uint32), held)
        if not jax.tree.all(jax.tree.map(np.array_equal, found["sums"], own)):
            return None, "has changed since it was written"
        return held if same else with_slots(held, members), ""

    def close(self) -> None:
        """Wait until the last checkpoint is on the disk."""
        try:
            with self._written():
                self._manager.wait_until_finished()
                self._sync()
                self._manager.close()
        finally:
            ORBAX_LOG.removeFilter(_is_said_once)

    def _sync(self) -> None:
        """Put the newest checkpoint on the disk whole: Orbax leaves what describes the arrays to the system's time."""
        newest = self._manager.latest_step()
        if newest is None or newest == self._synced or not writes():
            return
        place = self._folder / str(newest)
        for path in (*place.rglob("*"), place, self._folder):
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        self._synced = newest

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Say in one error what Orbax says in several, of its own kinds."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(self._folder)) from error
        except Exception as error:
            # TensorStore names the system's reason somewhere in a line that is as long as its paths.
            code = next((code for code in _OF_DISKS if os.strerror(code) in str(error)), errno.EIO)
            why = _cut_line(str(error)) if code == errno.EIO else os.strerror(code)
            raise OSError(code, f"a checkpoint could not be written: {why}", str(self._folder)) from error


def _slots(members: Any) -> int:
    """Return how many slots there are."""
    return jax.tree.leaves(members)[0].shape[0]


def _arrays(tree: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of each array for one member by its path; there may be more members on other devices."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape[1:]) for path, leaf in leaves}


def _sums(members: Any) -> Any:
    """Return the sum of the 32-bit words of each leaf, modulo 2^32: exact in any order, so on any devices."""
    return jax.tree.map(np.asarray, _device_sums(members))


@jax.jit
def _device_sums(members: Any) -> Any:
    words = jax.tree.map(lambda leaf: jax.lax.bitcast_convert_type(leaf, jnp.uint32), members)
    return jax.tree.map(lambda leaf: jnp.sum(leaf, dtype=jnp.uint32), words)


def _is_said_once(record: logging.LogRecord) -> bool:
    """Return whether Orbax does not raise this too: of a failed write, each of its threads logs a long traceback."""
    raised = f"{os.sep}orbax{os.sep}" in record.pathname and record.filename in _OF_WRITES
    return record.levelno < logging.ERROR or not raised


def _cut_line(text: str) -> str:
    """Return the first 120 characters of the first line."""
    return text.partition("\n")[0][:120]


@contextmanager
def _one_complaint() -> Iterator[None]:
    """Keep what a failed read leaves, a task for each array, from complaining beside the one error that is raised."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    tasks = logging.getLogger("asyncio")
    before, tasks.disabled = tasks.disabled, True
    try:
        yield
    finally:
        gc.collect()
        sys.unraisablehook, tasks.disabled = hook, before


def _require_space(folder: Path, members: Any) -> None:
    """Raise before Orbax does, whose threads fail one by one and at length."""
    with tempfile.TemporaryFile(dir=folder):  # not on a file system that has become read-only
        pass
    needed, free = sum(leaf.nbytes for leaf in jax.tree.leaves(members)), shutil.disk_usage(folder).free
    if free < needed + SPARE:
        text = f"{os.strerror(errno.ENOSPC)}: a checkpoint takes {needed:,} bytes, {free:,} are free"
        raise OSError(errno.ENOSPC, text, str(folder))
