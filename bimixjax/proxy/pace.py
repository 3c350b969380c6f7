"""Pace of training: how many steps one call of the training program takes, and reports of the speed."""

import time
from typing import Protocol

import jax

# Short enough for a progress line, long beside the cost of a call; not tuned by a benchmark.
CALL_SECONDS = 0.5
# Processes must agree on the length of a call, so where there are several it does not depend on the clock.
SHARED_CALL = 16


class Progress(Protocol):
    """Callback that is called after each call of the training program."""

    def __call__(self, step: int, steps: int, tokens_per_second: float, seconds_left: float, /) -> None:
        """Report that `step` of `steps` are done, at this speed over all members since the start."""
        ...


class Pace:
    """Sets the number of steps of the next call from the time of the last one, and reports progress.

    Attributes:
        length: steps of the next call.
    """

    def __init__(self, steps: int, tokens_per_step: int, progress: Progress | None) -> None:
        self._steps, self._tokens, self._progress = steps, tokens_per_step, progress
        self._origin: tuple[int, float] | None = None
        self.length = 1 if jax.process_count() == 1 else SHARED_CALL

    def note(self, first: int, stop: int, seconds: float) -> None:
        """Record that steps [first, stop) took `seconds`."""
        if jax.process_count() == 1:
            # At most twice as long as before: the first calls are slow and say little.
            self.length = max(1, min(2 * (stop - first), round(CALL_SECONDS * (stop - first) / seconds)))
        now = time.perf_counter()
        # The first call compiles, so the clock starts when it ends.
        origin = self._origin = self._origin or (stop, now)
        rate = (stop - origin[0]) / (now - origin[1]) if stop > origin[0] else (stop - first) / seconds
        if self._progress is not None:
            self._progress(stop, self._steps, rate * self._tokens, (self._steps - stop) / rate)
