"""Layout of members, batches and parameters of a swarm on a (member, data, model) grid of devices."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P

from bimixjax._base.checks import InputError

AXES = ("member", "data", "model")

Mapped = TypeVar("Mapped")
Shared = TypeVar("Shared")
Result = TypeVar("Result")


def make_mesh(*, data: int = 1, model: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """Lay devices out as a (member, data, model) grid; members take what `data` times `model` leaves.

    Args:
        data: devices over which each member's batch is split.
        model: devices over which each member's parameters are split.
        devices: those to use; default all.

    Raises:
        InputError: where the number of devices is no multiple of `data` times `model`.

    Example:
        >>> dict(make_mesh(devices=jax.devices()[:1]).shape)
        {'member': 1, 'data': 1, 'model': 1}
    """
    chosen = np.array(jax.devices() if devices is None else devices)
    if data < 1 or model < 1 or chosen.size % (data * model):
        raise InputError(f"mesh of data={data} x model={model}; allowed: a divisor of the {chosen.size} devices")
    return Mesh(chosen.reshape(-1, data, model), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def padded(members: int, mesh: Mesh) -> int:
    """Return the least number of slots, a multiple of the mesh's member axis, that holds `members`."""
    return -(-members // mesh.shape["member"]) * mesh.shape["member"]


def default_stack(mesh: Mesh) -> int | None:
    """Return how many members one device computes at once: one on a CPU, else all (None); `benchmarks/swarm.py`."""
    return 1 if mesh.devices.flat[0].platform == "cpu" else None


def per_member(
    function: Callable[[Mapped, Shared], Result], mesh: Mesh, stack: int | None
) -> Callable[[Mapped, Shared], Result]:
    """Map `function`, written for one member, over the leading axis of its first argument.

    Members are split over the mesh's member axis; on each device `stack` of them are computed at once (None: all)
    and the stacks follow one another. The axes data and model are left to the compiler.
    """

    def local(mapped: Mapped, shared: Shared) -> Result:
        def one(member: Mapped) -> Result:
            return function(member, shared)

        if stack is None:
            return jax.vmap(one)(mapped)
        # A stack of one is mapped, not batched: batched products of one are slower on a CPU.
        return jax.lax.map(one, mapped, batch_size=None if stack == 1 else stack)

    return jax.shard_map(
        local, mesh=mesh, in_specs=(P("member"), P()), out_specs=P("member"), axis_names={"member"}, check_vma=False
    )


def split_batch(mesh: Mesh, batch: jax.Array) -> jax.Array:
    """Split the first axis of one member's batch over the mesh's data axis."""
    return batch if mesh.shape["data"] == 1 else jax.lax.with_sharding_constraint(batch, P("data"))


def member_shardings(mesh: Mesh, tree: Any, model_axis: Callable[[Any], int | None]) -> Any:
    """Return the sharding of each stacked leaf: members over `member`, one axis of a leaf over `model`.

    Args:
        mesh: the devices.
        tree: arrays or shapes with members along their first axis.
        model_axis: which axis of one member's leaf to split, by its path in the tree; None for none.
    """

    def sharding(path: Any, leaf: Any) -> NamedSharding:
        axis = model_axis(path)
        axes: list[str | None] = ["member"] + [None] * (len(leaf.shape) - 1)
        if axis is not None and leaf.shape[axis + 1] % mesh.shape["model"] == 0:
            axes[axis + 1] = "model"
        return NamedSharding(mesh, P(*axes))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding that replicates an array on every device."""
    return NamedSharding(mesh, P())


def on_members(mesh: Mesh) -> NamedSharding:
    """Return the sharding that splits the first axis over the members."""
    return NamedSharding(mesh, P("member"))
