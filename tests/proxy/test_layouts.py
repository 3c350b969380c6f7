"""Devices, stacks, padding and members that stop change losses by rounding only, and nothing waits for ever."""

from typing import Any

import numpy as np
import pytest

from tests.proxy.layouts import begin, tables

# (data, model) of 8 devices: all there are.
SHAPES = [(1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (1, 4), (1, 8), (2, 2), (2, 4), (4, 2)]
# 5 members leave padding on 8, 4 and 2 devices along the member axis; a member that stops leaves others behind.
ALL = [
    {"devices": 8, "data": data, "model": model, "ill": ill, "settings": {"stack": stack}}
    for data, model in SHAPES
    for stack in (1, 8)
    for ill in ([], [1])
]
FEW = [
    {"devices": 8, "model": 2, "ill": [1], "settings": {"stack": 1}},
    {"devices": 8, "data": 2, "model": 2, "ill": [1], "settings": {"stack": 8}},
]


def assert_alike(found: dict[str, list[str]], plain: dict[str, list[str]], ill: list[int]) -> None:
    stopped = {f"r{i} 2" for i in ill}
    for row in stopped:
        assert found.pop(row)[:5] == ["diverged at step 1", "", "", "", ""]
    plain = {row: cells for row, cells in plain.items() if row.split()[0] not in {f"r{i}" for i in ill}}
    assert found.keys() == plain.keys()
    for row, cells in plain.items():
        assert (found[row][0], found[row][5]) == (cells[0], cells[5])
        np.testing.assert_allclose(np.array(found[row][1:5], float), np.array(cells[1:5], float), rtol=0, atol=1e-5)


def check(cases: list[dict[str, Any]]) -> None:
    plain, *found = tables(begin([{"devices": 1}, *cases]))
    for case, table in zip(cases, found, strict=True):
        assert_alike(table, plain, case.get("ill", []))


def test_a_member_that_stops_keeps_no_device_waiting() -> None:
    check(FEW)


@pytest.mark.exhaustive
def test_every_layout_loses_what_one_device_loses() -> None:
    check(ALL)
