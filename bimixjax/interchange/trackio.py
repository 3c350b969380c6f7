"""The SQLite file in which Trackio keeps a project.

Tables `metrics(run_name, step, metrics)` and `configs(run_name, config)`, with JSON in the last column, and `run_id`
beside the name (gradio-app/trackio, 2a02752, `trackio/sqlite_storage.py`); the first versions (0019634) have
`project_name` instead, and no configurations.
"""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from bimixjax._base.checks import InputError
from bimixjax.interchange import objects, rules
from bimixjax.interchange.naming import Rule
from bimixjax.interchange.parts import Part

_OWN = (Rule("run", "run"), *rules.VOLUME)


def parts(path: Path) -> list[Part]:
    """Read all runs of a project: what was logged, in the order in which it was, and the configurations."""
    try:
        # With what still lies in the log beside the file (-wal), as while a run goes on.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as project:
            logged = _rows(project, "SELECT run_name, step, metrics FROM metrics ORDER BY id")
            has_configs = bool(_rows(project, "SELECT 1 FROM sqlite_master WHERE type='table' AND name='configs'"))
            configs = _rows(project, "SELECT run_name, NULL, config FROM configs ORDER BY id") if has_configs else []
    except (sqlite3.Error, OverflowError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path}: not a project of Trackio that can be read: {error}") from error
    if not logged:
        raise InputError(f"{path}: a project of Trackio without metrics")
    table = objects.table_of([_row(path, row, step=True) for row in logged], f"{path} (metrics)")
    made = [Part(kind="trackio", table=table, rules=(*_OWN, *rules.LOSS), in_order=True)]
    if configs:
        table = objects.table_of([_row(path, row, step=False) for row in configs], f"{path} (configs)")
        made.append(Part(kind="trackio", table=table, rules=(*_OWN, *rules.SETTINGS, *rules.MIXTURE)))
    return made


def _rows(project: sqlite3.Connection, query: str) -> list[tuple[Any, ...]]:
    return project.execute(query).fetchall()


def _row(path: Path, row: tuple[Any, ...], *, step: bool) -> dict[str, Any]:
    run, number, text = row
    if not isinstance(run, str) or not isinstance(text, str | bytes) or (step and not isinstance(number, int)):
        raise InputError(f"{path}: a row of Trackio has {row!r:.80}; needed: a run's name, a step, and JSON")
    try:
        found = json.loads(text)
        json.dumps([run, found], ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: what run {run!a} logged is not JSON: {error}") from error
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: what run {run!r} logged is no JSON object")
    return objects.flattened(found) | {"run": run} | ({"step": number} if step else {})
