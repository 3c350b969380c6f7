"""The hard stop of `benchmarks/accelerator.py`: whatever happens to a part, a whole JSON remains."""

import importlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from bimixjax._base.records import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    """The benchmark, in a place where its own processes find it, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("accelerator")


def dies(path: Path) -> None:
    write_json(path, {"first": 1})
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(path: Path) -> None:
    time.sleep(600)


def test_what_a_part_has_found_outlives_it(bench: ModuleType) -> None:
    found = bench.within(600, dies)
    assert (found["first"], found["failed"]) == (1, "exit code -9")


def test_a_part_that_hangs_is_ended(bench: ModuleType) -> None:
    found = bench.within(0.2, hangs)
    assert found.keys() == {"ended", "seconds"}


def test_the_hard_stop_leaves_every_part_in_the_json(bench: ModuleType, tmp_path: Path) -> None:
    found = read_json(bench.run(tmp_path / "found.json", tiny=True, seconds=0.2))["parts"]
    first, *others = bench.parts(tiny=True)
    assert [*found] == [first, *others]
    assert "ended" in found[first]
    assert all(found[name].keys() == {"left_out"} for name in others)
