"""What an accelerator makes of the swarm and of the fitting engine, in nine minutes at most: one script, one JSON.

- `members`: tokens per second of a swarm of 64 models of 1M parameters, beside one after another (goal: 20 times).
- `large`: share of the bfloat16 peak of one model of 100M parameters (goal: 40 %).
- `many`: that of 64 models of 10M parameters together (goal: 25 %).
- `fits`: fits per second of the law's grid, B = 1e4, 1e5 and 1e6 lanes of 100 observations, in float64 and with
  iterations in float32 (goal: 1e7). A lane is a domain of a resample, as the bootstrap makes them.

A part that would begin after the deadline is left out, and the JSON says so: it is written anew after each part.

Run on the device: `python benchmarks/accelerator.py`; anywhere: `python benchmarks/accelerator.py --quick`, with tiny
sizes, which shows that every part works and tells no speed.
"""

import argparse
import statistics
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _report
import batches as grid
import jax
import numpy as np
import swarm

import bimixjax
from bimixjax.proxy import ModelConfig, TrainConfig
from bimixjax.proxy.cost import utilization
from bimixjax.solve import VarPro

HERE = Path(__file__).resolve().parent
VOCAB = 50_257


def timed(turn: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Return seconds of the first call, which compiles, and the median of some more."""
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        turn()
        seconds.append(time.perf_counter() - began)
    return seconds[0], statistics.median(seconds[1:])


def trained(config: TrainConfig, members: int, steps: int, rounds: int, *, alone: bool = False) -> dict[str, Any]:
    """Train a swarm of `members`; `alone`, measure one of them too, which stands for one after another."""
    tokens = np.random.default_rng(0).integers(0, config.model.vocab, 5 * swarm.DOMAIN_TOKENS).astype(np.uint16)
    first, seconds = timed(swarm.swarm_turn(config, tokens, members, steps, jax.devices()), rounds)
    rate = members * steps * config.tokens_per_step / seconds
    stats = jax.devices()[0].memory_stats() or {}
    found = {
        "parameters": config.model.size,
        "members": members,
        "batch": config.batch,
        "context": config.model.context,
        "tokens_per_second": rate,
        "utilization": utilization(rate, config.model, jax.devices()[0].device_kind, len(jax.devices())),
        "first_call_seconds": first,
        "peak_device_bytes": stats.get("peak_bytes_in_use"),
    }
    if alone:
        _, each = timed(swarm.swarm_turn(config, tokens, 1, steps, jax.devices()[:1]), rounds)
        found["tokens_per_second_one_by_one"] = steps * config.tokens_per_step / each
        found["times_one_by_one"] = rate / found["tokens_per_second_one_by_one"]
    return found


def fitted(count: int, precision: Any, rounds: int) -> dict[str, Any]:
    """Fit at least `count` lanes: those of a table, and of resamples of it."""
    observations, _, _ = grid.make(0, grid=True)
    lanes = len(observations.targets) * len(observations.model_sizes)
    resamples = max(2, -(-count // lanes))
    options: dict[str, Any] = {"volume": "steps", "priors": False, "solver": VarPro(precision=precision)}
    first, seconds = timed(lambda: bimixjax.bootstrap("bimix", observations, key=0, count=resamples, **options), rounds)
    fits = lanes * (resamples + 1)
    return {"lanes": fits, "fits_per_second": fits / seconds, "first_call_seconds": first}


def parts(*, quick: bool) -> dict[str, Callable[[], dict[str, Any]]]:
    """Return what is measured, the most telling first; `quick`, at sizes that any machine bears."""

    def config(preset: str, batch: int, context: int, vocab: int = VOCAB) -> TrainConfig:
        tiny: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "vocab": 64, "context": 16}
        model = ModelConfig(**tiny) if quick else ModelConfig.preset(preset, vocab=vocab, context=context)
        return TrainConfig(model=ModelConfig(**{**vars(model), "dtype": "bfloat16"}), batch=2 if quick else batch)

    many, steps, rounds = (4, 2, 1) if quick else (64, 20, 3)
    sizes = (3_000,) if quick else (10_000, 100_000, 1_000_000)
    found: dict[str, Callable[[], dict[str, Any]]] = {
        "members": lambda: trained(config("1m", 16, 128, 256), many, steps, rounds, alone=True),
        "large": lambda: trained(config("85m", 32, 1024), 1, steps, rounds),
        "many": lambda: trained(config("10m", 16, 512, 4096), many, max(1, steps // 4), rounds),
    }
    for size in sizes:
        for precision in ("float64", "refined"):
            found[f"fits {size:.0e} {precision}"] = lambda size=size, precision=precision: fitted(size, precision, 1)
    return found


def main() -> None:
    """Measure one part after another until the deadline."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, on any machine")
    parser.add_argument("--seconds", type=float, default=420.0, help="no part begins later than this")
    parser.add_argument("--profile", type=Path, help="folder for a profile of the part `large`")
    parser.add_argument("--out", type=Path, help="JSON file (default: results/accelerator.json, or _quick.json)")
    given = parser.parse_args()
    name = "accelerator_quick.json" if given.quick else "accelerator.json"
    began, results = time.perf_counter(), {}
    for part, run in parts(quick=given.quick).items():
        if time.perf_counter() - began > given.seconds:
            results[part] = {"left out": f"after {time.perf_counter() - began:.0f} s"}
            continue
        try:
            if given.profile and part == "large":
                with jax.profiler.trace(str(given.profile)):
                    results[part] = run()
            else:
                results[part] = run()
        except Exception as error:  # one part that fails, say for its memory, must not cost the others
            traceback.print_exc()
            results[part] = {"failed": f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"}
        print(part, results[part], f"{time.perf_counter() - began:.0f} s", flush=True)
        _report.write(given.out or HERE / "results" / name, {"benchmark": "accelerator", "parts": results})


if __name__ == "__main__":
    main()
