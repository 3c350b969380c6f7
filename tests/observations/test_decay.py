import numpy as np
import pandas as pd
import pytest

from bimixjax import Observations


def table(rates: list[object], runs: str = "aaabbb", name: str = "lr") -> pd.DataFrame:
    steps = [runs[: i + 1].count(run) for i, run in enumerate(runs)]
    columns = {"run": list(runs), "step": steps, "mixture/web": 1.0, "loss/web": 3.0, name: rates}
    # In another order, as tables are.
    return pd.DataFrame(columns).iloc[np.random.default_rng(0).permutation(len(runs))]


@pytest.mark.parametrize("name", ["lr", "learning_rate"])
def test_rows_of_a_decay_are_noted(name: str) -> None:
    (note,) = Observations.from_frame(table([1, 1, 1, 1, 0.5, 0.1], name=name)).notes
    assert note.startswith("learning rates fall within 1 of 2 runs, in 2 of 6 rows: b;")


@pytest.mark.parametrize(
    ("rates", "runs"),
    [
        ([0.1, 0.5, 1, 0.2, 1, 1], "aaabbb"),  # a warm-up
        ([1, 1, 0.999, 1, 1, 1], "aaabbb"),  # rounding
        ([0.1] * 6, "abcdef"),  # each run measured once, where it ends
        ([None, "", "n/a", 1, 1, 1], "aaabbb"),  # not recorded
    ],
)
def test_other_rows_are_not(rates: list[object], runs: str) -> None:
    assert Observations.from_frame(table(rates, runs)).notes == ()
