"""Numbers with a scale behind them, and lists with commas, as people write them."""

import csv
from decimal import Decimal

from bimixjax._base.checks import InputError

SCALES = {"k": 3, "m": 6, "b": 9, "g": 9, "t": 12}
SCALED = "with k, M, B or T behind it for thousands, millions, billions or trillions: 500, 32k"
QUOTING = (
    "A name with a comma stands in double quotes, inside those of the shell: '\"a,b\"=0.5,c=0.5'. A list that begins "
    "with a dash is joined to its option by an equals sign: --targets=-a,b."
)


def scaled(text: str) -> Decimal | None:
    """Return the number that is written, exactly, `32k` and `inf` too; None where it is none.

    Example:
        >>> scaled("32k"), scaled("1.5B"), scaled("many")
        (Decimal('3.2E+4'), Decimal('1.5E+9'), None)
    """
    text = text.strip()
    scale = SCALES.get(text[-1:].lower(), 0)
    try:
        return Decimal(text[:-1] if scale else text).scaleb(scale)
    except ArithmeticError:
        return None


def split(part: str) -> list[str]:
    """Return the cells of one line of CSV; those in double quotes may hold commas."""
    if part.count('"') % 2:
        raise InputError(f"{part!r} has a double quote that does not close; {QUOTING}")
    try:
        return next(iter(csv.reader([part], skipinitialspace=True)), [])
    except csv.Error as error:
        raise InputError(f"{part!r} is not a list with commas: {error}; {QUOTING}") from error


def pairs(option: str, part: str) -> dict[str, str]:
    """Split `web=8B,code=2e9` into what stands behind each name; `option` is what messages call the list.

    Raises:
        InputError: for a part that is not NAME=NUMBER, or a name twice.

    Example:
        >>> pairs("inventory", 'web=8B,"books, old"=500M')
        {'web': '8B', 'books, old': '500M'}
    """
    found: dict[str, str] = {}
    for pair in split(part):
        name, _, value = pair.rpartition("=")
        name = name.strip()
        if not name:
            raise InputError(f"{option} has {pair!r}; allowed: NAME=NUMBER, with commas between pairs; {QUOTING}")
        if name in found:
            raise InputError(f"{option} {part!r} names something twice")
        found[name] = value
    return found
