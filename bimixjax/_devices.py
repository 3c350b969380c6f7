"""Where lanes are solved: over all devices of all processes, or, on one CPU device, over its cores."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bimixjax._kernel import Plan, Work, solve_lanes
from bimixjax.solve import UNROLLED

# Fewer lanes than this are not worth another core or device.
_LEAST_LANES = 64


def solve(work: Work, plan: Plan) -> Any:
    """Solve all lanes of a batch; every process gets all of the answer, as NumPy arrays with lanes first."""
    devices = jax.devices()
    useful = -(-len(work) // min(plan.chunk, _LEAST_LANES))
    if min(len(devices), useful) > 1:
        over = devices if jax.process_count() > 1 else devices[:useful]
        pieces, parts = len(over), [_over_devices(work, plan, over)]
    else:
        pieces = min(useful, _cores()) if _threads_help(work, plan, devices[0].platform) else 1
        parts = _over_cores(work, plan, pieces)
    first, width = _firsts(len(work), plan.chunk, pieces)
    number = (first[..., None] + np.arange(width)).ravel()
    once = slice(None) if number.size == len(work) else np.unique(number, return_index=True)[1]
    return jax.tree.map(lambda *leaves: (leaves[0] if len(leaves) == 1 else np.concatenate(leaves))[once], *parts)


def _threads_help(work: Work, plan: Plan, platform: str) -> bool:
    """Whether calls from several threads run side by side.

    On a CPU, but not where a fit has so many unknowns that it calls LAPACK: such calls wait for XLA's own threads, and
    as many of them at once as it has threads wait for each other forever.
    """
    domains = work.lanes.mixture.shape[0]
    return platform == "cpu" and sum(c.size(domains) for c in plan.law.part(linear=False)) <= UNROLLED


def _cores() -> int:
    # What a scheduler lets this process use, where the system can say.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _firsts(lanes: int, chunk: int, pieces: int) -> tuple[np.ndarray, int]:
    """The first lane of each chunk [pieces, chunks], and their width; the last chunks overlap others, to be as wide."""
    share = -(-lanes // pieces)
    width = min(share, chunk)
    begun = np.minimum(share * np.arange(pieces), lanes - share)[:, None]
    return begun + np.minimum(np.arange(0, share, width), share - width), width


def _over_cores(work: Work, plan: Plan, pieces: int) -> list[Any]:
    """Threads, since one compiled call of small chunks keeps to one core."""
    first, width = _firsts(len(work), plan.chunk, pieces)
    if pieces == 1:
        return [jax.tree.map(np.asarray, solve_lanes(work, first[0], plan, width))]
    work = jax.device_put(work)
    executable = _executable(*_signature((work, first[0])), plan, width)
    # A context of JAX is its thread's own.
    wide = jnp.result_type(float) == jnp.float64

    def run(index: np.ndarray) -> Any:
        with jax.enable_x64(wide):
            return jax.tree.map(np.asarray, executable(work, index))

    with ThreadPoolExecutor(pieces) as pool:
        return list(pool.map(run, first))


def _signature(arguments: Any) -> tuple[Any, tuple[Any, ...]]:
    leaves, tree = jax.tree.flatten(arguments)
    return tree, tuple((np.shape(leaf), leaf.dtype) for leaf in leaves)


# Compiled ahead of time, for otherwise each thread would compile for itself.
@lru_cache(maxsize=256)
def _executable(tree: Any, shapes: tuple[Any, ...], plan: Plan, width: int) -> Any:
    arguments = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    return solve_lanes.lower(*arguments, plan, width).compile()


def _over_devices(work: Work, plan: Plan, devices: Sequence[Any]) -> Any:
    mesh = Mesh(np.array(devices), ("lanes",))
    first, width = _firsts(len(work), plan.chunk, len(devices))
    everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("lanes"))
    work = jax.device_put(work, everywhere)
    answer = _sharded(mesh, plan, width)(work, jax.device_put(first.reshape(-1), split))
    return multihost_utils.process_allgather(answer, tiled=True)


@lru_cache(maxsize=64)
def _sharded(mesh: Mesh, plan: Plan, width: int) -> Any:
    solver = partial(_solve_shard, plan, width)
    sharded = jax.shard_map(solver, mesh=mesh, in_specs=(P(), P("lanes")), out_specs=P("lanes"), check_vma=False)
    return jax.jit(sharded)


def _solve_shard(plan: Plan, width: int, work: Work, first: jax.Array) -> Any:
    return solve_lanes(work, first, plan, width)
