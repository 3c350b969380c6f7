"""Several processes, on one host or many, that train one swarm together."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from bimixjax._base.checks import InputError

# How many processes a launcher has started, and what JAX reads to find the others; jax._src.clusters of JAX 0.10.
LAUNCHERS = {
    "SLURM_NTASKS": ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"),
    "OMPI_COMM_WORLD_SIZE": ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
}
ALONE, AUTO = "alone", "auto"
# What a TPU's hosts are told of each other; those of Google Compute Engine ask its metadata server, as JAX does.
TPU_HOSTS = ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")
# Tasks of each host, and this one's number among those of its host.
LOCAL = (("SLURM_STEP_TASKS_PER_NODE", "SLURM_LOCALID"), ("OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"))


def join(process: str | None = None, coordinator: str | None = None) -> tuple[int, int]:
    """Join the other processes of the swarm, where there are any; nothing of JAX may have run before.

    SLURM and Open MPI say how many tasks they have started, hosts of a TPU pod find each other; then JAX asks them.

    Args:
        process: "i/n", this one of n processes where nothing else says so; "alone": train without others; "auto": let
            JAX find the others, as on TPU hosts that no variable names.
        coordinator: with "i/n", HOST:PORT of the first process, the same for all.

    Returns:
        Number of this process, and how many there are.

    Raises:
        InputError: where one of the two is missing or `process` is no such pair.

    Example:
        >>> join("alone")
        (0, 1)
    """
    if process == ALONE and coordinator is None:
        return 0, 1
    gpus = own_gpus(os.environ)
    if (process == AUTO and coordinator is None) or (process is None and coordinator is None and _launched()):
        jax.distributed.initialize(local_device_ids=gpus)
        return jax.process_index(), jax.process_count()
    if (process is None) != (coordinator is None):
        raise InputError("process I/N and the coordinator's HOST:PORT go together: both or neither")
    if process is None:
        return 0, 1
    number, _, count = process.partition("/")
    if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
        raise InputError(f"process is {process!r}; allowed: I/N with I from 0 to N - 1, {ALONE}, or {AUTO}")
    jax.distributed.initialize(coordinator, int(count), int(number), local_device_ids=gpus)
    return jax.process_index(), jax.process_count()


def own_gpus(environment: Mapping[str, str]) -> list[int] | None:
    """Return which of the GPUs that a task of SLURM or Open MPI sees are its own; None where none are seen.

    JAX would take one for each task, that of the task's number on its host: of a host with one task only the first,
    and none where the scheduler shows each task no others than its own.

    Example:
        >>> own_gpus({"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_LOCALID": "0", "SLURM_GPUS_ON_NODE": "4"})
        [0, 1, 2, 3]
    """
    tasks, number = next((names for names in LOCAL if all(name in environment for name in names)), (None, None))
    if tasks is None or number is None:
        return None
    # Such as 8(x2),4: eight on each of two hosts, four on the third.
    parts = re.findall(r"(\d+)(?:\(x(\d+)\))?", environment[tasks])
    counts = [int(count) for count, times in parts for _ in range(int(times or 1))]
    together = counts[int(environment.get("SLURM_NODEID", 0)) % len(counts)]
    there = int(environment.get("SLURM_GPUS_ON_NODE") or len([*Path("/dev").glob("nvidia[0-9]*")]))
    shown = environment.get("CUDA_VISIBLE_DEVICES")
    seen = there if shown is None else len([device for device in shown.split(",") if device.strip()])
    if together > 1 and there <= seen:
        each = seen // together
        return [*range(int(environment[number]) * each, (int(environment[number]) + 1) * each)] or None
    return [*range(seen)] or None


def require_joined() -> None:
    """Raise where there are several processes that do not know of each other."""
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise InputError(
            f"this is one of {jax.process_count()} processes, which have not joined; allowed: --process {AUTO} "
            f"(in Python hosts.join({AUTO!r})) before anything else"
        )


def _launched() -> bool:
    """Return whether this is one of several processes that were started together."""
    started = any(
        os.environ.get(count, "1") not in {"", "1"} and all(name in os.environ for name in names)
        for count, names in LAUNCHERS.items()
    )
    slices = os.environ.get("MEGASCALE_NUM_SLICES", "1") not in {"", "1"}
    return started or slices or any("," in os.environ.get(name, "") for name in TPU_HOSTS)


def whole(array: jax.Array) -> np.ndarray:
    """Return an array of which other processes may hold parts; each process must call this."""
    if array.is_fully_addressable:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def smallest(number: float) -> float:
    """Return the smallest of the numbers of all processes, which must plan alike."""
    if jax.process_count() == 1:
        return number
    return float(multihost_utils.process_allgather(jax.numpy.float32(number)).min())
