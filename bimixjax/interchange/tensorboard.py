"""Scalars of TensorBoard: event files below a folder, one run in each folder that has some.

Read with the library `tensorboard` (2.21; no TensorFlow is needed), the extra `bimixjax[tensorboard]`. An event file is
a sequence of records, each of a length of 8 bytes, its checksum of 4, the content, and the checksum of that (TFRecord).
"""

import struct
from importlib import import_module
from pathlib import Path
from typing import Any

from bimixjax._base.checks import InputError
from bimixjax._base.summaries import listed
from bimixjax.interchange import objects, rules
from bimixjax.interchange.parts import Part

EVENTS = "*tfevents*"
# Folders in which trainers put event files below that of the run, MaxText in the first.
_INNER = ("tensorboard", "tb")


def parts(path: Path) -> list[Part]:
    """Read the scalars of every run at or below `path`; a run is named by its folder, relative to it."""
    files = [path] if path.is_file() else sorted(path.rglob(EVENTS))
    by_folder: dict[Path, list[Path]] = {}
    for file in files:
        by_folder.setdefault(file.parent, []).append(file)
    return [_run(folder, below, path) for folder, below in by_folder.items()]


def _run(folder: Path, files: list[Path], given: Path) -> Part:
    while folder.name in _INNER and folder != given:
        folder = folder.parent
    relative = folder.relative_to(given).as_posix() if given.is_dir() else "."
    full = [name for name in folder.resolve().parts if name not in _INNER]
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for file in files:
        found, cut = _scalars(file)
        rows += found
        notes += [f"{file}: the last record is cut off, as where a run was killed"] if cut else []
    if not rows:
        raise InputError(f"{listed(files, most=2)}: no scalars in these event files")
    table = objects.table_of(rows, str(folder))
    run = relative if relative != "." else full[-1]
    return Part(
        kind="tensorboard",
        table=table,
        rules=(*rules.VOLUME[:1], *rules.LOSS),
        run=run,
        in_order=True,
        notes=tuple(notes),
    )


def _scalars(file: Path) -> tuple[list[dict[str, Any]], bool]:
    """Return a row for each event with scalars, and whether the last record is cut off."""
    try:
        # By name: it is an extra, and absent where types are checked.
        loader = import_module("tensorboard.backend.event_processing.event_file_loader")
        make_ndarray = import_module("tensorboard.util.tensor_util").make_ndarray
    except ImportError as error:
        raise InputError(f"{file}: event files need tensorboard: pip install 'bimixjax[tensorboard]'") from error
    complete, cut = _records(file)
    rows: list[dict[str, Any]] = []
    read = 0
    try:
        for event in loader.EventFileLoader(str(file)).Load():
            read += 1
            # Scalars of every age of the format come as tensors of one number.
            arrays = {
                value.tag: make_ndarray(value.tensor) for value in event.summary.value if value.HasField("tensor")
            }
            scalars = {
                tag: float(array.item())
                for tag, array in arrays.items()
                if array.size == 1 and array.dtype.kind in "fiu"
            }
            rows += [{"step": event.step} | scalars] if scalars else []
    except Exception as error:  # damaged bytes raise anything inside protobuf
        raise InputError(f"{file}: not an event file that can be read: {' '.join(str(error).split())}") from error
    if read < complete:
        raise InputError(f"{file}: record {read + 1} of {complete} is damaged: its checksum is not that of its content")
    return rows, cut


def _records(file: Path) -> tuple[int, bool]:
    """Count the records that are there as a whole, and say whether something is left behind them."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    at = count = 0
    while at + 8 <= len(content):
        after = at + 16 + struct.unpack_from("<Q", content, at)[0]
        if after > len(content):
            break
        at, count = after, count + 1
    return count, at < len(content)
