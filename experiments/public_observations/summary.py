"""From rows of single fits to the figures that are read: averages with standard errors, as the paper prints them."""

from collections.abc import Iterable, Iterator

import numpy as np

from bimixjax.reports.lanes import short
from experiments.public_observations.protocol import Floats, Row

Section = tuple[str, str]

COUNTS = ("absent", "unfitted", "cells", "mixtures_finite", "mixtures")
SCORES = ("error", "no_law", "no_law_every_cell", "spearman", "spearman_finite")
# How many draws the reference figures are medians of.
REFERENCE_DRAWS = 10


def groups(rows: Iterable[Row], *keys: str) -> list[tuple[Row, list[Row]]]:
    """The rows that agree on some columns, each group beside the values it agrees on, in order of appearance."""
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [(dict(zip(keys, values, strict=True)), members) for values, members in found.items()]


def column(rows: Iterable[Row], name: str) -> Floats:
    """One column's numbers, those that are not NaN."""
    values = np.array([row[name] for row in rows], float)
    return values[~np.isnan(values)]


def mean(rows: Iterable[Row], name: str) -> float:
    values = column(rows, name)
    return float(values.mean()) if values.size else float("nan")


def by_size(lanes: list[Row]) -> list[Row]:
    """In-sample mean, worst and best over the targets of each size."""
    return [
        {
            **key,
            "rows": int(column(rows, "rows").sum()),
            "absent": int(column(rows, "absent").sum()),
            "error": mean(rows, "error"),
            "error_worst": column(rows, "error").max(),
            "error_best": column(rows, "error").min(),
            "r2": mean(rows, "r2"),
            "r2_worst": column(rows, "r2").min(),
            "r2_best": column(rows, "r2").max(),
        }
        for key, rows in groups(lanes, "table", "model_size")
    ]


def extrapolation(cells: list[Row]) -> list[Row]:
    """Error of each target over its runs; mean, worst and best target, and signed bias, of each size and over sizes."""
    sizes = [{**key, **_later(rows)} for key, rows in groups(cells, "table", "model_size", "alone", "priors")]
    tables = [
        {"table": key["table"], "model_size": np.nan, **key, **_later_over_sizes(rows)}
        for key, rows in groups(sizes, "table", "alone", "priors")
    ]
    return sizes + tables


def _later(cells: list[Row]) -> Row:
    relative = [column(rows, "relative") for _, rows in groups(cells, "target")]
    relative = [values[np.isfinite(values)] for values in relative]
    errors = np.array([np.abs(values).mean() for values in relative])
    return {
        "error": errors.mean(),
        "error_worst": errors.max(),
        "error_best": errors.min(),
        "bias": np.mean([values.mean() for values in relative]),
        "worst_cell": max(np.abs(values).max() for values in relative),
        "cells": len(cells),
        "no_prediction": len(cells) - sum(map(len, relative)),
    }


def _later_over_sizes(sizes: list[Row]) -> Row:
    return {
        "error": mean(sizes, "error"),
        "error_worst": column(sizes, "error_worst").max(),
        "error_best": column(sizes, "error_best").min(),
        "bias": mean(sizes, "bias"),
        "worst_cell": column(sizes, "worst_cell").max(),
        "cells": int(column(sizes, "cells").sum()),
        "no_prediction": int(column(sizes, "no_prediction").sum()),
    }


def generalization(draws: list[Row]) -> list[Row]:
    """Scores of each size and K over the draws, and of their means over sizes, where `model_size` is NaN."""
    found = [{**key, **_scores(rows)} for key, rows in groups(draws, "table", "model_size", "priors", "runs")]
    for key, rows in groups(draws, "table", "priors", "runs"):
        sizes = [_scores(members) for _, members in groups(rows, "model_size")]
        if len(sizes) > 1:
            # The reference figures are means over sizes of medians over draws.
            medians = {name: mean(sizes, name) for name in _MEDIANS}
            found.append({"table": key["table"], "model_size": np.nan, **key, **_scores(_over_sizes(rows)), **medians})
    return found


_MEDIANS = ("error_median_of_10", "error_median", "no_law_every_cell_median_of_10")


def _scores(draws: list[Row]) -> Row:
    first, error = [row for row in draws if row["draw"] < REFERENCE_DRAWS], column(draws, "error")
    return {
        "draws": len(draws),
        "error_median_of_10": np.median(column(first, "error")),
        "error_median": np.median(error),
        "error": error.mean(),
        "error_standard_error": error.std(ddof=1) / len(error) ** 0.5 if len(error) > 1 else np.nan,
        "no_law": mean(draws, "no_law"),
        "no_law_every_cell_median_of_10": np.median(column(first, "no_law_every_cell")),
        "spearman": mean(draws, "spearman"),
        "spearman_finite": mean(draws, "spearman_finite"),
        "draws_ranked": len(column(draws, "spearman")),
        **{name: mean(draws, name) for name in COUNTS},
    }


def _over_sizes(draws: list[Row]) -> list[Row]:
    """One row per draw: sizes share the mixtures of a draw, so that only draws are independent."""
    return [{**key, **{n: mean(rows, n) for n in (*COUNTS, *SCORES)}} for key, rows in groups(draws, "draw")]


def report(sizes: list[Row], later: list[Row], scores: list[Row], model_sizes: Iterable[float]) -> Iterator[Section]:
    """What is printed: each table under its title, averaged over sizes where the files hold each."""
    groups_of_5 = [row for row in sizes if row["table"] == "pile_5groups" and row["model_size"] in model_sizes]
    error, score = mean(groups_of_5, "error"), mean(groups_of_5, "r2")
    yield "In-sample, without priors", text(sizes, sizes[0])
    yield f"Mean of pile_5groups, {len(groups_of_5)} sizes x 5 groups", f"error {error:.4f}, R2 {score:.4f}"
    yield "Last checkpoint from the first half of the volume, over sizes", text(over_sizes(later), later[0])
    names = ("table", "model_size", "priors", "runs", "draws", "error_median_of_10", "error_median", "error")
    yield (
        "Unseen mixtures: errors",
        text(over_sizes(scores), (*names, "error_standard_error", "no_law", "cells", "unfitted")),
    )
    ranks = (
        "spearman",
        "draws_ranked",
        "spearman_finite",
        "mixtures_finite",
        "mixtures",
        "cells",
        "absent",
        "unfitted",
    )
    with_priors = [row for row in over_sizes(scores) if row["priors"]]
    ranked = text(with_priors, ("table", "model_size", "runs", *ranks))
    yield "Unseen mixtures: ranks, and cells without a prediction (means over draws)", ranked


def over_sizes(rows: list[Row]) -> list[Row]:
    """The averages over sizes, and the rows of tables that have one size."""
    averaged = {row["table"] for row in rows if np.isnan(row["model_size"])}
    return [row for row in rows if np.isnan(row["model_size"]) or row["table"] not in averaged]


def text(rows: list[Row], names: Iterable[str]) -> str:
    """Some columns of a table as they are printed."""
    cells = [list(names), *([_cell(name, row[name]) for name in names] for row in rows)]
    widths = [max(map(len, line)) for line in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def _cell(name: str, value: object) -> str:
    if name == "model_size" and isinstance(value, float):
        return "mean" if np.isnan(value) else short(value)
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return "-"
    if name in COUNTS:
        return f"{value:.1f}"
    return f"{value:.{4 if abs(value) < 10 else 1}f}" if abs(value) < 1e4 else f"{value:.1e}"
