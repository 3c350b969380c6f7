"""Devices, stacks, padding and members that stop change losses by rounding only, and nothing waits for ever."""

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.proxy.layouts import begin, begin_two, tables

# (data, model) of 8 devices: all there are.
SHAPES = [(1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (1, 4), (1, 8), (2, 2), (2, 4), (4, 2)]
# How else work may be cut up; the first of each is the plainest. Of 5 members, some of 8, 4 and 2 devices along the
# member axis have none; one that stops leaves the others behind.
FACTORS: dict[str, tuple[Any, Any]] = {
    "members": (8, 5),
    "ill": ([], [1]),
    "stack": (1, 8),
    "remat": (False, True),
    "microbatch": (8, 4),
    "eval_batch": (6, 5),
    "resident_bytes": (2**20, 0),
    "sharded": (False, True),
}
OF_CASE = ("members", "ill", "sharded")


def levels() -> list[tuple[tuple[int, int], tuple[int, ...]]]:
    """Return a shape and the level of each factor for each case: any two of all those meet somewhere.

    A shape has some levels and, in a second case, all the others; so each of them meets it. Two factors have equal
    levels in some shapes and different ones in others; so all four pairs of theirs meet.
    """
    random = np.random.default_rng(1)
    firsts = [tuple(random.integers(0, 2, len(FACTORS)).tolist()) for _ in SHAPES]
    return [
        (shape, tuple(level ^ other for level in first))
        for shape, first in zip(SHAPES, firsts, strict=True)
        for other in (0, 1)
    ]


def case_of(shape: tuple[int, int], chosen: tuple[int, ...]) -> dict[str, Any]:
    values = {name: pair[level] for (name, pair), level in zip(FACTORS.items(), chosen, strict=True)}
    # A microbatch has a sequence for each device along data at least.
    values["microbatch"] = max(values["microbatch"], shape[0])
    own = {name: values.pop(name) for name in OF_CASE}
    return {"devices": 8, "data": shape[0], "model": shape[1], "settings": values, **own}


COVERING = [case_of(*one) for one in levels()]
FEW = [
    {"devices": 8, "model": 2, "ill": [1], "settings": {"stack": 1}},
    {
        "devices": 8,
        "data": 2,
        "model": 2,
        "ill": [1],
        "sharded": True,
        "settings": {"microbatch": 4, "remat": True, "eval_batch": 5, "stack": 8, "resident_bytes": 0},
    },
]
TWO = [
    {"devices": 8, "data": 4, "model": 2, "ill": [1]},
    {"devices": 8, "data": 2, "ill": [1], "settings": {"resident_bytes": 0}},
]


def assert_alike(found: dict[str, list[str]], plain: dict[str, list[str]], case: dict[str, Any]) -> None:
    ill, runs = case.get("ill", []), {f"r{i}" for i in range(case.get("members", 5))}
    stopped = {f"r{i} 2" for i in ill}
    for row in stopped:
        assert found.pop(row)[:5] == ["diverged at step 1", "", "", "", ""]
    well = {row: cells for row, cells in plain.items() if row.split()[0] in runs - {f"r{i}" for i in ill}}
    assert found.keys() == well.keys()
    for row, cells in well.items():
        assert (found[row][0], found[row][5]) == (cells[0], cells[5])
        np.testing.assert_allclose(np.array(found[row][1:5], float), np.array(cells[1:5], float), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def plain() -> dict[str, list[str]]:
    return tables(begin([{"devices": 1, "members": 8}], devices=1))[0]


def check(cases: list[dict[str, Any]], found: list[dict[str, list[str]]], plain: dict[str, list[str]]) -> None:
    for case, table in zip(cases, found, strict=True):
        assert_alike(table, plain, case)


def test_a_member_that_stops_keeps_no_device_waiting(plain: dict[str, list[str]]) -> None:
    check(FEW, tables(begin(FEW)), plain)


def test_any_two_ways_to_cut_the_work_meet_in_some_layout() -> None:
    rows = [(SHAPES.index(shape), *chosen) for shape, chosen in levels()]
    for (i, first), (j, second) in itertools.combinations(enumerate(zip(*rows, strict=True)), 2):
        assert len(set(zip(first, second, strict=True))) == len(set(first)) * len(set(second)), (i, j)


@pytest.mark.exhaustive
def test_every_layout_loses_what_one_device_loses(plain: dict[str, list[str]]) -> None:
    check(COVERING, tables(begin(COVERING)), plain)


@pytest.mark.slow
def test_two_processes_lose_what_one_device_loses(tmp_path: Path, plain: dict[str, list[str]]) -> None:
    cases = [case | {"folder": str(tmp_path / str(i))} for i, case in enumerate(TWO)]
    for process in begin_two(cases):
        check(cases, tables(process), plain)


@pytest.mark.exhaustive
@pytest.mark.parametrize("resident_bytes", [0, 10**6])
@pytest.mark.parametrize("killed", [0, 1])
def test_two_processes_of_which_one_is_killed_go_on_to_the_same_table(
    tmp_path: Path, resident_bytes: int, killed: int
) -> None:
    long = {"resident_bytes": resident_bytes, "steps": 400, "eval_steps": list(range(20, 401, 20))}
    cases = [
        {"devices": 8, "data": 2, "folder": str(tmp_path / name), "settings": long} for name in ("whole", "killed")
    ]
    for process in begin_two(cases[:1]):
        tables(process)
    path, both = tmp_path / "killed" / "observations.csv", begin_two(cases[1:])
    while not (path.exists() and path.stat().st_size > 3000):
        assert all(process.poll() is None for process in both)
        time.sleep(0.01)
    both[killed].kill()
    for process in both:
        # The other one finds out by itself.
        process.communicate(timeout=200)
        assert process.returncode
    whole = (tmp_path / "whole" / "observations.csv").read_bytes()
    assert path.stat().st_size < len(whole)
    for process in begin_two(cases[1:]):
        tables(process)
    assert path.read_bytes() == whole
