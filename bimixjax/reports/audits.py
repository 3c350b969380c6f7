"""What a trainer makes of a mixture: tables, and documents for machines."""

from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from bimixjax.interchange import Audit
from bimixjax.reports.layout import framed, table
from bimixjax.reports.tables import notes


def screen(audit: Audit, *, asked: bool = True) -> list[RenderableType]:
    """Return the shares asked for, or the numbers written, beside those drawn, and epochs; problems and notes below."""
    several = len(audit.starts) > 1
    found: list[RenderableType] = []
    for i, start in enumerate(audit.starts):
        title = audit.title + (f", from step {start}" if several else "")
        last = i == len(audit.starts) - 1
        epochs = audit.epochs if last else None
        found.append(_shares(audit, i, f"{title}: shares of {audit.counts}", asked, epochs))
    found += [Text(f"Problem: {text}.", "bold red") for text in audit.problems]
    return [*found, *notes(audit.notes)]


def _shares(audit: Audit, stage: int, title: str, asked: bool, epochs: np.ndarray | None) -> Group:
    columns = ["", "asked" if asked else "written", "realized", *(["epochs"] if epochs is not None else [])]
    rows = []
    for i, domain in enumerate(audit.domains):
        wanted = f"{audit.asked[stage, i]:.5f}" if asked else f"{audit.written[stage, i]:.6g}"
        repeated = [] if epochs is None else [f"{epochs[i]:.2f}" if np.isfinite(epochs[i]) else "-"]
        rows.append([domain, wanted, f"{audit.realized[stage, i]:.5f}", *repeated])
    gloss = [] if audit.resolution is None else [f"realized in parts of {audit.resolution:.3g}"]
    gloss += ["epochs: of all stages together"] if epochs is not None and len(audit.starts) > 1 else []
    return framed(title, table(columns, rows), "; ".join(gloss) or None)


def document(audit: Audit) -> dict[str, Any]:
    """Return an audit for machines: a list of stages, with shares by domain."""
    stages = [
        {
            "start": start,
            "written": dict(zip(audit.domains, written.tolist(), strict=True)),
            "asked": dict(zip(audit.domains, asked.tolist(), strict=True)),
            "realized": dict(zip(audit.domains, realized.tolist(), strict=True)),
        }
        for start, written, asked, realized in zip(
            audit.starts, audit.written, audit.asked, audit.realized, strict=True
        )
    ]
    epochs = None if audit.epochs is None else dict(zip(audit.domains, audit.epochs.tolist(), strict=True))
    return {
        "trainer": audit.title,
        "shares_of": audit.counts,
        "stages": stages,
        "epochs": epochs,
        "resolution": audit.resolution,
        "problems": list(audit.problems),
        "notes": list(audit.notes),
    }
