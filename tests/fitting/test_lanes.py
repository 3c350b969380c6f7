"""Tables laid out in lanes: padding changes no result, and lets tables of nearly one length share a compiled fit."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest

from bimixjax import LAWS, Observations, fit
from bimixjax.fitting import lanes as _lanes
from bimixjax.fitting.lanes import Lanes, Table
from bimixjax.solve import VarPro


def table(volumes: int, **extra: float) -> pd.DataFrame:
    """Losses of x and y in 3 runs at so many volumes, with noise."""
    step = 1000 * np.arange(1, volumes + 1)
    frame = pd.DataFrame({"run": np.repeat(["a", "b", "c"], volumes), "step": np.tile(step, 3)})
    frame["mixture/x"] = np.repeat([0.2, 0.5, 0.7], volumes)
    frame["mixture/y"] = 1 - frame["mixture/x"]
    noise = np.random.default_rng(volumes)
    for domain in "xy":
        loss = frame[f"mixture/{domain}"] ** -0.1 * (30 * frame["step"] ** -0.5 + 2)
        frame[f"loss/{domain}"] = loss * np.exp(0.002 * noise.standard_normal(len(loss)))
    return frame.assign(**extra)


def observe(frame: pd.DataFrame) -> Observations:
    return Observations.from_frame(frame)


def lay_out(frame: pd.DataFrame) -> Lanes:
    laid_out = Table.of(LAWS["bimix"], observe(frame), "steps", ("x", "y"))
    return laid_out.lanes(laid_out.groups())


@pytest.mark.parametrize(("volumes", "length"), [(1, 1), (5, 5), (8, 8), (9, 10), (11, 12), (17, 20)])
def test_runs_at_the_same_volumes_are_a_grid(volumes, length):
    lanes = lay_out(table(volumes))
    assert lanes.mixture.shape == (2, 3, 1, 1)
    assert lanes.volume.shape == (1, length, 1)
    assert lanes.loss.shape == (3, length, 2)
    assert lanes.weight.sum((0, 1)).tolist() == [3 * volumes, 3 * volumes]
    assert (lanes.weight[:, volumes:] == 0).all()


def test_runs_at_volumes_of_their_own_are_runs_of_rows():
    frame = table(6)
    frame["step"] += np.arange(len(frame))
    lanes = lay_out(frame)
    assert lanes.mixture.shape == (2, 3, 1, 1)
    assert lanes.volume.shape == lanes.row.shape == (3, 6, 1)
    assert lanes.row[..., 0].tolist() == np.arange(18).reshape(3, 6).tolist()
    np.testing.assert_array_equal(lanes.volume.ravel(), frame["step"] / frame["step"].max())


def test_runs_of_very_different_lengths_are_rows():
    frame = table(12)
    frame["step"] += np.arange(len(frame))
    frame = frame.drop(index=[*range(1, 12), *range(13, 24)]).reset_index(drop=True)
    lanes = lay_out(frame)
    assert lanes.mixture.shape == (2, 14, 1, 1)
    assert lanes.volume.shape == lanes.row.shape == (14, 1, 1)
    assert lanes.row[:, 0, 0].tolist() == [*range(14)]


def test_a_grid_may_have_holes():
    frame = table(6).drop(index=[2, 11, 16]).reset_index(drop=True)
    lanes = lay_out(frame)
    assert lanes.loss.shape == (3, 6, 2)
    assert np.argwhere(lanes.row[..., 0] < 0).tolist() == [[0, 2], [1, 5], [2, 4]]
    np.testing.assert_array_equal(lanes.weight[..., 0] > 0, lanes.row[..., 0] >= 0)


@pytest.mark.parametrize("law", ["bimix", "bimix_transfer", "additive", "exponential_volume"])
def test_a_grid_is_fitted_as_rows_are(law, monkeypatch):
    observed = observe(table(6).drop(index=[2, 11]).reset_index(drop=True))
    grid = fit(law, observed, targets=("x", "y"))
    monkeypatch.setattr(_lanes, "_GRID_WASTE", 0.0)
    rows = fit(law, observed, targets=("x", "y"))
    np.testing.assert_allclose(grid.cost, rows.cost, rtol=1e-7)
    np.testing.assert_allclose(grid.predict([0.4, 0.6], 4000), rows.predict([0.4, 0.6], 4000), rtol=1e-6)


def test_each_size_is_padded_on_its_own():
    frame = pd.concat([table(4, model_size=1e6), table(7, model_size=1e7).assign(run=lambda t: "large-" + t["run"])])
    lanes = lay_out(frame)
    assert lanes.loss.shape == (3, 7, 4)
    assert lanes.group.tolist() == [0, 0, 1, 1]
    assert lanes.weight.sum((0, 1)).tolist() == [12, 12, 21, 21]


def test_padding_is_finite_where_the_law_divides():
    frame = table(2)
    frame.loc[frame["run"] == "a", ["mixture/x", "mixture/y"]] = [0.0, 1.0]
    lanes = lay_out(frame)
    assert lanes.weight.sum((0, 1)).tolist() == [4, 6]
    for field in dataclasses.fields(lanes):
        assert field.name == "unique" or np.isfinite(getattr(lanes, field.name)).all()
    assert lanes.unique is None
    assert (lanes.own > 0).all()
    assert (lanes.loss > 0).all()


def test_padding_changes_no_result(monkeypatch):
    padded = fit("bimix", observe(table(9)), priors=False)
    monkeypatch.setattr(_lanes, "padded_length", lambda rows: rows)
    assert lay_out(table(9)).loss.shape == (3, 9, 2)
    exact = fit("bimix", observe(table(9)), priors=False)
    assert exact.sentences == padded.sentences
    for field in ("values", "covariance", "cost", "error", "r2", "rows", "volume_range", "proportion_range"):
        np.testing.assert_allclose(getattr(exact, field), getattr(padded, field), rtol=1e-6)


def compilations(frame: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> int:
    """How often a fit with settings that no other test uses is compiled."""
    caplog.clear()
    with jax.log_compiles():
        fit("bimix", observe(frame), priors=False, solver=VarPro(starts=1, max_steps=17))
    return sum("XLA compilation of jit(solve_lanes)" in record.getMessage() for record in caplog.records)


def test_tables_of_nearly_one_length_share_a_compiled_fit(caplog):
    assert [compilations(table(volumes), caplog) for volumes in (9, 10, 11)] == [1, 0, 1]
