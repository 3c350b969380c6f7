"""Rules of choice are compared on the same draws."""

from typing import Any

import pandas as pd
import pytest

from experiments.choice.summary import paired


def test_differences_are_paired_over_draws_and_averaged_over_tables() -> None:
    costs = {
        "argmax": {
            ("a 1M", 0): 0.1,
            ("a 2M", 0): 0.3,
            ("a 1M", 1): 0.4,
            ("a 2M", 1): 0.4,
            ("b", 0): 0.0,
            ("b", 1): 0.0,
        },
        "risk 1": {
            ("a 1M", 0): 0.3,
            ("a 2M", 0): 0.3,
            ("a 1M", 1): 0.4,
            ("a 2M", 1): 0.4,
            ("b", 0): 0.0,
            ("b", 1): 0.2,
        },
    }
    rows = [(case, 4, draw, rule, cost) for rule, of in costs.items() for (case, draw), cost in of.items()]
    found: Any = paired(pd.DataFrame(rows, columns=["case", "runs", "draw", "rule", "normalized"])).set_index("rule")
    assert found["regret"].to_dict() == {"argmax": pytest.approx(0.15), "risk 1": pytest.approx(0.225)}
    # Gaps of table a: .1 and 0, of b: 0 and .2.
    assert found["minus_argmax"]["risk 1"] == pytest.approx((0.05 + 0.1) / 2)
    assert found["error"]["risk 1"] == pytest.approx((0.1**2 / 4 + 0.2**2 / 4) ** 0.5 / 2)
    assert found["minus_argmax"]["argmax"] == 0
