"""A command that is told to end says so in one line, with one exit code, and leaves nothing half-written."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bimixjax.cli.console import FAILED
from bimixjax.cli.signals import INTERRUPTED
from bimixjax.observations import Observations

# `fit` says nothing while it works: here it says when it begins.
COMMAND = """
import sys
import bimixjax
fit = bimixjax.fit
def told(*arguments, **options):
    print("begun", file=sys.stderr, flush=True)
    return fit(*arguments, **options)
bimixjax.fit = told
from bimixjax.cli import main
main()
"""

# The main thread is in compiled code, which a handler waits for; or where exceptions are dropped.
STUCK = """
import hashlib, sys
from bimixjax.cli import signals
signals.end_at_signals(1)
words = "begun\\n"
while True:
    try:
        sys.stderr.write(words)
        words = ""
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
    except KeyboardInterrupt:  # it came before
        words = ""
"""
DROPPED = """
import gc, sys, time
from bimixjax.cli import signals
from bimixjax.cli.console import run
told = signals.end_at_signals(1)
def callback(phase, info):
    gc.callbacks.remove(callback)
    print("begun", file=sys.stderr, flush=True)
    time.sleep(60)
gc.callbacks.append(callback)
try:
    gc.collect()
    time.sleep(60)
except KeyboardInterrupt:
    print(signals.INTERRUPTED, file=sys.stderr)
signals.end(1)
"""


def ended(code: str, number: signal.Signals, *arguments: str) -> tuple[int, list[str]]:
    """Exit code and lines of stderr of a process that got a signal once it had begun."""
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(number)
        _, rest = process.communicate(timeout=120)
    return process.returncode, [first.strip(), *rest.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("code", [STUCK, DROPPED])
def test_a_signal_is_heeded_in_compiled_code_and_where_exceptions_are_dropped(
    code: str, number: signal.Signals
) -> None:
    assert ended(code, number) == (FAILED, ["begun", INTERRUPTED])


@pytest.mark.parametrize(
    ("arguments", "begun"),
    [
        (("fit", "my.csv", "--out", "fit.json"), "begun"),
        (("corpus", "store"), "bimix: corpus"),
        (("demo", "demo"), "bimix: corpus"),
    ],
)
def test_a_terminated_command_leaves_nothing_half_written(
    arguments: tuple[str, ...],
    begun: str,
    three_domains: Observations,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    three_domains.write("my.csv")
    assert ended(COMMAND, signal.SIGTERM, *arguments) == (FAILED, [begun, INTERRUPTED])
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {"my.csv", "demo/loop.json", "demo/.lock"}
