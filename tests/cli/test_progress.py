"""What long work says: bars on a terminal, lines in a log."""

import io
from contextlib import nullcontext
from pathlib import Path

import pytest
from rich.console import Console

import bimixjax
from bimixjax import FitResult, Observations
from bimixjax._base import stages
from bimixjax.cli import progress, run


@pytest.mark.parametrize(
    ("seconds", "clock"), [(0.2, "0:00"), (59.6, "1:00"), (75.4, "1:15"), (3599.0, "59:59"), (7325.0, "2:02:05")]
)
def test_time_left_reads_like_a_clock(seconds: float, clock: str) -> None:
    assert progress.pace(5, 1000, 61_234.0, seconds) == f"5 of 1,000 steps, 61,200 tokens/s, {clock} left"


def test_a_log_has_a_line_per_stage_and_one_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.shown() as watch:
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
    with progress.shown() as watch:
        watch("swarm")(5, 10, 1000.0, 8.0)
        watch("law")
    shown = screen.getvalue()
    assert "5 of 10 steps, 1,000 tokens/s, 0:08 left" in shown
    last = shown[shown.rindex("swarm") :]
    assert "law" in last
    assert "left" not in last


def test_stages_have_a_bar_with_the_time_left_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr("rich.console.Console", lambda **_: terminal)
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.counted("comparing laws"):
        for _ in stages.counted("laws compared", 4, "abcd"):
            now[0] += 10.0
            assert list(stages.counted("fits", 2, "xy")) == ["x", "y"]
    shown = screen.getvalue()
    assert "comparing laws" in shown
    assert "0 of 4" in shown
    assert "1 of 4, 0:30 left" in shown
    assert "3 of 4, 0:10 left" in shown
    assert "1 of 2, 0:00 left" in shown


def test_no_time_is_promised_once_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    left = progress.Parts(done=1, of=3, begun=0.0, at=5.0)
    for now, words in ((5.0, "1 of 3, 0:10 left"), (12.0, "1 of 3, 0:03 left"), (16.0, "1 of 3")):
        monkeypatch.setattr(progress.time, "monotonic", lambda now=now: now)
        assert str(left) == words


def test_nothing_is_written_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.counted("fitting"):
        assert list(stages.counted("fits", 2, "xy")) == ["x", "y"]
    assert capsys.readouterr() == ("", "")


def test_stages_are_said_to_the_listener_of_the_context_only() -> None:
    heard = []
    with stages.listening(lambda *said: heard.append(said)):
        list(stages.counted("a", 2, "xy"))
    list(stages.counted("b", 2, "xy"))
    assert heard == [("a", 0, 2), ("a", 1, 2), ("a", 2, 2)]


def test_compare_and_auto_say_how_far_they_are(three_domains: Observations) -> None:
    heard = []
    runs = three_domains.select(volume=(32000, None), unit="steps")
    laws = {"bimix": "bimix", "few": bimixjax.Auto(members=("offset", "transfer"))}
    with stages.listening(lambda *said: heard.append(said)):
        bimixjax.compare(laws, runs, targets=["web"], level=None)
    assert [said for said in heard if said[0] == "laws compared"] == [("laws compared", done, 2) for done in (0, 1, 2)]
    assert ("fits of laws for auto", 2, 2) in heard


def test_json_has_no_bar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, three_domain_fit: FitResult) -> None:
    three_domain_fit.save(tmp_path / "fit.json")
    begun = []
    monkeypatch.setattr(progress, "counted", lambda what: begun.append(what) or nullcontext())
    line = ["optimize", str(tmp_path / "fit.json"), "--volume", "16000"]
    assert run([*line, "--json"]) == 0
    assert begun == []
    assert run(line) == 0
    assert begun == ["searching"]
