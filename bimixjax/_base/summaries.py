"""Describe results in plain text: one line as their `repr`, some more as their `summary`.

Arguments are the results themselves, which import this module; `bimixjax.reports` has tables of them for a screen.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

_MOST = 8


def listed(names: Iterable[object], most: int = _MOST) -> str:
    """Join names by commas; of many the first ones, and how many there are.

    Example:
        >>> listed("abc"), listed("abc", most=2)
        ('a, b, c', 'a, b, ... (3 in all)')
    """
    words = list(map(str, names))
    return ", ".join(words if len(words) <= most else [*words[:most], f"... ({len(words)} in all)"])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows of cells out as lines of text, in columns; those with numbers aligned right.

    Example:
        >>> print(aligned([["web", "0.5"], ["books", "0.25"]]))
        web     0.5
        books  0.25
    """
    columns = []
    for cells in zip(*rows, strict=True):
        width, pad = max(map(len, cells)), str.rjust if any(cell[-1:].isdigit() for cell in cells[1:]) else str.ljust
        columns.append([pad(cell, width) for cell in cells])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def reach(fit: Any) -> str:
    """Name targets, unit of volume and model sizes of a fit."""
    sizes = f"; model sizes {listed(f'{size:g}' for size in fit.model_sizes)}" if fit.model_sizes else ""
    return f"targets {listed(fit.targets)}; {_volume(fit)}{sizes}"


def fitted(fit: Any) -> str:
    """Summarize a single law: for each lane rows, errors, status and coefficients."""
    names = [name for name in fit.names if name not in fit.law.gauge]
    values, errors = fit.coefficients, fit.standard_errors
    lines = [f"Law {fit.law.name}; {_volume(fit)}; coefficients ± standard errors"]
    for lane, name in enumerate(names_of_lanes(fit)):
        scores = f"mean relative error {100 * fit.error[lane]:.2f} %; R2 {fit.r2[lane]:.4f}"
        lines.append(f"{name}: {fit.rows[lane]} rows; {scores}; {fit.sentences[lane]}")
        numbers = ((each, np.ravel(values[each])[lane], np.ravel(errors[each])[lane]) for each in names)
        lines += [f"  {each} {value:.4g} ± {error:.2g}".replace("± nan", "± ?") for each, value, error in numbers]
    return "\n".join([*lines, *fit.notes])


def averaged(fit: Any) -> str:
    """Summarize `auto`: the members of each lane's average, and its errors on runs left out."""
    lanes = [f"{name}: {sentence}" for name, sentence in zip(names_of_lanes(fit), fit.sentences, strict=True)]
    return "\n".join([f"auto, an average of laws; {_volume(fit)}", *lanes, *fit.notes])


def spread(found: Any) -> str:
    """Summarize resamples: the fit, and the standard deviation of each coefficient of a single law."""
    lines = [f"{len(found)} resamples of the runs; standard deviations over them"]
    for lane, name in enumerate(names_of_lanes(found.fit)):
        deviations = (f"{name} {error[lane]:.2g}" for name, error in found.standard_errors.items())
        lines.append(f"{name}: {', '.join(deviations)}")
    return "\n".join([found.fit.summary(), *lines])


def largest(best: Any) -> str:
    """List the shares of a mixture, the largest first."""
    order = np.argsort(-np.asarray(best.proportions), kind="stable")
    return listed(f"{best.domains[i]} {best.proportions[i]:.3f}" for i in order)


def optimum(best: Any) -> str:
    """Summarize a mixture found: shares, losses, and how the search ended."""
    at = {**dict.fromkeys(best.at_lower, "at its lower limit"), **dict.fromkeys(best.at_upper, "at its upper limit")}
    at |= dict.fromkeys(best.fixed, "fixed")
    shares = [[name, f"{share:.4f}", at.get(name, "")] for name, share in best.as_dict().items()]
    rows = zip(best.targets, best.losses, best.weights, strict=True)
    outside = dict.fromkeys(best.extrapolated, "extrapolated")
    losses = [[name, f"{loss:.4f}", f"weight {w:.3g}", outside.get(name, "")] for name, loss, w in rows]
    budget = best.budget
    where = [] if budget.volume is None else [f"volume {budget.volume:g} {budget.unit or ''}".rstrip()]
    where += [] if budget.model_size is None else [f"model size {budget.model_size:g}"]
    ended = "converged" if best.converged else "did not converge"
    title = ", ".join(["Mixture" if best.converged else "Not found; the search stopped here", *where])
    lines = [title, aligned(shares), "Predicted losses, nats per token", aligned(losses)]
    limits = best.objective_interval
    within = "" if limits is None else f"; 90 % of measured ones within {limits[0]:.4f} to {limits[1]:.4f}"
    lines.append(f"weighted mean {best.objective:.4f}{within}")
    lines += [f"limits that bind: {listed(best.held)}"] if best.held else []
    lines += [said for said in (outside_hull(best), idle_nearby(best)) if said]
    sure = f"within {max(best.gap, 0.0):.1e} of the best there is" if best.convex else agreement(best)
    return "\n".join([*lines, f"search ({best.method}) {ended}; KKT residual {best.kkt_residual:.1e}; {sure}"])


def outside_hull(best: Any) -> str:
    """Say how far a mixture is from all averages of those measured; nothing where it is one of them."""
    if best.beyond_hull is None or best.beyond_hull < 1e-6:
        return ""
    return f"No average of measured mixtures is nearer to it than {best.beyond_hull:.2g} in total variation"


def idle_nearby(best: Any) -> str:
    """Say whom domains follow on which nothing depends, where the mixture keeps near to another; else nothing."""
    if not best.idle or best.near is None:
        return ""
    return (
        f"No weighted target depends on {listed(best.idle)}: what falls there is shared as in the mixture kept near to"
    )


def agreement(best: Any) -> str:
    """Say how many descents agree on a mixture, and what the next best minimum costs."""
    if not best.starts:
        return "there may be other local minima"
    other = "no other minimum was found"
    if best.second is not None:
        other = f"the next best minimum is higher by {best.second:.1e} nats per token"
    return f"{best.agreed} of {best.starts} descents ended here, and {other}"


def compared(found: Any) -> str:
    """Summarize a comparison: for each law and group of folds errors, ranks and why not to believe them."""
    rows = [["law", found.grouped_by, "error %", "rank", "regret", "caution"]]
    for row in found.to_frame().to_dict("records"):
        numbers = (100 * row["error"], 2), (row["spearman"], 3), (row["regret"], 4)
        cells = [f"{value:.{digits}f}" if np.isfinite(value) else "-" for value, digits in numbers] + [row["trust"]]
        rows.append([row["law"], f"{row['group']:g}", *cells])
    return f"Held-out losses of {listed(found.targets)}, in {len(found.group)} folds\n{aligned(rows)}"


def names_of_lanes(fit: Any) -> list[str]:
    """Name the lanes: targets, at each model size where several were fitted separately."""
    if len(fit.sentences) == len(fit.targets):
        return list(fit.targets)
    return [f"{target} at {size:g}" for size in fit.model_sizes for target in fit.targets]


def _volume(fit: Any) -> str:
    return f"volume in {fit.volume_unit}" if fit.volume_unit else "one volume"


def clock(seconds: float) -> str:
    """Return minutes and seconds, and hours where there are any.

    Example:
        >>> clock(75.4), clock(7325.0)
        ('1:15', '2:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
