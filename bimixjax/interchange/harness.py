"""Results of lm-evaluation-harness: a folder per model with `results_<date>.json`.

Each has `results` (task -> `<metric>,<filter>` -> number), `higher_is_better` (task -> metric -> true or false),
`group_subtasks` and `model_name` (EleutherAI/lm-evaluation-harness, 034ab03, `lm_eval/loggers/evaluation_tracker.py`,
0.4.13). Accuracies become errors, 1 - accuracy; bits per byte stay as they are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bimixjax._base.checks import InputError
from bimixjax._base.summaries import listed
from bimixjax.interchange import objects
from bimixjax.interchange.naming import Rule
from bimixjax.interchange.parts import Part

RESULTS = "results*.json"
# Where a file of before 0.4.3 does not say it.
_HIGHER = {"acc", "acc_norm", "acc_bytes", "exact_match", "em", "f1", "mc1", "mc2", "pass@1", "likelihood_diff"}
_LOWER = {"bits_per_byte", "perplexity", "brier_score"}
# The same numbers as bits per byte, on scales of their own.
_SAME_AS_BITS = {"byte_perplexity", "word_perplexity"}


def is_results(found: Any) -> bool:
    """Say whether a JSON document is a file of results."""
    return isinstance(found, Mapping) and isinstance(found.get("results"), Mapping)


def parts(path: Path) -> list[Part]:
    """Read all results at or below `path`; a run is named by the folder of its results, relative to `path`.

    Of several files in one folder, that of the last date in its name counts for each task.
    """
    files = [path] if path.is_file() else sorted(path.rglob(RESULTS))
    by_folder: dict[Path, list[Path]] = {}
    for file in files:
        by_folder.setdefault(file.parent, []).append(file)
    return [_run(folder, below, path) for folder, below in by_folder.items()]


def _run(folder: Path, files: list[Path], given: Path) -> Part:
    values: dict[str, float] = {}
    own: dict[str, Rule] = {}
    twice: set[str] = set()
    unused: set[str] = set()
    name = ""
    for file in files:
        found = objects.read(file)
        if not is_results(found):
            raise InputError(f"{file}: no results of lm-evaluation-harness: it has no object 'results'")
        name = str(found.get("model_name_sanitized") or found.get("model_name") or name)
        for target, value, role in _metrics(found):
            if role is None:
                unused.add(target)
                continue
            if values.get(target, value) != value:
                twice.add(target)
            values[target], own[target] = value, Rule(target, role)
    if not values:
        raise InputError(f"{listed(files, most=2)}: no result of which higher or lower is known to be better")
    relative = folder.relative_to(given).as_posix() if given.is_dir() else "."
    notes = []
    if twice:
        notes.append(f"{folder}: {len(twice)} results are in several files; those of the last date count")
    if unused:
        why = "since they repeat others, or their scale is not known"
        notes.append(f"{folder}: not used, {why}: {listed(sorted(unused))}")
    table = objects.table_of([values], str(folder if len(files) > 1 else files[0]))
    run = relative if relative != "." else name or folder.resolve().name
    return Part(kind="lm-eval", table=table, rules=tuple(own.values()), run=run, notes=tuple(notes))


def _metrics(found: Mapping[str, Any]) -> list[tuple[str, float, str | None]]:
    """Return name, value and role of each result; a role of None where it is not used."""
    results = {str(task): values for task, values in found["results"].items() if isinstance(values, Mapping)}
    directions = _mapping(found.get("higher_is_better"))
    # A group that has a result is the mean of its tasks, which would count twice.
    within = {
        str(task)
        for group, tasks in _mapping(found.get("group_subtasks")).items()
        if isinstance(tasks, list) and any(_is_number(value) for value in _mapping(results.get(group)).values())
        for task in tasks
    }
    listing: list[tuple[str, float, str | None]] = []
    for task, values in results.items():
        has_bits = any(str(key).startswith("bits_per_byte") for key in values)
        for key, value in values.items():
            metric, _, which = str(key).partition(",")
            if not _is_number(value) or metric.endswith("_stderr") or metric in ("samples", "sample_len"):
                continue
            target = f"{task.strip(' -')}/{metric}" + (f"/{which}" if which not in ("", "none") else "")
            higher = _mapping(directions.get(task)).get(metric, _usual(metric))
            role = None
            if task not in within and not (has_bits and metric in _SAME_AS_BITS):
                if higher is True and 0 <= value <= 1:
                    role = f"accuracy/{target}"
                elif higher is False and value > 0:
                    role = f"loss/{target}"
            listing.append((target, float(value), role))
    return listing


def _usual(metric: str) -> bool | None:
    return True if metric in _HIGHER else False if metric in _LOWER else None


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
