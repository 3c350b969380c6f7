"""What became of files since they were written, as a table and for machines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from bimixjax._base.records import to_plain
from bimixjax.loop.verification import NONE, Verdict
from bimixjax.reports.layout import framed, table
from bimixjax.reports.tables import notes


def screen(found: Sequence[Verdict], place: Path) -> list[RenderableType]:
    """Return one row per file, its state, what made it and when it does not hold, why."""
    if all(one.state == NONE for one in found):
        return [Text(f"Nothing in {place} says what made it.")]
    shown = table(["", "state", "inputs", "bimixjax", "command"], keys=1)
    for one in found:
        shown.add_row(one.file, one.state, str(len(one.inputs)), one.versions.get("bimixjax") or "-", _short(one))
    failures = [f"{one.file}: {'; '.join(one.why)}" for one in found if one.why]
    return [framed(f"Files of {place}", shown), *notes(failures)]


def _short(one: Verdict) -> str:
    """Name the command by its first two words; the file has it whole."""
    return " ".join((one.command or "-").split()[:2])


def document(found: Sequence[Verdict]) -> dict[str, Any]:
    """Return all files for machines."""
    return {"files": to_plain(list(found))}
