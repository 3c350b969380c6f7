"""Drawings as parts of a page: small, with no id, color or text of their own making."""

import re

import numpy as np

from bimixjax.reports.html import drawings, elements
from bimixjax.reports.lanes import FittedLosses, Lane


def losses(count: int) -> FittedLosses:
    """Two lanes with `count` rows each, predicted 1 % too high."""
    measured = np.linspace(2, 3, count)
    run = np.array([f"r{i}" for i in range(count)], object)
    rest = {"model_size": None, "run": run, "volume": np.ones(count), "own": np.full(count, 0.5)}
    lanes = [Lane(target=name, measured=measured, predicted=1.01 * measured, **rest) for name in ("_web", "a $b$")]
    return FittedLosses(law="bimix", volume_unit=None, lanes=tuple(lanes))


def test_few_dots_are_shapes_and_many_are_one_picture() -> None:
    few, many = (elements.svg(drawings.fitted(losses(count))[0], "x") for count in (50, 4000))
    assert few.count("<use") >= 50
    assert "<image" not in few
    assert 'href="data:image/png;base64,' in many
    assert len(many) < 200_000


def test_a_drawing_has_names_for_colors_and_ids_of_its_own() -> None:
    first, second = (elements.svg(one, name) for one, name in zip(drawings.fitted(losses(5)), "ab", strict=True))
    ids = [set(re.findall(r'id="([^"]*)"', each)) for each in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert "var(--mark-0072b2)" in first
    assert not re.search(r"#[0-9a-f]{6}", re.sub(r'(id|href)="[^"]*"|url\([^)]*\)', "", first))
    assert "font-family" not in first
    assert ">_web<" in first.replace("\u200b", "")
    assert ">a $b$<" in second
