"""Tables and figures of the study: `python -m experiments.proof.summary --folder DIR`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure

from bimixjax import Observations
from bimixjax._base.records import read_json
from bimixjax.loop.proof import OBSERVATIONS, trained_as
from bimixjax.loop.proposals import Proposals
from bimixjax.proxy.layout import SPEED
from bimixjax.reports.figures import save
from experiments.proof import config

HERE = Path(__file__).resolve().parent
# Mixtures this much above the best are not comparable, see `Proof.noise`; figures end there.
COMPARABLE = 1.05
COLORS = {"auto": "#0060a8", "auto-near-optimal": "#5aa0d8"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Put together what the study measured."""

    folder: Path
    """Where `experiments.proof.run` worked."""
    out: Path = HERE / "results"
    """Folder for tables and figures."""


def main(options: Options) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    whole: list[pd.DataFrame] = []
    for size in (size for size in config.SIZES if (options.folder / size / config.PROOF / OBSERVATIONS).exists()):
        place = options.folder / size
        found, error = measured(place)
        found.insert(0, "size", size)
        whole.append(found)
        save(figure(found, error, size), options.out / f"{size}.png")
        print(f"{size}: standard error of a difference of two mixtures with all seeds {error:.4f}\n")
        print(found.drop(columns=["size"]).round(4).to_string(index=False), "\n")
    table = pd.concat(whole, ignore_index=True)
    table.round(6).to_csv(options.out / "proposals.csv", index=False)
    curses = curse(table)
    curses.round(5).to_csv(options.out / "promises.csv", index=False)
    print(curses.round(4).to_string(index=False), "\n")
    ranked = ranks(table)
    ranked.round(5).to_csv(options.out / "ranks.csv", index=False)
    print(ranked.round(4).to_string(index=False), "\n")
    again = trained_again(options.folder, table)
    if len(again):
        again.round(5).to_csv(options.out / "best_runs.csv", index=False)
        print(again.round(4).to_string(index=False), "\n")
    pace = speeds(options.folder)
    pace.round().to_csv(options.out / "speeds.csv", index=False)
    print(pace.round().to_string(index=False))
    print(f"{pace['seconds'].sum() / 3600:.1f} hours of training")


def measured(place: Path) -> tuple[pd.DataFrame, float]:
    """One row per mixture, the best first, and the standard error of a difference of two with all seeds.

    Means are of what each run lost minus what its seed did to the mixtures that all seeds trained.
    """
    proposals = Proposals.load(place / config.PROOF / "proposals.json")
    runs = pd.concat(
        [
            losses(place / part)
            for part in (config.PROOF, config.AGAIN, config.MORE)
            if (place / part / OBSERVATIONS).exists()
        ]
    )
    names, numbers = runs["mixture"].unique().tolist(), np.unique(runs["seed"]).tolist()
    wide = np.full((len(names), len(numbers)), np.nan)
    for name, seed, mean in runs[["mixture", "seed", "mean"]].to_numpy().tolist():
        wide[names.index(name), numbers.index(seed)] = mean
    common = wide[np.isfinite(wide).all(1)]
    common = common[common.mean(1) <= COMPARABLE * common.mean(1).min()]
    seeds = common.mean(0) - common.mean()
    rest = common - common.mean(1, keepdims=True) - seeds
    noise = float(np.sqrt((rest**2).sum() / ((len(common) - 1) * (common.shape[1] - 1))))
    means = dict(zip(names, np.nanmean(wide - seeds, axis=1).tolist(), strict=True))
    counts = dict(zip(names, np.isfinite(wide).sum(1).tolist(), strict=True))
    best = min(means, key=means.__getitem__)
    shared = trained_as(proposals) | {name: name for name in names if name not in proposals.names}
    rows = []
    for name, run in shared.items():
        known = proposals.of[proposals.names.index(name)] if name in proposals.names else None
        promised = np.nan if known is None else float(known.losses @ proposals.weights)
        low, high = (np.nan, np.nan) if known is None else (known.lower, known.upper)
        gap, errors = means[run] - means[best], noise * (1 / counts[run] + 1 / counts[best]) ** 0.5
        held = "" if not np.isfinite(low) else "yes" if low <= means[run] <= high else "no"
        row = {"mixture": name, "seeds": counts[run], "mean": means[run], "above_best": gap}
        row |= {"standard_errors": gap / errors if run != best else 0.0, "promised": promised}
        rows.append(row | {"above_promise": row["mean"] - promised, "lower": low, "upper": high, "held": held})
    frame = pd.DataFrame(rows).sort_values("mean", kind="stable", ignore_index=True)
    return frame, noise * float(np.sqrt(2 / common.shape[1]))


def losses(folder: Path) -> pd.DataFrame:
    """The mean loss after the last step of each run: mixture, seed, mean."""
    table = Observations.read(folder / OBSERVATIONS)
    last = table.select(volume=(config.STEPS, config.STEPS), unit="steps")
    names = [run.rpartition("/seed-")[0] for run in last.run.tolist()]
    return pd.DataFrame({"mixture": names, "seed": last.seed, "mean": last.losses.mean(1)})


def method_of(name: str) -> str:
    return name.rpartition("/")[2]


def table_of(name: str) -> str:
    return name.rpartition("/")[0]


def curse(table: pd.DataFrame) -> pd.DataFrame:
    """For each method that promises: by how much measured means lie above that, over tables and sizes."""
    promises = table[table["promised"].notna()].assign(method=table["mixture"].map(method_of))
    found = []
    for method, rows in promises.groupby("method", sort=False):
        held = rows["held"][rows["held"] != ""]
        row = {"method": method, "proposals": len(rows), "mean_above_promise": rows["above_promise"].mean()}
        row |= {"largest": rows["above_promise"].max(), "mean_distance": rows["above_promise"].abs().mean()}
        found.append(row | {"held": (held == "yes").mean() if len(held) else np.nan})
    return pd.DataFrame(found).sort_values("mean_distance", kind="stable", ignore_index=True)


def ranks(table: pd.DataFrame) -> pd.DataFrame:
    """For each size and table of runs: the best method, and where auto stands among those of that table."""
    found = []
    for size in dict.fromkeys(table["size"].tolist()):
        for name in config.TABLES:
            own = table[(table["size"] == size) & (table["mixture"].map(table_of) == name)]
            own = pd.DataFrame(own).sort_values("mean", kind="stable", ignore_index=True)
            best, auto = own.iloc[0], own[own["mixture"] == f"{name}/auto"].iloc[0]
            error = float(np.nanmedian((own["above_best"] / own["standard_errors"]).replace(0, np.nan)))
            gap = auto["mean"] - best["mean"]
            row = {"size": size, "table": name, "best": method_of(best["mixture"]), "auto_rank": int(auto.name) + 1}
            found.append(row | {"auto_above_best": gap, "standard_errors": gap / error, "of": len(own)})
    return pd.DataFrame(found)


def trained_again(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    """What the best run of each table measured, and its mixture with other seeds."""
    found = []
    best_runs = table[table["mixture"].map(method_of) == "best run"]
    for size in dict.fromkeys(best_runs["size"].tolist()):
        runs = Observations.read(folder / size / "runs.csv").select(volume=(config.STEPS, config.STEPS), unit="steps")
        proposals = Proposals.load(folder / size / config.PROOF / "proposals.json")
        means = runs.losses.mean(1)
        for name in config.TABLES:
            mixture = proposals.proportions[proposals.names.index(f"{name}/best run")]
            first = float(means[np.abs(runs.proportions - mixture).max(1).argmin()])
            own = (table["size"] == size) & (table["mixture"] == f"{name}/best run")
            again = float(table["mean"].to_numpy()[own.to_numpy()][0])
            found.append({"size": size, "table": name, "measured": first, "again": again, "above": again - first})
    return pd.DataFrame(found)


def speeds(folder: Path) -> pd.DataFrame:
    """Of each swarm: runs, seconds of training and tokens a second, on a core of its own."""
    found = []
    for path in sorted(folder.rglob(SPEED)):
        speed = read_json(path)
        row = {"swarm": path.parent.relative_to(folder).as_posix(), "runs": speed["runs"], "seconds": speed["seconds"]}
        found.append(row | {"tokens_per_second": speed["tokens_per_second"]})
    return pd.DataFrame(found)


def figure(found: pd.DataFrame, error: float, size: str) -> Figure:
    """Means of the comparable mixtures with their standard error, the best on top, and what was promised of them."""
    shown = found[found["mean"] <= COMPARABLE * found["mean"].min()].iloc[::-1]
    drawn = Figure(figsize=(7.5, 0.23 * len(shown) + 1.4), layout="constrained")
    axes = drawn.subplots()
    rows = np.arange(len(shown))
    colors = [COLORS.get(method_of(name), "#888888") for name in shown["mixture"]]
    half = error / 2**0.5
    axes.hlines(rows, shown["mean"] - half, shown["mean"] + half, colors=colors, linewidth=2)
    axes.scatter(shown["mean"], rows, c=colors, s=30, zorder=3, label="measured, with its standard error")
    axes.scatter(shown["promised"], rows, facecolors="none", edgecolors="#c04000", s=34, zorder=2, label="promised")
    axes.set_yticks(rows, shown["mixture"])
    axes.set_xlabel(f"Mean validation loss of the {size} models after {config.STEPS} steps (nats per byte)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    low, high = shown["mean"].min(), shown["mean"].max()
    axes.set_xlim(low - 0.35 * (high - low), high + 0.08 * (high - low))
    drawn.legend(loc="outside upper center", ncols=2, frameon=False)
    return drawn


if __name__ == "__main__":
    main(tyro.cli(Options))
