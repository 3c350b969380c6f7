"""Runs that were imported: a table of the files and their kinds, and a document for machines."""

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from bimixjax._base.summaries import listed
from bimixjax.interchange import Imported
from bimixjax.reports.layout import framed, table


def imported(found: Imported) -> list[RenderableType]:
    """Return one row per file with the kind that it was taken as, and what the table has."""
    observations = found.observations
    counts = f"{len(observations.runs)} runs, {len(observations)} rows"
    names = f"{len(observations.domains)} domains, {len(observations.targets)} targets"
    lines = [f"Domains: {listed(observations.domains, most=24)}.", f"Targets: {listed(observations.targets, most=24)}."]
    lines += [f"Not used: {listed(found.unused, most=12)}."] if found.unused else []
    return [framed(f"Imported {counts}: {names}", table(["file", "taken as"], found.kinds.items())), *map(Text, lines)]


def document(found: Imported) -> dict[str, Any]:
    """Return what was imported, by name."""
    observations = found.observations
    return {
        "files": [{"file": file, "kind": kind} for file, kind in found.kinds.items()],
        "runs": len(observations.runs),
        "rows": len(observations),
        "domains": observations.domains,
        "targets": observations.targets,
        "volume_unit": observations.volume_unit(),
        "unused": found.unused,
        "notes": found.notes,
    }
