"""Many workers on one design: which shard a worker trains, and how far all of them are."""

import dataclasses
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path

from bimixjax._base.checks import InputError
from bimixjax._base.records import read_json
from bimixjax.proxy.layout import DONE, LOCK, METRICS, SETTINGS

# Our own variable, for schedulers without one: I/N.
SHARD = "BIMIX_SHARD"
# Index and, where there is one, number of the workers: arrays of SLURM (slurm.schedmd.com/job_array.html), indexed jobs
# of Kubernetes (kubernetes.io/docs/concepts/workloads/controllers/job), jobs of a SkyPilot pool
# (docs.skypilot.co/en/stable/examples/pools.html). xpk numbers hosts, not workloads: `--print-job xpk` sets SHARD.
ARRAYS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("SKYPILOT_JOB_RANK", "SKYPILOT_NUM_JOBS"),
    ("JOB_COMPLETION_INDEX", None),
)
# A worker gives a sign of life each `BEAT` seconds; one that has given none for as long as six of them is dead. Network
# file systems may show a change some seconds late.
BEAT = 15.0
SILENCE = 6 * BEAT


def shard_of(environment: Mapping[str, str], count: int | None = None) -> tuple[int, int]:
    """Return (i, n) for the worker of a scheduler's array, from the variables that the scheduler sets.

    Args:
        environment: variables by name.
        count: n; None: as many as the array has.

    Raises:
        InputError: where no array is found, its size is not known, or its indices are not 0, ..., n - 1.

    Example:
        >>> shard_of({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"})
        (3, 8)
        >>> shard_of({"JOB_COMPLETION_INDEX": "3"}, 8)
        (3, 8)
    """
    if SHARD in environment:
        index, total = parse_shard(environment[SHARD], SHARD)
        source = SHARD
        if count not in (None, total):
            raise InputError(f"{SHARD} is of {total} shards, auto/{count} of {count}; allowed: the same number")
    else:
        found = next(((index, size) for index, size in ARRAYS if index in environment), None)
        if found is None:
            names = ", ".join([*(index for index, _ in ARRAYS), SHARD])
            raise InputError(f"--shard auto finds none of {names} in the environment; allowed: I/N, such as 0/4")
        source, size = found
        index = _whole(environment, source)
        if count is None and (size is None or size not in environment):
            raise InputError(f"{source} is {index}, of how many is not said; allowed: auto/N, such as auto/8")
        total = count or _whole(environment, str(size))
    if not index < total:
        hint = "; number the array from 0" if index == total else ""
        raise InputError(f"{source} is {index} with {total} shards; allowed: 0 to {total - 1}{hint}, or --shard I/N")
    return index, total


def parse_shard(text: str, name: str = "--shard") -> tuple[int, int]:
    """Read I/N.

    Raises:
        InputError: for anything else.
    """
    numbers = re.fullmatch("([0-9]+)/([0-9]+)", text)
    if numbers is None:
        raise InputError(f"{name} is {text!r}; allowed: I/N, such as 0/4, auto, or auto/N")
    return int(numbers[1]), int(numbers[2])


def array_index(environment: Mapping[str, str]) -> str | None:
    """Return the name of the variable that says that this process is one of an array, if there is one."""
    return next((name for name in (SHARD, *(index for index, _ in ARRAYS)) if name in environment), None)


def _whole(environment: Mapping[str, str], name: str) -> int:
    if not environment[name].isdecimal():
        raise InputError(f"{name} is {environment[name]!r}; allowed: a whole number")
    return int(environment[name])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """How far a part of a swarm is: the swarm itself, a shard, or a model's runs.

    Attributes:
        name: of its folder, below that of the swarm; "." for the swarm itself.
        state: "done", "running", "stopped" by a signal, "dead", or "not begun".
        runs: how many it has.
        step, steps: how many are trained, and how many there are.
        tokens_per_second, seconds_left: at the last report; None where it does not run.
        seen: last sign of life, seconds since the epoch; None where there is none.
    """

    name: str
    state: str
    runs: int | None = None
    step: int = 0
    steps: int | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    seen: float | None = None


def status(folder: str | Path, now: float | None = None) -> tuple[Part, ...]:
    """Return how far each part of the swarm in `folder` is, from the files that its workers write; locks are untouched.

    Raises:
        InputError: where there is no swarm.
    """
    folder, now = Path(folder), time.time() if now is None else now
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; the folder of a swarm belongs here")
    places = sorted(path.parent for path in folder.rglob(SETTINGS))
    parts = [_part(place, str(place.relative_to(folder)), now) for place in places]
    shards = [path for path in folder.iterdir() if re.fullmatch(r"shard-[0-9]+-of-[0-9]+", path.name)]
    for count in {int(path.name.rpartition("-")[2]) for path in shards}:
        names = {path.name for path in shards}
        missing = (name for i in range(count) if (name := f"shard-{i}-of-{count}") not in names)
        parts += [Part(name=name, state="not begun") for name in missing]
    if not parts:
        raise InputError(f"{folder}: holds no swarm; allowed: a folder that `bimix swarm` was given")
    return tuple(
        sorted(parts, key=lambda part: [int(n) if n.isdecimal() else n for n in re.split("([0-9]+)", part.name)])
    )


def _part(place: Path, name: str, now: float) -> Part:
    settings = read_json(place / SETTINGS)
    runs, steps = len(settings["runs"]), settings["config"]["steps"]
    if (place / DONE).exists():
        return Part(name=name, state="done", runs=runs, step=steps, steps=steps, seen=(place / DONE).stat().st_mtime)
    last = last_report(place / METRICS)
    step = int(last.get("step", 0))
    seen = (place / LOCK).stat().st_mtime if (place / LOCK).exists() else None
    common = {"name": name, "runs": runs, "step": step, "steps": steps, "seen": seen}
    if last.get("event") == "stopped":
        return Part(state="stopped", **common)
    if seen is None or now - seen > SILENCE:
        return Part(state="dead", **common)
    return Part(
        state="running",
        tokens_per_second=last.get("tokens_per_second"),
        seconds_left=last.get("seconds_left"),
        **common,
    )


def last_report(path: Path) -> dict:
    """Return the last whole line of a file of metrics; {} where there is none."""
    if not path.exists():
        return {}
    with path.open("rb") as file:
        # Lines are short; the last one may be cut off by a kill.
        file.seek(max(0, path.stat().st_size - 65536))
        for line in reversed(file.read().splitlines()):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                return found
    return {}
