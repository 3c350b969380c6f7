"""Results as a notebook shows them, their `_repr_html_`: a heading, a table and a line below.

Arguments are the results themselves, which import this module. There is no style: that of the notebook holds.
"""

from html import escape
from typing import Any

import numpy as np

from bimixjax._base import hypertext, summaries

# A wider table runs out of most screens.
_MOST_COLUMNS = 8
# How many laws of an average are named, and from which weight on they round to a percent.
_MEMBERS, _LEAST_WEIGHT = 3, 0.005


def fitted(fit: Any) -> str:
    """Show a single law: a row for each lane, with coefficients ± standard errors, and how well it fits."""
    names = [name for name in fit.names if name not in fit.law.gauge]
    # Of a law with a term for each domain, the coefficients are more than a screen is wide.
    shown = names if len(names) <= _MOST_COLUMNS else []
    values, errors = fit.coefficients, fit.standard_errors
    rows = []
    for lane, name in enumerate(summaries.names_of_lanes(fit)):
        numbers = ((np.ravel(values[each])[lane], np.ravel(errors[each])[lane]) for each in shown)
        cells = [_with_error(float(value), float(error)) for value, error in numbers]
        scores = _percent(fit.error[lane]), _decimal(fit.r2[lane])
        rows.append([name, *cells, str(int(fit.rows[lane])), *scores, fit.sentences[lane].partition(";")[0]])
    columns = ["target", *shown, "rows", "mean relative error", "R2", "status"]
    more = [f"{len(names)} coefficients of each target: see .coefficients"] if names and not shown else []
    caption = [f"volume in {fit.volume_unit}" if fit.volume_unit else "one volume", *more, *fit.notes]
    return _titled(f"Law {fit.law.name}", columns, rows, caption)


def averaged(fit: Any) -> str:
    """Show a fit of `auto`: a row for each lane, with its error on runs left out and the laws of most weight."""
    rows = []
    for lane, name in enumerate(summaries.names_of_lanes(fit)):
        weights = {member: float(np.ravel(weight)[lane]) for member, weight in fit.members.items()}
        largest = sorted(weights.items(), key=lambda pair: -pair[1])[:_MEMBERS]
        laws = ", ".join(f"{member} {100 * weight:.0f} %" for member, weight in largest if weight >= _LEAST_WEIGHT)
        rows.append([name, str(int(np.ravel(fit.rows)[lane])), _percent(np.ravel(fit.left_out_error)[lane]), laws])
    caption = [f"volume in {fit.volume_unit}" if fit.volume_unit else "one volume", *fit.notes]
    columns = ["target", "rows", "error on runs left out", "laws of most weight"]
    return _titled("auto, an average of laws", columns, rows, caption)


def optimum(best: Any) -> str:
    """Show a mixture: shares, and the predicted losses."""
    at = {**dict.fromkeys(best.at_lower, "at its lower limit"), **dict.fromkeys(best.at_upper, "at its upper limit")}
    at |= dict.fromkeys(best.fixed, "fixed")
    shares = [[name, f"{share:.4f}", at.get(name, "")] for name, share in best.as_dict().items()]
    outside = dict.fromkeys(best.extrapolated, "extrapolated")
    losses = [
        [name, _decimal(loss), f"{weight:.3g}", outside.get(name, "")]
        for name, loss, weight in zip(best.targets, best.losses, best.weights, strict=True)
    ]
    limits = best.objective_interval
    within = "" if limits is None else f"; 90 % of measured ones within {limits[0]:.4f} to {limits[1]:.4f}"
    caption = [f"weighted mean {best.objective:.4f} nats per token{within}"]
    title = "Mixture" if best.converged else "Not found: the search stopped here"
    return _titled(title, ["domain", "share", ""], shares, []) + _titled(
        "Predicted losses", ["target", "nats per token", "weight", ""], losses, caption
    )


def compared(found: Any) -> str:
    """Show a comparison: a row for each law or baseline and group of folds."""
    rows = []
    for row in found.to_frame().to_dict("records"):
        numbers = _percent(row["error"]), _decimal(row["spearman"], 3), _decimal(row["regret"])
        rows.append([row["law"], f"{row['group']:g}", *numbers, row["trust"]])
    columns = [
        "law",
        f"{found.grouped_by} fitted",
        "mean relative error",
        "rank correlation",
        "regret, nats",
        "caution",
    ]
    caption = [f"{len(found.run)} rows held out in {len(found.group)} folds; regret in nats per token", *found.notes]
    return _titled(f"Held-out losses of {summaries.listed(found.targets)}", columns, rows, caption)


def _titled(title: str, columns: list[str], rows: list[list[str]], caption: list[str]) -> str:
    """Put a heading above a table, whose last column is one of words, and sentences below."""
    below = [hypertext.paragraph("; ".join(caption))] if caption else []
    return "\n".join(
        [f"<p><b>{escape(title)}</b></p>", hypertext.table(columns, rows, left=(0, len(columns) - 1)), *below]
    )


def _with_error(value: float, error: float) -> str:
    return f"{value:.4g} ± {error:.2g}" if np.isfinite(error) else f"{value:.4g} ± ?" if np.isfinite(value) else "-"


def _percent(share: Any) -> str:
    return f"{100 * float(share):.2f} %" if np.isfinite(share) else "-"


def _decimal(value: Any, digits: int = 4) -> str:
    return f"{float(value):.{digits}f}" if np.isfinite(value) else "-"
