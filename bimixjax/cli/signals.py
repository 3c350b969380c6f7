"""How a command ends at a signal: by Ctrl-C, or by SIGTERM, which schedulers send before they kill."""

import _thread
import contextlib
import os
import signal
import sys
import threading
from typing import Any, TextIO

from bimixjax._base import stopping
from bimixjax._base.stopping import SIGNALS

INTERRUPTED = "bimix: interrupted"
STOPPING = "bimix: stopping once the steps at work are saved; Ctrl-C ends at once"

# What an interrupted command has to clean up takes less; compiled code that it is in may take longer.
_GRACE = 3.0
_SHOW_CURSOR = "\x1b[?25h"


def end_at_signals(code: int) -> threading.Event:
    """Raise KeyboardInterrupt in the main thread at either signal; end the process with `code` if that is not enough.

    Python runs handlers of signals between two steps of the main thread, so neither while that waits for compiled code,
    nor with any effect in a callback whose exceptions are dropped. A thread therefore ends the process a little later:
    files are whole or absent at any moment. Work that saves where it is and ends by itself is left to do so.

    Returns:
        An event that is set once a signal has come.
    """
    signaled = threading.Event()
    receive, send = os.pipe()
    os.set_blocking(send, False)
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)
    signal.set_wakeup_fd(send, warn_on_full_buffer=False)
    sys.unraisablehook = _again
    threading.Thread(target=_watch, args=(receive, signaled, code), daemon=True).start()
    return signaled


def _watch(receive: int, signaled: threading.Event, code: int) -> None:
    """Wait for a signal that no work takes, then for the main thread to end the process, then end it."""
    told = False
    while (number := os.read(receive, 1)[0]) not in SIGNALS or stopping.taken(number):
        if number in SIGNALS and not told:
            told = True
            _write(sys.stderr, f"{STOPPING}\n")
    signaled.set()
    threading.Event().wait(_GRACE)
    end(code, f"{_SHOW_CURSOR if sys.stderr.isatty() else ''}{INTERRUPTED}\n")


def end(code: int, words: str = "") -> None:
    """End the process without waiting for its threads, which may be compiling."""
    _write(sys.stdout, "")
    _write(sys.stderr, words)
    os._exit(code)


def _write(stream: TextIO, text: str) -> None:
    with contextlib.suppress(OSError):
        stream.write(text)
        stream.flush()


def _again(dropped: Any) -> None:
    """Interrupt again where the exception was dropped, for example in a callback of the garbage collector."""
    if isinstance(dropped.exc_value, KeyboardInterrupt):
        threading.Timer(0.05, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(dropped)
