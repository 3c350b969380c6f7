"""What a device will hold while a swarm trains, and how its work is cut up so that it fits."""

import dataclasses
import itertools
import math
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from bimixjax._base.checks import InputError
from bimixjax._base.compilation import DETERMINISTIC
from bimixjax.proxy.hosts import smallest
from bimixjax.proxy.mesh import Layout, default_stack, padded
from bimixjax.proxy.model import Passes
from bimixjax.proxy.train import TrainConfig

# Logits of one member that a device holds at a time: enough rows for a full product even with 256k tokens.
LOGITS = 2**28
# Tokens that a device goes through in a pass, from which a batch is rather cut up than its blocks computed again, which
# is a third pass over them beside one each way. benchmarks/passes.py times both; on a CPU smaller passes win, too.
PASS = 2**13
# Part of a device that a plan may fill; `benchmarks/swarm_memory.py` compares plans with what XLA takes.
FILLED = 0.9
GIB = 2**30
# Bytes of float32.
WIDE = 4
# Parts of a plan that a device holds from the first step to the last.
LASTING = ("tokens", "parameters", "moments")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a user has settled of a layout; None: planned.

    Attributes:
        stack: members that a device computes at once.
        microbatch: sequences of a member per pass.
        remat: whether blocks are computed again on the way back.
        eval_batch: windows of a member per pass of an evaluation.
        device_memory: bytes that a device has; None: what it says, of a CPU its part of the machine's memory.
        deterministic: whether a GPU is to give the same numbers each time, as other devices do anyway.

    Raises:
        InputError: for a number below 1.
    """

    stack: int | None = None
    microbatch: int | None = None
    remat: bool | None = None
    eval_batch: int | None = None
    device_memory: float | None = None
    deterministic: bool = True

    def __post_init__(self) -> None:
        for name in ("stack", "microbatch", "eval_batch", "device_memory"):
            value = getattr(self, name)
            if value is not None and not value >= 1:
                raise InputError(f"{name} is {value}; allowed: at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """A layout, and the bytes that a device will hold.

    Attributes:
        layout: how the work is cut up.
        parts: bytes by what they are for, as `device_bytes` says.
        limit: bytes that a device has; infinity where it does not say.
    """

    layout: Layout
    parts: Mapping[str, float]
    limit: float

    @property
    def step(self) -> float:
        """Bytes of a device while it trains: it is at a block, or at the logits."""
        kept = sum(self.parts[name] for name in (*LASTING, "gradients", "activations"))
        return kept + max(self.parts["block"], self.parts["logits"])

    @property
    def evaluation(self) -> float:
        """Bytes of a device while it measures losses."""
        return sum(self.parts[name] for name in (*LASTING, "evaluation"))

    @property
    def total(self) -> float:
        """Most bytes of a device: of a step, or of an evaluation."""
        return max(self.step, self.evaluation)

    def __str__(self) -> str:
        of = "" if math.isinf(self.limit) else f" of {_size(self.limit)}"
        parts = ", ".join(f"{name} {_size(size)}" for name, size in self.parts.items())
        layout = self.layout
        cut = [f"{layout.stack or 'all'} at once", f"microbatches of {layout.microbatch}"]
        cut += ["remat"] * layout.passes.remat + ["state split over data"] * layout.passes.sharded
        cut += ["attention by cuDNN"] * layout.passes.fused
        return f"{_size(self.total)}{of} a device: {parts}; {', '.join(cut)}"


def _size(count: float) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.1f} MiB"


def make_plan(
    train: TrainConfig,
    mesh: Mesh,
    members: int,
    windows: int,
    *,
    wishes: Wishes | None = None,
    tokens: float = 0,
    networks: int = 1,
) -> Plan:
    """Choose the layout that fits with the fewest passes, without remat if possible, and the most members at once.

    Blocks are computed again only where passes of `PASS` tokens do not fit without that. Only where nothing fits are
    parameters and moments of each member split over its data axis.

    Args:
        train: how each member is trained.
        mesh: the devices.
        members: how many.
        windows: on which each member is measured.
        wishes: what is not to be chosen.
        tokens: bytes of the training tokens on each device.
        networks: that a member holds, of which it trains one.

    Raises:
        InputError: where no layout fits, with the bytes of the smallest, or wishes and mesh do not go together.

    Example:
        >>> from bimixjax.proxy import make_mesh
        >>> plan = make_plan(TrainConfig(), make_mesh(devices=jax.devices()[:1]), members=8, windows=64)
        >>> plan.layout.microbatch, plan.layout.passes.remat, f"{plan.parts['moments'] / 2**20:.2f} MiB"
        (16, False, '7.02 MiB')
    """
    wishes = wishes or Wishes()
    _require_divisible(train, mesh, wishes)
    limit = _limit(mesh) if wishes.device_memory is None else wishes.device_memory
    slots = padded(members, mesh) // mesh.shape["member"]
    tokens += WIDE * windows * (train.model.context + 1)
    smallest_plan = None
    for layout in _layouts(train, mesh, slots, windows, wishes):
        plan = Plan(layout=layout, parts=device_bytes(train, layout, slots, tokens, networks), limit=limit)
        if plan.total <= FILLED * limit:
            return plan
        if smallest_plan is None or plan.total < smallest_plan.total:
            smallest_plan = plan
    raise InputError(
        f"{members} members of {train.model.size:,} parameters do not fit: at least {smallest_plan}; allowed: "
        f"{FILLED:.0%} of a device; take more devices, a mesh with more of them per member (data, model), fewer "
        "members or a smaller batch"
    )


def _require_divisible(train: TrainConfig, mesh: Mesh, wishes: Wishes) -> None:
    """Raise where a batch or microbatch cannot be cut as the mesh or the user asks."""
    data, microbatch = mesh.shape["data"], wishes.microbatch or train.batch
    if train.batch % data:
        raise InputError(f"batch is {train.batch} over data={data}; allowed: a multiple of data")
    if train.batch % microbatch or microbatch % data:
        multiple = f" and a multiple of data={data}" if data > 1 else ""
        raise InputError(f"microbatch is {microbatch}; allowed: a divisor of the batch of {train.batch}{multiple}")


def _layouts(train: TrainConfig, mesh: Mesh, slots: int, windows: int, wishes: Wishes) -> Iterator[Layout]:
    """Yield layouts, the fastest first."""
    data, model, first = mesh.shape["data"], train.model, mesh.devices.flat[0]
    sizes = [size for size in range(train.batch, 0, -1) if train.batch % size == 0 and size % data == 0]
    microbatches = sizes if wishes.microbatch is None else [wishes.microbatch]
    most = default_stack(mesh) or slots
    stacks = sorted({min(most, -(-slots // 2**i)) for i in range(slots.bit_length() + 1)}, reverse=True)
    deterministic = first.platform == "gpu" and wishes.deterministic
    fused = first.platform == "gpu" and _has_fused(train, deterministic=deterministic)
    choices = itertools.product(
        [False, True] if data > 1 else [False],
        microbatches,
        [False, True] if wishes.remat is None else [wishes.remat],
        stacks if wishes.stack is None else [min(wishes.stack, slots)],
    )

    def order(choice: tuple[bool, int, bool, int]) -> tuple[bool, int]:
        sharded, microbatch, remat, stack = choice
        small = len(microbatches) > 1 and microbatch < train.batch and stack * microbatch // data * model.context < PASS
        return sharded, 1 if remat else 2 if small else 0

    for sharded, microbatch, remat, stack in sorted(choices, key=order):
        eval_batch = wishes.eval_batch or min(microbatch, windows)
        eval_batch = -(-eval_batch // data) * data
        rows = max(microbatch, eval_batch) // data
        most_positions = max(1, LOGITS // (WIDE * rows * model.vocab))
        positions = max(
            size for size in range(1, model.context + 1) if model.context % size == 0 and size <= most_positions
        )
        passes = Passes(
            remat=remat,
            positions=None if positions == model.context else positions,
            fused=fused,
            unrolled=first.platform == "cpu",
            sharded=sharded,
            deterministic=deterministic,
        )
        cut = {"microbatch": microbatch, "eval_batch": eval_batch, "stack": None if stack == slots > 1 else stack}
        yield Layout(mesh=mesh, passes=passes, **cut)


def device_bytes(
    train: TrainConfig, layout: Layout, slots: int, tokens: float = 0, networks: int = 1
) -> dict[str, float]:
    """Return the bytes that a device holds, by what they are for.

    With s members of a device, k of them at once, and of each P parameters there, V x D of them of the vocabulary and
    12 D^2 of a block; n tokens per pass and device, D the width, H heads, context L, m devices along model, a the bytes
    of an activation (4; in bfloat16 2, on a CPU 6):

        parameters   4 s P, for each network
        moments      8 s P
        gradients    4 k P, twice with microbatches; old moments beside new ones, 8 k P; where k < s, a copy of the
                     parameters at work, 4 k P for each network; in bfloat16 another, a k P
        activations  what is kept for the way back: per layer k n ((28 + 14 a) D / m + (4 + a) H L), two norms in
                     float32 and all that products take; with remat that of one layer, and k n a D / m of each
        block        what a layer takes beside these, k n (18 a D / m + 12 H L), and where m > 1 three whole arrays,
                     3 k n a D
        logits       k times three float32 arrays of the positions at a time, what they are made of and its gradient,
                     2 k n a D / m, and a gradient of the projection
        evaluation   k n (10 a D / m + 12 H L) or two arrays of logits; where k < s also the copy of parameters

    A device is at a block or at the logits, not both. Where parameters are split over data, it also gathers the
    projection, and for each block its parameters, of which it has whole gradients. Fused attention keeps no H L.

    Args:
        train: how each member is trained.
        layout: how the work is cut up.
        slots: s, members of a device.
        tokens: bytes of training and validation tokens on a device.
        networks: that a member holds, of which it trains one.
    """
    model, passes, mesh = train.model, layout.passes, layout.mesh
    data, split = mesh.shape["data"], mesh.shape["model"]
    at_once = slots if layout.stack is None else min(layout.stack, slots)
    own = WIDE * layout.size(model)
    narrow = model.dtype == "bfloat16"
    # A CPU computes in float32 always, and holds what it has widened beside the bfloat16 array.
    size = (6 if mesh.devices.flat[0].platform == "cpu" else 2) if narrow else WIDE
    microbatch, eval_batch = layout.microbatch or train.batch, layout.eval_batch or train.batch
    copy = networks * own if at_once < slots else 0
    table = model.vocab * model.width * size / split if passes.sharded else 0
    block = 12 * model.width**2 / split if passes.sharded else 0

    def stream(rows: float) -> float:
        return rows / data * model.context * model.width

    def scores(rows: float) -> float:
        return 0 if passes.fused else rows / data * model.context**2 * model.heads / math.gcd(model.heads, split)

    def whole(rows: float) -> float:
        return 3 * stream(rows) * size if split > 1 else 0

    def logits(rows: float, arrays: int) -> float:
        positions = passes.positions or model.context
        return arrays * WIDE * rows / data * positions * model.vocab + 2 * stream(rows) * size / split

    layer = stream(microbatch) * (28 + 14 * size) / split + scores(microbatch) * (4 + size)
    kept = layer + model.layers * stream(microbatch) * size / split if passes.remat else model.layers * layer
    inner = stream(microbatch) * 18 * size / split + 12 * scores(microbatch) + whole(microbatch)
    measured = stream(eval_batch) * 10 * size / split + 12 * scores(eval_batch) + whole(eval_batch)
    gradients = own * (2 if microbatch < train.batch else 1) + 2 * own + copy + (own * size / WIDE if narrow else 0)
    parts = {
        "gradients": gradients,
        "activations": kept + table,
        "block": inner + block * (size + WIDE),
        "logits": logits(microbatch, 3) + WIDE * model.vocab * model.width / split,
        "evaluation": copy + table + max(measured + block * size, table + logits(eval_batch, 2)),
    }
    lasting = {"tokens": tokens, "parameters": networks * slots * own, "moments": 2 * slots * own}
    return lasting | {name: at_once * count for name, count in parts.items()}


def _limit(mesh: Mesh) -> float:
    """Return the bytes that each device has: what it says, of a CPU its part of the machine's memory."""
    local = mesh.local_devices
    stats = [device.memory_stats() or {} for device in local]
    found = [stat["bytes_limit"] for stat in stats if "bytes_limit" in stat]
    if local[0].platform == "cpu" and hasattr(os, "sysconf"):
        found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / len(local)]
    return smallest(min(found, default=math.inf))


@lru_cache
def _has_fused(train: TrainConfig, *, deterministic: bool) -> bool:
    """Return whether cuDNN computes attention of these sizes, which it does for some versions and devices only."""
    model = train.model
    if model.dtype != "bfloat16":
        return False
    shape = jax.ShapeDtypeStruct((1, model.context, model.heads, model.width // model.heads), jnp.bfloat16)

    def attend(x: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(x, x, x, is_causal=True, implementation="cudnn").sum()

    try:
        jax.jit(jax.grad(attend)).lower(shape).compile(DETERMINISTIC if deterministic else None)
    except (RuntimeError, NotImplementedError, ValueError):
        return False
    return True
