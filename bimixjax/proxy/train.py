"""Training and measuring of one member of a swarm."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from bimixjax._base.checks import InputError, positive
from bimixjax._base.records import record
from bimixjax.proxy.batches import Validation
from bimixjax.proxy.mesh import Layout
from bimixjax.proxy.model import ModelConfig, initialize, is_decayed, token_losses, token_scores
from bimixjax.proxy.schedule import Schedule

TRAINING, PADDING = 0, -1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training of each member: AdamW after a clip of the gradient's norm, warm-up, then the schedule's learning rate.

    Attributes:
        model: sizes of the network.
        batch: sequences per step.
        learning_rate: after the warm-up, of a model as wide as `base_width`.
        warmup: steps over which the learning rate rises linearly from 0.
        schedule: what follows; constant by default, since a decay bends the curves that laws of the volume describe.
        base_width: D_0 of a rule by width: a model of width D has the learning rate times D_0 / D, as hidden matrices
            under Adam in muP (arXiv 2203.03466); from 0.1M to 10M parameters the best rate at width 64 is then the same
            within a factor of 1.3 (`experiments/learning_rate`). None: one rate at every width.
        weight_decay: of matrices, in units of the learning rate; the scales of norms have none.
        clip: largest norm of a gradient.
        decays: decay rates of the first and second moment.
        z_loss: weight of the mean of (ln Z)^2 in the loss that is minimized, Z the sum of exp(logit) over the
            vocabulary, which keeps logits from drifting (1e-4 in PaLM, arXiv 2204.02311); no part of a loss reported.

    Raises:
        InputError: where a number is out of range.

    Example:
        >>> config = TrainConfig(warmup=3, learning_rate=0.4)
        >>> config.tokens_per_step, [round(float(config.rate(step)), 3) for step in range(5)]
        (2048, [0.1, 0.2, 0.3, 0.4, 0.4])
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    batch: int = 16
    learning_rate: float = 3e-3
    warmup: int = 20
    schedule: Schedule = dataclasses.field(default_factory=Schedule)
    base_width: int | None = 64
    weight_decay: float = 0.1
    clip: float = 1.0
    decays: tuple[float, float] = (0.9, 0.95)
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        for name in ("batch", "learning_rate", "clip"):
            positive(name, getattr(self, name))
        if self.base_width is not None:
            positive("base_width", self.base_width)
        for name in ("warmup", "weight_decay", "z_loss"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}; allowed: 0 or more")

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimizer, whose state counts the steps."""
        adamw = optax.adamw(self.rate, *self.decays, weight_decay=self.weight_decay, mask=is_decayed)
        return optax.chain(optax.clip_by_global_norm(self.clip), adamw)

    @property
    def peak(self) -> float:
        """The learning rate after the warm-up, at the width of the model."""
        return self.learning_rate * (1 if self.base_width is None else self.base_width / self.model.width)

    def rate(self, step: Any) -> Any:
        """Return the learning rate of the update that follows `step` updates.

        rate(step) = peak min(1, (step + 1) / (warmup + 1)) factor(step),   factor as in `Schedule`
        """
        rise = self.peak * jnp.minimum(1.0, (step + 1) / (self.warmup + 1))
        return rise * self.schedule.factor(step, self.warmup)

    @property
    def tokens_per_step(self) -> int:
        """Tokens whose loss one member is trained on in one step."""
        return self.batch * self.model.context


@record
class Member:
    """State of one member of a swarm; stacked over members, each leaf has one axis more.

    Attributes:
        params: of the network, a tree of arrays.
        optimizer: state of the optimizer, a tree of arrays.
        sequences: number of sequences trained on, by domain.
        trained: sum of the losses of the steps since the last measurement, nats per token.
        stopped: the step at which a loss or gradient was not finite, 0 while training, -1 for a slot without a run.
    """

    params: Any
    optimizer: Any
    sequences: Int[Array, " d"]
    trained: Float[Array, ""]
    stopped: Int[Array, ""]


def start(config: TrainConfig, seed: Array, domains: int) -> Member:
    """Return a member before its first step; equal seeds start from equal parameters, whatever their mixtures."""
    params = initialize(config.model, seed)
    return Member(
        params=params,
        optimizer=config.optimizer.init(params),
        sequences=jnp.zeros(domains, jnp.int32),
        trained=jnp.float32(0),
        stopped=jnp.int32(TRAINING),
    )


def update(
    config: TrainConfig,
    member: Member,
    windows: Int[Array, "B L+1"],
    layout: Layout,
    weights: Float[Array, " B"] | None = None,
) -> tuple[Member, Bool[Array, ""]]:
    """Return the member after one step on `windows`, and whether its loss and gradient were finite.

    Where they were not, or the member has stopped, parameters and moments are not updated. Windows may have weights in
    the loss that is minimized, with a mean of 1.
    """

    def loss(params: Any, part: Batch) -> tuple[Float[Array, ""], Float[Array, ""]]:
        losses, log_z = token_scores(config.model, params, part[0], layout.passes)
        mean = jnp.mean(losses if part[1] is None else losses * part[1][:, None])
        return mean + config.z_loss * jnp.mean(log_z**2) if config.z_loss else mean, mean

    (value, mean), gradient = _mean_gradient(loss, member.params, (windows, weights), layout)
    finite = jnp.isfinite(value) & jnp.isfinite(optax.tree.norm(gradient))
    change, optimizer = config.optimizer.update(gradient, member.optimizer, member.params)
    new, old = (optax.apply_updates(member.params, change), optimizer), (member.params, member.optimizer)
    going = finite & (member.stopped == TRAINING)
    params, optimizer = jax.tree.map(partial(jnp.where, going), new, old)
    trained = member.trained + jnp.where(going, mean, 0)
    return dataclasses.replace(member, params=params, optimizer=optimizer, trained=trained), finite


# Windows, and their weights in the loss that is minimized; None: all the same.
Batch = tuple[Int[Array, "b L+1"], Float[Array, " b"] | None]


def _mean_gradient(
    loss: Callable[..., Any], params: Any, batch: Batch, layout: Layout
) -> tuple[tuple[Float[Array, ""], Float[Array, ""]], Any]:
    """Return value and gradient of the mean of `loss` over microbatches, one after another."""
    slope, rows = jax.value_and_grad(loss, has_aux=True), len(batch[0])
    size = min(layout.microbatch or rows, rows)
    split = partial(jax.tree.map, layout.split_batch)
    if size == rows:
        return slope(params, split(batch))
    # Each microbatch takes windows from all over the batch, so that devices that share the batch share it, too.
    parts = jax.tree.map(lambda leaf: jnp.moveaxis(leaf.reshape(size, -1, *leaf.shape[1:]), 1, 0), split(batch))

    def add(total: Any, part: Batch) -> tuple[Any, None]:
        return jax.tree.map(lambda sum_, one: sum_ + one / (rows // size), total, slope(params, split(part))), None

    first = jax.tree.map(lambda leaf: leaf[0], parts)
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(slope, params, first))
    return jax.lax.scan(add, zero, parts)[0]


def measure(
    config: TrainConfig, params: Any, data: Validation, layout: Layout
) -> tuple[Float[Array, " t"], Float[Array, " t"]]:
    """Return mean validation loss of each target, nats per token, and its standard error over windows.

    With l_w the mean loss of window w, w = 1, ..., W those that count:

        mean = sum_w l_w / W,   error^2 = sum_w (l_w - mean)^2 / (W (W - 1))
    """
    flat = data.windows.reshape(-1, data.windows.shape[-1])
    size = min(layout.eval_batch or len(flat), len(flat))
    parts = jnp.pad(flat, ((0, -len(flat) % size), (0, 0))).reshape(-1, size, flat.shape[-1])

    def one(part: Int[Array, "b L+1"]) -> Float[Array, " b"]:
        return jnp.mean(token_losses(config.model, params, layout.split_batch(part), layout.passes), axis=-1)

    losses = jax.lax.map(one, parts).reshape(-1)[: len(flat)].reshape(data.used.shape)
    count = jnp.sum(data.used, axis=1)
    mean = jnp.sum(jnp.where(data.used, losses, 0), axis=1) / count
    variance = jnp.sum(jnp.where(data.used, (losses - mean[:, None]) ** 2, 0), axis=1) / (count - 1)
    return mean, jnp.sqrt(variance / count)


@dataclasses.dataclass(frozen=True)
class Learner:
    """How members begin, and what they do with the windows of a step; these minimize the mean loss.

    Another kind of training is a subclass, whose members may hold more; `reweighting` has one. Equal learners share
    their compiled programs.
    """

    @property
    def settings(self) -> dict[str, Any]:
        """Settings in which two calls must agree to be the same swarm, beside those of the swarm."""
        return {}

    @property
    def networks(self) -> int:
        """Networks that a member holds, of which it trains one."""
        return 1

    def start(self, config: TrainConfig, key: Array, domains: int) -> Member:
        """Return a member before its first step."""
        return start(config, key, domains)

    def begin(self, members: Any) -> Any:
        """Return the stacked members before their first step, with what no key tells."""
        return members

    def learn(
        self,
        config: TrainConfig,
        member: Any,
        step: Int[Array, ""],
        domains: Int[Array, " B"],
        windows: Int[Array, "B L+1"],
        layout: Layout,
    ) -> tuple[Any, Bool[Array, ""]]:
        """Return the member after a step on windows of these domains, and whether loss and gradient were finite."""
        return update(config, member, windows, layout)


MEAN_LOSS = Learner()
