"""Seconds of a step cut into passes: all of the batch with blocks computed again on the way back, or less at a time.

Both save memory; plans take smaller passes first, down to `bimixjax.proxy.memory.PASS` tokens. Ratios are medians of
those within a round, of seconds by the clock and of the processor.

Run: `python benchmarks/passes.py`
"""

import argparse
import statistics
from pathlib import Path

import _report
import jax
import numpy as np
import swarm

from bimixjax.proxy import ModelConfig, TrainConfig
from bimixjax.proxy.memory import Wishes

HERE = Path(__file__).resolve().parent
WHOLE, REMAT = "all, kept", "all, computed again"


def main() -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="1m")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "passes.json", help="JSON file")
    given = parser.parse_args()
    config = TrainConfig(
        model=ModelConfig.preset(given.preset, context=given.context, dtype=given.dtype), batch=given.batch
    )
    tokens = np.random.default_rng(0).integers(0, 256, swarm.DOMAINS * swarm.DOMAIN_TOKENS).astype(np.uint8)
    wishes = {WHOLE: Wishes(remat=False, microbatch=given.batch), REMAT: Wishes(remat=True, microbatch=given.batch)}
    for size in (given.batch // 2**i for i in range(1, given.batch.bit_length())):
        wishes[f"{size * given.context} tokens, kept"] = Wishes(remat=False, microbatch=size)
    turns = {
        name: swarm.swarm_turn(config, tokens, 1, given.steps, jax.devices()[:1], wish) for name, wish in wishes.items()
    }
    clock, processor = swarm.measure(turns, given.rounds)
    ratios = {
        name: [
            statistics.median(own / whole for own, whole in zip(seconds[name], seconds[WHOLE], strict=True))
            for seconds in (clock, processor)
        ]
        for name in turns
    }
    rows = [[name, *(f"{ratio:.2f}" for ratio in both)] for name, both in ratios.items()]
    print(_report.table(["passes", "x all, kept", "of the processor"], rows))
    settings = {name: value for name, value in vars(given).items() if name != "out"}
    results = {"benchmark": "passes", "settings": settings, "times_all_kept": ratios}
    _report.write(given.out, {**results, "seconds": clock, "processor_seconds": processor})


if __name__ == "__main__":
    main()
