"""Mixtures trained against each other, as tables for a terminal or a page, and as a document for machines."""

from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from bimixjax.loop.proof import CLEAR, Proof
from bimixjax.loop.proposals import Proposals
from bimixjax.reports.layout import decimal, framed, table

# Of more mixtures that tie with the best, the rest is counted.
_NAMED = 6
_HELD = {True: "yes", False: "no", None: "-"}


def screen(found: Proof, proposals: Proposals) -> list[RenderableType]:
    """Return what each mixture lost, its shares, who won, and which methods proposed nothing."""
    lines = [f"{name} proposes nothing: {why}" for name, why in proposals.missing.items()]
    if len(proposals.seeds) == 1 and np.isfinite(found.seed_effect) and any(held is not None for held in found.held):
        lines.append(
            f"All runs that methods saw had seed {proposals.seeds[0]}. A seed moves all mixtures alike by "
            f"{decimal(found.seed_effect)} (standard deviation over the seeds here), which no limits allow for."
        )
    return [measured(found), shares(found, proposals), verdict(found), *map(Text, lines)]


def measured(found: Proof) -> Group:
    """Return one row per mixture, the best first: losses, their mean, what was promised, and the distance."""
    names = _ordered(found)
    promises = np.isfinite(found.promised)
    columns = ["", "mean", "above the best", "in standard errors"]
    columns += ["promised", "above that"] if promises.any() else []
    columns += ["in its limits"] if any(held is not None for held in found.held) else []
    shown = table([*columns, *found.targets])
    behind = found.differences(names[0])
    means = found.losses.mean(axis=1)
    for name in names:
        i = found.mixtures.index(name)
        gap, errors = behind.get(name, (np.nan, np.nan))
        row = [name, decimal(found.means[i], otherwise="diverged"), decimal(gap), decimal(errors, 1)]
        row += [decimal(found.promised[i]), decimal(found.missed[i])] if promises.any() else []
        row += [_HELD[found.held[i]]] if "in its limits" in columns else []
        shown.add_row(*row, *(decimal(loss, otherwise="diverged") for loss in means[i]))
    title = f"Proof: loss measured at {found.steps:.0f} steps, trained afresh with {found.losses.shape[1]} seeds each"
    gloss = f"Nats per token. Standard error of a difference: {decimal(found.standard_error)}"
    if promises.any():
        gloss += ". Promised: predicted before the training, of each method's mixture by that method"
    return framed(title, shown, gloss)


def shares(found: Proof, proposals: Proposals) -> Group:
    """Return one row per mixture: its shares."""
    by_name = dict(zip(proposals.names, proposals.proportions, strict=True))
    rows = ([name, *(decimal(share, 3) for share in by_name[name])] for name in _ordered(found))
    return framed("What was proposed", table(["", *proposals.domains], rows))


def verdict(found: Proof) -> Text:
    """Say which mixture won, which others it does not clearly beat, and how far promises went."""
    if not found.ranked:
        return Text("No mixture has all its runs: nothing can be said.")
    best = found.ranked[0]
    ties = [name for name, (_, errors) in found.differences(best).items() if errors < CLEAR]
    more = f" and {len(ties) - _NAMED} others" if len(ties) > _NAMED else ""
    behind = f"; less than {CLEAR} standard errors behind: {', '.join(ties[:_NAMED])}{more}" if ties else ""
    lines = [f"Lowest measured mean loss: {best}{behind}."]
    missed = found.missed[np.isfinite(found.missed)]
    if len(missed):
        side = "above" if missed.mean() > 0 else "below"
        lines.append(
            f"Measured means lie {abs(missed.mean()):.4f} nats per token {side} what was promised, on average."
        )
    held = [one for one in found.held if one is not None]
    if held:
        lines.append(f"{sum(held)} of {len(held)} lie within the limits that were stated of them for 90 % of cases.")
    return Text("\n".join(lines))


def document(found: Proof, proposals: Proposals) -> dict[str, Any]:
    """Return all of it for machines."""
    columns = {
        "mean": found.means,
        "promised": found.promised,
        "regret": found.regret,
        "losses": found.losses,
        "proportions": proposals.proportions,
        "limits": proposals.intervals,
        "held": found.held,
    }
    return {
        "steps": found.steps,
        "targets": found.targets,
        "domains": proposals.domains,
        "mixtures": {
            name: {column: values[i] for column, values in columns.items()} for i, name in enumerate(found.mixtures)
        },
        "noise": found.noise,
        "standard_error": found.standard_error,
        "seed_effect": found.seed_effect,
        "ranked": found.ranked,
        "missing": dict(proposals.missing),
    }


def _ordered(found: Proof) -> list[str]:
    return [*found.ranked, *(name for name in found.mixtures if name not in found.ranked)]
