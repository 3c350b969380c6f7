"""Tables of results for a terminal, by rich."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Shaped
from rich.console import Group, RenderableType
from rich.text import Text

from bimixjax._base import summaries
from bimixjax.estimation import AutoFit, Resampled
from bimixjax.fitting import FitResult
from bimixjax.observations import Budget
from bimixjax.optimization import OptimalMixture, OptimalResamples
from bimixjax.reports.coefficients import coefficients, matrices, statuses
from bimixjax.reports.footnotes import FROM_PRIOR, PRIOR, STAR, footnotes
from bimixjax.reports.lanes import names_of_lanes, short, volume_of
from bimixjax.reports.layout import decimal, framed, percent, table
from bimixjax.reports.predictions import COVERED, Predictions, Scores
from bimixjax.reports.spread import DRAWS, LEVEL, WITHIN, Spread

if TYPE_CHECKING:
    from bimixjax.loop.influence import Influence

# How many members of an average are named, and from which share on they count: a half percent is shown as 1.
_NAMED, _LEAST_SHARE = 2, 0.005
# Marks of a predicted loss, the gravest last.
_MARKS = [" ", STAR, PRIOR]
# So many runs of most influence are shown.
_MOST_RUNS = 12


def fitted(fit: FitResult | AutoFit) -> list[RenderableType]:
    """Return a law's coefficients and how each target ended, or the members of `auto`."""
    return [members(fit)] if isinstance(fit, AutoFit) else [coefficients(fit), statuses(fit)]


def members(fit: AutoFit) -> Group:
    """Return one row per lane of `auto`: rows used, the error on runs left out, and the laws of most weight."""
    lanes = names_of_lanes(fit)
    shown = table(["", *["size"] * (len(lanes[0]) - 1), "rows", "CV error", "weights"], keys=len(lanes[0]))
    for lane, name in enumerate(lanes):
        error, rows = np.ravel(fit.left_out_error)[lane], np.ravel(fit.rows)[lane]
        weights = {member: float(np.ravel(weight)[lane]) for member, weight in fit.members.items()}
        shown.add_row(*name, f"{rows:.0f}", percent(error), _largest(weights) if rows else "no usable observation")
    gloss = f"{volume_of(fit)}; CV error: mean relative error in cross-validation over runs"
    gloss += "".join(f"; {short(large)} uses the predictions of {short(small)}" for large, small in fit.donors.items())
    if fit.beyond is not None:
        gloss += f"; at sizes that were not fitted, by the ratio of what {fit.beyond.law.name} predicts there and here"
    return framed("auto, an average of laws", shown, gloss)


def spread(shown: Spread) -> Group:
    """Return one row per target and model size: the spread of predictions and coefficients over resamples or draws."""
    found, sized = shown.found, ["size"] if len(shown.model_sizes) > 1 else []
    errors = found.standard_errors if isinstance(found, Resampled) else {}
    cells = {name: [f"{error:.2g}" for error in np.ravel(values)] for name, values in errors.items()}
    names = [c.name for c in found.fit.law.ordered() if not c.per_domain] if isinstance(found, Resampled) else []
    rows = table(["", *sized, "prediction", *names], keys=1 + len(sized))
    for i, size in enumerate(shown.model_sizes):
        for t, target in enumerate(found.fit.targets):
            lane = i * len(found.fit.targets) + t
            values = [cells[name][lane % len(cells[name])] for name in names]
            rows.add_row(target, *([short(size)] if size and sized else []), percent(shown.predictions[i, t]), *values)
    gloss = "prediction: standard deviation at the last volume of the runs fitted, in the mean over them"
    if shown.drawn:
        gloss += "; without the noise of a measured loss"
    if isinstance(found.fit, AutoFit) and found.fit.donors:
        gloss += "; predictions taken from a smaller size are kept fixed"
    framed_rows = framed(f"Spread over {len(found)} {shown.source}", rows, gloss)
    if not isinstance(found, Resampled):
        return framed_rows
    return Group(framed_rows, *matrices(found.fit, cells, "Spread of "))


def _largest(weights: Mapping[str, float]) -> str:
    """Name the laws of most weight: `joint 62 %, additive 31 %, 3 others 7 %`."""
    ordered = sorted((-weight, name) for name, weight in weights.items() if weight > 0)
    named = [(weight, name) for weight, name in ordered[:_NAMED] if -weight >= _LEAST_SHARE]
    parts = [f"{name} {-100 * weight:.0f} %" for weight, name in named]
    rest = ordered[len(named) :]
    # Small weights are others as well: what is printed must add up.
    if (together := -sum(weight for weight, _ in rest)) >= _LEAST_SHARE:
        parts.append(f"{len(rest)} other{'s' if len(rest) > 1 else ''} {100 * together:.0f} %")
    return ", ".join(parts)


def notes(sentences: Sequence[str]) -> list[Text]:
    """Return each note on a line of its own."""
    return [Text(f"Note: {note}.") for note in sentences]


def predictions(predicted: Predictions) -> Group:
    """Return predicted losses, the longer of targets and mixtures down, with marks where they extrapolate."""
    names, title = labels(predicted)
    half = (predicted.upper - predicted.lower) / 2
    widths = [[f" ± {width:.4f}" if np.isfinite(width) else "" for width in row] for row in half]
    parts = zip(predicted.losses, _marks(predicted.extrapolated, predicted.from_prior), widths, strict=True)
    cells = [[f"{loss:.4f}{mark}{width}" for loss, mark, width in zip(*row, strict=True)] for row in parts]
    if len(names) > len(predicted.targets):
        rows, columns = names, predicted.targets
    else:
        rows, columns, cells = predicted.targets, names, list(zip(*cells, strict=True))
    shown = table(["", *columns], [[name, *texts] for name, texts in zip(rows, cells, strict=True)])
    caption = [f"± half of the limits that hold {100 * COVERED:.0f} % of measured losses"]
    caption = caption if np.isfinite(predicted.upper).any() else []
    caption += footnotes(names, predicted.outside, predicted.targets)
    return framed(f"Predicted loss{title}, nats per token", shown, "\n".join(caption) or None)


def labels(predicted: Predictions) -> tuple[list[str], str]:
    """Return a name for each mixture, with what of its budget is its own, and what of it all share, for the title."""
    volumes, sizes = ({getattr(budget, of) for budget in predicted.budgets} for of in ("volume", "model_size"))

    def place(budget: Budget, *, shared: bool) -> str:
        volume = budget.volume if (len(volumes) == 1) == shared else None
        size = budget.model_size if (len(sizes) == 1) == shared else None
        return _at(replace(budget, volume=volume, model_size=size))

    named = zip(predicted.names, predicted.budgets, strict=True)
    return [name + place(budget, shared=False) for name, budget in named], place(predicted.budgets[0], shared=True)


def scores(found: Scores, title: str = "Against the losses in the table", mean: str = "mean over targets") -> Group:
    """Return one row per target: how well predictions meet measured losses; `mean` is what ranks the mixtures."""
    silent, limited = found.silent.any(), not np.isnan(found.coverage).all()
    columns = {"": found.targets, "rows": map(str, found.rows)}
    columns |= {"no prediction": map(str, found.silent)} if silent else {}
    columns |= {"MRE": map(percent, found.error), "R2": map(decimal, found.r2)}
    columns |= {"within": map(percent, found.coverage)} if limited else {}
    shown = table([*columns], zip(*columns.values(), strict=True))
    gloss = ["MRE: mean relative error"]
    gloss += [f"within: share of measured losses within the limits, {100 * COVERED:.0f} % wanted"] if limited else []
    if np.isfinite(found.rank):
        gloss += [f"rank correlation of the {mean}: {found.rank:.3f}, of {found.ranked} mixtures"]
    return framed(title, shown, "; ".join(gloss))


def proportions(best: OptimalMixture, baselines: Predictions, draws: OptimalResamples | None = None) -> Group:
    """Return one row per domain: the mixture found, its limits over draws, the baselines, and what holds its share."""
    notes_of = dict.fromkeys(best.at_lower, "at its lower limit") | dict.fromkeys(best.at_upper, "at its upper limit")
    notes_of |= dict.fromkeys(best.idle, "no weighted target depends on it") | dict.fromkeys(best.fixed, "fixed")
    named, dagger = _headings(best, baselines)
    mark = PRIOR if best.from_prior or (best.untold and best.budget.from_prior) else ""
    columns = {named[0]: [f"{share:.4f}{mark}" for share in best.proportions]}
    if draws:
        limits = zip(*draws.interval(level=LEVEL), strict=True)
        columns[WITHIN] = [f"{lower:.3f} to {upper:.3f}" for lower, upper in limits]
    compared = zip(named[1:], baselines.proportions, strict=True)
    columns |= {name: [f"{share:.4f}" for share in mixture] for name, mixture in compared}
    if notes_of:
        columns["note"] = [notes_of.get(domain, "") for domain in best.domains]
    shown = table(["", *columns], zip(best.domains, *columns.values(), strict=True))
    title = "Proportions" if best.converged else "Not found: the search stopped at proportions that are not stationary"
    caption = dagger + [f"{PRIOR} {FROM_PRIOR}; see below"] * bool(mark)
    return framed(title, shown, "\n".join(caption) or None)


def losses(best: OptimalMixture, baselines: Predictions) -> Group:
    """Return one row per target: predicted losses of the mixture found and the baselines, and their weighted means."""
    named, dagger = _headings(best, baselines)
    found = _marks(*(np.array([t in of for t in best.targets]) for of in (best.extrapolated, best.from_prior)))
    marks = [found, *_marks(baselines.extrapolated, baselines.from_prior)]
    columns = np.column_stack([best.losses, baselines.losses.T])
    shown = table(["", "weight", *named])
    for target, weight, values, *row in zip(best.targets, best.weights, columns, *marks, strict=True):
        cells = [f"{loss:.4f}{mark}" for loss, mark in zip(values, row, strict=True)]
        shown.add_row(target, f"{weight:.3g}", *cells)
    shown.add_section()
    weighted = np.flatnonzero(best.weights > 0)
    means = best.weights[weighted] @ columns[weighted]
    worst = [max((one[i] for i in weighted), key=_MARKS.index) for one in marks]
    shown.add_row("weighted mean", "", *(f"{mean:.4f}{mark}" for mean, mark in zip(means, worst, strict=True)))
    caption = footnotes([named[0], *baselines.names], [best.outside, *baselines.outside], best.targets) + dagger
    if best.objective_interval is not None:
        lower, upper = best.objective_interval
        ends = f"{lower:.4f} to {upper:.4f}"
        caption.append(f"Weighted mean of the best mixture when it is trained: {ends} in {100 * LEVEL:.0f} % of cases")
    return framed(f"Predicted loss{_at(best.budget)}, nats per token", shown, "\n".join(caption) or None)


def _headings(best: OptimalMixture, baselines: Predictions) -> tuple[list[str], list[str]]:
    """Name the mixture found and the baselines, and write a footnote where the limits do not allow some of them.

    What was found is called optimized only where the search converged.
    """
    outside = [not best.allows(mixture) for mixture in baselines.proportions]
    names = [f"{name}{'†' * no}" for name, no in zip(baselines.names, outside, strict=True)]
    return ["optimized" if best.converged else "not found", *names], ["† outside the limits"] * any(outside)


def certificate(best: OptimalMixture) -> Text:
    """Say how sure the search is: of all mixtures where the objective is convex, else of those nearby."""
    gap, residual = max(best.gap, 0.0), f"KKT residual {best.kkt_residual:.1e}"
    if not best.converged:
        text = Text(f"Not found: the search ({best.method}) did NOT converge to a stationary point; {residual}; ")
        text.append(f"to first order a small change gains {gap:.1e} nats per token.")
        return text
    text = Text(f"Search ({best.method}) converged; {residual}; ")
    if best.convex:
        by = f"better by more than {gap:.1e} nats per token" if gap > 0 else "better"
        text.append(f"under this law no mixture within the limits is {by}.")
    else:
        text.append(f"to first order no small change gains more than {gap:.1e} nats per token; ")
        text.append(f"{summaries.agreement(best)}.")
    if best.held:
        text.append(f" Limits that bind, beside those of shares: {', '.join(best.held)}.")
    for said in (summaries.outside_hull(best), summaries.idle_nearby(best)):
        text.append(f" {said}." if said else "")
    for sentence in best.untold:
        text.append(f" Caution: {sentence}.")
    return text


def influence(found: "Influence") -> Group:
    """Return one row per run, those of most influence first: what would be different without it."""
    shown = table(["without", "tokens elsewhere", f"gain over {found.reference}"])
    for run, shift, gain in list(zip(found.runs, found.shift, found.gain, strict=True))[:_MOST_RUNS]:
        shown.add_row(run, percent(float(shift)), f"{gain:+.4f}")
    more = [f"{len(found.runs) - _MOST_RUNS} others have less"] * (len(found.runs) > _MOST_RUNS)
    gloss = ["elsewhere: of the best mixture; gain: by how much it changes, nats per token", found.method, *more]
    return framed("Which runs the mixture hangs on", shown, "; ".join(gloss))


def regret(draws: OptimalResamples, fit: FitResult | AutoFit) -> Text:
    """Say how much better another mixture may be: what the one found loses in draws from the posterior of the fit."""
    count, limit = len(draws.regret), draws.regret_limit(level=LEVEL)
    text = Text(f"Over {count} {DRAWS}, the best mixture of each is better than this one by ")
    text.append(f"{draws.expected_regret:.1e} nats per token in the mean, and by less than {limit:.1e} in ")
    text.append(f"{100 * LEVEL:.0f} % of them.")
    if unfinished := count - int(np.sum(draws.converged)):
        text.append(f" The search did NOT converge in {unfinished} of them.")
    size = fit.at_size(draws.best.budget.model_size).sizes[0] if isinstance(fit, AutoFit) else None
    if size is not None and (size.lent is not None or size.carried is not None):
        text.append(" Predictions taken from other model sizes are kept fixed, so the uncertainty is larger than that.")
    return text


def _at(budget: Budget) -> str:
    volume = f" at {short(budget.volume)} {budget.unit}" if budget.volume is not None and budget.unit else ""
    return volume + (f", size {short(budget.model_size)}" if budget.model_size is not None else "")


def _marks(extrapolated: Bool[np.ndarray, "*n"], from_prior: Bool[np.ndarray, "*n"]) -> Shaped[np.ndarray, "*n"]:
    """Return the mark of each predicted loss."""
    return np.where(from_prior, PRIOR, np.where(extrapolated, STAR, " "))
