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
    assert len(code.curves) == 6


def test_curves_are_smooth_between_the_ends_of_runs(three_domains: Observations, three_domain_fit: FitResult) -> None:
    frame = three_domains.to_frame().sample(frac=1, random_state=0)
    web, books, code = FittedLosses.of(three_domain_fit, Observations.from_frame(frame)).lanes
    assert [len(lane.curves) for lane in (web, books, code)] == [7, 7, 6]
    for curve in (*web.curves, *books.curves, *code.curves):
        assert (curve.volume[0], curve.volume[-1]) == pytest.approx((1000, 32000))
        assert len(curve.volume) == 64
        assert np.diff(np.log(curve.volume)) == pytest.approx(np.log(32) / 63)
        assert np.all(np.diff(curve.loss) < 0)
    first = frame[frame["run"] == frame["run"].iloc[0]].iloc[0]
    mixture = first[["mixture/web", "mixture/books", "mixture/code"]].to_numpy(float)
    expected = three_domain_fit.predict(mixture, web.curves[0].volume[20])
    assert web.curves[0].loss[20] == pytest.approx(float(expected[0]))
    assert web.curves[0].own == pytest.approx(mixture[0])


def test_a_curve_ends_where_its_target_ends(three_domains: Observations, three_domain_fit: FitResult) -> None:
    frame = three_domains.to_frame()
    frame.loc[(frame["run"] == "r0") & (frame["step"] > 8000), "loss/web"] = np.nan
    web, books, _ = FittedLosses.of(three_domain_fit, Observations.from_frame(frame)).lanes
    assert 7000 < web.curves[0].volume[-1] <= 8000
    assert books.curves[0].volume[-1] == pytest.approx(32000)


def test_many_runs_have_fewer_points_each(three_domain_fit: FitResult, three_domains: Observations) -> None:
    frame = three_domains.to_frame()
    many = pd.concat([frame.assign(run=frame["run"] + f"-{i}") for i in range(40)])
    web = FittedLosses.of(three_domain_fit, Observations.from_frame(many)).lanes[0]
    assert {len(curve.volume) for curve in web.curves} == {8192 // 280}


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
