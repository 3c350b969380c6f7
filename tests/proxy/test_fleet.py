import json
import os
from pathlib import Path

import pytest

from bimixjax._base.checks import InputError
from bimixjax._base.records import write_json
from bimixjax.proxy import fleet

SLURM = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}


@pytest.mark.parametrize(
    ("environment", "count", "shard"),
    [
        (SLURM, None, (3, 8)),
        # Three of eight are queued again.
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "3"}, 8, (7, 8)),
        ({"JOB_COMPLETION_INDEX": "0"}, 4, (0, 4)),
        ({"SKYPILOT_JOB_RANK": "1", "SKYPILOT_NUM_JOBS": "2"}, None, (1, 2)),
        # Below xpk, where a host of a slice has an index, too.
        ({"BIMIX_SHARD": "5/6", "JOB_COMPLETION_INDEX": "1"}, None, (5, 6)),
    ],
)
def test_a_shard_is_what_the_scheduler_says(
    environment: dict[str, str], count: int | None, shard: tuple[int, int]
) -> None:
    assert fleet.shard_of(environment, count) == shard
    assert fleet.array_index(environment) in environment


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "finds none of SLURM_ARRAY_TASK_ID, SKYPILOT_JOB_RANK, JOB_COMPLETION_INDEX, BIMIX_SHARD"),
        ({"JOB_COMPLETION_INDEX": "2"}, "of how many is not said; allowed: auto/N"),
        ({**SLURM, "SLURM_ARRAY_TASK_ID": "8"}, "is 8 with 8 shards; allowed: 0 to 7; number the array from 0"),
        ({**SLURM, "SLURM_ARRAY_TASK_ID": "x"}, "SLURM_ARRAY_TASK_ID is 'x'; allowed: a whole number"),
        ({"BIMIX_SHARD": "1"}, "BIMIX_SHARD is '1'; allowed: I/N"),
    ],
)
def test_an_array_that_tells_no_shard_is_an_error(environment: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fleet.shard_of(environment)


def test_two_numbers_of_shards_that_differ_are_an_error() -> None:
    with pytest.raises(InputError, match="BIMIX_SHARD is of 6 shards, auto/4 of 4; allowed: the same number"):
        fleet.shard_of({"BIMIX_SHARD": "1/6"}, 4)
    assert fleet.shard_of({"BIMIX_SHARD": "1/6"}, 6) == (1, 6)


def worker(place: Path, *reports: str, seen: float, done: bool = False) -> None:
    """Leave what a worker leaves: settings, its last sign of life, and its reports."""
    place.mkdir(parents=True)
    write_json(place / "swarm.json", {"runs": {"r": {}, "s": {}}, "config": {"steps": 100}}, hashed=True)
    (place / "metrics.jsonl").write_text("".join(reports))
    (place / ".lock").touch()
    os.utime(place / ".lock", (seen, seen))
    if done:
        (place / "done.json").write_text("{}")


def test_the_status_of_a_fleet_is_read_from_what_its_workers_leave(tmp_path: Path) -> None:
    now = 1e9
    pace = json.dumps({"event": "pace", "step": 40, "tokens_per_second": 1000.0, "seconds_left": 6.0}) + "\n"
    stopped = json.dumps({"event": "stopped", "step": 50}) + "\n"
    worker(tmp_path / "shard-0-of-6", pace, seen=now - 5000, done=True)
    # The last line was cut off.
    worker(tmp_path / "shard-1-of-6", pace, pace[:20], seen=now - 20)
    worker(tmp_path / "shard-2-of-6", pace, seen=now - 1000)
    worker(tmp_path / "shard-3-of-6", pace, stopped, seen=now - 10)
    worker(tmp_path / "shard-4-of-6" / "model-1m", seen=now - 10)
    found = {part.name: part for part in fleet.status(tmp_path, now)}
    assert [part.state for part in found.values()] == ["done", "running", "dead", "stopped", "running", "not begun"]
    assert [part.step for part in found.values()] == [100, 40, 40, 50, 0, 0]
    running = found["shard-1-of-6"]
    assert (running.steps, running.runs, running.tokens_per_second, running.seconds_left) == (100, 2, 1000.0, 6.0)
    assert found["shard-2-of-6"].seen == now - 1000
    assert found["shard-2-of-6"].tokens_per_second is None


def test_a_folder_without_a_swarm_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no swarm"):
        fleet.status(tmp_path)
    with pytest.raises(InputError, match="none: no such folder"):
        fleet.status(Path("none"))
