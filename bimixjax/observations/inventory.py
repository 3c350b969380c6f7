"""How many unique tokens there are of each domain, and what that makes of a mixture: epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from bimixjax._base import checks
from bimixjax._base.checks import InputError, every, known
from bimixjax._base.files import read_text
from bimixjax._base.quantities import SCALED, pairs, scaled
from bimixjax._base.records import read_json
from bimixjax.observations import cells
from bimixjax.observations.columns import UNIQUE

_ALLOWED = f"a number above 0, {SCALED}, 8B; or inf where there is no limit"
_YAML = (".yaml", ".yml")


# A plain dataclass, not a record: inventories are stated without JAX.
@dataclass(frozen=True)
class Inventory:
    """The unique tokens that there are of each domain, above 0; a domain without a limit has inf, or is not named.

    A share r_i of a training of T tokens goes E_i = r_i T / U_i times through the U_i tokens of domain i: its epochs.

    Attributes:
        tokens: unique tokens U by domain.

    Raises:
        InputError: where a number is not above 0, or there is no domain.

    Example:
        >>> from bimixjax import Inventory
        >>> stock = Inventory({"web": 8e9, "code": 2e9})
        >>> stock.epochs([0.5, 0.5], 32e9, ("web", "code")).tolist()
        [2.0, 8.0]
    """

    tokens: Mapping[str, float]

    def __post_init__(self) -> None:
        if not isinstance(self.tokens, Mapping) or not self.tokens:
            raise InputError(f"an inventory is {self.tokens!r}; allowed: unique tokens by name of the domain")
        for name, count in self.tokens.items():
            number = isinstance(count, int | float | np.number) and not isinstance(count, bool)
            if not number or not count > 0:
                raise InputError(f"the inventory has {count!r} tokens of {name!r}; allowed: {_ALLOWED}")
        object.__setattr__(self, "tokens", {str(name): float(count) for name, count in self.tokens.items()})

    def __hash__(self) -> int:
        return hash(frozenset(self.tokens.items()))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `web=8e9,code=2B`, as the command line takes it.

        Raises:
            InputError: for a part that is not NAME=NUMBER, a name twice, or a number that is not above 0.

        Example:
            >>> from bimixjax import Inventory
            >>> Inventory.parse("web=8B,code=2e9").tokens
            {'web': 8000000000.0, 'code': 2000000000.0}
        """
        written = pairs("inventory", text)
        if not written:
            raise InputError(f"inventory is {text!r}; allowed: NAME=NUMBER, with commas between pairs")
        return cls({name: _count(number, f"inventory {name!r}") for name, number in written.items()})

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read an inventory from a file, or the training tokens of a token store.

        Args:
            path: a table (`.csv` and what else `Observations.read` takes) with the columns `domain` and `tokens`, or
                one of observations whose runs all had the same `unique/<domain>`; a `.json` or `.yaml` file that maps
                domains to tokens; or the folder of a token store. Counts may end in k, M, B or T.

        Raises:
            InputError: for what is wrong, with its place.
        """
        path = Path(path)
        if path.is_dir():
            from bimixjax.corpus.store import TokenStore

            store = TokenStore.open(path)
            return cls(dict(zip(store.domains, store.tokens.tolist(), strict=True)))
        if path.suffix in (".json", *_YAML):
            found = read_json(path) if path.suffix == ".json" else _read_yaml(path)
            if not isinstance(found, dict):
                raise InputError(f"{path} holds {type(found).__name__}; allowed: an object with tokens by domain")
            return cls({str(name): _count(number, f"{path}: {name!r}") for name, number in found.items()})
        return cls(_of_table(cells.read(path)))

    def array(self, domains: Sequence[str]) -> Float[np.ndarray, " d"]:
        """Return the unique tokens in the order of `domains`, inf for those that are not named.

        Raises:
            InputError: where the inventory names something that is none of them.
        """
        known("domain", tuple(self.tokens), domains, "the inventory")
        return np.array([self.tokens.get(domain, np.inf) for domain in domains])

    def epochs(self, mixture: ArrayLike, tokens: ArrayLike, domains: Sequence[str]) -> Float[np.ndarray, "*n d"]:
        """Return E_i = r_i T / U_i, how often each domain is gone through; 0 where there is no limit.

        Args:
            mixture: proportions r over `domains`, [d] or [n, d].
            tokens: T, the tokens of training, one number or [n].
            domains: names, in the order of the proportions.

        Raises:
            InputError: where a proportion or the tokens cannot be used, or as `array`.
        """
        r = np.asarray(mixture, float)
        checks.mixtures(r, domains)
        checks.all_positive("tokens", tokens)
        checks.as_many(np.shape(tokens), r.shape)
        return r * np.asarray(tokens, float)[..., None] / self.array(domains)

    def natural(self, domains: Sequence[str]) -> Float[np.ndarray, " d"]:
        """Return the natural mixture r_i = U_i / sum_j U_j.

        Raises:
            InputError: as `array`, or where a domain has no number of tokens, or no limit.

        Example:
            >>> from bimixjax import Inventory
            >>> Inventory({"web": 6e9, "code": 2e9}).natural(("code", "web")).tolist()
            [0.25, 0.75]
        """
        counts = self.array(domains)
        without = [name for name, count in zip(domains, counts, strict=True) if not np.isfinite(count)]
        if without:
            lack = ", ".join(map(repr, without))
            raise InputError(f"the inventory has no number of tokens of {lack}; the natural mixture needs all of them")
        shares = counts / counts.max()
        return shares / shares.sum()


# What predictions take: an inventory, or unique tokens in the order of the domains, [d], or [n, d] for each mixture.
Unique = Inventory | ArrayLike


def _count(written: Any, where: str) -> float:
    """Read one number of tokens, from text or as it is."""
    number = scaled(written) if isinstance(written, str) else written
    if not isinstance(number, int | float | Decimal) or isinstance(number, bool) or not float(number) > 0:
        raise InputError(f"{where} is {written!r}; allowed: {_ALLOWED}")
    return float(number)


def _of_table(table: cells.RawTable) -> dict[str, float]:
    limits = [column for column in table.frame if column.startswith(UNIQUE)]
    if limits and "domain" not in table.frame:
        return {column.removeprefix(UNIQUE): _only(table, column) for column in limits}
    for column in ("domain", "tokens"):
        if column not in table.frame:
            there = ", ".join(map(str, table.frame))
            raise InputError(f"{table.source} has no column {column!r}; needed: domain and tokens; columns: {there}")
    names, written = (cells.texts(table.column(column)).str.strip() for column in ("domain", "tokens"))
    found: dict[str, float] = {}
    for i, (name, number) in enumerate(zip(names, written, strict=True)):
        if not name or name in found:
            what = f"{name!r} a second time" if name else "blank"
            raise InputError(f"{table.place(i, 'domain')}: {what}; allowed: the name of a domain, once")
        found[name] = _count(number, table.place(i, "tokens"))
    return found


def _only(table: cells.RawTable, column: str) -> float:
    """Return the one number of unique tokens that all runs of a table of observations had; blank is no limit."""
    given = table.numbers(column, counts=True)
    given = np.where(np.isnan(given), np.inf, given)
    which = "an inventory is that of runs which all had the same"
    every(
        given == given[0], lambda i: f"{table.place(i, column)}: {given[i]:g}, in the first row {given[0]:g}; {which}"
    )
    return float(given[0])


def _read_yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
