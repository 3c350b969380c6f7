"""Logs of trainers: JSON lines of MaxText and Levanter, and tables in JSON lines.

MaxText (`metrics_file`; AI-Hypercomputer/maxtext, 000e6d8, `common/metric_logger.py`): one object per step with `step`,
`run_name` and metrics such as `learning/loss` and `eval/avg_loss`. Levanter (marin-community/marin, 1ff034e,
`levanter/tracker/json_logger.py`): `{"tracker": "json_logger", "event": "log", "step": 10, "metrics": {...}}`, `run_id`
where it writes a file per step, and one event `hparams` with the configuration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bimixjax._base.checks import InputError
from bimixjax.interchange import objects, rules, tables
from bimixjax.interchange.naming import Rule
from bimixjax.interchange.parts import Part

_LOG = (*rules.VOLUME, *rules.LOSS)


def parts(path: Path, kind: str | None, given: Sequence[Rule]) -> list[Part]:
    """Read a file of JSON lines, as the kind that its objects tell where none is given."""
    found, notes = objects.lines(path)
    if not found:
        raise InputError(f"{path}: no line of it holds a JSON object")
    kind = kind or _recognized(found[0][1])
    if kind == "levanter":
        made = levanter(path, found)
    elif kind == "maxtext":
        made = [_maxtext(path, found)]
    else:
        flat = [objects.flattened(row) for _, row in found]
        made = tables.parts(objects.table_of(flat, str(path), [number for number, _ in found]), kind, given)
    return [replace(made[0], notes=(*made[0].notes, *notes)), *made[1:]]


def levanter(path: Path, found: Sequence[tuple[int, Mapping[str, Any]]]) -> list[Part]:
    """Take events as those of one run: what was logged, and the configuration."""
    events = [(number, event) for number, event in found if "event" in event]
    params = [event["hparams"] for _, event in events if isinstance(event.get("hparams"), Mapping)]
    config = objects.flattened(params[-1]) if params else {}
    ids = [event["run_id"] for _, event in events if isinstance(event.get("run_id"), str)]
    run = str(ids[0]) if ids else str(config.get("trainer/id") or path.name.partition(".")[0])
    made: list[Part] = []
    logged = [
        (number, objects.flattened({"step": event["step"], **event["metrics"]}))
        for number, event in events
        if event.get("event") == "log" and event.get("step") is not None and isinstance(event.get("metrics"), Mapping)
    ]
    if logged:
        table = objects.table_of([row for _, row in logged], str(path), [number for number, _ in logged])
        made.append(Part(kind="levanter", table=table, rules=_LOG, run=run, in_order=True))
    if config:
        table = objects.table_of([config], f"{path} (hparams)")
        made.append(Part(kind="levanter", table=table, rules=(*rules.SETTINGS, *rules.MIXTURE), run=run))
    if not made:
        raise InputError(f"{path}: no event of it is a log with step and metrics, as those of Levanter's JSON logger")
    return made


def _maxtext(path: Path, found: Sequence[tuple[int, Mapping[str, Any]]]) -> Part:
    rows = [(number, objects.flattened(row)) for number, row in found if "step" in row]
    if not rows:
        raise InputError(f"{path}: no line of it has a step, as MaxText's metrics_file has")
    table = objects.table_of([row for _, row in rows], str(path), [number for number, _ in rows])
    own = (Rule("run_name", "run"), *_LOG)
    return Part(kind="maxtext", table=table, rules=own, run=path.name.partition(".")[0], in_order=True)


def _recognized(first: Mapping[str, Any]) -> str | None:
    if "tracker" in first and "event" in first:
        return "levanter"
    known = any(key.startswith(("learning/", "perf/", "eval/")) for key in first)
    return "maxtext" if known and {"run_name", "step"} <= first.keys() else None
