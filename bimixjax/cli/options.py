"""Values of options: numbers with a scale behind them, and lists of names and numbers."""

import csv
from collections.abc import Iterable
from decimal import Decimal
from math import isfinite
from types import UnionType
from typing import Annotated, Any

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from bimixjax._base.checks import InputError
from bimixjax.cli.law_lines import listed

SCALES = {"k": 3, "m": 6, "b": 9, "g": 9, "t": 12}
_SCALED = "with k, M, B or T behind it for thousands, millions, billions or trillions: 500, 32k"
SCALING = "Counts may end in k, M, B or T: 32k, 2.5B."
_MOST = 2**63
QUOTING = (
    "A name with a comma stands in double quotes, inside those of the shell: '\"a,b\"=0.5,c=0.5'. A list that begins "
    "with a dash is joined to its option by an equals sign: --targets=-a,b."
)


def number(option: str | None, text: str) -> float:
    """Read one number, `32k` and `1.5B` too.

    Raises:
        InputError: for anything else; it names the option, where there is one.

    Example:
        >>> number("volume", "32k"), number("volume", "1.5B"), number("volume", "1e9")
        (32000.0, 1500000000.0, 1000000000.0)
    """
    found = _read(text)
    if found is None or not isfinite(float(found)):
        raise InputError(f"{_had(option, text)}; allowed: a number, {_SCALED}, 2.5B, 1e9")
    return float(found)


def whole(option: str | None, text: str) -> int:
    """Read one whole number, `32k` too.

    Raises:
        InputError: for anything else; it names the option, where there is one.

    Example:
        >>> whole("steps", "1.5k"), whole("seed", "-1")
        (1500, -1)
    """
    found = _read(text)
    if found is None or not found.is_finite() or not abs(found) < _MOST or found != found.to_integral_value():
        raise InputError(f"{_had(option, text)}; allowed: a whole number, {_SCALED}")
    return int(found)


def names(given: Iterable[str]) -> tuple[str, ...]:
    """Split `a,b` and `c` into three names; one in double quotes may hold commas.

    Example:
        >>> names(["a,b", '"c,d", e'])
        ('a', 'b', 'c,d', 'e')
    """
    return tuple(name.strip() for part in given for name in _split(part) if name.strip())


def wholes(option: str, given: Iterable[str]) -> tuple[int, ...]:
    """Read whole numbers with commas between them."""
    return tuple(whole(option, text) for text in names(given))


def numbers(option: str, given: Iterable[str]) -> dict[str, float]:
    """Turn `web=0.5,code=0.5` into numbers by name; a later part overrides an earlier one.

    Raises:
        InputError: for a part that is not NAME=NUMBER, or a name twice in one part.

    Example:
        >>> numbers("tokens", ['web=8B,"books, old"=500M'])
        {'web': 8000000000.0, 'books, old': 500000000.0}
    """
    found: dict[str, float] = {}
    for part in given:
        pairs: dict[str, float] = {}
        for pair in _split(part):
            name, _, value = pair.rpartition("=")
            name = name.strip()
            if not name:
                raise InputError(f"--{option} has {pair!r}; allowed: NAME=NUMBER, with commas between pairs; {QUOTING}")
            if name in pairs:
                raise InputError(f"--{option} {part!r} names something twice")
            pairs[name] = number(f"{option} {name}", value)
        found |= pairs
    return found


def quoted(name: str) -> str:
    """Write a name as `names` and `numbers` read it."""
    return '"' + name.replace('"', '""') + '"' if set(name) & {",", '"'} else name


def _split(part: str) -> list[str]:
    """Return the cells of one line of CSV."""
    if part.count('"') % 2:
        raise InputError(f"{part!r} has a double quote that does not close; {QUOTING}")
    try:
        return next(iter(csv.reader([part], skipinitialspace=True)), [])
    except csv.Error as error:
        raise InputError(f"{part!r} is not a list with commas: {error}; {QUOTING}") from error


def _read(text: str) -> Decimal | None:
    """Return the number that is written, exactly."""
    text = text.strip()
    scale = SCALES.get(text[-1:].lower(), 0)
    try:
        return Decimal(text[:-1] if scale else text).scaleb(scale)
    except ArithmeticError:
        return None


def _had(option: str | None, text: str) -> str:
    return repr(text) if option is None else f"--{option} has {text!r}"


def _reader(read: Any, kind: type | UnionType, metavar: str) -> PrimitiveConstructorSpec[Any]:
    """Tell the command line how to make a value of one text, and how to write a default."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda texts: read(None, texts[0]),
        is_instance=lambda value: value is None or isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


# Where None says it all, the help adds no "(default: None)".
Number = Annotated[float | None, _reader(number, float | int, "NUMBER"), arg(metavar="NUMBER", help_behavior_hint="")]
Whole = Annotated[int, _reader(whole, int, "NUMBER")]
Law = Annotated[str, arg(metavar="NAME", help=f"The law to fit. Default: auto.\n\n{listed()}", help_behavior_hint="")]
Names = Annotated[tuple[str, ...], arg(metavar="NAME,...")]
Counts = Annotated[tuple[str, ...], arg(metavar="NUMBER,...")]
Numbers = Annotated[tuple[str, ...], arg(metavar="NAME=NUMBER,...")]
