import itertools
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from bimixjax._base.checks import InputError
from bimixjax.proxy.mesh import Layout, arrange, default_stack, make_mesh, padded
from bimixjax.proxy.model import ModelConfig, Passes


def test_members_take_what_data_and_model_leave() -> None:
    assert dict(make_mesh(data=2, model=2).shape) == {"member": 2, "data": 2, "model": 2}


@pytest.mark.parametrize(("data", "model"), [(3, 1), (0, 1), (4, 4)])
def test_a_grid_that_does_not_fit_is_an_error(data: int, model: int) -> None:
    with pytest.raises(InputError, match=f"data={data} x model={model}.*8 devices"):
        make_mesh(data=data, model=model)


def gpus(hosts: int, each: int = 8) -> list[Any]:
    """Devices as JAX describes them: those of a host are a slice. Processes need not come in the order of hosts."""
    kind = {"platform": "gpu", "device_kind": "NVIDIA H100 80GB HBM3"}
    numbers = [(host, i) for i in range(each) for host in range(hosts)]
    return [SimpleNamespace(id=host * each + i, slice_index=host, process_index=host, **kind) for host, i in numbers]


def tpus(x: int, y: int, z: int, slices: int = 1) -> list[Any]:
    kind = {"platform": "tpu", "device_kind": "TPU v4", "core_on_chip": 0, "process_index": 0}
    places = itertools.product(range(slices), range(z), range(y), range(x))
    return [SimpleNamespace(id=i, slice_index=place[0], coords=place[:0:-1], **kind) for i, place in enumerate(places)]


@pytest.mark.parametrize(
    ("devices", "data", "model", "member"),
    [
        (gpus(2), 1, 1, 1),
        (gpus(3), 2, 2, 1),
        (gpus(2), 8, 1, 1),
        (gpus(4), 2, 8, 2),
        (gpus(2), 16, 1, 2),
        (gpus(2)[:-1], 1, 1, 1),
    ]
    + [
        (tpus(4, 4, 2, slices), data, model, 1) for slices in (1, 2) for data, model in ((1, 1), (2, 1), (1, 8), (4, 4))
    ],
)
def test_a_member_lies_within_a_slice_where_it_fits(devices: list[Any], data: int, model: int, member: int) -> None:
    """`member`: slices that each member lies in."""
    found = arrange(devices, data, model)
    assert found.shape == (len(devices) // (data * model), data, model)
    assert sorted(device.id for device in found.flat) == list(range(len(devices)))
    for own in found:
        assert len({device.slice_index for device in own.flat}) == member
        assert all(len({device.slice_index for device in row}) == 1 for row in own)


@pytest.mark.parametrize(("devices", "data", "model"), [(gpus(3), 4, 3), (gpus(2), 1, 16), (gpus(2)[:-1], 5, 3)])
def test_members_that_lie_across_slices_are_refused_with_the_slices(devices: list[Any], data: int, model: int) -> None:
    with pytest.raises(InputError, match=rf"data={data} x model={model} on slices of \d+, \d+.* devices; allowed: "):
        arrange(devices, data, model)


@pytest.mark.parametrize(("members", "slots"), [(1, 8), (8, 8), (9, 16)])
def test_members_are_padded_to_the_devices(members: int, slots: int) -> None:
    assert padded(members, make_mesh()) == slots


@pytest.mark.parametrize("stack", [1, 2, 3, None])
@pytest.mark.parametrize("devices", [1, 4])
def test_every_stack_gives_what_a_loop_gives(stack: int | None, devices: int) -> None:
    mapped = (jnp.arange(8.0), jnp.ones((8, 3)))

    def one(member: tuple[jax.Array, jax.Array], shared: jax.Array) -> jax.Array:
        return member[0] + shared * member[1]

    layout = Layout(mesh=make_mesh(devices=jax.devices()[:devices]), stack=stack)
    expected = [[i + 2.0] * 3 for i in range(8)]
    np.testing.assert_array_equal(jax.jit(layout.per_member(one))(mapped, jnp.float32(2)), expected)

    def advance(member: tuple[jax.Array, jax.Array], shared: jax.Array) -> jax.Array:
        return member[0] + shared * member[1]

    again = jax.jit(layout.advance_members(advance))((jnp.full((8, 3), 1.0), jnp.arange(24.0).reshape(8, 3)), 2.0)
    np.testing.assert_array_equal(again, 1 + 2 * np.arange(24.0).reshape(8, 3))


@pytest.mark.parametrize("sharded", [False, True])
def test_parameters_are_split_where_they_divide(sharded: bool) -> None:
    tree = {
        "blocks": {"up": np.zeros((2, 3, 4, 6)), "down": np.zeros((2, 3, 5, 4)), "norms": np.zeros((2, 3, 4))},
        "embed": np.zeros((2, 16, 8)),
        "stopped": np.zeros(2),
    }
    found = Layout(mesh=make_mesh(data=2, model=2), passes=Passes(sharded=sharded)).shardings(tree)
    data = "data" if sharded else None
    assert found["blocks"]["up"].spec == P("member", None, data, "model")
    assert found["blocks"]["down"].spec == P("member", None, None, data)
    assert found["blocks"]["norms"].spec == P("member", None, None)
    assert found["embed"].spec == P("member", None, ("model", "data") if sharded else "model")
    assert found["stopped"].spec == P("member")


@pytest.mark.parametrize(("sharded", "part"), [(False, 4), (True, 8)])
def test_a_device_has_its_part_of_the_parameters(sharded: bool, part: int) -> None:
    model = ModelConfig(layers=2, width=32, heads=4)
    layout = Layout(mesh=make_mesh(data=2, model=4), passes=Passes(sharded=sharded))
    # Each block has two norms and there is one at the end; every device has these whole.
    norms = 5 * 32
    assert layout.size(model) == norms + (model.size - norms) // part


def test_a_cpu_computes_one_member_at_once() -> None:
    assert default_stack(make_mesh()) == 1
