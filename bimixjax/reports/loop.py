"""What the whole loop found, as tables for a terminal or a page, and as a document for machines."""

from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from bimixjax._base.records import to_plain
from bimixjax.loop.evidence import Check
from bimixjax.loop.proof import CLEAR, Proof
from bimixjax.loop.workflow import OPTIMIZED, LoopResult
from bimixjax.optimization import Baselines
from bimixjax.reports import corpora, documents, proofs, tables
from bimixjax.reports.layout import framed, percent, table
from bimixjax.reports.predictions import Predictions


def baselines(result: LoopResult) -> Predictions:
    """Return what the law predicts for the mixtures trained beside the optimized one, and others that need no law."""
    found = Baselines.of(result.fit, budget=result.best.budget, observations=result.observations)
    others = {**found.mixtures, **result.compared}
    del others[OPTIMIZED]
    baselines = Predictions.of(result.fit, others, result.best.budget, refuse=False)
    return baselines.beside(result.best, result.fit)


def screen(result: LoopResult) -> list[RenderableType]:
    """Return all of it, in the order of the loop."""
    swarm = [corpora.entropies(result.store, result.entropies), corpora.swarm(result.observations), ""]
    law = [*tables.fitted(result.fit), "", checks(result)]
    best = [tables.proportions(result.best, baselines(result)), tables.certificate(result.best), ""]
    return [*swarm, *law, *best, proofs.measured(result.proof), verdict(result.proof)]


def checks(result: LoopResult) -> Group:
    """Return one row per check: the mean relative error on held-out losses of the law, and of a guess without one."""
    shown = table(["held out", "", *result.fit.targets], keys=2)
    for name, check in named_checks(result).items():
        shown.add_row(name, "law", *map(percent, check.error))
        shown.add_row("", "baseline", *map(percent, check.naive))
    baselines = "; ".join(f"{name}: {check.guess}" for name, check in named_checks(result).items())
    return framed("Mean relative error on losses held out of the fit", shown, f"Baseline: {baselines}")


def named_checks(result: LoopResult) -> dict[str, Check]:
    """Return the checks by what each holds out."""
    mixtures = len(result.generalization.held_out.runs)
    return {"last step": result.extrapolation, f"{mixtures} mixture{'s' * (mixtures > 1)}": result.generalization}


def verdict(found: Proof) -> Text:
    """Say which mixture won, and how the optimized one did against each other one."""
    if not found.ranked:
        return Text("No mixture has all its runs: nothing can be said.")
    first = f"Lowest measured mean loss: {found.ranked[0]}. Below {CLEAR} standard errors, a difference is a tie."
    if OPTIMIZED not in found.ranked:
        return Text(f"{first} A run of the {OPTIMIZED} mixture diverged.")
    lines = [first]
    for other, (gap, errors) in found.differences(OPTIMIZED).items():
        verb, side = ("beats", "lower") if gap > 0 else ("loses to", "higher")
        verb = verb if abs(errors) >= CLEAR else "ties with"
        size = f"{abs(gap):.4f} nats per token {side}, {abs(errors):.1f} standard errors"
        lines.append(f"The {OPTIMIZED} mixture {verb} {other}: {size}.")
    return Text("\n".join(lines))


def document(result: LoopResult) -> dict[str, Any]:
    """Return all of it for machines."""
    found = result.proof
    by_mixture = {name: getattr(found, name) for name in ("means", "losses", "predicted")}
    return {
        "corpus": corpora.corpus_document(result.store),
        "entropies": to_plain(dict(result.entropies)),
        "design": corpora.mixtures_document(result.design.domains, design(result)),
        "fit": documents.fitted(result.fit),
        "checks": {name: _check_document(check) for name, check in named_checks(result).items()},
        "optimum": documents.optimum(result.best, baselines(result)),
        "proof": {
            "steps": found.steps,
            **{name: dict(zip(found.mixtures, values, strict=True)) for name, values in by_mixture.items()},
            "noise": found.noise,
            "standard_error": found.standard_error,
            "ranked": found.ranked,
        },
    }


def design(result: LoopResult) -> dict[str, np.ndarray]:
    """Return the mixtures of the swarm by run."""
    return dict(zip(result.design.runs, result.design.proportions, strict=True))


def _check_document(check: Check) -> dict[str, Any]:
    targets = check.fit.targets
    law, baseline = (dict(zip(targets, errors, strict=True)) for errors in (check.error, check.naive))
    return {"law": law, "baseline": baseline, "baseline_in_words": check.guess}
