from typing import Any

import pytest

from bimixjax._base.checks import InputError
from bimixjax.proxy import hosts


def test_one_process_joins_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*hosts.LAUNCHERS, *hosts.TPU_HOSTS, "MEGASCALE_NUM_SLICES"):
        monkeypatch.delenv(name, raising=False)
    assert hosts.join() == (0, 1)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What `jax.distributed.initialize` is called with."""
    called: list[tuple[Any, ...]] = []
    monkeypatch.setattr(hosts.jax.distributed, "initialize", lambda *given, **named: called.append((*given, named)))
    return called


@pytest.mark.parametrize("ntasks", ["1", "4"])
def test_tasks_of_a_scheduler_join(monkeypatch: pytest.MonkeyPatch, joined: list[Any], ntasks: str) -> None:
    given = {"SLURM_NTASKS": ntasks, "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "0"}
    given |= {"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_GPUS_ON_NODE": "8"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    hosts.join()
    own = {"local_device_ids": [4, 5, 6, 7]}
    assert joined == [(own,)] * (ntasks == "4")
    assert hosts.join("alone") == (0, 1)
    hosts.join("1/3", "host:9")
    assert joined[-1] == ("host:9", 3, 1, own)
    hosts.join("auto")
    assert joined[-1] == (own,)


@pytest.mark.parametrize(
    ("name", "value", "joins"),
    [
        ("TPU_WORKER_HOSTNAMES", "a,b", True),
        ("TPU_WORKER_HOSTNAMES", "a", False),
        ("TPU_PROCESS_ADDRESSES", "a:1,b:1", True),
        ("MEGASCALE_NUM_SLICES", "2", True),
        ("MEGASCALE_NUM_SLICES", "1", False),
    ],
)
def test_hosts_of_a_tpu_join(
    monkeypatch: pytest.MonkeyPatch, joined: list[Any], name: str, value: str, joins: bool
) -> None:
    for other in hosts.LAUNCHERS:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    hosts.join()
    assert len(joined) == joins


TASK = {"SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_GPUS_ON_NODE": "8"}


@pytest.mark.parametrize(
    ("environment", "own"),
    [
        # One task on each host has all GPUs; four that see all eight have two each.
        ({**TASK, "SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}, [*range(8)]),
        ({**TASK, "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}, [2, 3]),
        ({**TASK, "SLURM_STEP_TASKS_PER_NODE": "8,4"}, [2, 3]),
        # The scheduler shows each of eight tasks one GPU, its own.
        ({**TASK, "SLURM_STEP_TASKS_PER_NODE": "8(x2)", "CUDA_VISIBLE_DEVICES": "5"}, [0]),
        ({**TASK, "SLURM_STEP_TASKS_PER_NODE": "4(x2)", "CUDA_VISIBLE_DEVICES": "2,3"}, [0, 1]),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "CUDA_VISIBLE_DEVICES": "0,1"}, [1]),
        # More tasks than GPUs, no GPU, and no launcher: JAX decides.
        ({**TASK, "SLURM_STEP_TASKS_PER_NODE": "16(x2)"}, None),
        ({**TASK, "SLURM_STEP_TASKS_PER_NODE": "1", "CUDA_VISIBLE_DEVICES": ""}, None),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, None),
    ],
)
def test_a_task_takes_the_gpus_that_are_its_own(environment: dict[str, str], own: list[int] | None) -> None:
    assert hosts.own_gpus(environment) == own


def test_processes_that_have_not_joined_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts.require_joined()
    monkeypatch.setattr(hosts.jax, "process_count", lambda: 4)
    with pytest.raises(InputError, match="one of 4 processes, which have not joined; allowed: --process auto"):
        hosts.require_joined()


@pytest.mark.parametrize("process", ["3/3", "-1/3", "x", "1"])
def test_what_is_no_process_is_an_error(process: str) -> None:
    with pytest.raises(InputError, match="allowed: I/N"):
        hosts.join(process, "host:9")
    with pytest.raises(InputError, match="go together"):
        hosts.join("0/2")
