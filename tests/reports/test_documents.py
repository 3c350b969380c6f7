"""Documents for machines hold every number by name."""

import json

import numpy as np
import pytest

import bimixjax
from bimixjax import Budget, FitResult
from bimixjax._base.records import to_plain
from bimixjax.mixtures import uniform
from bimixjax.optimization import OptimalResamples
from bimixjax.reports import documents
from bimixjax.reports.predictions import Predictions


def test_a_fit_by_lane(three_domain_fit: FitResult) -> None:
    document = json.loads(json.dumps(to_plain(documents.fitted(three_domain_fit)), allow_nan=False))
    code = document["lanes"][2]
    assert (code["target"], code["rows"], code["rows_of_zero_proportion"]) == ("code", 36, 6)
    assert code["status"] == "converged"
    assert code["coefficients"]["alpha"]["value"] == pytest.approx(0.2, abs=0.02)
    assert document["gauge"] == {"A": 1.0}


def test_predictions_by_name(three_domain_fit: FitResult) -> None:
    predicted = Predictions.of(three_domain_fit, {"even": uniform(3)}, Budget(volume=64000))
    (even,) = to_plain(documents.predictions(predicted))
    assert even["run"] == "even"
    assert even["losses"] == pytest.approx(dict(zip(predicted.targets, predicted.losses[0], strict=True)))
    assert even["extrapolated"] == ["web", "books", "code"]


def test_an_optimum_with_its_baselines(three_domain_fit: FitResult) -> None:
    budget = Budget(volume=16000)
    best = bimixjax.optimize(three_domain_fit, budget=budget)
    document = documents.optimum(best, Predictions.of(three_domain_fit, {"uniform": uniform(3)}, budget))
    assert document["mixture"] == pytest.approx(best.as_dict())
    assert document["kkt_residual"] == best.kkt_residual
    assert document["baselines"][0]["run"] == "uniform"
    assert "spread" not in document


def test_an_optimum_with_what_draws_leave_open(three_domain_fit: FitResult) -> None:
    budget = Budget(volume=16000)
    best = bimixjax.optimize(three_domain_fit, budget=budget)
    shares = best.proportions + np.linspace(-0.1, 0.1, 21)[:, None] * [1.0, 0.0, -1.0]
    regret, converged = np.linspace(0, 0.02, 21), np.ones(21, bool)
    draws = OptimalResamples(best=best, proportions=shares, regret=regret, converged=converged)
    document = documents.optimum(best, Predictions.of(three_domain_fit, {"uniform": uniform(3)}, budget), draws)
    found, chosen = to_plain(document)["spread"], best.as_dict()
    assert (found["count"], found["converged"], found["level"]) == (21, 21, 0.9)
    assert found["lower"] == pytest.approx({**chosen, "web": chosen["web"] - 0.09, "code": chosen["code"] - 0.09})
    assert found["upper"] == pytest.approx({**chosen, "web": chosen["web"] + 0.09, "code": chosen["code"] + 0.09})
    assert (found["expected_regret"], found["regret_limit"]) == pytest.approx((0.01, 0.018))
