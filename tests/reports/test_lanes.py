"""Measured and predicted losses side by side, row by row."""

import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import FitResult, Observations
from bimixjax.reports.lanes import FittedLosses, short


def test_each_lane_holds_the_fits_predictions_of_the_same_rows(
    three_domains: Observations, three_domain_fit: FitResult
) -> None:
    losses = FittedLosses.of(three_domain_fit, three_domains)
    assert [lane.target for lane in losses.lanes] == ["web", "books", "code"]
    expected = three_domain_fit.predict(three_domains.proportions[5], three_domains.volumes("steps")[5])
    assert [lane.predicted[5] for lane in losses.lanes] == pytest.approx(np.asarray(expected).tolist())
    assert losses.lanes[1].measured[4] == three_domains.losses[4, 1]


def test_rows_of_zero_proportion_and_missing_losses_are_not_usable(
    three_domains: Observations, three_domain_fit: FitResult
) -> None:
    web, books, code = FittedLosses.of(three_domain_fit, three_domains).lanes
    assert [lane.usable.sum() for lane in (web, books, code)] == [42, 41, 36]
    assert not code.usable[three_domains.run == "r6"].any()
    assert len(list(code.curves())) == 6


def test_curves_run_by_volume(three_domains: Observations, three_domain_fit: FitResult) -> None:
    frame = three_domains.to_frame().sample(frac=1, random_state=0)
    web = FittedLosses.of(three_domain_fit, Observations.from_frame(frame)).lanes[0]
    assert all(np.all(np.diff(web.volume[rows]) > 0) for rows in web.curves())


def test_sizes_become_lanes(three_domains: Observations) -> None:
    small, large = (three_domains.to_frame().assign(model_size=size) for size in (70e6, 1e9))
    large["run"] += "-large"
    both = Observations.from_frame(pd.concat([small, large]))
    losses = FittedLosses.of(bimixjax.fit("bimix", both), both)
    assert [(lane.target, lane.model_size) for lane in losses.lanes[::3]] == [("web", 70e6), ("web", 1e9)]
    assert all(len(lane.run) == len(three_domains) for lane in losses.lanes)


def test_a_single_volume_has_no_curves(three_domains: Observations, three_domain_fit: FitResult) -> None:
    last = three_domains.select(volume=(32000, None), unit="steps")
    assert not FittedLosses.of(three_domain_fit, last).has_curves
    assert FittedLosses.of(three_domain_fit, three_domains).has_curves


@pytest.mark.parametrize(
    ("number", "words"), [(70e6, "70M"), (1.3e9, "1.3B"), (999, "999"), (2e12, "2T"), (0.5, "0.5")]
)
def test_short_numbers(number: float, words: str) -> None:
    assert short(number) == words
