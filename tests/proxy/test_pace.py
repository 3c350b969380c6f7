import pytest

from bimixjax.proxy import pace as module
from bimixjax.proxy.pace import Pace


def test_calls_grow_to_half_a_second() -> None:
    pace = Pace(1000, 10, None)
    lengths, step = [pace.length], 0
    for _ in range(8):
        stop = step + pace.length
        pace.note(step, stop, 0.02 * pace.length)
        step = stop
        lengths.append(pace.length)
    assert lengths == [1, 2, 4, 8, 16, 25, 25, 25, 25]


def test_a_slow_step_is_a_call_of_its_own() -> None:
    pace = Pace(10, 10, None)
    pace.note(0, 1, 30.0)
    assert pace.length == 1


def test_progress_says_speed_and_seconds_left(monkeypatch: pytest.MonkeyPatch) -> None:
    told, clock = [], iter([10.0, 12.0, 14.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    pace = Pace(20, 100, lambda *numbers: told.append(numbers))
    for first, stop, seconds in [(0, 2, 8.0), (2, 6, 1.0), (6, 10, 2.0)]:
        pace.note(first, stop, seconds)
    # The first call compiles; the speed after it is that of the wall clock, measuring and writing included.
    assert told == [(2, 20, 25.0, 72.0), (6, 20, 200.0, 7.0), (10, 20, 200.0, 5.0)]
