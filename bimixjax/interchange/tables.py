"""Tables of runs: wide and long ones, and the pairs of files that olmix and RegMix write.

olmix: `ratios.csv` and `metrics.csv` with `run_id` or `run`, optional `name` and `index`, and a column per domain or
metric (allenai/olmix, f6e1131, `olmix/fit/loaders.py`). RegMix: `index` with `train_the_pile_<domain>` in one file and
`metric/the_pile_<domain>_val_loss` in the other (sail-sg/regmix, 476a7b0). MLflow: the frame of `search_runs`, with
`run_id`, `metrics.*`, `params.*`, `tags.*` (mlflow.org, Search Runs).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bimixjax._base.checks import InputError
from bimixjax._base.summaries import listed
from bimixjax.interchange import naming, rules, wandb
from bimixjax.interchange.naming import LONG, Rule
from bimixjax.interchange.parts import PERCENT, Part
from bimixjax.observations import cells
from bimixjax.observations.cells import RawTable
from bimixjax.observations.columns import LOSS, MIXTURE, SUM_TOLERANCE

_ID = ("run", "run_id", "name", "index", "Unnamed: 0")
_PILE = (
    Rule("train_the_pile_*", "mixture/*"),
    Rule("train_*", "mixture/*"),
    Rule("metric/the_pile_*_val_loss", "loss/*"),
    Rule("metric/*_val_loss", "loss/*"),
)
_TARGET = ("target", "metric", "metric_name", "task", "dataset", "domain")
_VALUE = ("value", "loss", "metric_value", "score")
_SHARE = ("share", "proportion", "ratio", "weight")


def parts(table: RawTable, kind: str | None, given: Sequence[Rule]) -> list[Part]:
    """Take a table as of one kind, the one that its columns tell where none is given."""
    kind = kind or recognized(table, given)
    if kind == "olmix":
        return [_olmix(table)]
    if kind == "regmix":
        return [Part(kind="regmix", table=table, rules=(*_PILE, *rules.RUN))]
    if kind == "mlflow":
        metrics = rules.behind("metrics.", (*rules.VOLUME, *rules.LOSS))
        params = rules.behind("params.", (*rules.SETTINGS, *rules.MIXTURE))
        return [Part(kind="mlflow", table=table, rules=(*rules.RUN, *metrics, *params))]
    if kind == "wandb":
        return [wandb.part(table)]
    if kind == "long":
        return [_long(table, given)]
    has = [any(name.startswith(prefix) for name in table.frame) for prefix in (MIXTURE, LOSS)]
    # A table of our own keeps what else is in it.
    return [Part(kind="wide", table=table, rules=rules.KEPT if all(has) else rules.WIDE)]


def recognized(table: RawTable, given: Sequence[Rule]) -> str:
    """Return the kind of a table, by the names of its columns."""
    names = list(table.frame)
    roles = naming.roles(names, given, (), table.name).values()
    if any(role in LONG for role in roles):
        return "long"
    if any(name.startswith("metrics.") for name in names):
        return "mlflow"
    if wandb.recognized(names):
        return "wandb"
    if _is_regmix(names):
        return "regmix"
    # Where shares or losses are named, by the user or the file, not every other column is one.
    if not any(name.startswith((MIXTURE, LOSS)) for name in (*names, *roles)) and _is_olmix(table):
        return "olmix"
    return "long" if _long_rules(names) else "wide"


def _is_regmix(names: Sequence[str]) -> bool:
    others = [name for name in names if name not in _ID]
    of_pair = [name.startswith(("train_the_pile_", "metric/the_pile_")) for name in others]
    return bool(others) and all(of_pair)


def _is_olmix(table: RawTable) -> bool:
    names, stem = set(table.frame), Path(table.name).stem.lower()
    of_pair = {"name", "index"} <= names or "ratio" in stem or "metric" in stem
    return of_pair and bool({"run", "run_id"} & names) and not _long_rules(list(table.frame))


def _olmix(table: RawTable) -> Part:
    """Take all columns but the id, name and index as domains, or as metrics.

    Which of the pair a file is, its name says, or else whether its rows sum to 1 (or 100).
    """
    others = [name for name in table.frame if name not in _ID]
    stem = Path(table.name).stem.lower()
    if "ratio" in stem or "metric" in stem:
        is_ratios = "ratio" in stem
    else:
        sums = np.nansum([np.zeros(len(table.frame)), *(table.numbers(name) for name in others)], axis=0)
        is_ratios = bool((np.minimum(np.abs(sums - 1), np.abs(sums / PERCENT - 1)) <= SUM_TOLERANCE).all())
    role = "mixture/*" if is_ratios else "loss/*"
    own = (*rules.RUN[:2], Rule("name", "meta/name"), *(Rule(name, "") for name in _ID), Rule("*", role))
    return Part(kind=f"olmix {'ratios' if is_ratios else 'metrics'}", table=table, rules=own)


def _long_rules(names: Sequence[str]) -> tuple[Rule, ...]:
    """Return rules for a table with one number in a row, or () where it is none."""
    value = next((name for name in _VALUE if name in names), None)
    share = next((name for name in _SHARE if name in names), None)
    if "domain" in names and share and not value:
        return (Rule("domain", "domain"), Rule(share, "share"))
    target = next((name for name in _TARGET if name in names), None)
    return (Rule(target, "target"), Rule(value, "value")) if target and value else ()


def _long(table: RawTable, given: Sequence[Rule]) -> Part:
    """Lay one number per row out as one row per run and step, a column for each name."""
    own = (*_long_rules(list(table.frame)), *rules.RUN, *rules.VOLUME, *rules.SETTINGS, *rules.MIXTURE)
    roles = naming.roles(list(table.frame), given, own, table.name)
    column = {role: name for name, role in roles.items()}
    pair = ("domain", "share") if "share" in column else ("target", "value")
    missing = [role for role in (*pair, "run") if role not in column]
    if missing:
        raise InputError(
            f"{table.name}: a long table needs columns for {', '.join(pair)} and run; no column is taken for "
            f"{', '.join(missing)}; name it, as with --map NAME={missing[0]}; columns: {listed(map(repr, table.frame))}"
        )
    names = cells.texts(table.column(column[pair[0]])).str.strip()
    if (names == "").any():
        row = int(np.argmax((names == "").to_numpy(bool)))
        raise InputError(f"{table.place(row, column[pair[0]])}: blank; every row needs the name of what it measures")
    others = [name for role, name in column.items() if role not in pair]
    # Rows of one run, step and name are told apart by their order, so that the later one can count.
    at = pd.concat([cells.texts(table.column(name)) for name in others], axis=1)
    groups = at.groupby(others, sort=False, dropna=False).ngroup()
    again = pd.DataFrame({"at": groups, "name": names}).groupby(["at", "name"]).cumcount()
    row = pd.MultiIndex.from_arrays([groups, again])
    codes, first = pd.factorize(row)[0], np.unique(pd.factorize(row)[0], return_index=True)[1]
    wide = table.frame[others].iloc[first].reset_index(drop=True)
    values = table.column(column[pair[1]]).to_numpy(object)
    laid: dict[str, pd.Series] = {}
    for name, rows in names.groupby(names, sort=False).groups.items():
        cell = pd.Series([None] * len(first), dtype=object)
        cell.iloc[codes[rows]] = values[rows]
        laid[str(name)] = cell
    clash = sorted(laid.keys() & set(others))
    if clash:
        raise InputError(f"{table.name}: {listed(map(repr, clash))} is a column and a name in {column[pair[0]]!r} too")
    frame = pd.concat([wide, pd.DataFrame(laid)], axis=1)
    order = np.argsort(first, kind="stable")
    made = RawTable(
        frame=frame.iloc[order].reset_index(drop=True),
        name=table.name,
        rows=table.rows[first][order],
        is_csv=table.is_csv,
        decimal_comma=table.decimal_comma,
    )
    fixed = tuple(Rule(name, roles[name]) for name in others)
    return Part(kind="long", table=made, rules=(*fixed, *_of_names(list(laid), pair[0], given)))


def _of_names(names: Sequence[str], what: str, given: Sequence[Rule]) -> tuple[Rule, ...]:
    """Return rules for the names in a long table: those known, or where there are none, all are of one role."""
    if what == "domain":
        return (Rule("*", "mixture/*"),)
    known = any(rule.role_of(name) for name in names for rule in (*given, *rules.LOSS))
    return rules.LOSS if known else (Rule("*", "loss/*"),)
