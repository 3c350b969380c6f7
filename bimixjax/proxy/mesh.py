"""Layout of members, batches and parameters of a swarm on a (member, data, model) grid of devices."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P

from bimixjax._base.checks import InputError
from bimixjax.proxy.model import WHOLE, ModelConfig, Passes, partition

AXES = ("member", "data", "model")

Mapped = TypeVar("Mapped")
Shared = TypeVar("Shared")
Result = TypeVar("Result")
State = TypeVar("State")


def make_mesh(*, data: int = 1, model: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """Lay devices out as a (member, data, model) grid; members take what `data` times `model` leaves.

    Args:
        data: devices over which each member's batch is split.
        model: devices over which each member's parameters are split.
        devices: those to use; default all.

    Raises:
        InputError: where the number of devices is no multiple of `data` times `model`, or those of a member are neither
            within one slice (GPUs of a host, TPUs of a pod) nor several whole ones, `model` within one.

    Example:
        >>> dict(make_mesh(devices=jax.devices()[:1]).shape)
        {'member': 1, 'data': 1, 'model': 1}
    """
    chosen = list(jax.devices() if devices is None else devices)
    if data < 1 or model < 1 or len(chosen) % (data * model):
        raise InputError(f"mesh of data={data} x model={model}; allowed: a divisor of the {len(chosen)} devices")
    return Mesh(arrange(chosen, data, model), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def arrange(devices: Sequence[Any], data: int, model: int) -> np.ndarray:
    """Return the devices of each member near each other: within a slice, whose network is fast, where they fit there.

    `jax.make_mesh` refuses several slices.
    """
    slices: dict[int, list[Any]] = defaultdict(list)
    for device in devices:
        slices[getattr(device, "slice_index", 0)].append(device)
    parts = [slices[number] for number in sorted(slices)]
    # JAX knows which devices of a slice are near each other. It may cut an axis of a torus where it must.
    near, member, each = (
        partial(mesh_utils.create_device_mesh, allow_split_physical_axes=True),
        data * model,
        len(parts[0]),
    )
    if all(len(part) % member == 0 for part in parts):
        return np.concatenate([near((len(part) // member, data, model), part) for part in parts])
    if any(len(part) != each for part in parts) or member % each or each % model:
        there = ", ".join(str(len(part)) for part in parts)
        allowed = "each member within a slice, or on several whole ones of one size with model within one"
        raise InputError(f"mesh of data={data} x model={model} on slices of {there} devices; allowed: {allowed}")
    return np.concatenate([near((each // model, model), part) for part in parts]).reshape(-1, data, model)


def padded(members: int, mesh: Mesh) -> int:
    """Return the least number of slots, a multiple of the mesh's member axis, that holds `members`."""
    return -(-members // mesh.shape["member"]) * mesh.shape["member"]


def default_stack(mesh: Mesh) -> int | None:
    """Return how many members one device computes at once: one on a CPU, else all (None); `benchmarks/swarm.py`."""
    return 1 if mesh.devices.flat[0].platform == "cpu" else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How the work of a swarm is cut up; it changes losses by rounding only.

    Attributes:
        mesh: the devices.
        stack: members that one device computes at once, the others of its members follow; None: all.
        microbatch: sequences of each member per pass, of which gradients are added up; None: the batch.
        eval_batch: windows of each member per pass of an evaluation; None: those of all targets.
        passes: how the network is computed; with `sharded`, moments are split as parameters are.
    """

    mesh: Mesh
    stack: int | None = None
    microbatch: int | None = None
    eval_batch: int | None = None
    passes: Passes = WHOLE

    def split_batch(self, batch: jax.Array) -> jax.Array:
        """Split the first axis of one member's batch over the mesh's data axis."""
        return batch if self.mesh.shape["data"] == 1 else jax.lax.with_sharding_constraint(batch, P("data"))

    def shardings(self, tree: Any) -> Any:
        """Return the sharding of each stacked leaf: members over `member`, parameters as `partition` says.

        Args:
            tree: arrays or shapes with members along their first axis.
        """

        def sharding(path: Any, leaf: Any) -> NamedSharding:
            split = partition(path, leaf.shape[1:], self.mesh.shape, sharded=self.passes.sharded)
            return NamedSharding(self.mesh, P("member", *split))

        return jax.tree_util.tree_map_with_path(sharding, tree)

    def size(self, model: ModelConfig) -> int:
        """Return how many parameters of a member one device has."""
        members = self.mesh.shape["member"]
        stacked = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((members, *leaf.shape), leaf.dtype), model.shapes)
        places = jax.tree.map(lambda leaf, place: place.shard_shape(leaf.shape), stacked, self.shardings(stacked))
        return sum(map(math.prod, jax.tree.leaves(places, is_leaf=lambda shape: isinstance(shape, tuple))))

    def per_member(self, function: Callable[[Mapped, Shared], Result]) -> Callable[[Mapped, Shared], Result]:
        """Map `function`, written for one member, over the leading axis of its first argument.

        Members are split over the mesh's member axis; on each device `stack` of them are computed at once and the
        stacks follow one another. The axes data and model are left to the compiler.
        """

        def local(mapped: Mapped, shared: Shared) -> Result:
            def one(member: Mapped) -> Result:
                return function(member, shared)

            if self.stack is None:
                return jax.vmap(one)(mapped)
            # A stack of one is mapped, not batched: batched products of one are slower on a CPU.
            return jax.lax.map(one, mapped, batch_size=None if self.stack == 1 else self.stack)

        return self._over_members(local)

    def advance_members(
        self, function: Callable[[tuple[State, Mapped], Shared], State]
    ) -> Callable[[tuple[State, Mapped], Shared], State]:
        """Map as `per_member` does, and write each member's new state over its old one.

        There is one copy of the state then; a map has two, what goes in and what comes out.
        """

        def local(given: tuple[State, Mapped], shared: Shared) -> State:
            state, mapped = given
            count = len(jax.tree.leaves(state)[0])
            size = count if self.stack is None else min(self.stack, count)
            if size == count > 1:
                return jax.vmap(lambda one: function(one, shared))(given)

            def advance(start: Any, size: int, state: State) -> State:
                part = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size), (state, mapped))
                if size == 1:
                    one = function(jax.tree.map(lambda leaf: leaf[0], part), shared)
                    new = jax.tree.map(lambda leaf: leaf[None], one)
                else:
                    new = jax.vmap(lambda one: function(one, shared))(part)
                put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=start, axis=0)
                return jax.tree.map(put, state, new)

            state = jax.lax.fori_loop(0, count // size, lambda i, state: advance(i * size, size, state), state)
            return advance(count - count % size, count % size, state) if count % size else state

        return self._over_members(local)

    def _over_members(self, local: Callable[..., Result]) -> Callable[..., Result]:
        specs: dict[str, Any] = {"in_specs": (P("member"), P()), "out_specs": P("member")}
        return jax.shard_map(local, mesh=self.mesh, axis_names={"member"}, check_vma=False, **specs)


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding that replicates an array on every device."""
    return NamedSharding(mesh, P())


def on_members(mesh: Mesh) -> NamedSharding:
    """Return the sharding that splits the first axis over the members."""
    return NamedSharding(mesh, P("member"))


def place(array: Any, sharding: NamedSharding) -> jax.Array:
    """Put an array that every process has on the devices; each process puts what its own devices hold."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
