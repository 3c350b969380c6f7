"""Work that ends at a point of its own when a signal asks for it, so that the same call can go on from there."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# EX_TEMPFAIL of sysexits.h, "try again later": schedulers can tell it from a failure, and start the same command again.
STOPPED = 75


class Stopped(SystemExit):
    """Work was stopped by a signal and saved; a script that does not catch this exits with code 75 (`STOPPED`)."""

    def __init__(self, words: str) -> None:
        super().__init__(STOPPED)
        self.words = words

    def __str__(self) -> str:
        return self.words


class _Work:
    """Work in progress that ends by itself: what it was asked, as its thread and as others have seen it."""

    def __init__(self) -> None:
        self.asked = self.seen = False

    def handle(self, number: int, frame: object) -> None:
        """Take a signal; a second Ctrl-C is impatience, while a repeated SIGTERM is what schedulers do."""
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


_WORK: list[_Work] = []


@contextmanager
def at_boundaries() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGINT or SIGTERM has come, which end nothing inside; a second SIGINT does.

    Only the main thread gets signals; in another one, nothing changes and the function says False.

    Example:
        >>> with at_boundaries() as asked:
        ...     before = asked()
        ...     signal.raise_signal(signal.SIGTERM)
        ...     print(before, asked())
        False True
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    work = _Work()
    before = {number: signal.signal(number, work.handle) for number in SIGNALS}
    _WORK.append(work)
    try:
        yield lambda: work.asked
    finally:
        _WORK.remove(work)
        for number, handler in before.items():
            signal.signal(number, handler)


def taken(number: int) -> bool:
    """Return whether work in progress takes this signal and will end by itself; called by the thread that sees all."""
    if not _WORK:
        return False
    first, _WORK[-1].seen = not _WORK[-1].seen, True
    return first or number == signal.SIGTERM
