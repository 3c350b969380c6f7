"""Rows measured while the learning rate fell: they lie on no curve of the volume."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bimixjax._base.summaries import listed

# Columns of a learning rate that are looked for in a table: ours, and those that other trainers write.
COLUMNS = ("lr", "learning_rate")
# Less than this below the greatest before, relative, is rounding.
TOLERANCE = 0.01


def decay_note(frame: pd.DataFrame, run: NDArray[np.object_], volume: NDArray[np.float64]) -> tuple[str, ...]:
    """Return a note on the rows whose learning rate is below an earlier one of their run, if there are any.

    A run that ends in a decay has a lower loss at its end than the same steps at a constant rate would give, and each
    length of training has a decay of its own. Where a run has one row only, at the end of its own decay, all is well.

    Args:
        frame: columns of the table that are none of its own.
        run: id of each row.
        volume: of each row.

    Example:
        >>> frame = pd.DataFrame({"lr": [0.1, 0.1, 0.01]})
        >>> for note in decay_note(frame, np.array(["r"] * 3, object), np.array([1.0, 2.0, 3.0])):
        ...     print(note.partition(":")[0])
        learning rates fall within 1 of 1 runs, in 1 of 3 rows
    """
    name = next((name for name in COLUMNS if name in frame), None)
    if name is None:
        return ()
    table = pd.DataFrame({"run": run, "volume": volume, "rate": pd.to_numeric(frame[name], errors="coerce")})
    table = table.sort_values("volume", kind="stable")
    fallen = (table["rate"] < (1 - TOLERANCE) * table.groupby("run")["rate"].cummax()).to_numpy()
    if not fallen.any():
        return ()
    runs = sorted(set(map(str, table["run"][fallen])))
    where = (
        f"within {len(runs)} of {len(set(run))} runs, in {fallen.sum()} of {len(table)} rows: {listed(runs, most=3)}"
    )
    remedy = "take rows of a constant rate, or the last row of each run"
    return (f"learning rates fall {where}; no law of the volume holds for a decay and what comes before it; {remedy}",)
