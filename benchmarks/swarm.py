"""Tokens per second of a swarm, beside one member after another and a hand-written JAX loop of the same model.

The three take turns in one process, so that they meet the same machine, for each size of the model and of the swarm.
Ratios are medians of those within a round, of seconds by the clock and of seconds of the processor, user and system:
on one core these tell the same on a machine that others use, too, where the clock does not.

Run: `python benchmarks/swarm.py`; 10m and larger, and swarms of 256, where `--presets` and `--members` name them. With
XLA_FLAGS=--xla_force_host_platform_device_count=2, the swarm on two cores beside the same on one; by the clock only.
"One device" may use the threads of both; for "one core" all threads of the process are put on one.
"""

import argparse
import contextlib
import functools
import itertools
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _report
import jax
import jax.numpy as jnp
import numpy as np
import optax

from bimixjax.proxy import ModelConfig, TrainConfig, make_mesh
from bimixjax.proxy.batches import Resident, make_samplers
from bimixjax.proxy.cost import utilization
from bimixjax.proxy.memory import Wishes, make_plan
from bimixjax.proxy.mesh import padded
from bimixjax.proxy.model import PRESETS, initialize, token_losses
from bimixjax.proxy.programs import fill, make_programs, slot_starts

HERE = Path(__file__).resolve().parent
DOMAINS, DOMAIN_TOKENS = 5, 1_000_000
Turn = Callable[[], None]


def swarm_turn(
    config: TrainConfig, tokens: np.ndarray, members: int, steps: int, devices: Any, wishes: Wishes | None = None
) -> Turn:
    """Return a function that trains `members` together for `steps` more steps."""
    mesh = make_mesh(devices=devices)
    slots = padded(members, mesh)
    context = config.model.context
    first = np.arange(DOMAINS, dtype=np.int32) * DOMAIN_TOKENS
    reader = Resident(tokens=jnp.asarray(tokens), first=jnp.asarray(first))
    mixtures = np.random.default_rng(0).dirichlet(np.ones(DOMAINS), members)
    runs = fill([f"run-{i}" for i in range(members)], slots)
    starts = np.full(DOMAINS, DOMAIN_TOKENS - context, np.uint32)
    samplers = make_samplers(runs, [0] * slots, mixtures[fill(range(members), slots)], starts)
    layout = make_plan(config, mesh, members, windows=64, wishes=wishes, tokens=tokens.nbytes).layout
    programs = make_programs(config, reader.read, slots, DOMAINS, layout)
    state = [programs.start(slot_starts([0] * members, slots), None)]
    place = [0]

    def turn() -> None:
        bounds = (reader.shared, np.int32(place[0]), np.int32(place[0] + steps))
        state[0] = programs.train(state[0], samplers, None, bounds)
        place[0] += steps
        jax.block_until_ready(state[0])

    return turn


def on_one_core(turn: Turn) -> Turn:
    """Return the turn with all threads of this process on the first of its cores meanwhile."""

    def alone() -> None:
        cores = os.sched_getaffinity(0)
        try:
            put_on({min(cores)})
            turn()
        finally:
            put_on(cores)

    return alone


def put_on(cores: set[int]) -> None:
    """Let all threads of this process run on these cores only."""
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


def in_turn(config: TrainConfig, tokens: np.ndarray, members: int, steps: int) -> Turn:
    """Return a function that trains each of `members` swarms of one, one after another."""
    turns = [swarm_turn(config, tokens, 1, steps, jax.devices()[:1]) for _ in range(members)]

    def turn() -> None:
        for one in turns:
            one()

    return turn


def hand_losses(model: ModelConfig, params: Any, windows: jax.Array) -> jax.Array:
    """Return the losses of the same network, written out with plain arrays."""
    batch, length, dtype = len(windows), model.context, jnp.dtype(model.dtype)
    half = model.width // model.heads // 2
    angle = np.arange(length)[:, None, None] * 10_000.0 ** (-np.arange(half) / half)
    cos, sin = jnp.asarray(np.cos(angle), dtype), jnp.asarray(np.sin(angle), dtype)

    def norm(x: jax.Array, scale: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        return (wide * jax.lax.rsqrt(jnp.mean(wide**2, -1, keepdims=True) + 1e-6) * scale).astype(dtype)

    def rotate(x: jax.Array) -> jax.Array:
        a, b = jnp.split(x, 2, -1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    embedding = params["embed"]["embedding"]
    x = embedding[windows[:, :-1]]
    for layer in range(model.layers):
        block = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params["blocks"])
        qkv = norm(x, block["norms"][0]["scale"]) @ block["qkv"]["kernel"].reshape(model.width, -1)
        q, k, v = jnp.split(qkv.reshape(batch, length, 3 * model.heads, -1), 3, 2)
        scores = jnp.einsum("blhd,bmhd->bhlm", rotate(q), rotate(k), preferred_element_type=jnp.float32)
        scores = jnp.where(np.tri(length, dtype=bool), scores * (2 * half) ** -0.5, -jnp.inf)
        mixed = jnp.einsum("bhlm,bmhd->blhd", jax.nn.softmax(scores).astype(dtype), v).reshape(x.shape)
        x = x + mixed @ block["out"]["kernel"].reshape(model.width, -1)
        hidden = jnp.square(jax.nn.relu(norm(x, block["norms"][1]["scale"]) @ block["up"]["kernel"]))
        x = x + hidden @ block["down"]["kernel"]
    logits = jnp.dot(norm(x, params["norm"]["scale"]), embedding.T, preferred_element_type=jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, windows[:, 1:])


def by_hand(config: TrainConfig, tokens: np.ndarray, members: int, steps: int) -> Turn:
    """Return a function that trains members one after another in the usual loop: one jitted step per iteration."""
    model, flat = config.model, jnp.asarray(tokens)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(3e-3, 0.9, 0.95, weight_decay=0.1))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any, key: jax.Array) -> tuple[Any, Any, jax.Array]:
        starts = jax.random.randint(key, (config.batch,), 0, len(tokens) - model.context)
        windows = flat[starts[:, None] + jnp.arange(model.context + 1)].astype(jnp.int32)
        loss, gradient = jax.value_and_grad(lambda params: hand_losses(model, params, windows).mean())(params)
        change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state, loss

    params = [initialize(model, jax.random.key(0)) for _ in range(members)]
    states = [optimizer.init(one) for one in params]

    def turn() -> None:
        for i in range(members):
            for number in range(steps):
                params[i], states[i], _ = step(params[i], states[i], jax.random.key(number))
            jax.block_until_ready(params[i])

    return turn


def check_same_network(model: ModelConfig) -> float:
    """Return the largest difference of the two networks' losses on the same parameters; they must agree."""
    windows = jax.random.randint(jax.random.key(1), (4, model.context + 1), 0, model.vocab)
    params = jax.tree.map(lambda leaf: 2 * leaf, initialize(model, jax.random.key(0)))
    ours, hand = jax.jit(token_losses, static_argnums=0), jax.jit(hand_losses, static_argnums=0)
    difference = float(jnp.max(jnp.abs(ours(model, params, windows) - hand(model, params, windows))))
    if difference > (1e-3 if model.dtype == "float32" else 0.3):
        raise SystemExit(f"the hand-written network differs by {difference} nats: nothing to compare")
    return difference


# Seconds of each turn, by name, in the order of the rounds.
Seconds = dict[str, list[float]]


def measure(turns: dict[str, Turn], rounds: int) -> tuple[Seconds, Seconds]:
    """Return the seconds of each turn by the clock and of the processor, taken in turns after one that compiles."""
    clock: Seconds = {name: [] for name in turns}
    processor: Seconds = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name, turn in turns.items():
            began, spent = time.perf_counter(), time.process_time()
            turn()
            if number:
                clock[name].append(time.perf_counter() - began)
                processor[name].append(time.process_time() - spent)
    return clock, processor


def times_as_fast(seconds: Seconds) -> dict[str, float]:
    """Return how many times as fast the swarm is as each other turn: the median over rounds."""
    ours = seconds["swarm"]
    return {
        name: statistics.median(other / own for other, own in zip(theirs, ours, strict=True))
        for name, theirs in seconds.items()
        if name != "swarm"
    }


def measured(config: TrainConfig, tokens: np.ndarray, members: int, steps: int, rounds: int) -> dict[str, Any]:
    """Measure one size of the model and of the swarm."""
    turns = {
        "swarm": swarm_turn(config, tokens, members, steps, jax.devices()),
        "one after another": in_turn(config, tokens, members, steps),
        "hand-written loop": by_hand(config, tokens, members, steps),
    }
    if len(jax.devices()) > 1:
        turns["swarm on one device"] = swarm_turn(config, tokens, members, steps, jax.devices()[:1])
        turns["swarm on one core"] = on_one_core(turns["swarm on one device"])
    clock, processor = measure(turns, rounds)
    trained = members * steps * config.tokens_per_step
    speed = {name: trained / statistics.median(times) for name, times in clock.items()}
    device = jax.devices()[0].device_kind
    return {
        "parameters": config.model.size,
        "members": members,
        "steps_per_turn": steps,
        "seconds": clock,
        "processor_seconds": processor,
        "tokens_per_second": speed,
        "times_as_fast": times_as_fast(clock),
        "times_as_fast_of_the_processor": times_as_fast(processor),
        "utilization": utilization(speed["swarm"], config.model, device, len(jax.devices())),
    }


def main() -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=["0.1m", "1m"])
    parser.add_argument("--members", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--steps", type=int, default=64, help="steps of all members per turn, at least one of each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "swarm.json", help="JSON file")
    given = parser.parse_args()
    cases, differences, rows = [], {}, []
    head = ["model, members", "swarm, tokens/s", "x one by one", "of processor", "x by hand", "of processor"]
    head += ["x one device", "x one core"] * (len(jax.devices()) > 1) + ["of peak"]
    for preset, members in itertools.product(given.presets, given.members):
        model = ModelConfig.preset(preset, context=given.context, dtype=given.dtype)
        config = TrainConfig(model=model, batch=given.batch)
        differences[preset] = check_same_network(model)
        tokens = np.random.default_rng(0).integers(0, model.vocab, DOMAINS * DOMAIN_TOKENS).astype(np.uint8)
        case = measured(config, tokens, members, max(1, given.steps // members), given.rounds)
        cases.append({"preset": preset, **case})
        by_clock, by_processor = case["times_as_fast"], case["times_as_fast_of_the_processor"]
        ratios = [
            f"{found[name]:.2f}"
            for name in ("one after another", "hand-written loop")
            for found in (by_clock, by_processor)
        ]
        ratios += [f"{ratio:.2f}" for name, ratio in by_clock.items() if name.startswith("swarm on")]
        used = "" if case["utilization"] is None else f"{100 * case['utilization']:.1f} %"
        rows.append([f"{preset}, {members}", f"{case['tokens_per_second']['swarm']:,.0f}", *ratios, used])
        print(_report.table(head, rows[-1:]), flush=True)
    print(f"\n{_report.table(head, rows)}")
    settings = {name: value for name, value in vars(given).items() if name != "out"}
    results = {"benchmark": "swarm", "settings": settings, "largest_difference_of_the_networks": differences}
    _report.write(given.out, {**results, "cases": cases})


if __name__ == "__main__":
    main()
