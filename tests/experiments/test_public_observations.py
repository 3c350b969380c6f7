"""The experiment's protocol on made-up losses, where what it must find is known."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bimixjax import Observations, fit
from experiments.public_observations import protocol, summary

ROOT = Path(__file__).resolve().parents[2]
SHARES = (0.1, 0.2, 0.3, 0.45, 0.6, 0.75, 0.85)


def table(shares=SHARES, volumes=(1000, 2000, 4000, 8000)) -> pd.DataFrame:
    """Losses of x and y from the law without noise; those of an absent domain are 9."""
    rows = [(f"run-{i:03}", r, s) for i, r in enumerate(shares) for s in volumes]
    frame = pd.DataFrame(rows, columns=["run", "mixture/x", "step"])
    frame["mixture/y"] = 1 - frame["mixture/x"]
    for domain, alpha in (("x", 0.1), ("y", 0.3)):
        own = frame[f"mixture/{domain}"]
        loss = own.where(own > 0, 1.0) ** -alpha * (30 * frame["step"] ** -0.5 + 2)
        frame[f"loss/{domain}"] = loss.where(own > 0, 9.0)
    return frame


def observe(**options) -> Observations:
    return Observations.from_frame(table(**options))


def last(observations: Observations) -> Observations:
    return observations.select(volume=(8000, 8000), unit="steps")


def test_in_sample_rows_are_those_of_the_fit():
    result = fit("bimix", observe(shares=(0.0, 0.3, 0.6)), priors=False)
    x, y = protocol.in_sample(result)
    assert (x["target"], x["rows"], x["absent"]) == ("x", 8, 4)
    assert (y["target"], y["rows"], y["absent"]) == ("y", 12, 0)
    assert y["alpha"] == pytest.approx(0.3, rel=1e-6)
    assert y["error"] < 1e-9


@pytest.mark.parametrize("alone", [False, True])
def test_extrapolation_gives_signed_errors_of_each_late_run(alone):
    observations = observe(shares=(0.2, 0.5, 0.8))
    early, late = observations.select(volume=(1000, 4000), unit="steps"), table(shares=(0.2, 0.5, 0.8))
    late["loss/x"] *= 1.25
    rows = list(protocol.extrapolation(early, last(Observations.from_frame(late)), "bimix", priors=False, alone=alone))
    assert [(row["run"], row["target"]) for row in rows] == [(f"run-00{i}", t) for i in range(3) for t in "xy"]
    np.testing.assert_allclose([row["relative"] for row in rows], [-0.2, 0.0] * 3, atol=1e-6)


def test_designs_are_the_reference_draws():
    observations = observe()
    numbers = np.random.default_rng(1000 * 3 + 4).choice(range(7), 3, replace=False)
    assert protocol.designs(observations, 3, 5)[4] == tuple(f"run-{number:03}" for number in numbers)


def test_few_subsets_are_all_drawn():
    chosen = protocol.designs(observe(), 2, 50)
    assert len(chosen) == len({frozenset(runs) for runs in chosen}) == 21


def test_complete_keeps_shared_volumes_and_whole_rows():
    frame = table()
    frame.loc[(frame["step"] == 2000) & frame["run"].isin(["run-000", "run-001"]), "loss/x"] = np.nan
    frame.loc[(frame["step"] == 4000) & (frame["run"] == "run-000"), "loss/y"] = np.nan
    kept = protocol.complete(Observations.from_frame(frame))
    assert set(kept.volumes("steps")) == {1000, 4000, 8000}
    assert len(kept) == 7 + 6 + 7


def test_what_the_law_cannot_predict_is_left_out_and_counted():
    observations = observe(shares=(*SHARES, 0.0, 1.0))
    fitted, held = observations.split(["run-000", "run-001", "run-002", "run-003", "run-004", "run-007", "run-008"])
    row = protocol.generalization(fitted, last(held), "bimix", priors=False, ranked=())
    assert (row["cells"], row["absent"], row["unfitted"]) == (14, 2, 0)
    assert (row["mixtures"], row["mixtures_finite"]) == (7, 5)
    assert row["error"] < 1e-9
    # The mixtures without x or y have the highest losses, equal ones: where their infinite predictions rank.
    assert row["spearman"] == row["spearman_finite"] == pytest.approx(1.0)


def test_a_target_that_no_fitted_run_has_is_counted():
    held, fitted = observe(shares=(0.0, *SHARES)).split(["run-000"])
    row = protocol.generalization(fitted, last(held), "bimix", priors=True, ranked=())
    assert (row["cells"], row["absent"], row["unfitted"]) == (14, 0, 7)
    assert np.isnan(row["spearman"])
    assert row["mixtures_finite"] == 0


@pytest.mark.parametrize(("priors", "unfitted"), [(True, 0), (False, 12)])
def test_without_priors_one_share_predicts_no_other(priors, unfitted):
    held, fitted = observe().split(["run-000"])
    row = protocol.generalization(fitted, last(held), "bimix", priors=priors, ranked=())
    assert (row["cells"], row["unfitted"]) == (12, unfitted)
    assert np.isnan(row["error"]) == (not priors)


def test_no_law_is_the_mean_of_the_fitted_runs():
    observations = observe()
    fitted, held = observations.split(["run-001", "run-002", "run-003", "run-004", "run-005"])
    row = protocol.generalization(fitted, last(held), "bimix", priors=True, ranked=("x",))
    guess = last(fitted).losses.mean(0)
    assert row["no_law"] == pytest.approx(np.mean(np.abs(guess / last(held).losses - 1)))
    assert row["no_law_every_cell"] == pytest.approx(row["no_law"])


def draw(size: float, number: int, error: float) -> protocol.Row:
    scores = dict.fromkeys((*summary.SCORES, *summary.COUNTS), 1.0)
    return {"table": "t", "model_size": size, "priors": True, "runs": 2, "draw": number, **scores, "error": error}


def test_draws_are_averaged_over_sizes_before_their_spread_is_taken():
    errors = {1e6: (0.1, 0.2, 0.6), 1e7: (0.3, 0.2, 0.4)}
    rows = [draw(size, number, error) for size, values in errors.items() for number, error in enumerate(values)]
    small, large, both = summary.generalization(rows)
    assert (small["error"], small["error_median"]) == (pytest.approx(0.3), pytest.approx(0.2))
    assert large["error_standard_error"] == pytest.approx(np.std([0.3, 0.2, 0.4], ddof=1) / 3**0.5)
    assert np.isnan(both["model_size"])
    assert both["error"] == pytest.approx(0.3)
    assert both["error_median"] == pytest.approx((0.2 + 0.3) / 2)
    assert both["error_standard_error"] == pytest.approx(np.std([0.2, 0.2, 0.5], ddof=1) / 3**0.5)


def test_extrapolation_is_summed_up_over_targets_then_sizes():
    key = {"table": "t", "alone": False, "priors": True}
    relative = {(1e6, "x"): (0.1, -0.1), (1e6, "y"): (0.3, np.inf), (1e7, "x"): (0.2, 0.2), (1e7, "y"): (-0.4, -0.4)}
    cells = [
        {**key, "model_size": size, "target": target, "relative": value}
        for (size, target), values in relative.items()
        for value in values
    ]
    small, _, both = summary.extrapolation(cells)
    assert (small["error"], small["bias"]) == (pytest.approx(0.2), pytest.approx(0.15))
    assert (small["error_worst"], small["error_best"]) == (pytest.approx(0.3), pytest.approx(0.1))
    assert (small["cells"], small["no_prediction"]) == (4, 1)
    assert (both["error"], both["bias"], both["worst_cell"]) == (
        pytest.approx(0.25),
        pytest.approx(0.025),
        pytest.approx(0.4),
    )


def test_printed_tables_are_aligned():
    rows = [
        {"model_size": 70e6, "error": 0.01234, "absent": 2},
        {"model_size": np.nan, "error": np.nan, "absent": 12.5},
    ]
    lines = summary.text(rows, rows[0]).splitlines()
    assert lines == ["model_size   error  absent", "       70M  0.0123       2", "      mean       -    12.5"]


def test_a_missing_folder_is_named(tmp_path):
    command = [sys.executable, "-m", "experiments.public_observations.run", "--observations", str(tmp_path / "none")]
    end = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert end.returncode == 2
    assert end.stderr == f"no observation tables at {tmp_path / 'none'}; name their folder with --observations\n"
