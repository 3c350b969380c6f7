"""Predictions hold what the fit says, by name."""

import numpy as np
import pytest

import bimixjax
from bimixjax import Budget, FitResult, Observations
from bimixjax.reports.predictions import Asked, Predictions


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


def test_no_limits_are_stated_of_what_priors_alone_say(three_domains: Observations) -> None:
    fit = bimixjax.fit(bimixjax.Auto(members=("offset",)), three_domains.select(runs=("r0",)), targets=("web",))
    mixtures = {"the run's": three_domains.select(runs=("r0",)).proportions[0], "another": np.array([0.8, 0.1, 0.1])}
    asked = Asked.of(mixtures, Budget(volume=16000, from_prior=True))
    found = Predictions.judged(fit, asked, intervals=True)
    assert found.from_prior[:, 0].tolist() == [False, True]
    assert np.isfinite(found.losses).all()
    for ends in (found.lower, found.upper):
        assert np.isfinite(ends[:, 0]).tolist() == [True, False]
