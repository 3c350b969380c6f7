"""Best learning rate of models of several widths: `python -m experiments.learning_rate.run`."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import tyro

from bimixjax import InputError, Observations
from bimixjax._base.summaries import aligned
from bimixjax.corpus import TokenStore, local_corpus
from bimixjax.proxy import Design, ModelConfig, SwarmConfig, TrainConfig, train_swarm

HERE = Path(__file__).resolve().parent
BASE_WIDTH = 64
# layers, width, heads.
SIZES = {
    "0.1m": (2, 64, 2),
    "2 x 128": (2, 128, 4),
    "1m": (5, 128, 4),
    "2 x 256": (2, 256, 8),
    "10m": (8, 320, 5),
}
# At the base width; that of a model of width D is these times 64 / D.
RATES = (0.00075, 0.0015, 0.003, 0.006)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train each size with each learning rate of a grid, scaled by the rule of width, and see where the best one lies.

    Cases that the table of results has already are not trained again.
    """

    folder: Path = Path("learning-rate")
    """Folder for the corpus and the runs."""
    out: Path = HERE / "results"
    """Folder for the table."""
    sizes: tuple[str, ...] = tuple(SIZES)
    """Which of 0.1m, "2 x 128", 1m, "2 x 256", 10m."""
    rates: tuple[float, ...] = RATES
    """Learning rates at the base width."""
    steps: int = 400
    """Optimizer steps of each run, of which a twentieth are the warm-up."""
    batch: int = 8
    """Sequences per step, of 64 tokens."""


def trained(options: Options, store: TokenStore, size: str, rate: float) -> dict:
    """Train one model on the uniform mixture; return its mean validation loss at the end."""
    layers, width, heads = SIZES[size]
    model = ModelConfig(vocab=store.vocab_size, layers=layers, width=width, heads=heads, context=64)
    warmup = options.steps // 20
    train = TrainConfig(model=model, batch=options.batch, learning_rate=rate, warmup=warmup, base_width=BASE_WIDTH)
    config = SwarmConfig(train=train, steps=options.steps, eval_steps=(options.steps,), eval_windows=128)
    count = len(store.domains)
    design = Design.make(["uniform"], store.domains, np.full((1, count), 1 / count))
    table = train_swarm(design, store, config, options.folder / f"{size} {rate:g}".replace(" ", "-"))
    found = Observations.read(table)
    return {
        "size": size,
        "parameters": model.size,
        "width": width,
        "steps": options.steps,
        "batch": options.batch,
        "base rate": rate,
        "rate": train.peak,
        "loss": found.losses[-1].mean(),
    }


def best_rate(rates: np.ndarray, losses: np.ndarray) -> float:
    """Return the minimum of the parabola in ln rate through the best point of a grid and its two neighbors."""
    kept = np.isfinite(losses)
    x, y = np.log(rates[kept]), losses[kept]
    middle = int(np.argmin(y))
    if not 0 < middle < len(x) - 1:
        return float(np.exp(x[middle]))
    a, b, _ = np.polyfit(x[middle - 1 : middle + 2], y[middle - 1 : middle + 2], 2)
    return float(np.exp(-b / (2 * a)))


def main(options: Options) -> None:
    started, path = time.perf_counter(), options.out / "rates.csv"
    rows = pd.read_csv(path).to_dict("records") if path.exists() else []
    unknown = [size for size in options.sizes if size not in SIZES]
    if unknown:
        raise InputError(f"size is {unknown[0]!r}; allowed: {', '.join(SIZES)}")
    place = options.folder / "corpus"
    store = TokenStore.open(place) if place.exists() else local_corpus(place)
    options.out.mkdir(parents=True, exist_ok=True)
    for size in options.sizes:
        for rate in options.rates:
            if not any((row["size"], row["base rate"]) == (size, rate) for row in rows):
                rows.append(trained(options, store, size, rate))
                pd.DataFrame(rows).to_csv(path, index=False, float_format="%.6g")
    shown = []
    for size, group in pd.DataFrame(rows).groupby("size", sort=False):
        group = group.sort_values("rate")
        losses = group["loss"].to_numpy()
        best = best_rate(group["rate"].to_numpy(), losses)
        ruled = best * group["width"].iloc[0] / BASE_WIDTH
        shown.append([str(size), f"{group['width'].iloc[0]}", f"{best:.4f}", f"{ruled:.4f}", f"{losses.min():.4f}"])
    print(aligned([["size", "width", "best rate", "at width 64", "least loss"], *shown]))
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
