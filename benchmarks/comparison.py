"""Seconds and peak memory of the default comparison of laws on 512 runs of 17 domains with one loss.

The table is that of arXiv 2407.01492 (`data/`) with its first loss where it lies beside the project, else a made-up one
of its shape. Nothing is compiled before; `cpu` counts the seconds of all processors together, which other work on the
machine disturbs less.

Run: `python benchmarks/comparison.py`
"""

import json
import resource
import time
from pathlib import Path

import _report
import numpy as np
import pandas as pd

import bimixjax
from bimixjax import Observations
from bimixjax.cli.fitting import COMPARED

HERE = Path(__file__).resolve().parent
PUBLIC = HERE.parents[1] / "shared" / "observations" / "pile_17domains_train.csv"
RUNS, DOMAINS = 512, 17


def table() -> Observations:
    """The runs with their first loss."""
    if PUBLIC.exists():
        frame = Observations.read(PUBLIC).to_frame()
        losses = [name for name in frame if name.startswith("loss/")]
        return Observations.from_frame(frame.drop(columns=losses[1:]))
    random = np.random.default_rng(0)
    share = random.dirichlet(np.full(DOMAINS, 0.3), RUNS)
    loss = 2.5 * (share[:, 0] + 0.1 * share[:, 1] + 0.01) ** -0.12 * np.exp(0.005 * random.standard_normal(RUNS))
    columns = {"run": np.arange(RUNS).astype(str)} | {f"mixture/{k}": share[:, k] for k in range(DOMAINS)}
    return Observations.from_frame(pd.DataFrame(columns | {"loss/0": loss}))


if __name__ == "__main__":
    observations = table()
    own_only = set(observations.targets) <= set(observations.domains)
    laws = [law for law in COMPARED if law == "auto" or own_only or not bimixjax.LAWS[law].own_proportion]
    rows = []
    for law in laws:
        begun, worked = time.perf_counter(), time.process_time()
        found = bimixjax.compare([law], observations).to_frame()
        spent = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - worked}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append({"law": law, **spent, "peak_mb": peak, "error": float(found["error"].iloc[0])})
        print(json.dumps(rows[-1]), flush=True)
    source = PUBLIC.name if PUBLIC.exists() else "made up"
    total = {name: sum(row[name] for row in rows) for name in ("seconds", "cpu")}
    _report.write(HERE / "results" / "comparison.json", {"table": source, "laws": rows, "all": total})
    print(json.dumps({"table": source, **total}))
