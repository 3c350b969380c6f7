"""Frozen dataclasses that are pytrees, and strict JSON for them."""

import dataclasses
import hashlib
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform

import numpy as np

from bimixjax._base import provenance
from bimixjax._base.checks import InputError
from bimixjax._base.files import read_text, write_text
from bimixjax._base.provenance import PROVENANCE

T = TypeVar("T")

# The field of a file of ours that holds the hash of all others.
HASH = "sha256"
_REMEDY = f"if that was on purpose, remove the field {HASH}, else write the file anew"


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


def write_json(path: str | Path, value: Any, *, hashed: bool = False) -> None:
    """Write `value` as strict JSON in one step; `hashed`, an object says by its own hash what it holds, and its origin.

    The origin is what made it, see `provenance.of`; a writer of a file that moves elsewhere gives it.
    """
    plain = to_plain(value)
    if hashed:
        plain.pop(HASH, None)
        plain.setdefault(PROVENANCE, provenance.of(path))
        plain[HASH] = _hash(plain)
    write_text(path, json.dumps(plain, indent=2, allow_nan=False) + "\n")
    if hashed and (work := provenance.under_way()):
        work.inside.add(Path(path))


def read_json(path: str | Path, *, sealed: bool = False) -> Any:
    """Read one JSON file, without what it says of its origin.

    Args:
        path: the file.
        sealed: whether a file without a hash is refused.

    Raises:
        InputError: where it cannot be read, is not strict JSON, or is not what its own hash says that it was.
    """
    found, intact = _parsed(path)
    if intact is None and sealed:
        raise InputError(f"{path} has no field {HASH}: nothing tells whether it was changed; write the file anew")
    if intact is False:
        remedy = "write the file anew" if sealed else _REMEDY
        raise InputError(f"{path} was changed after it was written: it is not what its field {HASH} says; {remedy}")
    if isinstance(found, dict) and isinstance(found.get(PROVENANCE), dict):
        del found[PROVENANCE]
    return found


def read_origin(path: str | Path) -> tuple[dict[str, Any] | None, bool | None]:
    """Return what a JSON file says of its origin, if anything, and whether it is what its hash says; None without one.

    Raises:
        InputError: where it cannot be read or is not strict JSON.
    """
    found, intact = _parsed(path)
    origin = found.get(PROVENANCE) if isinstance(found, dict) else None
    return (origin if isinstance(origin, dict) else None), intact


def _parsed(path: str | Path) -> tuple[Any, bool | None]:
    """Return what a file holds beside its hash, and whether it is what the hash says; None where it has no hash."""
    text = read_text(path)
    try:
        found = json.loads(text, parse_constant=_refuse, object_pairs_hook=_no_key_twice)
        if not isinstance(found, dict) or HASH not in found:
            return found, None
        stated = found.pop(HASH)
        return found, stated == _hash(found)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON at line {error.lineno}: {error.msg}") from error
    except RecursionError as error:
        raise InputError(f"{path}: not a file of ours: it is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{path}: not strict JSON: {error}") from error


def _hash(plain: Any) -> str:
    """Hash what a file holds, however it is laid out."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number there; null is what stands for it")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"an object names {Counter(key for key, _ in pairs).most_common(1)[0][0]!r} twice")
    return found
