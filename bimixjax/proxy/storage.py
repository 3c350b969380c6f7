"""Files of a swarm beside its checkpoints: settings, an append-only table of losses, and a mark when it is done.

Rows reach the disk before the checkpoint of their step, and a resume drops rows beyond the checkpoint that it
starts from; so a kill at any moment loses work, but neither loses, repeats nor changes a row.
"""

import csv
import io
import os
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from bimixjax._base import files
from bimixjax._base.checks import InputError
from bimixjax._base.records import read_json, to_plain, write_json
from bimixjax.corpus.layout import SIDECAR
from bimixjax.proxy.fleet import array_index
from bimixjax.proxy.layout import DONE as DONE, LOCK as LOCK, OBSERVATIONS as OBSERVATIONS, SETTINGS as SETTINGS


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock `folder`, made where it is missing, so that no second process trains in it.

    The lock ends with the process, however that ends.

    Raises:
        InputError: where another process holds the lock, or the file system has none.
    """
    files.require_local(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not writes():
        yield
        return
    with (folder / LOCK).open("w") as file:
        locked = files.lock(file.fileno())
        if locked is None:
            raise InputError(f"{folder}: its file system has no locks to keep other swarms out; use another folder")
        if not locked:
            worker = array_index(os.environ)
            hint = f", or --shard auto, since {worker} is set" if worker else ""
            raise InputError(f"{folder}: another process is training in this folder; wait, or use another{hint}")
        yield


def require_free(folder: Path, shard: tuple[int, int] | None) -> None:
    """Raise where a folder is a token store, or holds this swarm divided otherwise: its runs would be trained again."""
    if (folder / SIDECAR).exists():
        raise InputError(f"{folder} is a token store; allowed: a folder of the swarm's own")
    named = [re.fullmatch(r"shard-[0-9]+-of-([0-9]+)", path.name) for path in folder.glob("shard-*")]
    shards = {int(name[1]) for name in named if name}
    whole = any(folder.glob(SETTINGS)) or any(folder.glob(f"model-*/{SETTINGS}"))
    divided = [*(f"{count} shards" for count in sorted(shards)), *(["no shards"] if whole else [])]
    own = "no shards" if shard is None else f"{shard[1]} shards"
    if others := [one for one in divided if one != own]:
        raise InputError(f"{folder} holds a swarm of {others[0]}, this call has {own}; allowed: the same, or another")


def settle(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of the swarm, or compare them with those that the folder was begun with.

    Raises:
        InputError: where they differ; it names every setting that does.
    """
    path = folder / SETTINGS
    if not path.exists():
        if writes():
            write_json(path, settings, hashed=True)
        return
    begun, settings = read_json(path), to_plain(settings)
    if not isinstance(begun, dict) or set(begun) != set(settings):
        raise InputError(f"{path} does not hold the settings of a swarm: {', '.join(settings)}")
    try:
        old, new = _flat(begun), _flat(settings)
    except RecursionError as error:
        raise InputError(f"{path} does not hold the settings of a swarm: it is nested too deeply") from error
    differ = [name for name in dict.fromkeys([*new, *old]) if new.get(name) != old.get(name)]
    if differ:
        others = [name for name in differ if not name.startswith("tokens.")]
        said = [f"{name} is {_cut(new.get(name))}, there {_cut(old.get(name))}" for name in others]
        changed = [name.removeprefix("tokens.") for name in differ if name.startswith("tokens.")]
        lines = "; ".join([*said, *([f"other tokens of {', '.join(changed)}"] if changed else [])])
        allowed = "the settings it was begun with, or another folder"
        raise InputError(f"{folder} holds another swarm: {lines}; allowed: {allowed}")


def _cut(value: Any) -> str:
    """Write a value in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def begin_table(path: Path, header: Sequence[str], step: int) -> None:
    """Keep the header and the complete rows up to `step` of the table, or make it; in one step."""
    lines = files.read_text(path).splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    if whole and cells(whole[0]) != list(header):
        raise InputError(f"{path}, line 1: not the columns of this swarm; allowed: {','.join(header)}")
    kept = [line for line, at in zip(whole[1:], _steps(path, whole), strict=True) if at <= step]
    if writes():
        files.write_text(path, row_text(header) + "".join(kept))


def _steps(path: Path, lines: Sequence[str]) -> list[int]:
    """Return the step of each row below the header."""
    header = cells(lines[0]) if lines else ["step"]
    width, place = len(header), header.index("step")
    found = []
    for number, line in enumerate(lines[1:], start=2):
        row = cells(line)
        if len(row) != width or not (row[place].isascii() and row[place].isdigit() and len(row[place]) < 19):
            raise InputError(f"{path}, line {number}: not a row of {width} cells with a step; remove it, or the folder")
        found.append(int(row[place]))
    return found


def append_rows(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Append rows, all or none; they are on the disk when this returns."""
    append_text(path, "".join(map(row_text, rows)))


def append_text(path: Path, text: str) -> None:
    """Append whole lines; where the disk is full, none of them stays."""
    if not writes():
        return
    with path.open("ab", buffering=0) as file:
        before, data = file.seek(0, os.SEEK_END), memoryview(text.encode())
        try:
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):  # a file system that has become read-only: a resume drops what is not whole
                file.truncate(before)
            raise OSError(error.errno, error.strerror, str(path)) from error


def row_text(row: Sequence[str]) -> str:
    """Return one line of the table."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()


def cells(line: str) -> list[str]:
    """Return the cells of one line of the table."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def writes() -> bool:
    """Return whether this process writes tables: of several that train together, the first does."""
    return jax.process_index() == 0


def agreed(own: bool) -> bool:
    """Return whether `own` is true in any of the processes that train together; each must call this at one point."""
    return own if jax.process_count() == 1 else bool(np.any(multihost_utils.process_allgather(np.array(own))))


def shard_folder(folder: Path, index: int, count: int) -> Path:
    """Return the folder of one shard of a swarm."""
    return folder / f"shard-{index}-of-{count}"


def gather_shards(folder: str | Path, count: int) -> Path:
    """Concatenate the tables of `count` finished shards as `folder`/observations.csv, ordered by step.

    Raises:
        InputError: where a shard is not done.
    """
    return gather(Path(folder), [shard_folder(Path(folder), index, count) for index in range(count)])


def gather(folder: Path, parts: Sequence[Path], shared: Collection[str] = ()) -> Path:
    """Concatenate the tables of finished parts as `folder`/observations.csv, ordered by step.

    Runs that are `shared` by models get the model's size added to their id.
    """
    waiting = [path.name for path in parts if not (path / DONE).exists()]
    if waiting:
        raise InputError(f"{folder}: not done: {', '.join(waiting)}; allowed: {len(parts)} finished parts")
    tables = {path: files.read_text(path / OBSERVATIONS).splitlines(keepends=True) for path in parts}
    header = next(iter(tables[parts[0]]), "")
    for path, lines in tables.items():
        if "step" not in cells(header) or lines[:1] != [header] or not lines[-1].endswith("\n"):
            wrong = "not a whole table with the columns of the other parts, step among them"
            raise InputError(f"{path / OBSERVATIONS}: {wrong}")
    steps = [step for path, lines in tables.items() for step in _steps(path / OBSERVATIONS, lines)]
    rows = [line for lines in tables.values() for line in lines[1:]]
    ordered = [line for _, line in sorted(zip(steps, rows, strict=True), key=lambda row: row[0])]
    if shared:
        ordered = [row_text(_sized(cells(line), cells(header), shared)) for line in ordered]
    files.write_text(folder / OBSERVATIONS, "".join([header, *ordered]))
    return folder / OBSERVATIONS


def _sized(row: list[str], header: Sequence[str], shared: Collection[str]) -> list[str]:
    """Return the row with the id that `Observations.concat` gives to a run of several sizes."""
    place, size = header.index("run"), header.index("model_size")
    name = f"{row[place]}/model_size-{row[size]}" if row[place] in shared else row[place]
    return [*row[:place], name, *row[place + 1 :]]


def model_folder(folder: Path, model: str) -> Path:
    """Return the folder of the runs of one of several models."""
    return folder / f"model-{model}"


def all_done(folder: Path, count: int) -> bool:
    """Return whether every shard is done."""
    return all((shard_folder(folder, index, count) / DONE).exists() for index in range(count))


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return the leaves of nested objects by their dotted paths."""
    if not isinstance(value, dict):
        return {name: value}
    parts = (_flat(inner, f"{name}.{key}".strip(".")) for key, inner in value.items())
    return {path: item for part in parts for path, item in part.items()}
