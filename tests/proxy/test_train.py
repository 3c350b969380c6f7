import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from bimixjax._base.checks import InputError
from bimixjax.proxy import ModelConfig, TrainConfig, make_mesh
from bimixjax.proxy.batches import Resident, Sampler, Validation, make_reader, make_samplers, make_validation
from bimixjax.proxy.mesh import Layout
from bimixjax.proxy.model import initialize, is_decayed, token_losses, token_scores
from bimixjax.proxy.programs import Measured, Programs, make_programs, slot_starts, with_slots
from bimixjax.proxy.train import Member, measure, start, update

ONE = Layout(mesh=make_mesh(devices=jax.devices()[:1]))
MIXTURES = np.array([[0.2, 0.3, 0.5], [0.8, 0.1, 0.1], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])


@dataclasses.dataclass(frozen=True)
class World:
    """Four members on some devices, with what they train on."""

    programs: Programs
    samplers: Sampler
    shared: Any
    validation: Validation

    def begin(self) -> Member:
        return self.programs.start(slot_starts([0, 0, 1, 2], len(self.samplers.key)), None)

    def train(self, members: Member, first: int, last: int) -> Member:
        return self.programs.train(members, self.samplers, None, (self.shared, np.int32(first), np.int32(last)))

    def meter(self, members: Member, step: int) -> tuple[Member, Measured]:
        members, measured = self.programs.meter(members, (self.validation, np.int32(step)))
        return members, jax.tree.map(lambda leaf: np.asarray(leaf)[:4], measured)


@pytest.fixture(scope="module")
def world(tokens: Any, train_config: TrainConfig) -> Callable[..., World]:
    def make(mesh: Mesh | None = None, stack: int | None = 1, **changes: Any) -> World:
        config = dataclasses.replace(train_config, **changes)
        mesh = make_mesh(devices=jax.devices()[:1]) if mesh is None else mesh
        slots = -(-4 // mesh.shape["member"]) * mesh.shape["member"]
        rows = [0, 1, 2, 3] + [0] * (slots - 4)
        reader, starts = make_reader(tokens, "abc", context=16, batch=4, resident_bytes=10**6)
        samplers = make_samplers([f"r{i}" for i in rows], [0] * slots, MIXTURES[rows], starts)
        assert isinstance(reader, Resident)
        programs = make_programs(config, reader.read, slots, 3, Layout(mesh=mesh, stack=stack))
        return World(programs, samplers, reader.shared, make_validation(tokens, "abc", context=16, windows=8))

    return make


def ended(world: World, steps: int = 30) -> Measured:
    return world.meter(world.train(world.begin(), 0, steps), steps)[1]


@pytest.fixture(scope="module")
def reference(world: Callable[..., World]) -> Measured:
    return ended(world())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "grid", "stack"), [(8, {}, 1), (2, {}, None), (8, {"data": 2, "model": 2}, 1), (4, {"data": 2}, None)]
)
def test_devices_and_stacks_change_losses_by_rounding_only(
    world: Callable[..., World], reference: Measured, devices: int, grid: dict[str, int], stack: int | None
) -> None:
    found = ended(world(make_mesh(devices=jax.devices()[:devices], **grid), stack))
    np.testing.assert_allclose(found.losses, reference.losses, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.sequences, reference.sequences)


@pytest.mark.parametrize("stack", [3, None])
def test_stacks_of_any_size_give_the_same_losses(
    world: Callable[..., World], reference: Measured, stack: int | None
) -> None:
    np.testing.assert_allclose(ended(world(stack=stack)).losses, reference.losses, rtol=0, atol=1e-5)


def test_the_length_of_a_call_changes_nothing(world: Callable[..., World], reference: Measured) -> None:
    one = world()
    members = one.begin()
    for first, last in [(0, 1), (1, 17), (17, 30)]:
        members = one.train(members, first, last)
    for part, same in zip(*map(jax.tree.leaves, (one.meter(members, 30)[1], reference)), strict=True):
        np.testing.assert_array_equal(part, same)


@pytest.mark.parametrize("stack", [1, None])
def test_a_member_that_is_not_finite_stops_alone(world: Callable[..., World], stack: int | None) -> None:
    one = world(stack=stack)

    def poisoned(members: Member) -> Member:
        return dataclasses.replace(members, params=jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), members.params))

    well = one.train(one.train(one.begin(), 0, 5), 5, 20)
    ill = one.train(poisoned(one.train(one.begin(), 0, 5)), 5, 20)
    assert np.asarray(ill.stopped).tolist() == [0, 6, 0, 0]
    others = np.array([0, 2, 3])
    for left, right in zip(*map(jax.tree.leaves, (well, ill)), strict=True):
        np.testing.assert_array_equal(np.asarray(left)[others], np.asarray(right)[others])
    assert np.asarray(ill.sequences)[1].sum() == 6 * 4


def test_a_step_that_is_not_finite_leaves_the_parameters(train_config: TrainConfig) -> None:
    config = dataclasses.replace(train_config, learning_rate=1e30)
    member = start(config, jax.random.key(0), 3)
    windows = jax.random.randint(jax.random.key(1), (4, 17), 0, 16)
    step = jax.jit(lambda member: update(config, member, windows, ONE))
    moved, finite = step(member)
    assert finite
    kept, finite = step(moved)
    assert not finite
    for left, right in zip(*map(jax.tree.leaves, (moved, kept)), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_loss_that_is_not_finite_when_measured_stops_the_member(world: Callable[..., World]) -> None:
    one = world()
    members = one.begin()
    bad = jax.tree.map(lambda leaf: leaf.at[2].set(jnp.inf), members.params)
    _, measured = one.meter(dataclasses.replace(members, params=bad), 7)
    assert measured.stopped.tolist() == [0, 0, 7, 0]
    assert np.isfinite(measured.losses[[0, 1, 3]]).all()


def test_members_from_a_host_get_slots_that_are_padding(world: Callable[..., World]) -> None:
    members = jax.tree.map(np.asarray, world().begin())
    like = world(make_mesh()).programs.like
    more = with_slots(members, like)
    assert np.asarray(more.stopped).tolist() == [0] * 4 + [-1] * 4
    for leaf, there, held in zip(*map(jax.tree.leaves, (more.params, like.params, members.params)), strict=True):
        assert (leaf.shape, leaf.sharding) == (there.shape, there.sharding)
        np.testing.assert_array_equal(leaf[:4], held)
    fewer = with_slots(jax.tree.map(np.asarray, more), world().programs.like)
    assert jax.tree.all(jax.tree.map(np.array_equal, jax.tree.map(np.asarray, fewer), members))


def test_slots_without_a_run_do_not_train(world: Callable[..., World]) -> None:
    one = world(make_mesh())
    members = one.train(one.begin(), 0, 5)
    assert np.asarray(members.stopped).tolist() == [0] * 4 + [-1] * 4
    assert np.asarray(members.sequences).sum(axis=1).tolist() == [20] * 4 + [0] * 4


def test_equal_seeds_start_equal_and_others_do_not(world: Callable[..., World]) -> None:
    embedding = np.asarray(world().begin().params["embed"]["embedding"])
    np.testing.assert_array_equal(embedding[0], embedding[1])
    assert np.all(embedding[0] != embedding[2])


def test_sequences_seen_are_those_drawn(world: Callable[..., World], reference: Measured) -> None:
    assert reference.sequences.sum(axis=1).tolist() == [120] * 4
    assert np.abs(reference.sequences - 120 * MIXTURES).max() < 3
    assert reference.sequences[3].tolist() == [120, 0, 0]


@pytest.mark.parametrize("stack", [1, None])
def test_the_step_lowers_for_every_platform(world: Callable[..., World], stack: int | None) -> None:
    one = world(stack=stack)
    arguments = (one.programs.like, one.samplers, None, (one.shared, np.int32(0), np.int32(9)))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    exported = jax.export.export(one.programs.train, platforms=["cpu", "cuda", "tpu"])(*shapes)
    assert exported.platforms == ("cpu", "cuda", "tpu")


def test_a_step_is_one_of_adamw(train_config: TrainConfig) -> None:
    """The first step of Adam moves each parameter by the learning rate against the sign of its gradient."""
    member = start(train_config, jax.random.key(0), 3)
    windows = jax.random.randint(jax.random.key(1), (4, 17), 0, 16)
    after, _ = jax.jit(lambda member: update(train_config, member, windows, ONE))(member)
    params = initialize(train_config.model, jax.random.key(0))
    gradient = jax.jit(jax.grad(lambda params: token_losses(train_config.model, params, windows).mean()))(params)
    rate = train_config.learning_rate / (train_config.warmup + 1)
    trees = params, after.params, gradient, is_decayed(params)
    for old, new, slope, decayed in zip(*map(jax.tree.leaves, trees), strict=True):
        decay = train_config.weight_decay if decayed else 0
        clear = np.abs(slope) > 1e-5
        expected = old - rate * (np.sign(slope) + decay * old)
        np.testing.assert_allclose(np.asarray(new)[clear], np.asarray(expected)[clear], atol=2e-5)


def test_gradients_are_clipped(train_config: TrainConfig) -> None:
    large: Any = {"x": jnp.full(4, 100.0)}
    state = train_config.optimizer.update(large, train_config.optimizer.init(large), large)[1]
    # Four equal parts of a gradient of norm 1 are 0.5 each, of which the first moment takes a tenth.
    np.testing.assert_allclose(optax.tree.get(state, "mu")["x"], 0.05, rtol=1e-6)


def test_the_learning_rate_rises_and_stays(train_config: TrainConfig) -> None:
    rates = [float(train_config.rate(step)) for step in range(7)]
    np.testing.assert_allclose(rates, [0.002, 0.004, 0.006, 0.008, 0.01, 0.01, 0.01], rtol=1e-6)


def test_the_rule_of_width_scales_every_rate(train_config: TrainConfig) -> None:
    ruled = dataclasses.replace(train_config, base_width=64)
    assert ruled.peak == pytest.approx(4 * train_config.learning_rate)
    np.testing.assert_allclose([ruled.rate(step) for step in (0, 9)], [0.008, 0.04], rtol=1e-6)
    wide = ModelConfig(width=256, heads=4)
    assert TrainConfig(model=wide).peak == pytest.approx(TrainConfig(model=wide, base_width=None).peak / 4)


def test_the_z_loss_pulls_the_normalizers_to_one_and_is_not_reported(train_config: TrainConfig) -> None:
    windows = jax.random.randint(jax.random.key(1), (4, 17), 0, 16)
    found = {}
    for weight in (0.0, 10.0):
        config = dataclasses.replace(train_config, z_loss=weight)
        step = jax.jit(lambda member, config=config: update(config, member, windows, ONE)[0])
        member = first = step(start(config, jax.random.key(0), 3))
        for _ in range(30):
            member = step(member)
        found[weight] = first.trained, np.abs(token_scores(config.model, member.params, windows)[1]).mean()
    assert found[0.0][0] == found[10.0][0]
    assert found[10.0][1] < 0.1 * found[0.0][1]


def test_measured_means_and_errors_are_those_of_the_windows(tokens: Any, train_config: TrainConfig) -> None:
    short = dataclasses.replace(tokens, held_out={**tokens.held_out, "b": tokens.held_out["b"][:60]})
    data = make_validation(short, "ab", context=16, windows=8)
    member = start(train_config, jax.random.key(0), 3)
    found = measure(
        train_config, member.params, jax.tree.map(jnp.asarray, data), dataclasses.replace(ONE, eval_batch=5)
    )
    for i, count in enumerate([8, 3]):
        losses = np.asarray(token_losses(train_config.model, member.params, jnp.asarray(data.windows[i, :count])))
        means = losses.mean(axis=1, dtype=np.float64)
        assert found[0][i] == pytest.approx(means.mean(), rel=1e-6)
        assert found[1][i] == pytest.approx(means.std(ddof=1) / np.sqrt(count), rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"clip": -1.0}, "clip is -1.0"),
        ({"warmup": -1}, "warmup is -1; allowed: 0 or more"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
        ({"z_loss": -1e-4}, "z_loss is -0.0001"),
        ({"base_width": 0}, "base_width is 0"),
    ],
)
def test_impossible_settings_are_errors(train_config: TrainConfig, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(train_config, **change)
