"""Frozen dataclasses that are pytrees, and strict JSON for them."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import numpy as np

from bimixjax._checks import InputError
from bimixjax._files import write_text

T = TypeVar("T")

# An array of a record: NumPy as stored, JAX while a transformation looks at it.
Leaf = Any


def static(**kwargs: Any) -> Any:
    """Declare a record field that is part of the tree's structure rather than a leaf."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(static,))
def record(cls: type[T]) -> type[T]:
    """Make `cls` a frozen, keyword-only dataclass and a JAX pytree.

    Fields declared with `static()` are compared and hashed as structure; all others are leaves or subtrees.
    A record never validates in `__post_init__`, which would run on tracers: its builder does.
    """
    import jax

    made = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    fields = dataclasses.fields(made)  # type: ignore[arg-type]
    meta = [f.name for f in fields if f.metadata.get("static")]
    data = [f.name for f in fields if not f.metadata.get("static")]
    return jax.tree_util.register_dataclass(made, data_fields=data, meta_fields=meta)


def to_plain(value: Any) -> Any:
    """Turn records, arrays and tuples into what strict JSON can hold; a non-finite number becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return to_plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as strict JSON in one step."""
    write_text(path, json.dumps(to_plain(value), indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read one JSON file, or raise `InputError` that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON at line {error.lineno}: {error.msg}") from error
