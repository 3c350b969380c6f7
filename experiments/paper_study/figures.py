"""What the tables of the study say, law by law, beside what seeds alone would make of it."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

COLORS = {"small": "#0060a8", "large": "#c04000"}
# Sizes of a law stand this far above and below its line.
APART = 0.16


def figure(last_step: pd.DataFrame, fitted_range: pd.DataFrame, laws: tuple[str, ...]) -> Figure:
    """Draw errors at the last step, and R2 of mixtures inside the fitted range, of both sizes."""
    drawn = Figure(figsize=(10.0, 3.8), layout="constrained")
    errors, scores = drawn.subplots(1, 2, sharey=True)
    lines = np.arange(len(laws))[::-1]
    steps = last_step[last_step["mixture"] == "all"].set_index(["size", "law"])
    inside = fitted_range[fitted_range["shares"] == "inside"].set_index(["size", "law"])
    for (size, color), apart in zip(COLORS.items(), (APART, -APART), strict=True):
        own, score = steps.loc[size].loc[list(laws)], inside.loc[size].loc[list(laws)]
        errors.hlines(lines + apart, own["mean"], own["worst"], colors=color, linewidth=1)
        errors.scatter(own["worst"], lines + apart, c=color, marker="|", s=40)
        errors.scatter(own["mean"], lines + apart, c=color, s=34, zorder=3, label=f"{size} models")
        scores.scatter(score["r2_mean"], lines + apart, c=color, s=34, zorder=3)
        floors = (errors, own["noise"].iloc[0]), (scores, score["r2_of_noise"].iloc[0])
        for axes, floor in floors:
            axes.axvline(floor, color=color, linestyle=":", linewidth=1.4)
    errors.plot([], [], color="#666666", linestyle=":", label="of seeds alone")
    errors.set_xscale("log")
    errors.set_xticks([0.005, 0.01, 0.02, 0.05, 0.1], ["0.5 %", "1 %", "2 %", "5 %", "10 %"])
    errors.minorticks_off()
    errors.set_yticks(lines, laws)
    errors.set_xlabel("Relative error at the last step: mean and worst")
    scores.set_xlim(right=1.0)
    scores.set_xlabel("R2 at the last step on mixtures within the fitted range")
    for axes in (errors, scores):
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=0)
    drawn.legend(loc="outside upper center", ncols=3, frameon=False)
    return drawn
