"""The page of the whole loop: the decision with its measured proof, then corpus, law, mixture and where it is flat."""

from pathlib import Path

from bimixjax._base import hypertext, provenance
from bimixjax._base.files import write_text
from bimixjax.loop.decision import Decision
from bimixjax.loop.influence import moves
from bimixjax.loop.proof import CLEAR
from bimixjax.loop.workflow import OPTIMIZED, LoopResult
from bimixjax.observations import Inventory
from bimixjax.optimization import Baselines
from bimixjax.optimization.baselines import NATURAL, UNIFORM
from bimixjax.reports import corpora, loop, proofs, tables
from bimixjax.reports.html import decision, drawings, lead
from bimixjax.reports.html.elements import Section, figure, page, shown
from bimixjax.reports.lanes import FittedLosses

PAGE = "report.html"
TITLE = "From a corpus to a mixture"


def write(result: LoopResult, folder: str | Path) -> Path:
    """Write `report.html` into a folder, and return its path."""
    path = Path(folder) / PAGE
    found = decided(result)
    sections = [
        _proof(result),
        decision.data(found),
        _corpus(result),
        _law(result),
        _checks(result),
        decision.mixtures(found),
        decision.flatness(found),
        decision.origins(provenance.of(path), {}),
    ]
    opening = [f"<h1>{sentence(result)}</h1>", lead.facts(found)]
    write_text(path, page(TITLE, opening, [one for one in sections if one is not None]))
    return path


def decided(result: LoopResult) -> Decision:
    """Return what the loop decided, beside the mixtures that were trained with it."""
    fit, best, table = result.fit, result.best, result.observations
    stock = Inventory(dict(zip(result.store.domains, result.store.tokens.tolist(), strict=True)))
    tokens = None if table.tokens is None else float(table.tokens.max())
    baselines = Baselines.of(fit, budget=best.budget, inventory=stock, observations=table)
    others = {name: r for name, r in result.compared.items() if name not in (OPTIMIZED, NATURAL, UNIFORM)}
    return Decision(
        fit=fit,
        best=best,
        baselines=baselines,
        worth=best.worth(fit, baselines=baselines, inventory=stock, train_tokens=tokens),
        others=others,
        inventory=stock,
        train_tokens=tokens,
        observations=table,
        moves=moves(fit, best, stock),
    )


def sentence(result: LoopResult) -> str:
    """Say which mixture, and how it did when it was trained afresh: inline HTML."""
    proof, train = result.proof, f"Train on <b>{lead.mixture_in_words(result.best)}</b>"
    gaps = proof.differences(OPTIMIZED)
    # The best of those trained is named, whatever it is.
    named = dict.fromkeys([NATURAL, UNIFORM, *proof.ranked[:1]])
    clauses = [_clause(name, *gaps[name]) for name in named if name in gaps]
    if not clauses:
        return f"{train}: it could not be compared with others, since runs of the proof diverged."
    seeds = proof.losses.shape[1]
    trained = f"trained afresh with {seeds} seeds, its mean loss at {proof.steps:.0f} steps was "
    return f"{train}: {trained}{lead.listed(clauses)}."


def _clause(name: str, gap: float, errors: float) -> str:
    side = "below" if gap >= 0 else "above"
    sure = "" if abs(errors) >= CLEAR else ", which is no clear difference"
    said = f"<b>{abs(gap):.4f}</b> nats per token {side} that of the {name} mixture"
    return f"{said} ({abs(errors):.1f} standard errors{sure})"


def _proof(result: LoopResult) -> Section:
    caption = "Mean losses of mixtures trained afresh with the same seeds: a dot for each run, a stroke at their mean, "
    caption += "a ring where it was promised."
    drawn = figure([drawings.proof(result.proof)], "proof-drawn", caption)
    parts = (shown(loop.verdict(result.proof)), drawn, shown(proofs.measured(result.proof)))
    return Section(name="proof", title="What was measured", parts=parts)


def _corpus(result: LoopResult) -> Section:
    said = "The swarm trains on these mixtures of it."
    mixtures = shown(corpora.mixtures(result.design.domains, loop.design(result)))
    entropies = shown(corpora.entropies(result.store, result.entropies))
    parts = (entropies, hypertext.paragraph(said), mixtures, shown(corpora.swarm(result.observations)))
    return Section(name="corpus", title="Corpus and swarm", parts=parts)


def _law(result: LoopResult) -> Section:
    return Section(name="laws", title="The law", parts=tuple(map(shown, tables.fitted(result.fit))))


def _checks(result: LoopResult) -> Section:
    parts = [shown(loop.checks(result))]
    for number, (name, check) in enumerate(loop.named_checks(result).items()):
        caption = f"Losses that {check.fit.name} predicts of what was held out of its fit ({name}), against those "
        caption += "measured; on the line, a prediction is right."
        panels = drawings.fitted(FittedLosses.of(check.fit, check.held_out))
        parts.append(figure(panels, f"held-out-{number}", caption))
    return Section(name="agreement", title="Predicted against measured", parts=tuple(parts))
