"""Tables of our own runs, which every installation carries: loaded by name, without a network.

Beside each table stands a card: what was trained and measured, how, and what it is good for. Tables and cards are under
the Apache License 2.0, as the package is.

    >>> from bimixjax import datasets
    >>> datasets.names()
    ('demo', 'demo-proof', 'eight-domains', 'eight-domains-proof')
    >>> datasets.load("demo").domains
    ('python', 'cpp', 'prose', 'data', 'arithmetic')
"""

from pathlib import Path

from bimixjax._base.checks import choice
from bimixjax.observations import Observations
from bimixjax.observations.cells import FORMATS

_HERE = Path(__file__).parent
_CARD = ".md"
# What the command line takes for --example.
EXAMPLE = "demo"


def _tables() -> dict[str, Path]:
    return {path.stem: path for path in sorted(_HERE.iterdir(), key=lambda each: each.stem) if path.suffix in FORMATS}


def names() -> tuple[str, ...]:
    """Return the names of all tables.

    Example:
        >>> "demo" in names()
        True
    """
    return tuple(_tables())


def path(name: str) -> Path:
    """Return the file of a table.

    Raises:
        InputError: for a name that is none of `names`.

    Example:
        >>> path("demo").name
        'demo.csv'
    """
    return _tables()[choice("data set", name, names())]


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
