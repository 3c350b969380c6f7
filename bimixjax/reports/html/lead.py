"""The decision in one sentence, and the few numbers beside it."""

import re
from collections.abc import Sequence
from html import escape, unescape

import numpy as np

from bimixjax.loop.decision import Decision
from bimixjax.observations import Budget
from bimixjax.optimization import OptimalMixture
from bimixjax.optimization.baselines import BEST_RUN, ZERO_RUN
from bimixjax.optimization.worth import LEVEL, TOLERANCE
from bimixjax.reports.lanes import short

# So many domains are named in the sentence; the tables have all.
_NAMED = 5
# From how many percent of draws on a gain counts as sure.
_SURE = 95
# A space that is narrow and does not break.
_THIN = "\u202f"


def sentence(found: Decision) -> str:
    """Say which mixture, how much better it is than natural and zero-run, and how sure that is: inline HTML."""
    best = found.best
    if not best.converged:
        return "No mixture is recommended: the search did not converge to one."
    compared = _compared(found)
    clauses = [_clause(found, name) for name in compared]
    train = f"Train on <b>{mixture_in_words(best)}</b>"
    if not clauses:
        return f"{train}: no other mixture is known to compare it with."
    said = f"{train}: {place(best.budget)}its predicted mean loss is {' and '.join(clauses)}"
    return f"{said}{_sure(found, compared)}."


def plain(found: Decision) -> str:
    """Return the sentence as plain text."""
    return unescape(re.sub(r"</?b>", "", sentence(found))).replace(_THIN, " ")


def mixture_in_words(best: OptimalMixture) -> str:
    """Name the largest shares: `web 41.2 %, books 30.0 % and code 28.8 %`, escaped."""
    order = np.argsort(-best.proportions, kind="stable").tolist()
    named, shares = order if len(order) <= _NAMED + 1 else order[:_NAMED], best.proportions.tolist()
    parts = [f"{escape(best.domains[i], quote=False)} {percent(shares[i])}" for i in named if shares[i] > 0]
    if len(named) < len(order):
        rest = order[len(named) :]
        parts.append(f"{len(rest)} other domains {percent(float(best.proportions[rest].sum()))}")
    return listed(parts)


def listed(parts: Sequence[str]) -> str:
    """Write `a, b and c`."""
    return ", ".join(parts[:-1]) + f" and {parts[-1]}" if len(parts) > 1 else parts[0]


def percent(share: float, digits: int = 1) -> str:
    """Write a share as `41.2 %`, with a narrow space that does not break."""
    return f"{100 * share:.{digits}f}{_THIN}%"


def place(budget: Budget) -> str:
    """Say where a mixture is judged: `at 30K steps and 410M parameters `."""
    at = [f"{short(budget.volume)} {budget.unit}"] if budget.volume is not None and budget.unit else []
    at += [f"{short(budget.model_size)} parameters"] if budget.model_size is not None else []
    return f"at {' and '.join(at)} " if at else ""


def facts(found: Decision) -> str:
    """Return the numbers that a reader looks for first, as a list of terms."""
    best, worth = found.best, found.worth
    limits = best.objective_interval
    within = "" if limits is None else f"{limits[0]:.4f} to {limits[1]:.4f} in {100 * LEVEL:.0f} % of trainings"
    shown = [("Predicted mean loss (nats per token)", f"{best.objective:.4f}", within)]
    for name in dict.fromkeys([*_compared(found), *(n for n in (BEST_RUN,) if n in worth.baselines)]):
        i = worth.baselines.index(name)
        shown.append((f"Predicted gain over {_named(found, name)}", _signed(worth.gains[i]), _ends(found, i)))
    moves = np.isfinite(worth.least)
    if moves.any():
        widest = int(np.nanargmax(worth.most - worth.least))
        ends = f"{percent(worth.least[widest], 0)} to {percent(worth.most[widest], 0)}"
        costs = f"of {worth.domains[widest]}, the flattest share, cost up to {100 * TOLERANCE:g}{_THIN}%"
        shown.append(("What a share may be", ends, costs))
    items = [
        f"<div><dt>{escape(term, quote=False)}</dt><dd>{escape(value)}"
        + (f"<small>{escape(more, quote=False)}</small>" if more else "")
        + "</dd></div>"
        for term, value, more in shown
    ]
    return "\n".join(['<dl class="facts">', *items, "</dl>"])


def _compared(found: Decision) -> list[str]:
    """Name natural (or uniform) and zero-run, the second where it is another mixture than the first."""
    first, mixtures = found.reference, found.baselines.mixtures
    names = [first]
    if ZERO_RUN in mixtures and not np.allclose(mixtures[ZERO_RUN], mixtures[first], atol=1e-3):
        names.append(ZERO_RUN)
    return names


def _named(found: Decision, name: str) -> str:
    """Name a baseline; where zero-run is the same mixture, say so."""
    mixtures = found.baselines.mixtures
    same = name != ZERO_RUN and ZERO_RUN in mixtures and np.allclose(mixtures[ZERO_RUN], mixtures[name], atol=1e-3)
    also = ", which is the zero-run mixture too" if same and name == found.reference else ""
    return f"{_short_name(name)}{also}"


def _short_name(name: str) -> str:
    return "the best run" if name == BEST_RUN else f"the {name} mixture"


def _clause(found: Decision, name: str) -> str:
    i = found.worth.baselines.index(name)
    gain = float(found.worth.gains[i])
    if not np.isfinite(gain):
        return f"not to be compared with that of {_named(found, name)}, which the law cannot predict"
    unit = " nats per token" if name == found.reference else ""
    return f"<b>{abs(gain):.4f}</b>{unit} {'below' if gain >= 0 else 'above'} that of {_named(found, name)}"


def _sure(found: Decision, names: Sequence[str]) -> str:
    worth = found.worth
    if not worth.draws:
        return ", by the law alone: how sure that is, nothing here says"
    better = [float(worth.better[worth.baselines.index(name)]) for name in names]
    which, least = "that" if len(names) == 1 else "both", 100 * min(better)
    if least >= _SURE:
        return f", and it beats {which} in {least:.0f}{_THIN}% of draws from the fit"
    weak = names[int(np.argmin(better))]
    return f", but that it beats {_short_name(weak)} is not sure: it does in {least:.0f}{_THIN}% of draws"


def _ends(found: Decision, i: int) -> str:
    """Write the limits of a gain, as a reader of a sentence takes them."""
    if not found.worth.draws:
        return ""
    return f"{_signed(found.worth.lower[i])} to {_signed(found.worth.upper[i])} in {100 * LEVEL:.0f} % of draws"


def _signed(value: float) -> str:
    return f"{value:.4f}".replace("-", "\u2212") if np.isfinite(value) else "not known"
