"""The page that a team decides by: the mixture in one sentence, then what speaks for it and against it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bimixjax._base import hypertext, provenance
from bimixjax._base.files import write_text
from bimixjax._base.summaries import listed
from bimixjax.estimation import AutoFit
from bimixjax.fitting import FitResult
from bimixjax.loop.decision import Decision
from bimixjax.observations import Observations
from bimixjax.optimization.worth import LEVEL, TOLERANCE
from bimixjax.reports import comparisons, plans, tables, worth as worths
from bimixjax.reports.html import drawings, lead
from bimixjax.reports.html.elements import Section, figure, page, pair, scrolled, shown, side_by_side
from bimixjax.reports.lanes import FittedLosses, short
from bimixjax.reports.predictions import Predictions
from bimixjax.reports.spread import DRAWS, RESAMPLES, WITHIN

# Moves of a share that are listed, the cheapest and the dearest.
_MOVES = 5
TITLE = "Data-mixture report"
_TOLERANCE = f"{100 * TOLERANCE:g} % of the mean loss"


def write(found: Decision, path: str | Path, *, title: str = TITLE, settings: Mapping[str, str] | None = None) -> None:
    """Write the page as one file, which says what made it.

    Args:
        found: what was decided.
        path: of the file.
        title: of the page.
        settings: with what options, by name.
    """
    write_text(path, text(found, provenance.of(path), title=title, settings=settings))


def text(
    found: Decision, origin: Mapping[str, Any], *, title: str = TITLE, settings: Mapping[str, str] | None = None
) -> str:
    """Return the page; `origin` is what `provenance.of` says."""
    opening = [f"<h1>{lead.sentence(found)}</h1>", lead.facts(found), *map(_note, cautions(found))]
    sections = [
        data(found),
        laws(found),
        agreement(found),
        mixtures(found),
        flatness(found),
        runs(found),
        following(found),
        origins(origin, settings or {}),
    ]
    return page(title, opening, [one for one in sections if one is not None])


def cautions(found: Decision) -> list[str]:
    """Say what a reader must know before the rest: what is extrapolated, and what no run constrains."""
    best = found.best
    said = [f"Caution: {sentence}." for sentence in best.untold]
    if best.outside:
        said.append(f"Extrapolated at this mixture: {listed(dict.fromkeys(map(str, best.outside)), most=4)}.")
    if best.from_prior:
        said.append(f"No run constrains the loss of {listed(best.from_prior)} here: it follows from priors alone.")
    if found.comparison is not None:
        rows, name = found.comparison.to_frame(), found.fit.name
        trust = rows.loc[rows["law"] == name, "trust"].tolist()
        said += [f"On held-out runs, {name}: {why}." for why in trust[-1:] if why]
    if not found.best.converged:
        said.append("The shares below are where the search stopped.")
    return said


def data(found: Decision) -> Section | None:
    """Show the table that was fitted, and what was wrong with it."""
    table = found.observations
    if table is None:
        said = "The page was made from a saved fit: the table behind it is not at hand."
        return Section(name="data", title="The data", parts=(hypertext.paragraph(said), *_notes(found.fit.notes)))
    notes = _notes(dict.fromkeys([*table.notes, *found.fit.notes]))
    notes = notes or [hypertext.paragraph("Reading and fitting it gave no note.")]
    caption = "What was tried: the share of each domain in each run, and in the mixture found. A mixture beyond all "
    caption += "strokes is extrapolated."
    both = pair(_facts_of(table, found.fit), figure([drawings.tried(table, found.best)], "tried", caption))
    return Section(name="data", title="The data, and what was wrong with it", parts=(*notes, both))


def laws(found: Decision) -> Section:
    """Show the laws on the same held-out runs, and what was fitted."""
    made, fitted = found.comparison, [shown(part) for part in tables.fitted(found.fit)]
    if made is None:
        return Section(name="laws", title="The law", parts=tuple(fitted))
    folds = f"{len(made.group)} parts of the runs were held out in turn, and predicted from the others."
    errors = "Errors of predicted losses on held-out runs, with standard errors."
    costs = "What choosing the best of the held-out runs by each law would cost; gray: choices that need no law."
    parts = [
        hypertext.paragraph(folds),
        pair(
            figure([drawings.errors(made)], "errors", errors),
            figure([drawings.regrets(made)], "regrets", costs),
        ),
        side_by_side(shown(comparisons.summary(made, more=False)), shown(comparisons.decisions(made))),
        *map(shown, comparisons.trust(made)),
    ]
    return Section(name="laws", title="Laws compared on held-out runs", parts=(*parts, *fitted))


def agreement(found: Decision) -> Section | None:
    """Show predicted against measured losses: of held-out runs where there are any."""
    made, fit = found.comparison, found.fit
    line = "on the line, a prediction is right."
    if made is not None and fit.name in made.laws:
        caption = f"Losses that {fit.name} predicts of runs held out of its fit, against those measured; "
        if made.level is not None:
            caption += f"strokes: intervals that should hold {100 * made.level:.0f} % of the measurements; "
        drawn, panels, name = drawings.held_out(made, fit.name), len(made.targets), "held-out"
    elif found.observations is not None:
        losses = FittedLosses.of(fit, found.observations)
        caption = f"Losses by {fit.name} against those that it was fitted to, so nearer than new ones would be; "
        drawn, panels, name = drawings.fitted(losses), len(losses.lanes), "fitted"
    else:
        return None
    if panels > drawings.MOST_PANELS:
        line += f" The first {drawings.MOST_PANELS} of {panels} are drawn."
    return Section(name="agreement", title="Predicted against measured", parts=(figure(drawn, name, caption + line),))


def mixtures(found: Decision) -> Section:
    """Show the mixture beside those that need no law, with limits and epochs."""
    best, drawn, beside = found.best, found.draws, predictions(found)
    source = DRAWS if isinstance(found.fit, AutoFit) else RESAMPLES
    limits = None if drawn is None else drawn.interval(level=LEVEL)
    share, count = f"{100 * LEVEL:.0f} %", found.worth.draws
    said, gained = "The mixture beside those that need no law", "Predicted gain over each of them"
    said += " and those of other methods" if found.others else ""
    if drawn is not None:
        said += f"; the bar holds {share} of the best mixtures of {len(drawn.regret)} {source}"
    if count:
        gained += f"; the bar holds {share} of {count} {source}; right of 0, the mixture found is better"
    parts = [
        pair(
            figure([drawings.mixtures(best, beside.mixtures, limits, WITHIN)], "beside", f"{said}."),
            figure([drawings.gains(found.worth)], "gains", f"{gained}."),
        ),
        side_by_side(shown(tables.proportions(best, beside, drawn)), shown(tables.losses(best, beside))),
        *map(shown, worths.goal(best)),
        side_by_side(*map(shown, worths.worth(found.worth))),
        hypertext.paragraph("How sure the search is", "title"),
        shown(tables.certificate(best)),
    ]
    if drawn is not None and isinstance(found.fit, AutoFit):
        parts.append(shown(tables.regret(drawn, found.fit)))
    parts += _notes(found.baselines.notes, kind="gloss")
    return Section(name="mixtures", title="The mixture", parts=tuple(parts))


def predictions(found: Decision) -> Predictions:
    """Return what the fit predicts of the baselines and of the further mixtures."""
    every = {**found.baselines.mixtures, **found.others}
    made = Predictions.of(found.fit, every, found.best.budget, found.inventory, refuse=False)
    return made.beside(found.best, found.fit, found.inventory)


def flatness(found: Decision) -> Section | None:
    """Show in which directions the mixture may be changed at little cost."""
    worth, moved = found.worth, found.moves
    room, table = "", ""
    if np.isfinite(worth.least).any():
        caption = f"How far each share may move, the others in their proportions, until that costs {_TOLERANCE}."
        room = figure([drawings.room(worth, _TOLERANCE)], "room", caption)
    if moved is not None and moved.cost.size:
        each = zip(moved.giver, moved.taker, moved.size, moved.cost, strict=True)
        rows = [[giver, taker, lead.percent(size), f"{cost:.4f}"] for giver, taker, size, cost in each]
        cut = len(rows) > 2 * _MOVES
        rows = [*rows[:_MOVES], *rows[-_MOVES:]] if cut else rows
        columns = ["from", "to", "share", "cost"]
        which = f"the {_MOVES} cheapest and the {_MOVES} dearest of {len(moved.cost)}" if cut else "the cheapest first"
        made = hypertext.table(columns, rows, left=(0, 1), gaps=[_MOVES - 1] if cut else [])
        gloss = hypertext.paragraph("cost: by how much the weighted mean rises, in nats per token", "gloss")
        table = _framed(f"What it costs to move tokens, {which}", scrolled(made) + gloss)
    if not room and not table:
        return None
    return Section(name="flatness", title="Where it is flat", parts=(pair(room, table),))


def runs(found: Decision) -> Section:
    """Show on which runs the mixture hangs."""
    title, made = "Which runs it hangs on", found.influence
    if made is None or not made.runs:
        why = "the page was made from a saved fit, without its runs" if made is None else made.method
        why = found.missing.get("influence", why)
        return Section(name="runs", title=title, parts=(hypertext.paragraph(f"Not computed: {why}."),))
    said = f"Best mixtures without a run, {made.method}. "
    said += "A gain that would vanish without one run is that run's word alone."
    caption = "How far the best mixture moves without a run: the share of the tokens that would go to other domains."
    gains = [f"{gain:+.4f}".replace("-", "\u2212") for gain in made.gain]
    order = range(min(len(made.runs), drawings.MOST_ROWS))
    rows = [[made.runs[i], lead.percent(made.shift[i], 2), gains[i]] for i in order]
    table = hypertext.table(["without", "tokens elsewhere", f"gain over {made.reference}"], rows)
    gloss = hypertext.paragraph("gain: how much it would change, in nats per token", "gloss")
    both = pair(
        figure([drawings.influence(made)], "influence", caption),
        _framed("The runs of most influence", scrolled(table) + gloss),
    )
    return Section(name="runs", title=title, parts=(hypertext.paragraph(said), both))


def following(found: Decision) -> Section | None:
    """Show which runs to train next."""
    if found.plan is None and "plan" in found.missing:
        why = hypertext.paragraph(f"Not planned: {found.missing['plan']}.")
        return Section(name="next", title="What to train next", parts=(why,))
    if found.plan is None:
        return None
    said = "If more runs can be trained, these are expected to improve the best mixture most, as a batch."
    parts = [hypertext.paragraph(said), side_by_side(*map(shown, plans.screen(found.plan)))]
    return Section(name="next", title="What to train next", parts=tuple(parts))


def origins(origin: Mapping[str, Any], settings: Mapping[str, str]) -> Section:
    """Show what made the page: command, inputs with their hashes, versions, and settings."""
    rows = [["command", str(origin["command"] or "not known: the page was written in Python")]]
    rows += [[f"SHA-256 of {one['name']}", one["sha256"]] for one in origin["inputs"]]
    rows += [[f"version of {name}", str(number)] for name, number in origin["versions"].items()]
    rows += [[f"setting {name}", value] for name, value in settings.items()]
    made = scrolled(hypertext.table(["", "value"], rows, left=(0, 1)))
    return Section(name="provenance", title="Where this comes from", parts=(_framed("", made),))


def _facts_of(table: Observations, fit: FitResult | AutoFit) -> str:
    """Count what is in a table, and what of it was fitted."""
    unit = fit.volume_unit
    losses = table.losses[:, [table.targets.index(target) for target in fit.targets]]
    rows = [
        ["runs", f"{len(table.runs)}"],
        ["rows (run x checkpoint)", f"{len(table)}"],
        ["domains", f"{len(table.domains)}: {listed(table.domains)}"],
        ["targets fitted", f"{len(fit.targets)} of {len(table.targets)}: {listed(fit.targets)}"],
    ]
    if unit is not None:
        volumes = table.volumes(unit)
        rows.append([f"training, {unit}", f"{short(volumes.min())} to {short(volumes.max())}"])
    if table.model_sizes:
        rows.append(["model sizes", ", ".join(map(short, table.model_sizes))])
    rows += [
        ["missing losses", f"{int(np.isnan(losses).sum())} of {losses.size}"],
        ["shares that are zero", lead.percent(float((table.proportions == 0).mean()))],
    ]
    return _framed("What was measured", scrolled(hypertext.table(["", "in the table"], rows, left=(0, 1))))


def _framed(title: str, inside: str) -> str:
    head = [hypertext.paragraph(title, "title")] if title else []
    return "\n".join(['<div class="framed">', *head, inside, "</div>"])


def _note(sentence: str) -> str:
    return hypertext.paragraph(sentence, "note")


def _notes(sentences: Iterable[str], kind: str = "note") -> list[str]:
    return [hypertext.paragraph(f"{one[:1].upper()}{one[1:]}.", kind) for one in sentences]
