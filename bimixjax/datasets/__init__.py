"""Tables of our own runs, which every installation carries: loaded by name, without a network.

Beside each table stands a card: what was trained and measured, how, and what it is good for. Tables and cards are under
the Apache License 2.0, as the package is.

    >>> from bimixjax import datasets
    >>> datasets.names()
    ('demo', 'demo-proof')
    >>> datasets.load("demo").domains
    ('python', 'cpp', 'prose', 'data', 'arithmetic')
"""

from pathlib import Path

from bimixjax._base.checks import choice
from bimixjax.observations import Observations

_HERE = Path(__file__).parent
_TABLE, _CARD = ".csv", ".md"
# What the command line takes for --example.
EXAMPLE = "demo"


def names() -> tuple[str, ...]:
    """Return the names of all tables.

    Example:
        >>> "demo" in names()
        True
    """
    return tuple(sorted(path.stem for path in _HERE.glob(f"*{_TABLE}")))


def path(name: str) -> Path:
    """Return the file of a table.

    Raises:
        InputError: for a name that is none of `names`.

    Example:
        >>> path("demo").name
        'demo.csv'
    """
    return _HERE / f"{choice('data set', name, names())}{_TABLE}"


def load(name: str) -> Observations:
    """Return a table.

    Raises:
        InputError: for a name that is none of `names`.

    Example:
        >>> len(load("demo").runs), len(load("demo"))
        (12, 72)
    """
    return Observations.read(path(name))


def card(name: str) -> str:
    """Return what was trained and measured, how, and what it is good for, as Markdown.

    Raises:
        InputError: for a name that is none of `names`.

    Example:
        >>> print(card("demo").splitlines()[0])
        # demo: losses of 12 small models on 12 mixtures of five domains
    """
    return path(name).with_suffix(_CARD).read_text(encoding="utf-8")
