"""What the whole loop found, as tables for a terminal or a page, and as a document for machines."""

from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from bimixjax._base.records import to_plain
from bimixjax.loop.evidence import CLEAR, Check, Proof
from bimixjax.loop.workflow import OPTIMIZED, LoopResult
from bimixjax.optimization import Baselines
from bimixjax.reports import corpora, documents, tables
from bimixjax.reports.layout import decimal, framed, percent, table
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
    return [*swarm, *law, *best, proof(result.proof), verdict(result.proof)]


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


def proof(found: Proof) -> Group:
    """Return one column per mixture, the best first: losses, their mean, what was predicted, and the distance."""
    names = [*found.ranked, *(name for name in found.mixtures if name not in found.ranked)]
    order = [found.mixtures.index(name) for name in names]
    rows = dict(zip(found.targets, found.losses[order].mean(axis=1).T, strict=True))
    means = {"mean": found.means[order], "mean, predicted": found.predicted[order].mean(axis=1)}
    shown = table(["", *names])
    for name, values in (*rows.items(), *means.items()):
        shown.add_row(name, *(decimal(value, otherwise="diverged") for value in values))
        if name == found.targets[-1]:
            shown.add_section()
    behind = found.differences(names[0])
    shown.add_row("above the best", *(f"{behind[name][0]:.4f}" if name in behind else "" for name in names))
    shown.add_row("in standard errors", *(f"{behind[name][1]:.1f}" if name in behind else "" for name in names))
    title = f"Proof: loss measured at {found.steps:.0f} steps, trained afresh with {found.losses.shape[1]} seeds each"
    gloss = f"Nats per token. Standard error of a difference of means: {found.standard_error:.4f}"
    return framed(title, shown, gloss)


def verdict(found: Proof) -> Text:
    """Say which mixture won, and how the optimized one did against each other one."""
    if not found.ranked:
        return Text("No mixture has all its runs: nothing can be said.")
    first = f"Lowest measured mean loss: {found.ranked[0]}."
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
