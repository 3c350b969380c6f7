"""What long work says: bars on a terminal, lines in a log."""

import io

import pytest
from rich.console import Console

from bimixjax import _progress


@pytest.mark.parametrize(
    ("seconds", "clock"), [(0.2, "0:00"), (59.6, "1:00"), (75.4, "1:15"), (3599.0, "59:59"), (7325.0, "2:02:05")]
)
def test_time_left_reads_like_a_clock(seconds: float, clock: str) -> None:
    assert _progress.said(5, 1000, 61_234.0, seconds) == f"5 of 1,000 steps, 61,200 tokens/s, {clock} left"


def test_a_log_has_a_line_per_stage_and_one_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    with _progress.shown() as watch:
        report = watch("swarm of 2 runs")
        for step, now[0] in ((1, 10.0), (2, 31.0), (3, 40.0), (4, 62.0)):
            report(step, 4, 1000.0, 8.0)
        watch("law")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "bimix: swarm of 2 runs",
        "bimix: swarm of 2 runs: 2 of 4 steps, 1,000 tokens/s, 0:08 left",
        "bimix: swarm of 2 runs: 4 of 4 steps, 1,000 tokens/s, 0:08 left",
        "bimix: law",
    ]


def test_a_terminal_has_a_bar_per_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr("rich.console.Console", lambda **_: terminal)
    with _progress.shown() as watch:
        watch("swarm")(5, 10, 1000.0, 8.0)
        watch("law")
    shown = screen.getvalue()
    assert "5 of 10 steps, 1,000 tokens/s, 0:08 left" in shown
    last = shown[shown.rindex("swarm") :]
    assert "law" in last
    assert "left" not in last
