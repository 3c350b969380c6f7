"""Progress of long work on stderr: bars on a terminal, lines in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bimixjax._base import stages
from bimixjax._base.summaries import clock

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Report = Callable[[int, int, float, float], None]
LOG_SECONDS = 30.0


@contextmanager
def _bars(*, transient: bool) -> Iterator["Progress | None"]:
    """Yield bars on stderr; None where it is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[detail]}"))
    with Progress(*columns, console=console, transient=transient) as progress:
        yield progress


@contextmanager
def shown() -> Iterator[Callable[[str], Report]]:
    """Yield a function to call when a stage begins, which ends the one before; it returns what a swarm reports to."""
    with _bars(transient=False) as progress:
        if progress is None:
            yield _log
            return
        tasks: list[TaskID] = []

        def end() -> None:
            for task in tasks[-1:]:
                progress.update(task, completed=1, total=1, detail="")

        def begin(stage: str) -> Report:
            end()
            tasks.append(task := progress.add_task(stage, total=None, detail=""))

            def report(step: int, steps: int, tokens_per_second: float, seconds_left: float) -> None:
                detail = pace(step, steps, tokens_per_second, seconds_left)
                progress.update(task, completed=step, total=steps, detail=detail, refresh=True)

            return report

        yield begin
        end()


@contextmanager
def counted(what: str) -> Iterator[None]:
    """On a terminal, show what is at work and since when, and a bar with the time left for each stage.

    The bars go when the work has ended, and nothing is written where stderr is no terminal.
    """
    with _bars(transient=True) as progress:
        if progress is None:
            yield
            return
        progress.add_task(what, total=None, detail="")
        running: dict[str, tuple[TaskID, float]] = {}

        def listener(stage: str, done: int, of: int) -> None:
            if done == 0 and stage in running:
                progress.remove_task(running.pop(stage)[0])
            if stage not in running:
                running[stage] = progress.add_task(stage, total=of, detail=""), time.monotonic()
            task, begun = running[stage]
            detail = Parts(done=done, of=of, begun=begun, at=time.monotonic())
            progress.update(task, completed=done, detail=detail, refresh=True)

        with stages.listening(listener):
            yield


@dataclass(frozen=True, kw_only=True)
class Parts:
    """How many parts of a stage are done; as text, with the time that remains by now.

    The other parts are taken to last as long as those done; nothing is promised where they prove longer.
    """

    done: int
    of: int
    begun: float
    at: float

    def __str__(self) -> str:
        counts = f"{self.done} of {self.of}"
        if not 0 < self.done < self.of:
            return counts
        left = (self.at - self.begun) * (self.of - self.done) / self.done - (time.monotonic() - self.at)
        return f"{counts}, {clock(left)} left" if left >= 0 else counts


def pace(step: int, steps: int, tokens_per_second: float, seconds_left: float) -> str:
    """Say how far training is, how fast it goes, and how long the rest takes.

    Example:
        >>> pace(350, 700, 61_234.0, 75.4)
        '350 of 700 steps, 61,200 tokens/s, 1:15 left'
    """
    return f"{step:,} of {steps:,} steps, {round(tokens_per_second, -2):,.0f} tokens/s, {clock(seconds_left)} left"


def note(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"bimix: {text}\n")
    sys.stderr.flush()


def _log(stage: str) -> Report:
    """Write that a stage begins, and every half minute how far it is."""
    note(stage)
    before = time.monotonic()

    def report(step: int, steps: int, tokens_per_second: float, seconds_left: float) -> None:
        nonlocal before
        if time.monotonic() - before >= LOG_SECONDS:
            before = time.monotonic()
            note(f"{stage}: {pace(step, steps, tokens_per_second, seconds_left)}")

    return report
