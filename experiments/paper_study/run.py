"""The protocol of arXiv 2405.14908 on our own runs: `python -m experiments.paper_study.run`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro
from jaxtyping import Float

from bimixjax import Observations, datasets, fit
from bimixjax.fitting.base import Fit
from bimixjax.metrics import r2
from bimixjax.reports.figures import save
from experiments.paper_study import figures

HERE = Path(__file__).resolve().parent
ENTROPIES, BASELINES = ("SE", "CE", "JE", "VNE"), ("natural", "DoReMi")
LAWS = ("bimix", "bimix_transfer", "additive", "joint", "exponential_volume", "auto")
SIZES = {"small": 67_824, "large": 246_240}
# Seeds that all mixtures have.
SEEDS = (1, 2, 3, 4)
LAST = 1000
# Of a normal distribution, the mean of the absolute value over the standard deviation.
MEAN_DISTANCE = float(np.sqrt(2 / np.pi))

Losses = Float[np.ndarray, "n t"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fit laws to the tables in the package, and write what they predict of what was held out."""

    out: Path = HERE / "results"
    """Folder for tables and the figure."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Runs of one size.

    Attributes:
        table: means over seeds of each mixture and step.
        noise: relative standard deviation of a run's loss after the last step, from seed to seed, by domain.
    """

    table: Observations
    noise: Float[np.ndarray, " t"]

    @classmethod
    def of(cls, size: float) -> "Runs":
        found = datasets.load("eight-domains-proof").select(model_size=size)
        found = found.take(np.flatnonzero(np.isin(np.asarray(found.seed), SEEDS)))
        frame = found.to_frame()
        frame["run"] = [run.partition("/seed-")[0] for run in frame["run"]]
        columns = [name for name in frame.columns if name.startswith(("mixture/", "loss/", "unique/"))]
        means = pd.DataFrame(frame.groupby(["run", "step", "tokens"], sort=False, as_index=False)[columns].mean())
        last = frame[frame["step"] == LAST]
        losses = [f"loss/{target}" for target in found.targets]
        spread = np.asarray(last.groupby("run")[losses].std() / last.groupby("run")[losses].mean())
        mean = np.asarray(last.groupby("run")[losses].mean()).mean(1)
        # Mixtures without text of a domain are far noisier; they are no part of this.
        noise = np.sqrt((spread[mean < 1.2 * mean.min()] ** 2).mean(0))
        return cls(table=Observations.from_frame(means), noise=noise)

    def mixtures(self, names: Sequence[str]) -> Observations:
        return self.table.split([run for run in self.table.runs if run not in names])[0]


def main(options: Options) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    steps, mixtures, ranges = [], [], []
    for name, size in SIZES.items():
        runs = Runs.of(size)
        design = datasets.load("eight-domains").select(model_size=size)
        random = design.split([run for run in design.runs if not run.startswith("random")])[0]
        for law in LAWS:
            steps += [{"size": name, "law": law, **row} for row in last_step(law, runs)]
            mixtures += [{"size": name, "law": law, **row} for row in unseen(law, runs)]
            ranges += [{"size": name, "law": law, **row} for row in in_and_outside(law, random, runs)]
            print(f"{name} {law}", flush=True)
    frames = {"last_step": steps, "unseen_mixtures": mixtures, "fitted_range": ranges}
    frames = {title: pd.DataFrame(rows) for title, rows in frames.items()}
    for title, frame in frames.items():
        frame.round(6).to_csv(options.out / f"{title}.csv", index=False)
        print(f"\n{title}\n{frame.round(4).to_string(index=False)}")
    save(figures.figure(frames["last_step"], frames["fitted_range"], LAWS), options.out / "laws.png")


def predicted(law: Fit, table: Observations) -> Losses:
    return np.asarray(law.predict(table.proportions, table.volumes("steps"), from_prior=True))


def last_step(law: str, runs: Runs) -> list[dict[str, object]]:
    """Table 1: fitted to all steps but the last of six mixtures, the relative error there of each."""
    table = runs.mixtures((*BASELINES, *ENTROPIES))
    before = float(np.unique(table.volumes("steps"))[-2])
    found = fit(law, table.select(volume=(None, before), unit="steps"), volume="steps")
    last = table.select(volume=(LAST, None), unit="steps")
    errors = np.abs(predicted(found, last) / last.losses - 1)
    floor = MEAN_DISTANCE * runs.noise.mean() / len(SEEDS) ** 0.5
    rows = [
        {"mixture": run, "mean": own.mean(), "worst": own.max(), "best": own.min(), "noise": floor}
        for run, own in zip(last.run.tolist(), errors, strict=True)
    ]
    return [
        *rows,
        {"mixture": "all", "mean": errors.mean(), "worst": errors.max(), "best": errors.min(), "noise": floor},
    ]


def unseen(law: str, runs: Runs) -> list[dict[str, object]]:
    """Table 2: fitted to the entropy mixtures, R2 in logs over the steps of natural and DoReMi, by domain."""
    found = fit(law, runs.mixtures(ENTROPIES), volume="steps")
    rows: list[dict[str, object]] = []
    for mixture in BASELINES:
        own = runs.mixtures((mixture,))
        guess = predicted(found, own)
        scores = [float(r2(guess[:, t], own.losses[:, t], log=True)) for t in range(len(own.targets))]
        error = float(np.abs(guess / own.losses - 1).mean())
        rows.append(
            {
                "mixture": mixture,
                "mean": np.mean(scores),
                "median": np.median(scores),
                "worst": min(scores),
                "best": max(scores),
                "error": error,
            }
        )
    return rows


def in_and_outside(law: str, random: Observations, runs: Runs) -> list[dict[str, object]]:
    """Fitted to 24 random runs: R2 over mixtures that methods chose and references, by whether shares were fitted."""
    found = fit(law, random, volume="steps")
    table = runs.table.select(volume=(LAST, None), unit="steps")
    low, high = random.proportions.min(0), random.proportions.max(0)
    inside = ((table.proportions >= low) & (table.proportions <= high)).all(1)
    guess, floor = predicted(found, table), runs.noise
    rows: list[dict[str, object]] = []
    for where, kept in (("inside", inside), ("outside", ~inside)):
        there, own = guess[kept], table.losses[kept]
        finite = np.isfinite(there).all(1)
        residual = ((there - own)[finite] ** 2).sum(0)
        scores = 1 - residual / ((own[finite] - own[finite].mean(0)) ** 2).sum(0)
        # What is left of R2 where a prediction is right and seeds alone speak; the runs fitted have another seed.
        noise = (own[finite].mean(0) * floor) ** 2 * finite.sum() * (1 / len(SEEDS))
        best = 1 - noise / ((own[finite] - own[finite].mean(0)) ** 2).sum(0)
        error = float(np.abs(there / own - 1)[finite].mean())
        row: dict[str, object] = {"shares": where, "mixtures": int(finite.sum()), "infinite": int((~finite).sum())}
        rows.append(
            row | {"r2_mean": scores.mean(), "r2_worst": scores.min(), "r2_of_noise": best.mean(), "error": error}
        )
    return rows


if __name__ == "__main__":
    main(tyro.cli(Options))
