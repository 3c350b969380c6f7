"""What a swarm says about its training: one line of JSON for each report, and its speed beside the table."""

import dataclasses
import json
import os
import platform
import resource
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bimixjax._base.records import to_plain, write_json
from bimixjax.proxy import storage
from bimixjax.proxy.cost import flops_per_token, utilization
from bimixjax.proxy.fleet import BEAT
from bimixjax.proxy.layout import LOCK, METRICS, SPEED
from bimixjax.proxy.pace import Progress
from bimixjax.proxy.programs import Measured
from bimixjax.proxy.trackers import Tracker, opened
from bimixjax.proxy.train import TRAINING, TrainConfig

# Between two reports of the pace; losses are reported whenever they are measured.
REPORT_SECONDS = 10.0
COMPILED = "/jax/core/compile/backend_compile_duration"


class Metrics:
    """Reports of one training of a swarm, appended to `metrics.jsonl`; a later training goes on below.

    Each line has `time` (seconds since the epoch), `event` and what belongs to it:

        begun      step, steps, runs, devices, host
        pace       step, tokens_per_second (of all runs), seconds_left
        measured   step, loss (mean over runs and targets), train_loss (mean over runs)
        stopped    step
        done       step, and what `speed.json` has

    A run that diverged is in no mean. Trackers get the numbers of each line, too.
    """

    def __init__(
        self, folder: Path, train: TrainConfig, runs: int, progress: Progress | None, trackers: Sequence[Tracker] = ()
    ) -> None:
        self._path, self._speed, self._trackers = folder / METRICS, folder / SPEED, trackers
        self._train, self._runs, self._progress = train, runs, progress
        self._reported = float("-inf")
        self._pace: tuple[float, float] = (float("nan"), float("nan"))
        self._since, self.compile_seconds = time.perf_counter(), 0.0
        if storage.writes() and self._path.exists() and self._path.stat().st_size:
            with self._path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                whole = file.read() == b"\n"
            if not whole:
                storage.append_text(self._path, "\n")

    def say(self, event: str, step: int, **numbers: Any) -> None:
        """Append one line."""
        line = {"time": round(time.time(), 3), "event": event, "step": step, **numbers}
        storage.append_text(self._path, json.dumps(to_plain(line), allow_nan=False) + "\n")
        scalars = {
            name: float(number) for name, number in numbers.items() if isinstance(number, int | float | np.number)
        }
        for tracker in self._trackers:
            tracker.log(scalars, step)

    def begun(self, step: int, steps: int) -> None:
        """Report that the training begins, or goes on, after `step` steps."""
        self.say("begun", step, steps=steps, runs=self._runs, devices=len(jax.devices()), host=platform.node())

    def measured(self, step: int, measured: Measured, previous: int) -> None:
        """Report mean losses of the runs that train; `previous` is the step measured before."""
        trains = np.asarray(measured.stopped) == TRAINING
        if trains.any():
            trained = np.asarray(measured.trained)[trains] / (step - previous)
            self.say("measured", step, loss=np.asarray(measured.losses)[trains].mean(), train_loss=trained.mean())

    def progress(self, step: int, steps: int, tokens_per_second: float, seconds_left: float) -> None:
        """Report the pace to the caller always, and to the file from time to time."""
        self._pace = tokens_per_second, seconds_left
        if self._progress is not None:
            self._progress(step, steps, tokens_per_second, seconds_left)
        if time.perf_counter() - self._reported >= REPORT_SECONDS:
            self._reported = time.perf_counter()
            self.say("pace", step, tokens_per_second=round(tokens_per_second, 1), seconds_left=round(seconds_left, 1))

    def speed(self) -> dict[str, Any]:
        """Return how fast this training was, and on what.

        `utilization` is that of the model's operations (`flops_per_token`) beside the devices' bfloat16 peak, null
        where that is not known; memory is the most that one device, and this process, had in use.
        """
        devices = jax.devices()
        used = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        kind, rate = devices[0].device_kind, self._pace[0]
        return {
            "tokens_per_second": rate,
            "flops_per_token": flops_per_token(self._train.model),
            "utilization": utilization(rate, self._train.model, kind, len(devices)),
            "compile_seconds": self.compile_seconds,
            "seconds": time.perf_counter() - self._since,
            "peak_device_bytes": used,
            "peak_host_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "device": kind,
            "devices": len(devices),
            "processes": jax.process_count(),
            "parameters": self._train.model.size,
            "runs": self._runs,
        }

    def done(self, step: int) -> None:
        """Report the end, and write the speed of this training, where it has trained."""
        found = self.speed()
        self.say("done", step, **found)
        if storage.writes():
            write_json(self._speed, found)


@contextmanager
def reporting(
    folder: Path, train: TrainConfig, runs: int, progress: Progress | None, trackers: Sequence[str] = ()
) -> Iterator[Metrics]:
    """Yield the metrics of a training; meanwhile the lock's time is a sign of life, and compilations are timed."""
    told = opened(trackers, folder, dataclasses.asdict(train)) if storage.writes() else []
    metrics, ended = Metrics(folder, train, runs, progress, told), threading.Event()

    def compiled(event: str, duration_secs: float, **_: Any) -> None:
        metrics.compile_seconds += duration_secs if event == COMPILED else 0.0

    def beat() -> None:
        while not ended.wait(BEAT):
            with suppress(OSError):  # the training itself says what is wrong with its folder
                os.utime(folder / LOCK)

    jax.monitoring.register_event_duration_secs_listener(compiled)
    alive = threading.Thread(target=beat, daemon=True)
    if storage.writes():
        alive.start()
    try:
        yield metrics
    finally:
        ended.set()
        for tracker in told:
            tracker.close()
        jax.monitoring.unregister_event_duration_listener(compiled)
