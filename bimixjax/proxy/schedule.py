"""Course of the learning rate after the warm-up: constant, or falling until the last step."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from bimixjax._base.checks import InputError, choice, share

SHAPES = ("constant", "cosine", "wsd", "exponential")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate of each update, as a factor of the greatest.

    With S steps of which W are the warm-up, p = (step - W) / (S - 1 - W) and f the factor at the last step:

        constant       1
        cosine         f + (1 - f) (1 + cos(pi p)) / 2
        wsd            1 - (1 - f) q,  q = (step + 1 - (1 - d) S) / (d S), at least 0   (warm-up, stable, decay)
        exponential    f^p

    Losses measured while the rate falls lie below those of a constant rate at that step, and on no curve of the volume.

    Attributes:
        shape: "constant", "cosine", "wsd" or "exponential".
        final: f; a tenth, as in Hoffmann et al. (arXiv 2203.15556) and MiniCPM (arXiv 2404.06395).
        decay: d, share of the steps in which "wsd" falls; a tenth to a fifth in MiniCPM.
        steps: S; None: those of the swarm.

    Raises:
        InputError: for another shape, or a number out of range.

    Example:
        >>> falling = Schedule(shape="wsd", decay=0.4, steps=5)
        >>> [round(float(falling.factor(step, 0)), 2) for step in range(5)]
        [1.0, 1.0, 1.0, 0.55, 0.1]
    """

    shape: str = "constant"
    final: float = 0.1
    decay: float = 0.2
    steps: int | None = None

    def __post_init__(self) -> None:
        choice("schedule", self.shape, SHAPES)
        share("decay of the schedule", self.decay)
        if not 0 <= self.final <= 1 or (self.final == 0 and self.shape == "exponential"):
            raise InputError(f"final of the schedule is {self.final}; allowed: 0 to 1, above 0 where it is exponential")

    def over(self, steps: int) -> "Schedule":
        """Return the schedule with S = `steps`, where it falls and says none itself."""
        falls = self.shape != "constant" and self.steps is None
        return dataclasses.replace(self, steps=steps) if falls else self

    def factor(self, step: Any, warmup: int) -> Any:
        """Return the factor of the update that follows `step` updates, of which `warmup` are the warm-up.

        Raises:
            InputError: where it falls and S is not known.
        """
        if self.shape == "constant":
            return 1.0
        if self.steps is None:
            raise InputError(f"schedule {self.shape!r} has no steps; allowed: how many there are until it ends")
        if self.shape == "wsd":
            begin, length = (1 - self.decay) * self.steps, self.decay * self.steps
            return 1 - (1 - self.final) * jnp.clip((step + 1 - begin) / length, 0, 1)
        part = jnp.clip((step - warmup) / max(1, self.steps - 1 - warmup), 0, 1)
        if self.shape == "cosine":
            return self.final + (1 - self.final) * (1 + jnp.cos(jnp.pi * part)) / 2
        return self.final**part
