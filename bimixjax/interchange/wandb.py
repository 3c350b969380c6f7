"""What W&B exports: the CSV of a panel, the CSV of the runs, the Parquet history of a run, and configurations.

A panel gives `Step` and a column `<run> - <metric>` for each run, and the same with `__MIN` and `__MAX` behind
(wandb/wandb#5349); it is sampled, while the history in Parquet (artifact `<run>-history`) is complete (docs.wandb.ai,
"Why are steps missing from a CSV metric export?").
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bimixjax._base.checks import InputError
from bimixjax._base.summaries import listed
from bimixjax.interchange import rules
from bimixjax.interchange.naming import Rule
from bimixjax.interchange.objects import flattened, table_of
from bimixjax.interchange.parts import Part
from bimixjax.observations import cells
from bimixjax.observations.cells import RawTable

# A panel's columns, and those that only repeat them.
_CURVE = re.compile(r"(?P<run>.+) - (?P<metric>[^ ].*)", re.DOTALL)
_BOUNDS = ("__MIN", "__MAX")
# The id of a run in the path of its history: `run-1a2b3c-history:v0/0000.parquet`, `1a2b3c-history.parquet`.
_HISTORY = re.compile(r"(?:run-)?(?P<run>[^/]+?)[-_]history(?:[:_.-][^/]*)?")


def recognized(names: Sequence[str]) -> bool:
    """Say whether columns are of a panel, of the runs, or of a history."""
    return _is_panel(names) or {"Name", "State"} <= set(names) or {"_step", "_timestamp"} <= set(names)


def part(table: RawTable) -> Part:
    """Take a table as what its columns say that it is."""
    names = list(table.frame)
    if _is_panel(names):
        return _panel(table)
    if "_step" in names and "State" not in names:
        return Part(kind="wandb history", table=table, rules=rules.WIDE, run=run_of(table.name), in_order=True)
    state = cells.texts(table.column("State")) if "State" in names else pd.Series(dtype=str)
    ended = state.isin(("finished", "")).to_numpy(bool)
    note = f"{table.name}: {(~ended).sum()} runs are not finished there: {listed(sorted(set(state[~ended])))}"
    notes = () if ended.all() else (note,)
    return Part(kind="wandb runs", table=table, rules=(Rule("ID", "run"), *rules.WIDE), notes=notes)


def run_of(path: str) -> str:
    """Return the id of a run from the path of its history, else the name of the file.

    Example:
        >>> run_of("artifacts/run-1a2b3c-history:v0/0000.parquet"), run_of("runs/a.parquet")
        ('1a2b3c', 'a')
    """
    for step in reversed(Path(path).parts):
        if match := _HISTORY.fullmatch(step):
            return match["run"]
    return Path(path).name.partition(".")[0]


def configs(found: Any, name: str) -> RawTable | None:
    """Lay out configurations of runs, a JSON object of them by run or a list, or None where it is neither.

    W&B writes `{"value": x, "desc": ...}` for x in some of its files.
    """
    if isinstance(found, list) and found and all(isinstance(each, Mapping) for each in found):
        rows = found
    elif isinstance(found, Mapping) and found and all(isinstance(each, Mapping) for each in found.values()):
        rows = [{"run": run, **each} for run, each in found.items()]
    else:
        return None
    flat = [flattened({key: value for key, value in row.items() if key != "config"}) for row in rows]
    inner = [row["config"] if isinstance(row.get("config"), Mapping) else {} for row in rows]
    return table_of([one | flattened(config) for one, config in zip(flat, inner, strict=True)], name)


def _is_panel(names: Sequence[str]) -> bool:
    curves = [name for name in names[1:] if _CURVE.fullmatch(name)]
    return len(names) > 1 and len(curves) == len(names) - 1


def _panel(table: RawTable) -> Part:
    """Lay the curves of a panel out as a row per run and step."""
    axis, *curves = table.frame
    if "time" in axis.lower():
        raise InputError(
            f"{table.name}: the panel's axis is {axis!r}; losses are compared at steps or tokens; export it over these"
        )
    rows: dict[tuple[str, int], dict[str, str]] = {}
    for name in curves:
        match = _CURVE.fullmatch(name)
        if match is None or match["metric"].endswith(_BOUNDS) or match["metric"].startswith("_"):
            continue
        if match["metric"] in ("run", axis):
            raise InputError(f"{table.name}: a metric is called {match['metric']!r}, as is another column")
        # A panel of grouped runs writes `<what they are grouped by>: <value> - <metric>`.
        run = match["run"].rpartition(": ")[2]
        for i, value in enumerate(cells.texts(table.column(name)).str.strip()):
            if value:
                rows.setdefault((run, i), {})[match["metric"]] = value
    if not rows:
        raise InputError(f"{table.name}: no curve of this panel has a value")
    numbers = np.array([i for _, i in rows], np.int64)
    at = cells.texts(table.column(axis)).to_numpy(object)[numbers]
    fixed = pd.DataFrame({"run": [run for run, _ in rows], axis: at})
    made = RawTable(
        frame=pd.concat([fixed, pd.DataFrame(list(rows.values()))], axis=1),
        name=table.name,
        rows=table.rows[numbers],
        is_csv=table.is_csv,
        decimal_comma=table.decimal_comma,
    )
    role = "tokens" if "token" in axis.lower() else "step"
    note = f"{table.name}: W&B samples what a panel exports; the history of a run in Parquet is complete"
    own = (Rule("run", "run"), Rule(axis, role), *rules.LOSS)
    return Part(kind="wandb panel", table=made, rules=own, notes=(note,))
