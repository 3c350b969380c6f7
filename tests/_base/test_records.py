"""Records: frozen, keyword-only, pytrees; strict JSON."""

import dataclasses
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bimixjax import InputError
from bimixjax._base.records import read_json, record, static, to_plain, write_json


@record
class Curve:
    name: str = static()
    unit: str = static(default="steps")
    scale: jax.Array
    inner: tuple[jax.Array, ...] = ()


def curve() -> Curve:
    return Curve(name="web", scale=jnp.arange(3.0), inner=(jnp.ones(2),))


def test_records_are_frozen_and_take_keywords_only() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        curve().name = "code"  # type: ignore[misc]
    with pytest.raises(TypeError):
        Curve("web", jnp.arange(3.0))  # type: ignore[misc]


def test_static_fields_are_structure_and_the_rest_leaves() -> None:
    leaves, structure = jax.tree.flatten(curve())
    assert [leaf.shape for leaf in leaves] == [(3,), (2,)]
    assert structure == jax.tree.structure(curve())
    assert structure != jax.tree.structure(dataclasses.replace(curve(), name="code"))


def test_records_pass_through_jit_grad_and_vmap() -> None:
    doubled = jax.jit(lambda c: dataclasses.replace(c, scale=2 * c.scale))(curve())
    assert doubled.name == "web"
    assert doubled.scale.tolist() == [0, 2, 4]
    slope = jax.grad(lambda c: jnp.sum(c.scale**2))(curve())
    assert slope.scale.tolist() == [0, 2, 4]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), curve(), curve())
    assert jax.vmap(lambda c: jnp.sum(c.scale))(stacked).tolist() == [3, 3]


def test_plain_values() -> None:
    value = {"curve": curve(), 3: np.float64(0.5), "bad": [math.inf, math.nan, np.nan], "n": np.int64(7), "b": True}
    assert to_plain(value) == {
        "curve": {"name": "web", "unit": "steps", "scale": [0, 1, 2], "inner": [[1, 1]]},
        "3": 0.5,
        "bad": [None, None, None],
        "n": 7,
        "b": True,
    }


def test_json_is_strict_and_exact(tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    write_json(path, {"x": np.array([0.1, 1 / 3, np.nan, -np.inf]), "none": None})
    assert read_json(path) == {"x": [0.1, 1 / 3, None, None], "none": None}
    assert "NaN" not in path.read_text(encoding="utf-8")


def test_what_json_cannot_hold_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "fit.json", {"x": object()})
    assert not list(tmp_path.iterdir())


def test_unreadable_json(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.json: no such file"):
        read_json(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text('{\n "a": 1,\n}', encoding="utf-8")
    with pytest.raises(InputError, match=r"broken.json: not JSON at line [23]"):
        read_json(tmp_path / "broken.json")
