"""What an accelerator makes of the swarm and of the fitting engine, in nine minutes at most: one script, one JSON.

- `members`: tokens per second of a swarm of 64 models of 1M parameters, beside one after another (goal: 20 times).
- `large`: share of the bfloat16 peak of one model of 100M parameters (goal: 40 %); `large, not deterministic`, the same
  where the device may sum in any order.
- `many`: that of 64 models of 10M parameters together (goal: 25 %).
- `fits`: fits per second of the law's grid, B = 1e4, 1e5 and 1e6 lanes of 100 observations, in float64 and with
  iterations in float32 (goal: 1e7). A lane is a domain of a resample, as the bootstrap makes them.

Each part runs in a process of its own, which is killed when the part's time or that of all is up; the JSON holds what
was found until then, also of a part that was killed. Neither a network nor other files are needed.

Run on the device: `python benchmarks/accelerator.py`; anywhere: with `--tiny`, at sizes that show that every part works
and tell no speed.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import _report
import batches as grid
import jax
import numpy as np
import swarm

import bimixjax
from bimixjax._base.records import read_json, write_json
from bimixjax.proxy import ModelConfig, TrainConfig
from bimixjax.proxy.cost import utilization
from bimixjax.proxy.memory import Wishes
from bimixjax.solve import VarPro

HERE = Path(__file__).resolve().parent
VOCAB = 50_257
# Of all parts together, which leaves half a minute of nine for the start and the end.
SECONDS = 510.0
# A part that has less left would compile and measure nothing.
LEAST = 15.0
# A killed process is gone within this, or it hangs in the device's driver and is left behind.
GRACE = 5.0

Found = dict[str, Any]
Part = Callable[[], Iterator[Found]]


def timed(turn: Callable[[], Any], rounds: int) -> Iterator[float]:
    """Yield the seconds of the first call, which compiles, then the median of some more."""
    seconds = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        turn()
        seconds.append(time.perf_counter() - began)
        if number == 0:
            yield seconds[0]
    yield statistics.median(seconds[1:])


def trained(
    config: TrainConfig, members: int, steps: int, rounds: int, *, alone: bool = False, deterministic: bool = True
) -> Iterator[Found]:
    """Train a swarm of `members`; `alone`, measure one of them too, which stands for one after another."""
    wishes = Wishes(deterministic=deterministic)
    tokens = np.random.default_rng(0).integers(0, config.model.vocab, 5 * swarm.DOMAIN_TOKENS).astype(np.uint16)
    turn = timed(swarm.swarm_turn(config, tokens, members, steps, jax.devices(), wishes), rounds)
    sizes = {"parameters": config.model.size, "batch": config.batch, "context": config.model.context}
    yield {**sizes, "members": members, "first_call_seconds": next(turn)}
    rate = members * steps * config.tokens_per_step / next(turn)
    stats = jax.devices()[0].memory_stats() or {}
    yield {
        "tokens_per_second": rate,
        "utilization": utilization(rate, config.model, jax.devices()[0].device_kind, len(jax.devices())),
        "peak_device_bytes": stats.get("peak_bytes_in_use"),
    }
    if alone:
        *_, each = timed(swarm.swarm_turn(config, tokens, 1, steps, jax.devices()[:1], wishes), rounds)
        one_by_one = steps * config.tokens_per_step / each
        yield {"tokens_per_second_one_by_one": one_by_one, "times_one_by_one": rate / one_by_one}


def fitted(count: int, precision: Any, rounds: int) -> Iterator[Found]:
    """Fit at least `count` lanes: those of a table, and of resamples of it."""
    observations, _, _ = grid.make(0, grid=True)
    lanes = len(observations.targets) * len(observations.model_sizes)
    resamples = max(2, -(-count // lanes))
    options: dict[str, Any] = {"volume": "steps", "priors": False, "solver": VarPro(precision=precision)}
    turn = timed(lambda: bimixjax.bootstrap("bimix", observations, key=0, count=resamples, **options), rounds)
    fits = lanes * (resamples + 1)
    yield {"lanes": fits, "first_call_seconds": next(turn)}
    yield {"fits_per_second": fits / next(turn)}


def parts(*, tiny: bool) -> dict[str, tuple[float, Part]]:
    """Return what is measured, the largest last, with the seconds that each may take; `tiny`, on any machine."""

    def config(preset: str, batch: int, context: int, vocab: int = VOCAB) -> TrainConfig:
        sizes: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "vocab": 64, "context": 16}
        model = ModelConfig(**sizes) if tiny else ModelConfig.preset(preset, vocab=vocab, context=context)
        return TrainConfig(model=ModelConfig(**{**vars(model), "dtype": "bfloat16"}), batch=2 if tiny else batch)

    def fits(count: int) -> dict[str, tuple[float, Part]]:
        kinds = {"float64": "float64", "float32": "refined"}
        size = 1 if tiny else count
        return {f"fits {count:.0e} {name}": (60, partial(fitted, size, kind, 1)) for name, kind in kinds.items()}

    many, steps, rounds = (4, 2, 1) if tiny else (64, 20, 3)
    found = {
        "members": (100, lambda: trained(config("1m", 16, 128, 256), many, steps, rounds, alone=True)),
        **fits(10_000),
        **({} if tiny else fits(100_000)),
        "large": (90, lambda: trained(config("85m", 32, 1024), 1, steps, rounds)),
        "large, not deterministic": (
            70,
            lambda: trained(config("85m", 32, 1024), 1, steps, rounds, deterministic=False),
        ),
        **({} if tiny else fits(1_000_000)),
        "many": (120, lambda: trained(config("10m", 16, 512, 4096), many, max(1, steps // 4), rounds)),
    }
    # On a busy machine, even a tiny part may take long.
    return {name: (SECONDS if tiny else most, part) for name, (most, part) in found.items()}


def measure(path: Path, name: str, tiny: bool, profile: Path | None) -> None:
    """Measure one part; what it has so far lies in `path`, with what it runs on."""
    found: Found = {"environment": _report.environment()}
    if profile:
        jax.profiler.start_trace(str(profile))
    for some in parts(tiny=tiny)[name][1]():
        found |= some
        write_json(path, found)
    if profile:
        jax.profiler.stop_trace()


def within(seconds: float, work: Callable[..., None], *arguments: Any) -> Found:
    """Return what `work` has written to the file that it is given, in a process that is killed after so many seconds.

    A part that fails, say for its memory, or hangs costs the others nothing, and leaves them the whole device.
    """
    with tempfile.TemporaryDirectory() as place:
        path, began = Path(place) / "found.json", time.perf_counter()
        process = multiprocessing.get_context("spawn").Process(target=work, args=(path, *arguments), daemon=True)
        process.start()
        process.join(seconds)
        code = process.exitcode
        process.kill()
        process.join(GRACE)
        found = read_json(path) if path.exists() else {}
    said = {"ended": f"after its {seconds:.0f} s"} if code is None else {"failed": f"exit code {code}"} if code else {}
    return found | said | {"seconds": round(time.perf_counter() - began, 1)}


def run(out: Path, *, tiny: bool = False, seconds: float = SECONDS, profile: Path | None = None) -> Path:
    """Measure one part after another for so many seconds at most, and return the JSON; `profile`, one of `large`."""
    began, results, environment = time.perf_counter(), {}, None
    for name, (most, _) in parts(tiny=tiny).items():
        left = seconds - (time.perf_counter() - began)
        if left < min(LEAST, seconds / 10):
            results[name] = {"left_out": f"after {seconds - left:.0f} s"}
        else:
            found = within(min(most, left), measure, name, tiny, profile if name == "large" else None)
            environment = found.pop("environment", environment)
            results[name] = found
        print(name, results[name], f"{time.perf_counter() - began:.0f} s", flush=True)
        write_json(out, {"environment": environment, "benchmark": "accelerator", "tiny": tiny, "parts": results})
    return out


def main() -> None:
    """Measure, and say where the JSON lies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on any machine")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="it ends after so many")
    parser.add_argument("--profile", type=Path, help="folder for a profile of the part `large`")
    parser.add_argument("--out", type=Path, help="JSON file (default: results/accelerator.json, or _tiny.json)")
    given = vars(parser.parse_args())
    usual = HERE / "results" / f"accelerator{'_tiny' * given['tiny']}.json"
    print(f"written: {run(given.pop('out') or usual, **given)}")


if __name__ == "__main__":
    main()
