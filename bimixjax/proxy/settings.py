"""Settings of a swarm."""

import dataclasses
from pathlib import Path

from jax.sharding import Mesh

from bimixjax._base.checks import InputError, choice
from bimixjax._base.records import read_json
from bimixjax.proxy import trackers
from bimixjax.proxy.layout import SETTINGS
from bimixjax.proxy.memory import Wishes
from bimixjax.proxy.mesh import make_mesh
from bimixjax.proxy.model import PRESETS, ModelConfig
from bimixjax.proxy.schedule import Schedule
from bimixjax.proxy.train import TrainConfig

# Settings of how a swarm is computed, which may change from one call to the next.
HOW = {"checkpoint_every", "keep", "resident_bytes", "trackers", "data_devices", "model_devices"}
HOW |= {field.name for field in dataclasses.fields(Wishes)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwarmConfig:
    """Settings of a swarm.

    Attributes:
        train: how each member is trained.
        steps: S, optimizer steps of each run.
        eval_steps: steps at which validation losses are measured; empty: `geometric_steps(steps)`.
        targets: domains whose validation loss is measured; empty: those of the design.
        eval_windows: most validation windows per target.
        checkpoint_every: steps between checkpoints; there is one at each step measured, too.
        keep: checkpoints kept.
        resident_bytes: training tokens up to this size are held on the device; larger ones are read by the host.
        stack: members that a device computes at once; None: as many as fit on accelerators, one on a CPU.
        remat: whether blocks are computed again on the way back, which saves memory; None: where that is needed.
        microbatch: sequences of a member per pass, a divisor of the batch; None: as many as fit.
        eval_batch: validation windows of a member per pass; None: as many as sequences.
        device_memory: bytes that a device has; None: what it says, of a CPU its part of the machine's memory.
        deterministic: whether a GPU gives the same numbers each time, which may cost speed; other devices do anyway.
        data_devices: devices over which each member's batch is split.
        model_devices: devices over which each member's parameters are split.
        trackers: where reports go beside `metrics.jsonl`: "tensorboard", "wandb", "trackio"; each is an extra.

    Raises:
        InputError: where a number is out of range or a step to measure at lies outside 1 to `steps`.

    Example:
        >>> SwarmConfig(steps=160).measured
        (10, 15, 22, 33, 49, 72, 108, 160)
    """

    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    steps: int = 500
    eval_steps: tuple[int, ...] = ()
    targets: tuple[str, ...] = ()
    eval_windows: int = 64
    checkpoint_every: int = 500
    keep: int = 2
    resident_bytes: int = 2**31
    stack: int | None = None
    remat: bool | None = None
    microbatch: int | None = None
    eval_batch: int | None = None
    device_memory: float | None = None
    deterministic: bool = True
    data_devices: int = 1
    model_devices: int = 1
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; allowed: at least 1")
        # Checked there.
        _ = self.wishes
        if self.eval_windows < 2:
            raise InputError(f"eval_windows is {self.eval_windows}; allowed: at least 2, for a standard error")
        trackers.require(self.trackers)
        wrong = [step for step in self.eval_steps if not 1 <= step <= self.steps]
        if wrong:
            raise InputError(f"eval_steps has {wrong[0]}; allowed: 1 to {self.steps}, the steps of a run")

    def mesh(self) -> Mesh:
        """Lay out all devices; see `make_mesh`."""
        return make_mesh(data=self.data_devices, model=self.model_devices)

    @property
    def wishes(self) -> Wishes:
        """What of the layout is settled."""
        return Wishes(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Wishes)})

    @property
    def measured(self) -> tuple[int, ...]:
        """The steps at which losses are measured, ascending."""
        return tuple(sorted(set(self.eval_steps))) or geometric_steps(self.steps)

    @classmethod
    def read(cls, folder: str | Path, model_size: float | None = None) -> "SwarmConfig":
        """Read the settings that a swarm was begun with, so that other runs can be trained as its were.

        Args:
            folder: of the swarm.
            model_size: parameters, where the swarm has several sizes.

        Raises:
            InputError: where there is no swarm, or none of that size.
        """
        paths = [Path(folder) / SETTINGS] if (Path(folder) / SETTINGS).exists() else []
        paths = paths or sorted(Path(folder).glob(f"model-*/{SETTINGS}"))
        found = [_parsed(path) for path in paths]
        fitting = [one for one in found if model_size in (None, one.train.model.size)]
        if len(fitting) != 1:
            sizes = ", ".join(str(one.train.model.size) for one in found)
            there = f"swarms of {sizes} parameters" if found else f"no {SETTINGS} of a swarm"
            asked = "say which" if model_size is None else f"{model_size:g} was asked for"
            raise InputError(f"{folder} has {there}; {asked}")
        return fitting[0]

    def of_model(self, preset: str) -> "SwarmConfig":
        """Return the settings with another size of the model."""
        layers, width, heads = PRESETS[choice("model", preset, PRESETS)]
        model = dataclasses.replace(self.train.model, layers=layers, width=width, heads=heads)
        return dataclasses.replace(self, train=dataclasses.replace(self.train, model=model))


def _parsed(path: Path) -> SwarmConfig:
    """Build settings from the file of a swarm; those of how it was computed are the default ones."""
    try:
        config = read_json(path)["config"]
        train = config["train"]
        parts = {"model": ModelConfig(**train["model"]), "schedule": Schedule(**train["schedule"])}
        train = TrainConfig(**{**train, **parts, "decays": tuple(train["decays"])})
        lists = {name: tuple(config[name]) for name in ("eval_steps", "targets")}
        return SwarmConfig(**{**config, **lists, "train": train})
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} does not hold the settings of a swarm of this version: {error}") from error


def geometric_steps(steps: int, count: int = 8) -> tuple[int, ...]:
    """Return the distinct steps S 16^(i / (count - 1) - 1), i = 0, ..., count - 1, rounded: from S / 16 to S."""
    return tuple(sorted({max(1, round(steps * 16 ** (i / (count - 1) - 1))) for i in range(count)}))
