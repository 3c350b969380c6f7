"""Check what a file of ours holds: for each field the kind of its value.

A kind reads one JSON value and returns what is kept of it. Shapes are numbers, or names of lengths such as "targets";
the first field with a name settles its length, and the others must agree.
"""

import dataclasses
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from bimixjax._base.checks import InputError, fields

_LARGEST = 1e300
_SHOWN = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spot:
    """Where a value stands in a file, and the lengths that earlier values settled.

    Attributes:
        file: its name.
        field: the keys and places that lead to the value.
        lengths: of the axes, by name.
    """

    file: str
    field: str = ""
    lengths: dict[str, int] = dataclasses.field(default_factory=dict)

    def at(self, key: str | int) -> "Spot":
        """Step into an object or list."""
        step = f"[{key}]" if isinstance(key, int) else f".{key}" if self.field else key
        return dataclasses.replace(self, field=self.field + step)

    def wrong(self, got: object, allowed: str) -> InputError:
        """Make the error for a value that is not allowed."""
        return InputError(f"{self.file}: {self.field or 'the whole'} is {_shown(got)}; allowed: {allowed}")

    def settle(self, length: int | str, got: int) -> bool:
        """Tell whether a length is as it must be; one that is not settled yet is settled."""
        return got == (length if isinstance(length, int) else self.lengths.setdefault(length, got))


Kind = Callable[[Any, Spot], Any]


def read(
    found: object, table: Mapping[str, Kind], file: object, lengths: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Read the object that a whole file holds.

    Raises:
        InputError: for a field that is missing, not known, or not of its kind; it names file and field.
    """
    return record(table)(found, Spot(file=str(file), lengths=dict(lengths or {})))


def record(table: Mapping[str, Kind], *, optional: Mapping[str, Kind] | None = None) -> Kind:
    """Read an object with exactly these fields, in their order, and those optional ones that it has."""
    kinds = {**table, **(optional or {})}

    def kind(value: Any, spot: Spot) -> dict[str, Any]:
        if type(value) is not dict:
            raise spot.wrong(value, "an object")
        where = f"{spot.file}: {spot.field}" if spot.field else spot.file
        fields(value, table, where)
        if unknown := [key for key in value if key not in kinds]:
            raise InputError(f"{where} has the unknown field {unknown[0][:_SHOWN]!r}; known: {', '.join(kinds)}")
        return {key: read_one(value[key], spot.at(key)) for key, read_one in kinds.items() if key in value}

    return kind


def numbers(
    *shape: int | str,
    of: type[float] | type[int] | type[bool] = float,
    low: float = -_LARGEST,
    high: float = _LARGEST,
    null: bool = False,
) -> Kind:
    """Read an array of numbers from `low` to `high`; with `null`, null stands for a number that is not finite: NaN."""
    types = {float: {float, int}, int: {int}, bool: {bool}}[of] | ({type(None)} if null else set())
    what = {float: "numbers", int: "whole numbers", bool: "true or false"}[of]
    within = "" if of is bool else f" from {low:g} to {high:g}"

    def kind(value: Any, spot: Spot) -> np.ndarray:
        axes = [spot.lengths.get(axis, axis) if isinstance(axis, str) else axis for axis in shape]
        lists = f"lists [{' x '.join(map(str, axes))}] of " if shape else ""
        allowed = f"{lists}{what}{within}{' or null' if null else ''}"
        flat, lengths = [value], []
        for axis in shape:
            for item in flat:
                if type(item) is not list or not spot.settle(axis, len(item)):
                    raise spot.wrong(item, allowed)
            lengths.append(len(flat[0]) if flat else spot.lengths.get(str(axis), 0))
            flat = [item for each in flat for item in each]
        if not set(map(type, flat)) <= types:
            raise spot.wrong(next(item for item in flat if type(item) not in types), allowed)
        try:
            array = np.array(flat, of)
        except OverflowError as error:
            raise spot.wrong(max(flat, key=lambda item: abs(item or 0)), allowed) from error
        ok = np.array([item is None for item in flat], bool) if null else np.zeros(len(flat), bool)
        ok |= (array >= low) & (array <= high)
        if not ok.all():
            raise spot.wrong(flat[int(np.argmin(ok))], allowed)
        return array.reshape(lengths)

    return kind


def number(*, low: float = -_LARGEST, high: float = _LARGEST, null: bool = False) -> Kind:
    """Read one number; with `null`, null is NaN."""
    array = numbers(low=low, high=high, null=null)
    return lambda value, spot: float(array(value, spot))


def whole(*, low: int, high: int) -> Kind:
    """Read one whole number."""
    array = numbers(of=int, low=low, high=high)
    return lambda value, spot: int(array(value, spot))


def shares(*shape: int | str) -> Kind:
    """Read mixtures: shares of the first axis that sum to 1 within .01."""
    array = numbers(*shape, low=0, high=1)

    def kind(value: Any, spot: Spot) -> np.ndarray:
        read_shares = array(value, spot)
        total = read_shares.sum(0)
        if not np.all(np.abs(total - 1) <= 1e-2):
            raise InputError(f"{spot.file}: {spot.field} has shares that sum to {total.ravel()}; allowed: 1")
        return read_shares

    return kind


def flag(value: Any, spot: Spot) -> bool:
    """Read true or false."""
    if type(value) is not bool:
        raise spot.wrong(value, "true or false")
    return value


def text(of: Collection[str] | None = None) -> Kind:
    """Read a text, one of some where these are given."""

    def kind(value: Any, spot: Spot) -> str:
        if type(value) is not str or not _is_plain(value) or (of is not None and value not in of):
            raise spot.wrong(value, "a text" if of is None else ", ".join(of))
        return value

    return kind


def texts(length: int | str | None = None, *, of: Collection[str] | None = None, names: bool = False) -> Kind:
    """Read a tuple of texts; as names, they are not blank and each is there once."""
    one = text(of)

    def kind(value: Any, spot: Spot) -> tuple[str, ...]:
        found = each(one, length)(value, spot)
        if names and (len(set(found)) < len(found) or not all(name.strip() for name in found)):
            raise spot.wrong(value, "names, none of them blank or there twice")
        return found

    return kind


def each(one: Kind, length: int | str | None = None) -> Kind:
    """Read a tuple whose entries are all of one kind."""

    def kind(value: Any, spot: Spot) -> tuple[Any, ...]:
        if type(value) is not list or (length is not None and not spot.settle(length, len(value))):
            count = spot.lengths.get(length, length) if isinstance(length, str) else length
            raise spot.wrong(value, "a list" if length is None else f"a list of {count}")
        return tuple(one(item, spot.at(i)) for i, item in enumerate(value))

    return kind


def maybe(one: Kind) -> Kind:
    """Read null, which is None, or a value of the kind."""
    return lambda value, spot: None if value is None else one(value, spot)


def _is_plain(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: object) -> str:
    if isinstance(value, list | dict):
        return f"a list of {len(value)}" if isinstance(value, list) else "an object"
    if type(value) is int and abs(value) > 10**_SHOWN:
        return "a whole number of many digits"
    found = json.dumps(value)
    return found if len(found) <= _SHOWN else f"{found[:_SHOWN]}..."
