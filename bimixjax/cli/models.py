"""Options that say how small models are trained: their size, optimizer, batches, and layout on devices."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from bimixjax.cli.options import Names, Number, Whole, names

if TYPE_CHECKING:
    from bimixjax.proxy import SwarmConfig

# Settings of how a swarm is computed, which bear the names of its configuration.
LAYOUT = (
    "stack",
    "microbatch",
    "remat",
    "eval_batch",
    "device_memory",
    "deterministic",
    "data_devices",
    "model_devices",
)
Size = Literal["0.1m", "1m", "10m", "60m", "85m", "150m", "300m", "800m", "1b"]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The options of a training."""

    model: Annotated[Size, arg(metavar="SIZE")] = "0.1m"
    """Parameters of the model: 0.1m, 1m, 10m, 60m, 85m, 150m, 300m, 800m, 1b; where no design says one."""
    context: Annotated[Whole, arg(metavar="TOKENS")] = 128
    """Length of the training sequences."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of activations and products."""
    batch: Annotated[Whole, arg(metavar="NUMBER")] = 16
    """Sequences per step."""
    steps: Annotated[Whole, arg(metavar="NUMBER")] = 500
    """Optimizer steps of each run."""
    learning_rate: Annotated[float, arg(metavar="NUMBER")] = 3e-3
    """Learning rate after the warm-up."""
    base_width: Annotated[Whole | None, arg(metavar="NUMBER")] = 64
    """The width at which that learning rate holds; a model of width W has it times this over W. None: it is for all."""
    warmup: Annotated[Whole, arg(metavar="STEPS")] = 20
    """Steps of the warm-up."""
    schedule: Literal["constant", "cosine", "wsd", "exponential"] = "constant"
    """Learning rate after the warm-up: constant, or falling to a tenth; wsd falls in the last fifth of the steps."""
    z_loss: Annotated[float, arg(metavar="NUMBER")] = 0.0
    """Weight of the squared logarithm of the softmax's normalizer in what is minimized, such as 1e-4."""
    eval_windows: Annotated[Whole, arg(metavar="NUMBER")] = 64
    """Most validation sequences per domain."""
    checkpoint_every: Annotated[Whole, arg(metavar="STEPS")] = 500
    """Steps between checkpoints."""
    track: Names = ()
    """Where reports go beside metrics.jsonl in the folder: tensorboard, wandb, trackio; each is an extra to install."""
    stack: Annotated[int | None, arg(metavar="NUMBER", help_behavior_hint="")] = None
    """Members that a device computes at once. Default: as many as fit, on a CPU one."""
    microbatch: Annotated[int | None, arg(metavar="NUMBER", help_behavior_hint="")] = None
    """Sequences of a member per pass. Default: as many of the batch as fit."""
    remat: Annotated[bool | None, arg(help_behavior_hint="")] = None
    """Compute each block again on the way back, which saves memory. Default: where nothing else fits."""
    eval_batch: Annotated[int | None, arg(metavar="NUMBER", help_behavior_hint="")] = None
    """Validation sequences of a member per pass. Default: as many as in training."""
    device_memory: Number = None
    """Bytes that a device has. Default: what it says."""
    deterministic: Annotated[bool, arg(help_behavior_hint="")] = True
    """Let a GPU sum in any order, which may be faster, with other last digits each time."""
    data_devices: Annotated[Whole, arg(metavar="NUMBER", aliases=["--data"])] = 1
    """Devices over which the batch of a member is split."""
    model_devices: Annotated[Whole, arg(metavar="NUMBER")] = 1
    """Devices over which the parameters of a member are split."""

    def settings(self, vocab_size: int, *, eval_steps: tuple[int, ...], targets: tuple[str, ...] = ()) -> "SwarmConfig":
        """Return what each run does, measured at some steps on the validation text of some domains."""
        from bimixjax.proxy import ModelConfig, Schedule, SwarmConfig, TrainConfig

        model = ModelConfig.preset(self.model, vocab=vocab_size, context=self.context, dtype=self.dtype)
        own: dict[str, Any] = {
            name: getattr(self, name) for name in ("batch", "learning_rate", "base_width", "warmup", "z_loss")
        }
        train = TrainConfig(model=model, schedule=Schedule(shape=self.schedule), **own)
        same: dict[str, Any] = {name: getattr(self, name) for name in ("steps", "eval_windows", "checkpoint_every")}
        same |= {name: getattr(self, name) for name in LAYOUT}
        same |= {"targets": targets, "trackers": names(self.track)}
        return SwarmConfig(train=train, eval_steps=eval_steps, **same)
