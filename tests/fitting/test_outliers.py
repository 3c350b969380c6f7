"""Rows far outside what a fit says are found by the stated rule, and named."""

import numpy as np
import pytest

import bimixjax
from bimixjax.fitting.outliers import name_outliers, outliers

RUNS, STEPS = 8, (2000, 4000, 8000, 16000, 32000)
RUN = np.repeat([f"run{k}" for k in range(RUNS)], len(STEPS))
STEP = np.tile(STEPS, RUNS)


def losses(noise=0.01, targets=3):
    """Predicted and measured losses."""
    random = np.random.default_rng(0)
    predicted = random.uniform(1.5, 4, (len(RUN), targets))
    return predicted, predicted * np.exp(noise * random.standard_normal(predicted.shape))


def found(predicted, measured):
    """The rows that are found, and the sentence on them."""
    rows = outliers(predicted, measured, STEP)
    return rows, name_outliers(rows, RUN, STEP, "steps")


def test_the_end_of_a_run_that_diverged_is_named_with_its_rows():
    predicted, measured = losses()
    rows = (RUN == "run6") & (STEP >= 8000)
    measured[rows] = 9.0
    there, sentence = found(predicted, measured)
    np.testing.assert_array_equal(there, rows)
    assert sentence == ("losses far outside what the fit says: run run6 (3 of its 5 rows, at 8000, 16000, 32000 steps)")


def test_a_whole_run_and_one_loss_are_found_and_missing_losses_passed_over():
    predicted, measured = losses()
    measured[RUN == "run1"] *= 1.3
    measured[12, 2] /= 2.1
    measured[5:9, 0], predicted[30] = np.nan, np.inf
    there, sentence = found(predicted, measured)
    np.testing.assert_array_equal(there, (RUN == "run1") | (np.arange(len(RUN)) == 12))
    assert sentence.endswith("run run1 (all its rows: 5), run run2 (1 of its 5 rows, at 8000 steps)")


@pytest.mark.parametrize("noise", [0.0, 0.003, 0.1])
def test_noise_and_misfits_of_a_law_are_no_outliers(noise):
    predicted, measured = losses(noise)
    assert found(predicted, measured)[1] == ""
    # Of a law without volume: early losses are high in all runs.
    assert not found(predicted, measured * np.where(STEP == 2000, 2.0, 1.0)[:, None])[0].any()
    # Of one target in some runs.
    measured[RUN == "run3", 0] *= 1.6
    assert not found(predicted, measured)[0].any()
    assert not found(predicted[:, :1], measured[:, :1])[0].any()


def test_few_rows_tell_nothing():
    assert not outliers([[3.0, 2.0]] * 5, [[9.0, 9.0]] + [[3.0, 2.0]] * 4).any()
    assert name_outliers(outliers(np.zeros((0, 2)), np.zeros((0, 2))), []) == ""


def test_many_runs_are_counted():
    measured = np.full((40, 2), 3.0)
    measured[:7] = 9.0
    sentence = name_outliers(outliers(np.full((40, 2), 3.0), measured), [f"r{k}" for k in range(40)])
    assert sentence.endswith("run r4 (all its rows: 1), and 2 more runs")


PUBLIC = ("pile_2domains", "pile_3domains", "pile_5groups", "pile_17domains_test", "repetition")


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLIC)
def test_public_tables_have_no_outliers(observations_folder, name):
    table = bimixjax.Observations.read(observations_folder / f"{name}.csv")
    assert not [note for note in bimixjax.fit("bimix", table).notes if "far outside" in note]
