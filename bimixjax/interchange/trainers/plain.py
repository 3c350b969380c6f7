"""A mixture for a script of one's own: JSON or CSV."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from bimixjax._base.checks import InputError, distinct
from bimixjax.interchange.recipe import Recipe, Source, Stage
from bimixjax.interchange.trainers import parsing
from bimixjax.interchange.trainers.base import Trainer

# What our own readers allow; a sum further away is no rounding.
_SUM_WITHIN = 1e-2
_NAMES = ("share", "proportion", "weight")


class PlainJSON(Trainer):
    """`{"web": 0.7, "code": 0.3}`; read also as olmix writes it, `[{"domain": "web", "weight": 0.7}, ...]`."""

    kind, title, suffixes = "json", "JSON", (".json",)
    keeps_zeros, sum_within = True, _SUM_WITHIN
    usage = "shares of tokens by domain"

    def recognizes(self, found: Any) -> bool:
        """See numbers by name, or a list of objects that have both."""
        if isinstance(found, list):
            return bool(found) and all(isinstance(one, dict) and "domain" in one for one in found)
        return isinstance(found, dict) and bool(found) and all(isinstance(v, int | float) for v in found.values())

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read either form."""
        del names
        if not isinstance(found, list):
            return _recipe(parsing.numbers(found, where))
        pairs = []
        for i, one in enumerate(parsing.listed(found, where)):
            one = parsing.mapping(one, f"{where}[{i}]")
            key = next((name for name in _NAMES if name in one), _NAMES[0])
            domain = parsing.text(one.get("domain"), f"{where}[{i}].domain")
            pairs.append((domain, parsing.number(one.get(key), f"{where}[{i}].{key}")))
        distinct("domain", [domain for domain, _ in pairs], where)
        return _recipe(dict(pairs))

    def write(self, recipe: Recipe) -> str:
        """Write shares by domain."""
        return json.dumps({s.domain: s.written for s in recipe.stages[0].sources}, indent=2) + "\n"

    def default_path(self, domain: str) -> None:
        """Return none: there are no paths."""


class PlainCSV(Trainer):
    """A table with the columns `domain` and `share`."""

    kind, title, suffixes = "csv", "CSV", (".csv",)
    keeps_zeros, sum_within = True, _SUM_WITHIN
    usage = "shares of tokens by domain"

    def recognizes(self, found: Any) -> bool:
        """Take any text."""
        return isinstance(found, str)

    def read(self, found: Any, names: Mapping[str, str], where: str) -> Recipe:
        """Read the table."""
        del names
        try:
            rows = [
                row for row in csv.reader(io.StringIO(str(found).removeprefix("\ufeff"))) if any(map(str.strip, row))
            ]
        except csv.Error as error:
            raise InputError(f"{where}: not CSV: {error}") from error
        header = [cell.strip() for cell in rows[0]] if rows else []
        key = next((name for name in _NAMES if name in header), None)
        if "domain" not in header or key is None or len(rows) < 2:
            raise InputError(f"{where} has the columns {', '.join(header)[:80]}; allowed: domain and share, and rows")
        pairs = []
        for i, row in enumerate(rows[1:], 1):
            if len(row) != len(header):
                raise InputError(f"{where}, data row {i} has {len(row)} cells; allowed: {len(header)}")
            cells = dict(zip(header, row, strict=True))
            domain = parsing.text(cells["domain"].strip(), f"{where}, data row {i}, domain")
            pairs.append((domain, parsing.written_number(cells[key].strip(), f"{where}, data row {i}, {key}")))
        distinct("domain", [domain for domain, _ in pairs], where)
        return _recipe(dict(pairs))

    def write(self, recipe: Recipe) -> str:
        """Write a row per domain."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerows([("domain", "share"), *((s.domain, s.written) for s in recipe.stages[0].sources)])
        return text.getvalue()

    def default_path(self, domain: str) -> None:
        """Return none: there are no paths."""


def _recipe(shares: Mapping[str, float]) -> Recipe:
    return Recipe(stages=(Stage(sources=tuple(Source(domain=d, written=w) for d, w in shares.items())),))
