"""Several processes, on one host or many, that train one swarm together."""

import os

import jax

from bimixjax._base.checks import InputError

# How many processes a launcher has started, and what JAX reads to find the others; jax._src.clusters of JAX 0.10.
LAUNCHERS = {
    "SLURM_NTASKS": ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"),
    "OMPI_COMM_WORLD_SIZE": ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
}
ALONE = "alone"


def join(process: str | None = None, coordinator: str | None = None) -> tuple[int, int]:
    """Join the other processes of the swarm, where there are any; nothing of JAX may have run before.

    SLURM and Open MPI say how many tasks they have started, hosts of a TPU pod find each other; then JAX asks them.

    Args:
        process: "i/n", this one of n processes where nothing else says so; "alone": train without others.
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
    if (process is None) != (coordinator is None):
        raise InputError("process I/N and the coordinator's HOST:PORT go together: both or neither")
    if process is not None:
        number, _, count = process.partition("/")
        if not (number.isdecimal() and count.isdecimal() and int(number) < int(count)):
            raise InputError(f"process is {process!r}; allowed: I/N with I from 0 to N - 1, or {ALONE}")
        jax.distributed.initialize(coordinator, int(count), int(number))
    elif _launched():
        jax.distributed.initialize()
    else:
        return 0, 1
    return jax.process_index(), jax.process_count()


def _launched() -> bool:
    """Return whether this is one of several processes that were started together."""
    started = any(
        os.environ.get(count, "1") not in {"", "1"} and all(name in os.environ for name in names)
        for count, names in LAUNCHERS.items()
    )
    return started or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def smallest(number: float) -> float:
    """Return the smallest of the numbers of all processes, which must plan alike."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return float(multihost_utils.process_allgather(jax.numpy.float32(number)).min())
