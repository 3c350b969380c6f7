"""What a mixture is best for, and what it is worth, on a screen and for machines."""

from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from bimixjax._base.records import to_plain
from bimixjax.optimization import OptimalMixture, Worth
from bimixjax.optimization.worth import LEVEL, TOLERANCE
from bimixjax.reports.layout import decimal, framed, table


def goal(best: OptimalMixture) -> list[Text]:
    """Say what was minimized, where it is not the weighted mean."""
    if best.value is None:
        return []
    at = f"; at its edge: {', '.join(best.active)}" if best.active else ""
    return [Text(f"Minimized: {best.goal}; {best.value:.4f} nats per token{at}.")]


def worth(found: Worth) -> list[RenderableType]:
    """Return a table of gains over baselines, and one of what each share may be."""
    known = found.epochs is not None or np.isfinite(found.least).any()
    return [_gains(found), *([_shares(found)] if known else [])]


def _gains(found: Worth) -> Group:
    drawn = found.draws > 0
    within = f"{100 * LEVEL:.0f} % of draws"
    shown = table(["over", "gain", *([within, "better in"] if drawn else [])])
    for i in np.argsort(found.gains, kind="stable").tolist():
        ends = [f"{found.lower[i]:.4f} to {found.upper[i]:.4f}", f"{100 * found.better[i]:.0f} %"] if drawn else []
        shown.add_row(found.baselines[i], decimal(float(found.gains[i])), *ends)
    if drawn:
        gloss = f"{found.draws} draws of what the fit leaves open"
    elif found.law == "auto":
        gloss = "by the average of laws alone, without draws; bimix optimize --draws 200 says how sure each gain is"
    else:
        gloss = "by the law alone, without draws"
    return framed("Gain in the weighted mean, nats per token", shown, gloss)


def _shares(found: Worth) -> Group:
    epochs, moves, most = found.epochs, np.isfinite(found.least).any(), f"{100 * TOLERANCE:g} %"
    columns, gloss = {"share": [f"{share:.4f}" for share in found.proportions]}, []
    if moves:
        columns["may be"] = [f"{low:.3f} to {high:.3f}" for low, high in zip(found.least, found.most, strict=True)]
        gloss.append(f"may be: others in their proportions as far as limits let them, until the mean is {most} higher")
    if epochs is not None:
        columns["epochs"] = [f"{count:.3g}" for count in epochs]
        gloss.append("epochs: how often the tokens of the domain are gone through")
    shown = table(["", *columns], zip(found.domains, *columns.values(), strict=True))
    return framed("What each share means", shown, "; ".join(gloss))


def document(found: Worth) -> dict[str, Any]:
    """Describe it for machines: by baseline and by domain."""
    by_baseline = {"gain": found.gains, "lower": found.lower, "upper": found.upper, "better": found.better}
    by_domain = {"share": found.proportions, "least": found.least, "most": found.most}
    by_domain |= {} if found.epochs is None else {"epochs": found.epochs}
    return {
        "level": LEVEL,
        "tolerance": TOLERANCE,
        "law": found.law,
        "draws": found.draws,
        "baselines": {
            name: {key: to_plain(values[i]) for key, values in by_baseline.items()}
            for i, name in enumerate(found.baselines)
        },
        "missing": dict(found.missing),
        "domains": {
            name: {key: to_plain(values[i]) for key, values in by_domain.items()}
            for i, name in enumerate(found.domains)
        },
        "extrapolated": list(found.extrapolated),
    }
