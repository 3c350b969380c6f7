"""Devices, stacks, padding and members that stop change losses by rounding only, and nothing waits for ever."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.proxy.layouts import begin, begin_two, tables

# (data, model) of 8 devices: all there are.
SHAPES = [(1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (1, 4), (1, 8), (2, 2), (2, 4), (4, 2)]
# 5 members leave padding on 8, 4 and 2 devices along the member axis; a member that stops leaves others behind.
ALL = [
    {"devices": 8, "data": data, "model": model, "ill": ill, "settings": {"stack": stack}}
    for data, model in SHAPES
    for stack in (1, 8)
    for ill in ([], [1])
]
# How work may be cut up beside: members at once, passes, tokens read by the host.
CUTS: list[dict[str, Any]] = [
    {"microbatch": 4, "remat": True, "eval_batch": 5},
    {"resident_bytes": 0},
    {"resident_bytes": 0, "microbatch": 4, "stack": 2},
]
CUT = [
    {"devices": 8, "data": data, "model": model, "ill": [1], "settings": {"stack": 1} | cut}
    for data, model in SHAPES
    for cut in CUTS
    if cut.get("microbatch", 8) % data == 0
]
FEW = [
    {"devices": 8, "model": 2, "ill": [1], "settings": {"stack": 1}},
    {"devices": 8, "data": 2, "model": 2, "ill": [1], "settings": CUTS[0] | {"stack": 8, "resident_bytes": 0}},
]
TWO = [
    {"devices": 8, "data": 4, "model": 2, "ill": [1]},
    {"devices": 8, "data": 2, "ill": [1], "settings": {"resident_bytes": 0}},
]


def assert_alike(found: dict[str, list[str]], plain: dict[str, list[str]], ill: list[int]) -> None:
    stopped = {f"r{i} 2" for i in ill}
    for row in stopped:
        assert found.pop(row)[:5] == ["diverged at step 1", "", "", "", ""]
    well = {row: cells for row, cells in plain.items() if row.split()[0] not in {f"r{i}" for i in ill}}
    assert found.keys() == well.keys()
    for row, cells in well.items():
        assert (found[row][0], found[row][5]) == (cells[0], cells[5])
        np.testing.assert_allclose(np.array(found[row][1:5], float), np.array(cells[1:5], float), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def plain() -> dict[str, list[str]]:
    return tables(begin([{"devices": 1}], devices=1))[0]


def check(cases: list[dict[str, Any]], found: list[dict[str, list[str]]], plain: dict[str, list[str]]) -> None:
    for case, table in zip(cases, found, strict=True):
        assert_alike(table, plain, case.get("ill", []))


def test_a_member_that_stops_keeps_no_device_waiting(plain: dict[str, list[str]]) -> None:
    check(FEW, tables(begin(FEW)), plain)


@pytest.mark.exhaustive
@pytest.mark.parametrize("cases", [ALL, CUT])
def test_every_layout_loses_what_one_device_loses(cases: list[dict[str, Any]], plain: dict[str, list[str]]) -> None:
    check(cases, tables(begin(cases)), plain)


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
