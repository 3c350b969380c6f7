import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P

from bimixjax._base.checks import InputError
from bimixjax.proxy import ModelConfig, TrainConfig, make_mesh
from bimixjax.proxy.batches import Sampler, Validation, read_resident
from bimixjax.proxy.memory import FILLED, GIB, LOGITS, Plan, Wishes, device_bytes, make_plan
from bimixjax.proxy.model import token_losses
from bimixjax.proxy.programs import make_programs

LARGE = TrainConfig(model=ModelConfig(vocab=50_304, layers=12, width=640, heads=10, context=1024), batch=16)


def planned(gib: float, train: TrainConfig = LARGE, data: int = 1, model: int = 1, **wishes: Any) -> Plan:
    settled = Wishes(device_memory=gib * GIB, **wishes)
    return make_plan(train, make_mesh(data=data, model=model), 64, 17 * 64, wishes=settled)


def cut(plan: Plan) -> tuple[int | None, bool, int | None]:
    layout = plan.layout
    return layout.stack, layout.passes.remat, layout.microbatch


def test_less_memory_means_remat_then_smaller_microbatches() -> None:
    """64 members of 91M parameters on 8 devices; a CPU computes one of them at once."""
    assert cut(planned(200)) == (1, False, 16)
    assert cut(planned(24)) == (1, True, 16)
    stack, remat, microbatch = cut(planned(14))
    assert (stack, remat) == (1, True)
    assert microbatch is not None
    assert microbatch < 16
    for gib in (14, 24, 60, 200):
        assert planned(gib).total <= FILLED * gib * GIB


def test_a_large_batch_is_cut_up_rather_than_computed_again() -> None:
    """Of 64 sequences, passes of 8 x 1024 tokens fit without remat; a microbatch that is settled needs none either."""
    large = dataclasses.replace(LARGE, batch=64)
    plans = [planned(gib, train=large) for gib in (200, 40, 24)]
    assert [cut(plan)[1:] for plan in plans] == [(False, 64), (False, 8), (True, 32)]
    assert cut(planned(200, train=large, microbatch=2))[1:] == (False, 2)


def test_what_is_settled_is_not_planned() -> None:
    plan = planned(200, stack=3, remat=True, microbatch=8, eval_batch=5)
    assert cut(plan) == (3, True, 8)
    assert plan.layout.eval_batch == 5
    assert planned(200, data=4, eval_batch=5).layout.eval_batch == 8


def test_what_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(
        InputError, match=r"64 members of 91,\d+,\d+ parameters do not fit: .*of 5.0 GiB a device: .*moments 5.4"
    ):
        planned(5)


def test_state_is_split_over_data_only_where_one_member_does_not_fit() -> None:
    one = dataclasses.replace(LARGE, model=dataclasses.replace(LARGE.model, layers=24, width=2560, heads=20))
    wishes = [Wishes(device_memory=gib * GIB) for gib in (80, 24)]
    sharded = [make_plan(one, make_mesh(data=8), 1, 64, wishes=wish).layout.passes.sharded for wish in wishes]
    assert sharded == [False, True]


@pytest.mark.parametrize(
    ("data", "change", "message"), [(8, {}, "batch is 12 over data=8"), (1, {"microbatch": 5}, "is 5")]
)
def test_batches_that_cannot_be_cut_are_errors(data: int, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        planned(80, dataclasses.replace(LARGE, batch=12), data=data, **change)


def test_logits_come_in_pieces() -> None:
    layout = planned(200).layout
    assert layout.passes.positions is not None
    assert 1024 % layout.passes.positions == 0
    assert LOGITS / 2 < 4 * 16 * layout.passes.positions * 50_304 <= LOGITS
    assert make_plan(TrainConfig(), make_mesh(), 8, 64).layout.passes.positions is None


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_activations_are_what_jax_keeps_for_the_way_back(dtype: str, size: int) -> None:
    model = ModelConfig(vocab=64, layers=3, width=48, heads=4, context=32, dtype=dtype)
    params, windows = model.shapes, jax.ShapeDtypeStruct((16, 33), jnp.int32)

    def way_back(params: Any, windows: Any) -> Any:
        return jax.vjp(lambda params: token_losses(model, params, windows), params)[1]

    kept = jax.tree.leaves(jax.eval_shape(way_back, params, windows))
    # Arrays of a block have an axis of layers first, and then tokens; those of a token or of a weight are small.
    blocks = [leaf for leaf in kept if leaf.shape[0] == 3 and 16 in leaf.shape[1:3] and leaf.shape[-1] > 1]
    layers = sum(leaf.size * leaf.dtype.itemsize for leaf in blocks)
    # A CPU widens bfloat16; what it then holds twice is kept once.
    plan = make_plan(TrainConfig(model=model), make_mesh(devices=jax.devices()[:1]), 1, 64, wishes=Wishes(remat=False))
    tokens, scores = 16 * 32, 16 * 32 * 32 * 4
    assert layers == 3 * (tokens * 48 * (28 + 14 * size) + scores * (4 + size))
    if dtype == "float32":
        assert plan.parts["activations"] == layers


@pytest.mark.parametrize("data", [1, 4])
def test_a_plan_is_near_what_xla_takes(data: int) -> None:
    """Two members of a device, one at once; 8 MiB of logits in two pieces would be larger than all else.

    On four devices their state is split, too. Were the batch not, each device would take about twice as much.
    """
    model = ModelConfig(vocab=1024, layers=2, width=64, heads=2, context=64)
    train, mesh = TrainConfig(model=model, batch=16), make_mesh(data=data, devices=jax.devices()[:data])
    layout = make_plan(train, mesh, 2, 64, wishes=Wishes(stack=1, device_memory=GIB)).layout
    layout = dataclasses.replace(layout, passes=dataclasses.replace(layout.passes, sharded=data > 1))
    plan = Plan(layout=layout, parts=device_bytes(train, layout, 2), limit=GIB)
    whole = NamedSharding(mesh, P())

    def shape(dtype: Any, *axes: int) -> Any:
        return jax.ShapeDtypeStruct(axes, dtype, sharding=whole)

    programs, number = make_programs(train, read_resident, 2, 3, layout), shape(jnp.int32)
    samplers = Sampler(key=shape(jnp.uint32, 2, 2), last=shape(jnp.int32, 2, 2), starts=shape(jnp.uint32, 2, 3))
    validation = Validation(windows=shape(jnp.int32, 2, 32, 65), used=shape(jnp.bool_, 2, 32))
    tokens = shape(jnp.uint16, 1000), shape(jnp.int32, 3)
    step = programs.train.lower(programs.like, samplers, None, (tokens, number, number))
    evaluation = programs.meter.lower(programs.like, (validation, number))
    taken = []
    for program in (step, evaluation):
        found = program.compile().memory_analysis()
        assert found is not None
        taken.append(found.argument_size_in_bytes + found.temp_size_in_bytes)
    assert 0.9 < plan.step / taken[0] < 1.4
    assert 0.9 < plan.evaluation / taken[1] < 1.4
