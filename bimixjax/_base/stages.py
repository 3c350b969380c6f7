"""Progress of long work, reported to the listener of this context: no argument is passed down for it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

# Takes a stage in words, how many of its parts are done, and how many there are.
Listener = Callable[[str, int, int], None]

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Report all stages inside to `listener`."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def say(stage: str, done: int, of: int) -> None:
    """Report to the listener, if there is one, how many parts of a stage are done."""
    if listener := _LISTENER.get():
        listener(stage, done, of)


def counted(stage: str, count: int, parts: Iterable[T]) -> Iterator[T]:
    """Yield the parts of a stage one by one, and report at the start and after each how many of `count` are done.

    Example:
        >>> with listening(print):
        ...     total = sum(counted("numbers added", 2, [3, 4]))
        numbers added 0 2
        numbers added 1 2
        numbers added 2 2
        >>> total
        7
    """
    say(stage, 0, count)
    for done, part in enumerate(parts, 1):
        yield part
        say(stage, done, count)
