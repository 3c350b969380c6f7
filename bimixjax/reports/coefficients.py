"""Coefficients of a fitted law: a table of those of each target, and one of domains and targets for each other one."""

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Group
from rich.text import Text

from bimixjax.fitting import FitResult
from bimixjax.reports.lanes import names_of_lanes, short, sizes_apart, volume_of
from bimixjax.reports.layout import framed, percent, table
from bimixjax.reports.sheet import Sheet


def coefficients(fit: FitResult) -> Group:
    """Return one row per target: coefficients with standard errors, rows used and left out, and the error on them.

    Below, for each coefficient that has a value per domain, one row per domain and one column per target.
    """
    values = {name: np.ravel(value) for name, value in fit.coefficients.items() if name not in fit.law.gauge}
    errors = {name: np.ravel(error) for name, error in fit.standard_errors.items()}
    cells = {name: list(map(with_error, value, errors[name])) for name, value in values.items()}
    for lane in range(len(fit.values)):
        # A target's own value that the law states has no error.
        fixed = fit.law.fixed(len(fit.domains), fit.own[lane % len(fit.targets)])
        for name, value in zip(fit.names, fixed, strict=True):
            if np.isfinite(value):
                cells[name][lane] = f"{value:g}"
    lanes = names_of_lanes(fit)
    counts = {"rows": fit.rows, "r = 0": fit.zero, "missing": fit.missing}
    counts = {name: count for name, count in counts.items() if name == "rows" or np.any(count)}
    names = [c.name for c in fit.law.ordered() if not c.per_domain]
    shown = table(["", *["size"] * (len(lanes[0]) - 1), *names, *counts, "MRE", "R2"], keys=len(lanes[0]))
    for lane, name in enumerate(lanes):
        values = [cells[name][lane] for name in names] + [str(count[lane]) for count in counts.values()]
        shown.add_row(*name, *values, percent(float(fit.error[lane])), f"{fit.r2[lane]:.4f}")
    gauge = "".join(f"{name} = {value:g}; " for name, value in fit.law.gauge.items())
    left_out = "; r = 0, missing: rows left out" if len(counts) > 1 else ""
    unknown = " (?: not known)" if any("?" in cell for name in names for cell in cells[name]) else ""
    gloss = f"{gauge}{volume_of(fit)}; ± standard error{unknown}; MRE, R2: on the rows fitted{left_out}"
    return Group(framed(f"Law {fit.law.name}", shown, gloss), *matrices(fit, cells, ""))


def matrices(fit: FitResult, cells: Mapping[str, Sequence[str]], what: str) -> list[Group]:
    """Return a table of domains and targets for each coefficient with a value per domain, and each size of its own.

    Args:
        fit: the fit.
        cells: what is shown of each coefficient, by name and lane.
        what: what that is, where it is not the coefficient; it goes before the name.
    """
    sizes, found = sizes_apart(fit), []
    for c in fit.law.ordered():
        if not c.per_domain:
            continue
        for number, size in enumerate(sizes):
            place = slice(number * len(fit.targets), (number + 1) * len(fit.targets))
            rows = [(domain, *cells[f"{c.name}[{domain}]"][place]) for domain in fit.domains]
            columns = ("domain \\ target", *fit.targets)
            shown = Sheet(columns=columns, transposed_corner="target \\ domain", rows=rows)
            title = f"{what}{c.name}, by domain and target"
            title += f", size {short(size)}" if size is not None else ""
            meaning = f"{c.name}: {c.meaning or 'of each domain for each target'}"
            found.append(framed(title, shown, meaning if number == len(sizes) - 1 else None))
    return found


def with_error(value: float, error: float) -> str:
    """Return a number to the digits that its standard error leaves, `12.3 ± 0.4`; `?` where either is not known."""
    if not np.isfinite(value):
        return "?"
    if not np.isfinite(error):
        return f"{value:.4g} ± ?"
    if error <= 0:
        return f"{value:.4g}"
    digits = 1 - int(np.floor(np.log10(error)))
    return f"{value:.{min(max(digits, 0), 12)}f} ± {error:.{min(max(digits, 0), 12)}f}"


def statuses(fit: FitResult) -> Text:
    """Return each status in words with the targets that ended so."""
    groups: dict[str, list[str]] = {}
    for sentence, name in zip(fit.sentences, names_of_lanes(fit), strict=True):
        groups.setdefault(sentence, []).append(" ".join(name))
    if len(groups) == 1:
        return Text(f"Status, all targets: {next(iter(groups))}.")
    return Text("\n".join(f"Status, {', '.join(targets)}: {sentence}." for sentence, targets in groups.items()))
