import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from jax.tree_util import keystr

from bimixjax._base.checks import InputError
from bimixjax.proxy.mesh import default_stack, make_mesh, member_shardings, padded, per_member


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

    function = per_member(one, make_mesh(devices=jax.devices()[:devices]), stack)
    expected = [[i + 2.0] * 3 for i in range(8)]
    np.testing.assert_array_equal(jax.jit(function)(mapped, jnp.float32(2)), expected)


def test_one_axis_of_a_leaf_is_split_where_it_divides() -> None:
    tree = {"even": np.zeros((2, 4, 6)), "odd": np.zeros((2, 3)), "scalar": np.zeros(2)}
    axis = {"even": 1, "odd": 0, "scalar": None}
    found = member_shardings(make_mesh(data=2, model=2), tree, lambda path: axis[keystr(path, simple=True)])
    specs = {name: sharding.spec for name, sharding in found.items()}
    assert specs == {"even": P("member", None, "model"), "odd": P("member", None), "scalar": P("member")}


def test_a_cpu_computes_one_member_at_once() -> None:
    assert default_stack(make_mesh()) == 1
