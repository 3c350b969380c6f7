"""Losses of a good source that repeats, at a longer training: `python -m experiments.repetition.run`."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure

import bimixjax
from bimixjax import Budget, InputError, Inventory, Observations
from bimixjax._base.summaries import aligned
from bimixjax.laws import Law
from bimixjax.reports.figures import PALETTE, save
from experiments.repetition.config import FRESH, IN_EPOCHS, LAST, MOVED, OTHER, TABLE, TARGET

HERE = Path(__file__).resolve().parent
LAYOUTS = ("whole", "subsampled")
DRAWN = ("bimix_transfer (no columns unique/)", "bimix_transfer_repeated", "bimix_transfer_epochs", "auto")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fit four horizons of a table of repetition, predict the fifth, write a table and a figure.

    Laws and layouts that the table of results has already are not fitted again.
    """

    observations: Path = HERE.parents[2] / "shared" / "observations"
    """Folder of repetition.csv."""
    out: Path = HERE / "results"
    """Folder for the table and the figure."""


def layouts(folder: Path) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Name each layout, with the rows to fit and those of the longest training, ordered by the share of web."""
    table: Any = pd.read_csv(folder / f"{TABLE}.csv")
    table[f"unique/{TARGET}"] = table["unique_tokens"]
    last = table["tokens"] == LAST
    whole = table["unique_tokens"] == table["unique_tokens"].max()
    for name, rows in zip(LAYOUTS, (whole, ~whole), strict=True):
        yield name, table[rows & ~last], table[last].sort_values(f"mixture/{OTHER}")


def observed(rows: pd.DataFrame, *, in_epochs: bool) -> Observations:
    left = ["unique_tokens", "epochs", "step", "learning_rate", *([] if in_epochs else [f"unique/{TARGET}"])]
    return Observations.from_frame(rows.drop(columns=left), source=TABLE)


def shown_name(law: str | Law, *, in_epochs: bool) -> str:
    return f"{law if isinstance(law, str) else law.name}{'' if in_epochs else ' (no columns unique/)'}"


def judged(law: str | Law, layout: str, fitted: pd.DataFrame, last: pd.DataFrame, *, in_epochs: bool) -> dict:
    """Fit a law to a layout; score its predictions of the longest training, and the mixture that it would choose."""
    observations, measured = observed(fitted, in_epochs=in_epochs), last[f"loss/{TARGET}"].to_numpy()
    fit = bimixjax.fit(law, observations, volume="tokens", targets=[TARGET])
    stock = Inventory({TARGET: float(last[f"unique/{TARGET}"].iloc[0])}) if in_epochs else None
    mixtures = last[[f"mixture/{name}" for name in fit.domains]].to_numpy()
    predicted = np.asarray(fit.predict(mixtures, LAST, inventory=stock))[:, 0]
    best = bimixjax.optimize(fit, budget=Budget(volume=LAST, unit="tokens"), inventory=stock)
    chosen = int(predicted.argmin())
    return {
        "law": shown_name(law, in_epochs=in_epochs),
        "layout": layout,
        "rows": len(fitted),
        "error": np.abs(predicted / measured - 1).mean(),
        "regret": measured[chosen] - measured.min(),
        "chosen": last[f"mixture/{OTHER}"].iloc[chosen],
        "optimum": best.as_dict()[OTHER],
        **{
            f"web {share:g}": off for share, off in zip(last[f"mixture/{OTHER}"], predicted / measured - 1, strict=True)
        },
    }


def drawn(rows: list[dict], last: pd.DataFrame) -> Figure:
    """One panel per layout: measured losses of the longest training, and those predicted, by the share of web."""
    figure, shares = Figure(figsize=(9.0, 4.0), layout="constrained"), last[f"mixture/{OTHER}"].to_numpy()
    measured = last[f"loss/{TARGET}"].to_numpy()
    for axes, layout in zip(figure.subplots(1, 2, sharey=True), LAYOUTS, strict=True):
        axes.plot(shares, measured, "o", color="black", markersize=4, label="measured")
        for color, law in zip(PALETTE, DRAWN, strict=False):
            row = next(row for row in rows if row["layout"] == layout and row["law"] == law)
            predicted = measured * (1 + np.array([row[f"web {share:g}"] for share in shares]))
            axes.plot(shares, predicted, color=color, label=row["law"])
        axes.set_title(f"Fitted: {layout}", fontsize=10)
        axes.set_xlabel("share of web")
        axes.set_ylim(measured.min() - 0.06, measured.max() + 0.06)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("loss of the good source")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def main(options: Options) -> None:
    started, path = time.perf_counter(), options.out / "longest.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    if not (options.observations / f"{TABLE}.csv").is_file():
        raise InputError(f"no {TABLE}.csv at {options.observations}; name its folder with --observations")
    cases = [*((law, False) for law in FRESH), *((law, True) for law in (*IN_EPOCHS, *MOVED))]
    options.out.mkdir(parents=True, exist_ok=True)
    tables = list(layouts(options.observations))
    for (law, in_epochs), (layout, fitted, last) in product(cases, tables):
        name = shown_name(law, in_epochs=in_epochs)
        if not any((row["law"], row["layout"]) == (name, layout) for row in rows):
            rows.append(judged(law, layout, fitted, last, in_epochs=in_epochs))
            pd.DataFrame(rows).to_csv(path, index=False, float_format="%.6g")
    save(drawn(rows, tables[0][2]), options.out / "longest.png")
    shown = [[row["law"], row["layout"], f"{row['error']:.4f}", f"{row['regret']:.4f}"] for row in rows]
    shares = [[f"{row['chosen']:.2f}", f"{row['optimum']:.3f}"] for row in rows]
    head = ["law", "layout", "error", "regret", "chosen", "optimum"]
    print(aligned([head, *(a + b for a, b in zip(shown, shares, strict=True))]))
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
