"""Coefficients of a fitted law: a table of those of each target, and one of domains and targets for each other one."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.text import Text

from bimixjax.fitting import FitResult
from bimixjax.laws import Coefficient
from bimixjax.reports.lanes import names_of_lanes, short, sizes_apart
from bimixjax.reports.layout import framed, table
from bimixjax.reports.sheet import Sheet

Floats = NDArray[np.float64]


def coefficients(fit: FitResult) -> Group:
    """One row per target: coefficients with standard errors, rows used and left out, and the error on them.

    Below, for each coefficient that has a value per domain, one row per domain and one column per target.
    """
    values = {name: np.ravel(value) for name, value in fit.coefficients.items() if name not in fit.law.gauge}
    errors = {name: np.ravel(error) for name, error in fit.standard_errors.items()}
    cells = {name: list(map(with_error, value, errors[name])) for name, value in values.items()}
    _without_errors_of_held(fit, cells)
    lanes = names_of_lanes(fit)
    counts = {"rows": fit.rows, "r = 0": fit.zero, "missing": fit.missing}
    counts = {name: count for name, count in counts.items() if name == "rows" or np.any(count)}
    names = [c.name for c in fit.law.ordered() if not c.per_domain]
    shown = table(["", *["size"] * (len(lanes[0]) - 1), *names, *counts, "MRE", "R2"], keys=len(lanes[0]))
    for lane, name in enumerate(lanes):
        said = [cells[name][lane] for name in names] + [str(count[lane]) for count in counts.values()]
        shown.add_row(*name, *said, f"{100 * fit.error[lane]:.2f} %", f"{fit.r2[lane]:.4f}")
    return Group(framed(f"Law {fit.law.name}", shown, _gloss(fit)), *matrices(fit, cells, ""))


def matrices(fit: FitResult, cells: Mapping[str, Sequence[str]], what: str) -> list[Group]:
    """For each coefficient with a value per domain, and each size fitted apart: a table of domains and targets.

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
            by_domain = {d: cells[f"{c.name}[{d}]"][place] for d in fit.domains}
            title = f"{what}{c.name}, by domain and target"
            title += f", size {short(size)}" if size is not None else ""
            last = number == len(sizes) - 1
            found.append(framed(title, _matrix(fit.targets, by_domain), _meaning(c) if last else None))
    return found


def _without_errors_of_held(fit: FitResult, cells: Mapping[str, list[str]]) -> None:
    """A target's own value that the law states has no error."""
    for lane in range(len(fit.values)):
        held = fit.law.fixed(len(fit.domains), fit.own[lane % len(fit.targets)])
        for name, value in zip(fit.names, held, strict=True):
            if np.isfinite(value):
                cells[name][lane] = f"{value:g}"


def _matrix(targets: Sequence[str], cells: Mapping[str, Sequence[str]]) -> Sheet:
    shown = Sheet(columns=("domain \\ target", *targets), transposed_corner="target \\ domain")
    for domain, row in cells.items():
        shown.add_row(domain, *row)
    return shown


def _meaning(c: Coefficient) -> str:
    return f"{c.name}: {c.meaning}" if c.meaning else f"{c.name}: of each domain for each target"


def with_error(value: float, error: float) -> str:
    """A number to the digits that its standard error leaves, `12.3 ± 0.4`; `?` where either is not known."""
    if not np.isfinite(value):
        return "?"
    if not np.isfinite(error):
        return f"{value:.4g} ± ?"
    if error <= 0:
        return f"{value:.4g}"
    digits = 1 - int(np.floor(np.log10(error)))
    return f"{value:.{min(max(digits, 0), 12)}f} ± {error:.{min(max(digits, 0), 12)}f}"


def statuses(fit: FitResult) -> Text:
    """Each status in words with the targets that ended so."""
    groups: dict[str, list[str]] = {}
    for sentence, name in zip(fit.sentences, names_of_lanes(fit), strict=True):
        groups.setdefault(sentence, []).append(" ".join(name))
    if len(groups) == 1:
        return Text(f"Status, all targets: {next(iter(groups))}.")
    return Text("\n".join(f"Status, {', '.join(targets)}: {sentence}." for sentence, targets in groups.items()))


def _gloss(fit: FitResult) -> str:
    gauge = "".join(f"{name} = {value:g}; " for name, value in fit.law.gauge.items())
    volume = f"volume in {fit.volume_unit}" if fit.volume_unit else "one volume"
    left_out = "; r = 0, missing: rows left out" if np.any(fit.zero) or np.any(fit.missing) else ""
    return f"{gauge}{volume}; ± standard error; MRE, R2: on the rows fitted{left_out}"
