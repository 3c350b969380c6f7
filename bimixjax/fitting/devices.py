"""Where lanes are solved: over all devices of all processes, or, on one CPU device, over its cores."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bimixjax._base.stages import counted
from bimixjax.fitting import single
from bimixjax.fitting.batch import Plan, Work, solve_lanes
from bimixjax.solve import IN_LANES, VarPro

# Fewer lanes than this are not worth another core or device.
_LEAST_LANES = 64

# Starts of lanes in one compiled call on each core or device: whatever is kept of them, that many are no burden.
_MOST_LANES = 16_384


def solve(work: Work, plan: Plan) -> Any:
    """Solve all lanes of a batch; every process gets all of the answer, as NumPy arrays with lanes first.

    Iterations in float32 are followed by a call in float64, for a cost is known, and a rank told, in its digits only.
    """
    if single.precision_of(plan) == "float64":
        return _in_float64(work, plan)
    with jax.enable_x64(False):
        ends = _solve(*single.narrowed(work, plan), jax.devices())
    kept = _in_float64(*single.following(work, plan, ends))
    return kept if single.precision_of(plan) == "refined" else single.with_course(kept, ends)


def _in_float64(work: Work, plan: Plan) -> Any:
    devices = single.float64_devices()
    elsewhere = nullcontext() if devices == jax.devices() else jax.default_device(devices[0])
    with jax.enable_x64(True), elsewhere:
        return _solve(work, plan, devices)


def _solve(work: Work, plan: Plan, devices: Sequence[Any]) -> Any:
    """Solve lanes in blocks of one size, so that memory beyond the answer does not grow with their number."""
    devices, cores = _where(work, plan, devices)
    pieces = max(len(devices), cores)
    blocks = -(-len(work) // (pieces * max(_MOST_LANES // _racing(work, plan), plan.chunk)))
    length = -(-len(work) // blocks)
    first, width = _firsts(length, plan.chunk, pieces)
    if len(devices) > 1:
        work = jax.tree.map(partial(_everywhere, NamedSharding(_mesh(devices), P())), work)
    elif blocks > 1:
        work = jax.device_put(work)
    answer = _Answer(len(work))
    for block in counted("blocks of fits", blocks, range(blocks)) if blocks > 1 else range(blocks):
        begun = first + min(block * length, len(work) - length)
        if len(devices) > 1:
            answer.put(begun.reshape(1, -1), width, _over_devices(work, plan, devices, begun, width))
        else:
            answer.put(begun, width, _over_cores(work, plan, begun, width))
    return answer.whole


def _everywhere(sharding: NamedSharding, leaf: Any) -> jax.Array:
    """A leaf on all devices; by way of the host, for what is on one device cannot go to those of other processes."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _everywhere(sharding, jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jax.device_put(np.asarray(leaf), sharding)


def _racing(work: Work, plan: Plan) -> int:
    """How many starts of a lane are kept in memory at once."""
    if not isinstance(plan.solver, VarPro):
        return 1
    return len(work.starts) if work.starts is not None else plan.solver.starts or 1


def _where(work: Work, plan: Plan, devices: Sequence[Any]) -> tuple[Sequence[Any], int]:
    """Those of the devices that lanes are solved on, and, where that is one, on how many of its cores."""
    useful = -(-len(work) // min(plan.chunk, _LEAST_LANES))
    if min(len(devices), useful) > 1:
        return (devices if jax.process_count() > 1 else devices[:useful]), 1
    return devices[:1], min(useful, cores()) if _threads_help(work, plan, devices[0].platform) else 1


class _Answer:
    """The answer for all lanes, filled part by part; lanes that two parts hold are the same in both."""

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self.whole: Any = None

    def put(self, first: np.ndarray, width: int, parts: Sequence[Any]) -> None:
        """Take chunks of `width` lanes, from `first` [parts, chunks] on."""
        if self._lanes == first.size * width and len(parts) == 1:
            self.whole = parts[0]
            return
        if self.whole is None:
            self.whole = jax.tree.map(lambda leaf: np.empty((self._lanes, *leaf.shape[1:]), leaf.dtype), parts[0])
        for begun, part in zip(first, parts, strict=True):
            numbers = (begun[:, None] + np.arange(width)).ravel()
            jax.tree.map(partial(_put, numbers), self.whole, part)


def _put(numbers: np.ndarray, whole: np.ndarray, part: np.ndarray) -> None:
    whole[numbers] = part


def _threads_help(work: Work, plan: Plan, platform: str) -> bool:
    """Whether calls from several threads run side by side.

    On a CPU, but not where a fit has so many unknowns that it calls LAPACK: such calls wait for XLA's own threads, and
    as many of them at once as it has threads wait for each other forever.
    """
    domains = work.lanes.mixture.shape[0]
    return platform == "cpu" and sum(c.size(domains) for c in plan.law.part(linear=False)) <= IN_LANES


def cores() -> int:
    """How many cores this process may use; of those of the machine a scheduler lets it have some, where it can say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _firsts(lanes: int, chunk: int, pieces: int) -> tuple[np.ndarray, int]:
    """The first lane of each chunk [pieces, chunks], and their width; the last chunks overlap others, to be as wide."""
    share = -(-lanes // pieces)
    width = min(share, chunk)
    begun = np.minimum(share * np.arange(pieces), lanes - share)[:, None]
    return begun + np.minimum(np.arange(0, share, width), share - width), width


def _over_cores(work: Work, plan: Plan, first: np.ndarray, width: int) -> list[Any]:
    """The chunks from `first` [threads, chunks] on: threads, since a call of small chunks keeps to one core."""
    if len(first) == 1:
        return [jax.tree.map(np.asarray, solve_lanes(work, first[0], plan, width))]
    work = jax.device_put(work)
    executable = _executable(*_signature((work, first[0])), plan, width)
    # A context of JAX is its thread's own.
    wide = jnp.result_type(float) == jnp.float64

    def run(index: np.ndarray) -> Any:
        with jax.enable_x64(wide):
            return jax.tree.map(np.asarray, executable(work, index))

    with ThreadPoolExecutor(len(first)) as pool:
        return list(pool.map(run, first))


def _signature(arguments: Any) -> tuple[Any, tuple[Any, ...]]:
    leaves, tree = jax.tree.flatten(arguments)
    return tree, tuple((np.shape(leaf), leaf.dtype) for leaf in leaves)


# Compiled ahead of time, for otherwise each thread would compile for itself.
@lru_cache(maxsize=256)
def _executable(tree: Any, shapes: tuple[Any, ...], plan: Plan, width: int) -> Any:
    arguments = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    return solve_lanes.lower(*arguments, plan, width).compile()


def _over_devices(work: Work, plan: Plan, devices: Sequence[Any], first: np.ndarray, width: int) -> list[Any]:
    """The chunks from `first` [devices, chunks] on, of `work` that is on all devices."""
    mesh = _mesh(devices)
    index = jax.device_put(first.reshape(-1), NamedSharding(mesh, P("lanes")))
    return [multihost_utils.process_allgather(_sharded(mesh, plan, width)(work, index), tiled=True)]


def _mesh(devices: Sequence[Any]) -> Mesh:
    return Mesh(np.array(devices), ("lanes",))


@lru_cache(maxsize=64)
def _sharded(mesh: Mesh, plan: Plan, width: int) -> Any:
    solver = partial(_solve_shard, plan, width)
    sharded = jax.shard_map(solver, mesh=mesh, in_specs=(P(), P("lanes")), out_specs=P("lanes"), check_vma=False)
    return jax.jit(sharded)


def _solve_shard(plan: Plan, width: int, work: Work, first: jax.Array) -> Any:
    return solve_lanes(work, first, plan, width)
