"""How far long work is, for whoever listens in this context: nothing is passed down to say so."""

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
    """Tell `listener` of all stages inside."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def say(stage: str, done: int, of: int) -> None:
    """Tell the listener, if there is one, how many parts of a stage are done."""
    if listener := _LISTENER.get():
        listener(stage, done, of)


def counted(stage: str, count: int, parts: Iterable[T]) -> Iterator[T]:
    """Yield the parts of a stage one by one, and say at the begin and after each how many of `count` are done.

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
