"""The kinds of files and folders that are read, and which of them a path is."""

from collections.abc import Sequence
from pathlib import Path

from bimixjax._base.checks import InputError, choice
from bimixjax.interchange import harness, logs, objects, rules, tables, tensorboard, trackio, wandb
from bimixjax.interchange.naming import Rule
from bimixjax.interchange.parts import Part
from bimixjax.observations import cells

KINDS = (
    *("olmix", "regmix", "wide", "long", "mlflow", "wandb", "maxtext", "levanter", "tensorboard", "trackio"),
    "lm-eval",
)
TABLES = ("olmix", "regmix", "wide", "long", "mlflow", "wandb")
_LINES = (".jsonl", ".ndjson", ".jsonl.gz", *objects.LOGS)
_SQLITE = b"SQLite format 3\x00"


def read(path: Path, kind: str | None, given: Sequence[Rule]) -> list[Part]:
    """Read a file or a folder as of a kind, or as of the one that it is recognized as.

    A table beside logs, such as one of the mixtures, is taken as a table whatever the kind.

    Raises:
        InputError: for a path that is not there or of no kind.
    """
    if kind is not None:
        choice("--from", kind, KINDS)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.is_dir():
        return _folder(path, kind, given)
    if path.name.endswith((*cells.TEXTS, ".parquet")):
        return tables.parts(cells.read(path), kind if kind in TABLES else None, given)
    if "tfevents" in path.name:
        return tensorboard.parts(path)
    if path.name.endswith(_LINES):
        return logs.parts(path, kind, given)
    if path.suffix == ".json":
        return _json(path, given)
    if kind == "trackio" or path.read_bytes()[: len(_SQLITE)] == _SQLITE:
        return trackio.parts(path)
    suffixes = ", ".join((*cells.TEXTS, ".parquet", *_LINES, ".json", ".db"))
    raise InputError(f"{path}: of no kind that is known by its name; allowed: {suffixes}, tfevents files, and folders")


def _folder(path: Path, kind: str | None, given: Sequence[Rule]) -> list[Part]:
    """Read what lies in a folder: results, event files, events of Levanter, or tables and lines."""
    found: list[Part] = []
    if kind in (None, "lm-eval") and any(path.rglob(harness.RESULTS)):
        found += harness.parts(path)
    if kind in (None, "tensorboard") and any(path.rglob(tensorboard.EVENTS)):
        found += tensorboard.parts(path)
    events = sorted(path.glob("step-*.json")) if kind in (None, "levanter") else []
    if events:
        lines = [(number, objects.read(file)) for number, file in enumerate(sorted(events, key=_step))]
        found += logs.levanter(path, [(number, line) for number, line in lines if isinstance(line, dict)])
    if not found:
        suffixes = (*cells.TEXTS, ".parquet", *_LINES)
        files = [file for file in sorted(path.iterdir()) if file.is_file() and file.name.endswith(suffixes)]
        found = [part for file in files for part in read(file, kind, given)]
    if not found:
        what = kind or "results of lm-eval, event files, tables or lines of JSON"
        raise InputError(f"{path}: the folder holds nothing to read: no {what}")
    return found


def _step(file: Path) -> tuple[int, str]:
    """Return what Levanter's `step-<step>-<hash>.json` are sorted by."""
    number = file.name.split("-")[1]
    return (int(number) if number.isdecimal() else -1, file.name)


def _json(path: Path, given: Sequence[Rule]) -> list[Part]:
    found = objects.read(path)
    if harness.is_results(found):
        return harness.parts(path)
    table = wandb.configs(found, str(path))
    if table is None:
        raise InputError(f"{path}: neither results of lm-eval nor configurations by run, {{run: {{...}}, ...}}")
    return [Part(kind="configs", table=table, rules=rules.WIDE)]
