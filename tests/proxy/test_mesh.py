import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from bimixjax._base.checks import InputError
from bimixjax.proxy.mesh import Layout, default_stack, make_mesh, padded
from bimixjax.proxy.model import ModelConfig, Passes


def test_members_take_what_data_and_model_leave() -> None:
    assert dict(make_mesh(data=2, model=2).shape) == {"member": 2, "data": 2, "model": 2}


@pytest.mark.parametrize(("data", "model"), [(3, 1), (0, 1), (4, 4)])
def test_a_grid_that_does_not_fit_is_an_error(data: int, model: int) -> None:
    with pytest.raises(InputError, match=f"data={data} x model={model}.*8 devices"):
        make_mesh(data=data, model=model)


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
