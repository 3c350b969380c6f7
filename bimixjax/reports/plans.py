"""Plans of runs: tables, and documents for machines."""

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType

from bimixjax.planning import Plan
from bimixjax.reports.layout import framed, table
from bimixjax.reports.tables import notes

if TYPE_CHECKING:
    from bimixjax.loop.rounds import Rounds


def screen(plan: Plan) -> list[RenderableType]:
    """Return the mixtures of the runs, and why each was chosen."""
    return [_mixtures(plan), _reasons(plan), *notes(plan.notes)]


def _mixtures(plan: Plan) -> Group:
    sizes = [] if plan.model_sizes is None else [f"{size:g}" for size in plan.model_sizes]
    rows = []
    for i, (run, mixture) in enumerate(zip(plan.runs, plan.mixtures, strict=True)):
        rows.append([run, *sizes[i : i + 1], *(f"{share:.4f}" for share in mixture)])
    return framed("Runs to train next", table(["", *(["model size"] if sizes else []), *plan.domains], rows))


def _reasons(plan: Plan) -> Group:
    rows = []
    for run, reason, gain in zip(plan.runs, plan.reasons, plan.improvement, strict=True):
        rows.append([run, *([f"{gain:.2g}"] if np.isfinite(plan.improvement).all() else []), reason])
    columns = ["", *(["improvement"] if np.isfinite(plan.improvement).all() else []), "why"]
    gloss = "improvement: of the least mean loss, expected, in nats per token" if len(columns) > 2 else None
    return framed(plan.method, table(columns, rows), gloss)


def document(plan: Plan) -> dict[str, Any]:
    """Return the plan for machines: a list of runs, null where a run has no such number."""
    runs = []
    for i, run in enumerate(plan.runs):
        runs.append(
            {
                "run": run,
                "mixture": dict(zip(plan.domains, plan.mixtures[i].tolist(), strict=True)),
                "candidate": None if plan.index is None else int(plan.index[i]),
                "model_size": None if plan.model_sizes is None else float(plan.model_sizes[i]),
                "improvement": float(plan.improvement[i]),
                "reason": plan.reasons[i],
            }
        )
    return {"method": plan.method, "runs": runs, "notes": plan.notes}


def rounds(found: "Rounds") -> list[RenderableType]:
    """Return each round's runs with why they were chosen, and the least mean loss until its end."""
    rows = []
    for number, (plan, least) in enumerate(zip(found.plans, found.least, strict=True), 1):
        for i, run in enumerate(plan.runs):
            first = i == 0
            rows.append([str(number) if first else "", run, plan.reasons[i], f"{least:.4f}" if first else ""])
    shown = table(["round", "run", "why", "least mean loss"], rows, keys=2)
    return [framed("Rounds", shown, "least mean loss: of all runs until the end of the round, at the last step")]


def rounds_document(found: "Rounds") -> dict[str, Any]:
    """Return all rounds for machines."""
    each = zip(found.plans, found.least, strict=True)
    return {
        "observations": str(found.table),
        "rounds": [{**document(plan), "least_mean_loss": least} for plan, least in each],
    }
