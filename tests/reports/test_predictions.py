"""Predictions hold what the fit says, by name."""

import numpy as np
import pytest

from bimixjax import Budget, FitResult
from bimixjax.reports.predictions import Predictions


@pytest.fixture
def predicted(three_domain_fit: FitResult) -> Predictions:
    mixtures = {"even": np.full(3, 1 / 3), "odd": np.array([0.98, 0.01, 0.01])}
    return Predictions.of(three_domain_fit, mixtures, Budget(volume=16000))


def test_losses_and_flags_are_the_fits(predicted: Predictions, three_domain_fit: FitResult) -> None:
    odd = three_domain_fit.predict(predicted.mixtures["odd"], 16000)
    assert predicted.losses[1] == pytest.approx(np.asarray(odd))
    assert predicted.extrapolated.tolist() == [[False] * 3, [True] * 3]
    assert predicted.budgets == (Budget(volume=16000, unit="steps"),) * 2


def test_the_frame_has_one_row_per_mixture(predicted: Predictions) -> None:
    frame = predicted.to_frame()
    assert frame["run"].tolist() == ["even", "odd"]
    assert frame["mixture/web"].tolist() == pytest.approx([1 / 3, 0.98])
    assert frame["predicted/code"].tolist() == pytest.approx(predicted.losses[:, 2].tolist())
    assert frame["extrapolated/code"].tolist() == [False, True]
