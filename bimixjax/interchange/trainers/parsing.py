"""Values out of the files of trainers: one clear error for what is not as it must be."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bimixjax._base.checks import InputError
from bimixjax._base.files import read_text
from bimixjax._base.records import read_json

YAML = (".yaml", ".yml")
_SHOWN = 40


class _Loader(yaml.SafeLoader):
    """YAML in which a mapping that names a key twice is an error: trainers keep the last one, and say nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping."""
        seen = set()
        for key, _ in node.value:
            name = getattr(key, "value", None)
            if isinstance(name, str) and name != "<<" and name in seen:
                line = key.start_mark.line + 1
                raise InputError(f"line {line} names {name!r} a second time; the trainer would read the last one only")
            seen |= {name} if isinstance(name, str) else set()
        return super().construct_mapping(node, deep)


def load(path: str | Path) -> Any:
    """Read a file: JSON and YAML parsed, by its suffix, and anything else as text."""
    path = Path(path)
    return read_json(path) if path.suffix == ".json" else parse(read_text(path), path.suffix, str(path))


def parse(text: str, suffix: str, where: str) -> Any:
    """Parse the text of a file by its suffix."""
    if suffix == ".json":
        return json.loads(text)
    if suffix not in YAML:
        return text
    try:
        return yaml.load(text, _Loader)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError) as error:
        # What YAML takes for a number, a date or a key may be none to Python.
        raise InputError(f"{where}: not YAML that can be read: {error}") from error


def dump(document: Any) -> str:
    """Write YAML, with keys in their order and the numbers in full."""
    return yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True)


def number(value: Any, where: str) -> float:
    """Return a number that is finite and not negative."""
    if isinstance(value, str):
        raise InputError(f"{where} is the text {value[:_SHOWN]!r}; allowed: a number (YAML wants 1.0e-5 for 1e-5)")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where} is {shown(value)}; allowed: a number")
    try:
        found = float(value)
    except OverflowError as error:
        raise InputError(f"{where} is a whole number of many digits; allowed: a number") from error
    if not math.isfinite(found) or found < 0:
        raise InputError(f"{where} is {found}; allowed: finite, >= 0")
    return found


def whole(value: Any, where: str, low: int = 0, high: int = 2**62) -> int:
    """Return a whole number within limits."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{where} is {shown(value)}; allowed: a whole number from {low}")
    return value


def text(value: Any, where: str) -> str:
    """Return a text that is not blank."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise InputError(f"{where} is {shown(value)}; allowed: a text that is not blank")
    return value


def texts(value: Any, where: str) -> tuple[str, ...]:
    """Return a list of texts, or one text as a list."""
    return tuple(
        text(item, f"{where}[{i}]")
        for i, item in enumerate(listed([value] if isinstance(value, str) else value, where))
    )


def listed(value: Any, where: str) -> list[Any]:
    """Return a list that is not empty."""
    if not isinstance(value, list) or not value:
        raise InputError(f"{where} is {shown(value)}; allowed: a list, not empty")
    return value


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return an object that is not empty and has names for keys."""
    if not isinstance(value, dict) or not value:
        raise InputError(f"{where} is {shown(value)}; allowed: an object, not empty")
    for key in value:
        text(key, f"{where}: a key")
    return value


def numbers(value: Any, where: str) -> dict[str, float]:
    """Return numbers by name."""
    return {name: number(item, f"{where}.{name}") for name, item in mapping(value, where).items()}


def inner(found: Any, *keys: str) -> Any:
    """Return what stands under the first of the keys that there is, or the whole where there is none of them."""
    if isinstance(found, Mapping):
        for key in keys:
            if key in found:
                return found[key]
    return found


def shown(value: Any) -> str:
    """Describe a value in an error."""
    if isinstance(value, list | dict):
        return f"a list of {len(value)}" if isinstance(value, list) else "an object"
    if value is None:
        return "nothing"
    written = repr(value) if not isinstance(value, int) or abs(value) < 10**_SHOWN else "a whole number of many digits"
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}..."


def written_number(value: Any, where: str) -> float:
    """Return a number that may be written as text, as a trainer takes it that calls `float`."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError as error:
            raise InputError(f"{where} is {shown(value)}; allowed: a number") from error
    return number(value, where)
