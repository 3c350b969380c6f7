"""Where lanes are solved, in which numbers and how many side by side.

They go over all devices of all processes, or, on one CPU device, over its cores. A chunk on a core is as many lanes as
keep what a step takes in its cache. Where float64 is slow or absent, lanes iterate in float32, and a float64 call
follows.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxtyping import Int
from threadpoolctl import ThreadpoolController

from bimixjax._base.compilation import choices, program
from bimixjax._base.stages import counted
from bimixjax.fitting.batch import solve_lanes
from bimixjax.fitting.lanes import Lanes
from bimixjax.fitting.problem import Batch
from bimixjax.fitting.views import Brief, scaled
from bimixjax.laws import Law
from bimixjax.laws.dependence import dependence, slopes_by_row
from bimixjax.solve import IN_LANES, UNROLLED, Precision, Projection

# Fewer lanes than this are not worth another core or device.
_LEAST_LANES = 64

# Starts of lanes in one compiled call on each core or device: whatever is kept of them, that many are no burden.
_MOST_LANES = 16_384


def solve(batch: Batch) -> Any:
    """Solve all lanes of a batch; every process gets all of the answer, as NumPy arrays with lanes first.

    Iterations in float32 are followed by a call in float64, since costs and ranks need its digits.
    """
    precision, ends = precision_of(batch), None
    if precision != "float64":
        with jax.enable_x64(False):
            ends = _solve(narrowed(batch), jax.devices())
        batch = following(batch, ends)
    devices = float64_devices()
    with jax.enable_x64(True), nullcontext() if devices == jax.devices() else jax.default_device(devices[0]):
        kept = _solve(batch, devices)
    return kept if ends is None or precision == "refined" else with_course(kept, ends)


def _solve(batch: Batch, devices: Sequence[Any]) -> Any:
    """Solve lanes in blocks of one size, so that memory beyond the answer does not grow with their number."""
    count, useful = len(batch), -(-len(batch) // min(batch.chunk, _LEAST_LANES))
    if jax.process_count() == 1:
        devices = devices[:useful]
    several = min(len(devices), useful) > 1
    # Calls from several threads run side by side on a CPU, but not where a fit has so many unknowns that it calls
    # LAPACK: such calls wait for XLA's own threads, and as many at once as it has threads wait for each other forever.
    threads = devices[0].platform == "cpu" and batch.unknowns <= IN_LANES
    pieces = len(devices) if several else min(useful, cores()) if threads else 1
    blocks = -(-count // (pieces * max(_MOST_LANES // batch.racing, batch.chunk)))
    length = -(-count // blocks)
    # The first lane of each chunk [pieces, chunks]; the last chunks overlap others, to be as wide.
    share = -(-length // pieces)
    width = min(share, batch.chunk)
    first = np.minimum(share * np.arange(pieces), length - share)[:, None]
    first = first + np.minimum(np.arange(0, share, width), share - width)
    if several:
        batch = jax.tree.map(partial(_everywhere, NamedSharding(_mesh(devices), P())), batch)
    else:
        # The arguments of one small call cost more to put than to pass: chosen by benchmarks/solver.py.
        batch = jax.device_put(batch) if blocks > 1 or pieces > 1 else batch
    whole = None
    for block in counted("blocks of fits", blocks, range(blocks)) if blocks > 1 else range(blocks):
        begun = first + min(block * length, count - length)
        if several:
            parts = [_over_devices(batch, devices, begun, width)]
        elif pieces > 1:
            parts = _over_cores(batch, begun, width)
        else:
            parts = [jax.tree.map(np.asarray, _solve_here(batch, begun[0], width))]
        if len(parts) == 1 and begun.size * width == count:
            return parts[0]
        if whole is None:
            whole = jax.tree.map(lambda leaf: np.empty((count, *leaf.shape[1:]), leaf.dtype), parts[0])
        # Lanes that two parts hold are the same in both.
        for numbers, part in zip(begun.reshape(len(parts), -1), parts, strict=True):
            lanes = (numbers[:, None] + np.arange(width)).ravel()
            for kept, found in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
                kept[lanes] = found
    return whole


_solve_here = program(static=("width",))(solve_lanes)


def _everywhere(sharding: NamedSharding, leaf: Any) -> jax.Array:
    """Copy a leaf to all devices, by way of the host: one device cannot write to those of other processes."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _everywhere(sharding, jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jax.device_put(np.asarray(leaf), sharding)


def cores() -> int:
    """Count the cores that this process may use: those its scheduler grants it, where that can be asked, else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def on_host() -> Iterator[None]:
    """Put what is computed within on a CPU, if this process has that platform: for small calls between NumPy's."""
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        device = jax.local_devices()[0]
    with jax.default_device(device):
        yield


@contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """Open a pool of as many threads as cores, in each of which NumPy keeps to one core.

    Else the threads that BLAS would start for each of them wait for one another.
    """
    with one_core(), ThreadPoolExecutor(cores()) as pool:
        yield pool


def one_core() -> AbstractContextManager[object]:
    """Let NumPy's products of matrices, which are small, keep to one core."""
    return _blas().limit(limits=1)


# Looking for the libraries of a process takes longer than a product.
@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def _over_cores(batch: Batch, first: Int[np.ndarray, "threads chunks"], width: int) -> list[Any]:
    """Solve chunks of lanes in threads, since a call of small chunks keeps to one core."""
    leaves, tree = jax.tree.flatten((batch, first[0]))
    executable = _executable(tree, tuple((np.shape(leaf), leaf.dtype) for leaf in leaves), width)
    # A context of JAX is its thread's own.
    wide = jnp.result_type(float) == jnp.float64

    def run(index: Int[np.ndarray, " chunks"]) -> Any:
        with jax.enable_x64(wide):
            return jax.tree.map(np.asarray, executable(batch, index))

    with ThreadPoolExecutor(len(first)) as pool:
        return list(pool.map(run, first))


# Compiled ahead of time, for otherwise each thread would compile for itself.
@lru_cache(maxsize=256)
def _executable(tree: Any, shapes: tuple[Any, ...], width: int) -> Any:
    arguments = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
    return solve_lanes.lower(*arguments, width).compile(compiler_options=choices())


def _over_devices(batch: Batch, devices: Sequence[Any], first: Int[np.ndarray, "devices chunks"], width: int) -> Any:
    """Solve chunks of lanes on their devices, of a batch that is on all devices."""
    mesh = _mesh(devices)
    index = jax.device_put(first.reshape(-1), NamedSharding(mesh, P("lanes")))
    return multihost_utils.process_allgather(_sharded(mesh, width)(batch, index), tiled=True)


def _mesh(devices: Sequence[Any]) -> Mesh:
    return Mesh(np.array(devices), ("lanes",))


@lru_cache(maxsize=64)
def _sharded(mesh: Mesh, width: int) -> Any:
    solver = partial(solve_lanes, width=width)
    sharded = jax.shard_map(solver, mesh=mesh, in_specs=(P(), P("lanes")), out_specs=P("lanes"), check_vma=False)
    return jax.jit(sharded, compiler_options=choices())


# Numbers that a chunk of lanes may hold; `benchmarks/batches.py` measures a fit with it.
_CACHED_NUMBERS = 25_600

# The same on an accelerator, where a chunk is all that its memory holds with ease.
_ACCELERATED_NUMBERS = 1 << 30


def lanes_at_once(law: Law, lanes: Lanes, platform: str | None = None) -> int:
    """Choose how many lanes of a law to solve side by side.

    A step of one lane goes over about so many numbers: data and slopes of its rows, and matrices of its unknowns.

        rows x max(4, 2 + slopes with a value of their own in every row) + 2 unknowns^2
    """
    on_cpu, domains = (platform or jax.default_backend()) == "cpu", lanes.mixture.shape[0]
    unknowns = len(law.packed(domains, linear=False))
    slopes = unknowns if lanes.loss.shape[1] == 1 else slopes_by_row(*dependence(law, domains))
    numbers = lanes.rows * max(4, 2 + slopes) + (2 * unknowns**2 if unknowns > UNROLLED else 0)
    most = _CACHED_NUMBERS if on_cpu else _ACCELERATED_NUMBERS
    width = max(8, 1 << max(most // numbers, 1).bit_length() - 1)
    # Not a power of two on a CPU: rows at such distances all share a few lines of the cache.
    return width + 4 if on_cpu else width


# Platforms without float64 of their own.
_SINGLE_ONLY = ("tpu",)

_NARROWED = {np.dtype(np.float64): np.float32, np.dtype(np.int64): np.int32}


def precision_of(batch: Batch) -> Precision:
    """Choose the numbers in which a batch iterates: those it asks for, or those of the devices."""
    wanted = None if isinstance(batch.solver, Projection) else batch.solver.precision
    return wanted or ("float32" if jax.default_backend() in _SINGLE_ONLY else "float64")


def float64_devices() -> list[Any]:
    """Return the devices that solve in float64: all, or the host where they have no float64 of their own."""
    if jax.default_backend() in _SINGLE_ONLY:
        return jax.local_devices(backend="cpu")[:1]
    return jax.devices()


def narrowed(batch: Batch) -> Batch:
    """Return the call that iterates in float32, and keeps where each lane ended."""
    resamples = batch.resamples and replace(batch.resamples, dtype="float32")
    batch = replace(batch, resamples=resamples, view=scaled)
    # Keys of random numbers are left as they are.
    return jax.tree.map(
        lambda leaf: np.asarray(leaf, _NARROWED[leaf.dtype]) if leaf.dtype in _NARROWED else leaf, batch
    )


def following(batch: Batch, ends: Brief) -> Batch:
    """Return the float64 call that starts at those ends, and stays there unless they are to be refined."""
    starts = ends.values[:, ends.values.shape[1] - batch.unknowns :].T[None]
    on_host = jax.default_backend() in _SINGLE_ONLY
    return replace(
        batch,
        starts=starts.astype(np.float64),
        resamples=batch.resamples and replace(batch.resamples, dtype="float32"),
        solver=replace(batch.solver, precision="float64") if precision_of(batch) == "refined" else Projection(),
        chunk=lanes_at_once(batch.law, batch.lanes, "cpu") if on_host else batch.chunk,
    )


def with_course(kept: Any, ends: Brief) -> Any:
    """Give lanes that stayed at their ends the steps and statuses that led there."""

    def course(path: tuple[Any, ...], leaf: np.ndarray) -> np.ndarray:
        name = path[-1].name
        return getattr(ends, name) if name in ("steps", "status") else leaf

    return jax.tree.map_with_path(course, kept)
