"""The programs that train and measure all members of a swarm at once."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from bimixjax._base.compilation import DETERMINISTIC
from bimixjax._base.records import record
from bimixjax.proxy.batches import Read, Sampler, Validation, draw, seed_key
from bimixjax.proxy.mesh import Layout, place, replicated
from bimixjax.proxy.train import MEAN_LOSS, PADDING, TRAINING, Learner, Member, TrainConfig, measure


def make_trainer(
    config: TrainConfig, read: Read, layout: Layout, learner: Learner = MEAN_LOSS
) -> Callable[..., Member]:
    """Return the function of ((members, (samplers, own)), (shared, first, last)) that trains all members.

    Steps [first, last) run in one call; both are traced, so that calls of every length share one compiled program.
    A member that has stopped goes through all steps, too, and keeps its state: devices that share a batch or a model
    talk to each other in each step, and those of one member would wait for ever for those of another that left.
    """

    def train(mapped: tuple[Member, tuple[Sampler, Any]], shared: tuple[Any, Array, Array]) -> Member:
        member, (sampler, own) = mapped
        common, first, last = shared

        def step(number: Array, member: Member) -> Member:
            places = draw(sampler, number, config.batch)
            windows = read(own, common, number, places, config.model.context + 1)
            new, finite = learner.learn(config, member, number, places[0], windows, layout)
            running = member.stopped == TRAINING
            counts = jnp.sum(places[0][:, None] == jnp.arange(member.sequences.size), axis=0, dtype=jnp.int32)
            stopped = jnp.where(running & ~finite, number + 1, member.stopped)
            return dataclasses.replace(new, sequences=member.sequences + jnp.where(running, counts, 0), stopped=stopped)

        return jax.lax.fori_loop(first, last, step, member)

    return layout.advance_members(train)


@record
class Measured:
    """Measurements of each member at one step; each field has an axis of members first.

    Attributes:
        losses: mean validation loss of each target, nats per token, [t].
        errors: standard errors of `losses` over validation windows, [t].
        sequences: as in `Member`.
        trained: as in `Member`, which then begins a new sum.
        stopped: as in `Member`.
    """

    losses: Float[Array, " t"]
    errors: Float[Array, " t"]
    sequences: Int[Array, " d"]
    trained: Float[Array, ""]
    stopped: Int[Array, ""]


def make_meter(config: TrainConfig, layout: Layout) -> Callable[..., tuple[Member, Measured]]:
    """Return the function of (members, (validation, step)) to members and their measurements.

    A member whose losses are not all finite is stopped.
    """

    def meter(given: tuple[Any, Array], shared: tuple[Validation, Array]) -> tuple[Array, Array, Array]:
        (params, stopped), (data, step) = given, shared
        losses, errors = measure(config, params, data, layout)
        fails = (stopped == TRAINING) & ~jnp.all(jnp.isfinite(losses))
        return losses, errors, jnp.where(fails, step, stopped)

    mapped = layout.per_member(meter)

    def all_members(members: Member, shared: tuple[Validation, Array]) -> tuple[Member, Measured]:
        losses, errors, stopped = mapped((members.params, members.stopped), shared)
        kept = {"sequences": members.sequences, "trained": members.trained, "stopped": stopped}
        measured = Measured(losses=losses, errors=errors, **kept)
        return dataclasses.replace(members, stopped=stopped, trained=jnp.zeros_like(members.trained)), measured

    return all_members


@dataclasses.dataclass(frozen=True, kw_only=True)
class Programs:
    """Compiled programs of a swarm; `train` and `meter` reuse the buffers of the members that they are given.

    Attributes:
        start: ((keys, stopped), None) -> members before their first step.
        train: (members, samplers, own, (shared, first, last)) -> members, as `make_trainer` says.
        meter: (members, (validation, step)) -> members and `Measured`, replicated on every device.
        like: shapes of the stacked members, with shardings.
    """

    start: jax.stages.Wrapped
    train: jax.stages.Wrapped
    meter: jax.stages.Wrapped
    like: Member


@lru_cache(maxsize=8)
def make_programs(
    config: TrainConfig, read: Read, slots: int, domains: int, layout: Layout, learner: Learner = MEAN_LOSS
) -> Programs:
    """Return the programs for `slots` members over `domains` domains; equal swarms in a process share them."""

    def fresh(slot: tuple[Array, Array], shared: None) -> Member:
        key = jax.random.wrap_key_data(slot[0], impl="threefry2x32")
        return dataclasses.replace(learner.start(config, key, domains), stopped=slot[1])

    starter, trainer = layout.per_member(fresh), make_trainer(config, read, layout, learner)

    def train(members: Member, samplers: Sampler, own: Any, shared: tuple[Any, Array, Array]) -> Member:
        return trainer((members, (samplers, own)), shared)

    blank = jax.eval_shape(starter, slot_starts([0] * slots, slots), None)
    places, whole = layout.shardings(blank), replicated(layout.mesh)
    choices: dict[str, Any] = {"compiler_options": DETERMINISTIC if layout.passes.deterministic else None}
    return Programs(
        start=jax.jit(starter, out_shardings=places, **choices),
        train=jax.jit(train, donate_argnums=0, out_shardings=places, **choices),
        meter=jax.jit(make_meter(config, layout), donate_argnums=0, out_shardings=(places, whole), **choices),
        like=jax.tree.map(lambda leaf, place: leaf.update(sharding=place), blank, places),
    )


def slot_starts(seeds: Sequence[int], slots: int) -> tuple[UInt32[np.ndarray, "m 2"], Int[np.ndarray, " m"]]:
    """Return key data and `stopped` of each slot; slots beyond the seeds are padding, which is never trained."""
    keys = np.stack([np.asarray(jax.random.key_data(seed_key(int(seed)))) for seed in fill(seeds, slots)])
    return keys, np.where(np.arange(slots) < len(seeds), TRAINING, PADDING).astype(np.int32)


def with_slots(members: Any, like: Any) -> Any:
    """Return stacked members, which every process has on its host, on the devices, with as many slots as `like` has.

    Slots beyond the members are padding; beyond those of `like` there was only padding.
    """

    def resized(path: Any, leaf: np.ndarray, like: Any) -> Array:
        more = max(0, like.shape[0] - len(leaf))
        is_mark = jax.tree_util.keystr(path) == ".stopped"
        rest = np.full(more, PADDING, leaf.dtype) if is_mark else np.repeat(leaf[:1], more, axis=0)
        return place(np.concatenate([leaf[: like.shape[0]], rest]), like.sharding)

    return jax.tree_util.tree_map_with_path(resized, members, like)


def fill(values: Sequence[Any], slots: int) -> list[Any]:
    """Return `values`, with the first repeated up to `slots` of them."""
    return [*values, *([values[0]] * (slots - len(values)))]
