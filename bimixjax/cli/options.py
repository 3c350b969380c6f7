"""Values of options: numbers with a scale behind them, and lists of names and numbers."""

from collections.abc import Iterable
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from bimixjax._base.checks import InputError
from bimixjax._base.quantities import QUOTING as QUOTING, SCALED, pairs, scaled, split
from bimixjax.cli.law_lines import listed

if TYPE_CHECKING:
    from bimixjax.observations import Inventory

SCALING = "Counts may end in k, M, B or T: 32k, 2.5B."
_MOST = 2**63


def number(option: str | None, text: str) -> float:
    """Read one number, `32k` and `1.5B` too.

    Raises:
        InputError: for anything else; it names the option, where there is one.

    Example:
        >>> number("volume", "32k"), number("volume", "1.5B"), number("volume", "1e9")
        (32000.0, 1500000000.0, 1000000000.0)
    """
    found = scaled(text)
    if found is None or not isfinite(float(found)):
        raise InputError(f"{_had(option, text)}; allowed: a number, {SCALED}, 2.5B, 1e9")
    return float(found)


def whole(option: str | None, text: str) -> int:
    """Read one whole number, `32k` too.

    Raises:
        InputError: for anything else; it names the option, where there is one.

    Example:
        >>> whole("steps", "1.5k"), whole("seed", "-1")
        (1500, -1)
    """
    found = scaled(text)
    if found is None or not found.is_finite() or not abs(found) < _MOST or found != found.to_integral_value():
        raise InputError(f"{_had(option, text)}; allowed: a whole number, {SCALED}")
    return int(found)


def names(given: Iterable[str]) -> tuple[str, ...]:
    """Split `a,b` and `c` into three names; one in double quotes may hold commas.

    Example:
        >>> names(["a,b", '"c,d", e'])
        ('a', 'b', 'c,d', 'e')
    """
    return tuple(name.strip() for part in given for name in split(part) if name.strip())


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
        found |= {name: number(f"{option} {name}", text) for name, text in pairs(f"--{option}", part).items()}
    return found


def inventory(given: Iterable[str]) -> "Inventory | None":
    """Read `web=8e9,code=2e9`, or the name of a file or token store, as unique tokens; None where nothing is given.

    A later part overrides an earlier one.
    """
    from bimixjax.observations import Inventory

    found: dict[str, float] = {}
    for part in given:
        is_list = "=" in part and not Path(part).exists()
        found |= (Inventory.parse(part) if is_list else Inventory.read(part)).tokens
    return Inventory(found) if found else None


def quoted(name: str) -> str:
    """Write a name as `names` and `numbers` read it."""
    return '"' + name.replace('"', '""') + '"' if set(name) & {",", '"'} else name


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
Stock = Annotated[tuple[str, ...], arg(metavar="NAME=NUMBER,...|FILE")]
