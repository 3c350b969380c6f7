"""Positions; and attention by cuDNN on every mesh, without a GPU: plain products on a CPU take its operators' place.

What JAX does with these operators, maps, gradients and the split over devices, is JAX's own; only what a GPU would
compute in the end is replaced.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from bimixjax.proxy import ModelConfig, TrainConfig, make_mesh
from bimixjax.proxy.batches import Resident, make_samplers, make_validation
from bimixjax.proxy.mesh import Layout, padded
from bimixjax.proxy.model import Passes
from bimixjax.proxy.operators import attend, rotate
from bimixjax.proxy.programs import Programs, make_programs, slot_starts

# (data, model, devices)
MESHES = [(1, 1, 1), (1, 1, 8), (2, 1, 8), (8, 1, 8), (1, 2, 8), (2, 2, 8), (1, 4, 4)]
MEMBERS = 4
# Members, windows, tokens, heads and numbers of each; four devices along model do not divide the heads.
SHAPE = (MEMBERS, 8, 16, 2, 8)
MODEL = ModelConfig(vocab=16, layers=2, width=16, heads=2, context=16, dtype="bfloat16")
CUDNN = "jax._src.cudnn.fused_attention_stablehlo"


def plain(q: jax.Array, k: jax.Array, v: jax.Array, scale: float) -> tuple[jax.Array, jax.Array]:
    """Return causal attention of queries, keys and values, and the logarithm of the sums that it divides by."""
    scores = jnp.einsum("btnh,bsnh->bnts", q, k, preferred_element_type=jnp.float32) * scale
    scores = jnp.where(np.tri(q.shape[1], dtype=bool), scores, -jnp.inf)
    mixed = jnp.einsum("bnts,bsnh->btnh", jax.nn.softmax(scores), v.astype(jnp.float32))
    return mixed.astype(q.dtype), jax.nn.logsumexp(scores, -1)


def forward(q: jax.Array, k: jax.Array, v: jax.Array, *_: Any, scale: float, is_training: bool, **__: Any) -> Any:
    return plain(q, k, v, scale)[: 1 + is_training]


def backward(q: jax.Array, k: jax.Array, v: jax.Array, *others: Any, scale: float, **_: Any) -> Any:
    return jax.vjp(lambda q, k, v: plain(q, k, v, scale)[0], q, k, v)[1](others[-1])


@pytest.fixture(scope="module")
def cudnn_on_a_cpu() -> Any:
    operators = pytest.importorskip(CUDNN, reason="this JAX keeps cuDNN's attention elsewhere")
    mlir = pytest.importorskip("jax._src.interpreters.mlir", reason="this JAX keeps its lowerings elsewhere")
    functions = {"_dot_product_attention_fwd_p": forward, "_dot_product_attention_bwd_p": backward}
    answers = {
        "check_cudnn_version": lambda: 91100,
        "check_compute_capability": lambda capability: True,
        "is_cuda_compute_capability_equal": lambda capability: False,
    }
    if lacking := [name for name in {**functions, **answers} if not hasattr(operators, name)]:
        pytest.skip(f"cuDNN's attention in this JAX has no {lacking[0]}")
    for name, function in functions.items():
        lowered = mlir.lower_fun(function, multiple_results=True)
        mlir.register_lowering(getattr(operators, name), lowered, platform="cpu")
    with pytest.MonkeyPatch.context() as patch:
        for name, answer in answers.items():
            patch.setattr(operators, name, answer)
        yield


def test_rotation_leaves_products_dependent_on_distance_only() -> None:
    query, key = (jax.random.normal(jax.random.key(i), (8,)) for i in range(2))
    rows = [rotate(jnp.tile(x, (1, 10, 1, 1)))[0, :, 0] for x in (query, key)]
    products = np.asarray(rows[0] @ rows[1].T)
    for distance in range(-5, 6):
        line = np.diagonal(products, distance)
        np.testing.assert_allclose(line, line[0], rtol=1e-4, atol=1e-5)
    assert np.ptp(products) > 0.1


def mesh_of(data: int, model: int, devices: int) -> Mesh:
    return make_mesh(data=data, model=model, devices=jax.devices()[:devices])


def attended(layout: Layout, *, fused: bool) -> list[np.ndarray]:
    """Return a weighted sum of what attention gives, by member, and its slope in queries, keys and values."""
    random = np.random.default_rng(0)
    q, k, v, weights = (jnp.asarray(random.standard_normal(SHAPE), jnp.bfloat16) for _ in range(4))

    def member(given: Any, shared: None) -> Any:
        *inputs, weights = map(layout.split_batch, given)

        def total(*inputs: jax.Array) -> jax.Array:
            return jnp.sum(attend(*inputs, fused=fused).astype(jnp.float32) * weights)

        return jax.value_and_grad(total, argnums=(0, 1, 2))(*inputs)

    slots = padded(MEMBERS, layout.mesh)
    given = [jnp.pad(x, [(0, slots - MEMBERS), *([(0, 0)] * 4)]) for x in (q, k, v, weights)]
    found = jax.jit(lambda given: layout.per_member(member)(given, None))(given)
    return [np.asarray(leaf[:MEMBERS], np.float32) for leaf in jax.tree.leaves(found)]


@pytest.mark.usefixtures("cudnn_on_a_cpu")
@pytest.mark.parametrize("stack", [1, None])
@pytest.mark.parametrize("shape", MESHES)
def test_each_device_attends_to_its_own_part(shape: tuple[int, int, int], stack: int | None) -> None:
    found = attended(Layout(mesh=mesh_of(*shape), stack=stack), fused=True)
    expected = attended(Layout(mesh=mesh_of(1, 1, 1), stack=1), fused=False)
    for one, other in zip(found, expected, strict=True):
        assert np.abs(other).max() > 0.5
        np.testing.assert_allclose(one, other, rtol=0.02, atol=0.05)


def swarm_programs(tokens: Any, shape: tuple[int, int, int], stack: int | None, **passes: bool) -> tuple[Programs, Any]:
    mesh = mesh_of(*shape)
    slots, train = padded(MEMBERS, mesh), TrainConfig(model=MODEL, batch=8, learning_rate=1e-2, base_width=None)
    starts = np.full(3, 2900, np.uint32)
    samplers = make_samplers([f"r{i}" for i in range(slots)], [0] * slots, np.full((slots, 3), 1 / 3), starts)
    flat = np.concatenate([tokens.train(name)[:3000] for name in tokens.domains])
    reader = Resident(tokens=jnp.asarray(flat), first=jnp.arange(3, dtype=jnp.int32) * 3000)
    layout = Layout(mesh=mesh, stack=stack, microbatch=8, eval_batch=8, passes=Passes(**passes))
    programs = make_programs(train, reader.read, slots, 3, layout)
    return programs, (samplers, None, (reader.shared, np.int32(0), np.int32(20)))


@pytest.mark.usefixtures("cudnn_on_a_cpu")
@pytest.mark.parametrize(
    ("shape", "passes"),
    [((1, 1, 8), {}), ((2, 2, 8), {"sharded": True, "remat": True}), ((8, 1, 8), {"deterministic": True})],
)
def test_a_swarm_trains_with_it(tokens: Any, shape: tuple[int, int, int], passes: dict[str, bool]) -> None:
    validation = make_validation(tokens, tokens.domains, context=16, windows=8)

    def losses(shape: tuple[int, int, int], stack: int | None, **passes: bool) -> np.ndarray:
        programs, arguments = swarm_programs(tokens, shape, stack, **passes)
        slots = len(arguments[0].key)
        members = programs.train(programs.start(slot_starts([0] * slots, slots), None), *arguments)
        return np.asarray(programs.meter(members, (validation, np.int32(20)))[1].losses)[:MEMBERS]

    expected = losses((1, 1, 1), 1)
    assert expected.max() < np.log(16) - 0.1
    np.testing.assert_allclose(losses(shape, None, fused=True, **passes), expected, rtol=0, atol=0.02)


@pytest.mark.usefixtures("cudnn_on_a_cpu")
@pytest.mark.parametrize("shape", MESHES)
def test_its_program_for_a_gpu_has_the_operators_of_cudnn_and_sums_in_one_order(
    tokens: Any, shape: tuple[int, int, int]
) -> None:
    programs, arguments = swarm_programs(tokens, shape, None, fused=True, deterministic=True)
    text = programs.train.trace(programs.like, *arguments).lower(lowering_platforms=("cuda",)).as_text()
    for operator in ("__cudnn$fmhaSoftmax(", "__cudnn$fmhaSoftmaxBackward("):
        assert operator in text
    assert "stablehlo.scatter" not in text
    scattered, arguments = swarm_programs(tokens, shape, None, fused=True)
    assert "stablehlo.scatter" in scattered.train.trace(scattered.like, *arguments).lower().as_text()
    # What a GPU would be told, XLA knows on a CPU, too.
    assert programs.train.trace(programs.like, *arguments).lower().compile()
