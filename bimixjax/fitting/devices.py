"""Where lanes are solved, in which numbers and how many side by side.

They go over all devices of all processes, or, on one CPU device, over its cores. A chunk on a core is as many lanes as
keep what a step takes in its cache. Where float64 is slow or absent, lanes iterate in float32, and a float64 call
follows.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from bimixjax._base.stages import counted
from bimixjax.fitting.batch import solve_lanes
from bimixjax.fitting.lanes import Lanes
from bimixjax.fitting.problem import Plan, Work
from bimixjax.fitting.views import Scaled, scaled
from bimixjax.laws import Law
from bimixjax.laws.dependence import dependence
from bimixjax.solve import IN_LANES, UNROLLED, Precision, Projection, VarPro

# Fewer lanes than this are not worth another core or device.
_LEAST_LANES = 64

# Starts of lanes in one compiled call on each core or device: whatever is kept of them, that many are no burden.
_MOST_LANES = 16_384


def solve(work: Work, plan: Plan) -> Any:
    """Solve all lanes of a batch; every process gets all of the answer, as NumPy arrays with lanes first.

    Iterations in float32 are followed by a call in float64, for a cost is known, and a rank told, in its digits only.
    """
    if precision_of(plan) == "float64":
        return _in_float64(work, plan)
    with jax.enable_x64(False):
        ends = _solve(*narrowed(work, plan), jax.devices())
    kept = _in_float64(*following(work, plan, ends))
    return kept if precision_of(plan) == "refined" else with_course(kept, ends)


def _in_float64(work: Work, plan: Plan) -> Any:
    devices = float64_devices()
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


# Numbers that a chunk of lanes may hold.
_CACHED_NUMBERS = 25_600

# The same on an accelerator, where a chunk is all that its memory holds with ease.
_ACCELERATED_NUMBERS = 1 << 30


def lanes_at_once(law: Law, lanes: Lanes, platform: str | None = None) -> int:
    """How many lanes of a law to solve side by side.

    On a CPU not a power of two: rows that lie so far apart all share a few lines of the cache.
    """
    on_cpu = (platform or jax.default_backend()) == "cpu"
    numbers = _CACHED_NUMBERS if on_cpu else _ACCELERATED_NUMBERS
    width = max(8, 1 << max(numbers // _numbers(law, lanes), 1).bit_length() - 1)
    return width + 4 if on_cpu else width


def _numbers(law: Law, lanes: Lanes) -> int:
    """About how many numbers a step of one lane goes over: data and slopes of rows, and matrices of unknowns."""
    domains = lanes.mixture.shape[0]
    unknowns = sum(c.size(domains) for c in law.part(linear=False))
    matrices = 2 * unknowns**2 if unknowns > UNROLLED else 0
    return lanes.rows * max(4, 2 + _slopes_by_row(law, lanes, unknowns)) + matrices


def _slopes_by_row(law: Law, lanes: Lanes, unknowns: int) -> int:
    """How many slopes have a value of their own in every row."""
    found = dependence(law, lanes.mixture.shape[0])
    return unknowns if lanes.loss.shape[1] == 1 else found.slopes_by_row()


# Platforms without float64 of their own.
_SINGLE_ONLY = ("tpu",)

_NARROWED = {np.dtype(np.float64): np.float32, np.dtype(np.int64): np.int32}


def precision_of(plan: Plan) -> Precision:
    """In which numbers a plan iterates: those it asks for, or those of the devices."""
    wanted = None if isinstance(plan.solver, Projection) else plan.solver.precision
    return wanted or ("float32" if jax.default_backend() in _SINGLE_ONLY else "float64")


def float64_devices() -> list[Any]:
    """Where float64 is solved: the devices, or, where they have none of their own, the host."""
    if jax.default_backend() in _SINGLE_ONLY:
        return jax.local_devices(backend="cpu")[:1]
    return jax.devices()


def narrowed(work: Work, plan: Plan) -> tuple[Work, Plan]:
    """The call that iterates in float32, and keeps where each lane ended."""
    resamples = work.resamples and replace(work.resamples, dtype="float32")
    return jax.tree.map(_narrowed, replace(work, resamples=resamples)), replace(plan, view=scaled)


def following(work: Work, plan: Plan, ends: Scaled) -> tuple[Work, Plan]:
    """The float64 call that starts at those ends, and stays there unless they are to be refined."""
    unknowns = sum(c.size(work.lanes.mixture.shape[0]) for c in plan.law.part(linear=False))
    starts = ends.values[:, ends.values.shape[1] - unknowns :].T[None]
    resamples = work.resamples and replace(work.resamples, dtype="float32")
    solver = replace(plan.solver, precision="float64") if precision_of(plan) == "refined" else Projection()
    return (
        replace(work, starts=starts.astype(np.float64), resamples=resamples),
        replace(plan, solver=solver, chunk=_chunk(work, plan)),
    )


def with_course(kept: Any, ends: Scaled) -> Any:
    """What was kept of lanes that stayed at their ends, with the steps and statuses that led there."""

    def course(path: tuple[Any, ...], leaf: np.ndarray) -> np.ndarray:
        name = path[-1].name
        return getattr(ends, name) if name in ("steps", "status") else leaf

    return jax.tree.map_with_path(course, kept)


def _narrowed(leaf: Any) -> Any:
    """The numbers in half of their bits; keys of random numbers are left as they are."""
    return np.asarray(leaf, _NARROWED[leaf.dtype]) if leaf.dtype in _NARROWED else leaf


def _chunk(work: Work, plan: Plan) -> int:
    """As many lanes at once as suit the float64 devices."""
    if jax.default_backend() not in _SINGLE_ONLY:
        return plan.chunk
    return lanes_at_once(plan.law, work.lanes, "cpu")
