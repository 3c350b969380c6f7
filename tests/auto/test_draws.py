"""Draws of what `auto` leaves open: their moments are those that its intervals state, and each is a whole function."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Auto, AutoFit, Budget, InputError, Observations
from bimixjax.auto import estimate
from bimixjax.auto.averaging import reach
from bimixjax.auto.block import RUN, WHITE
from bimixjax.auto.donor import fit_stacks
from bimixjax.cli import run
from bimixjax.estimation import AutoResampled, load
from bimixjax.optimization import OptimalResamples
from bimixjax.reports.spread import Spread

COUNT, FEW, RUNS = 4000, 20, 6
STEPS = np.array([1000.0, 3000.0, 9000.0])
SHARES = np.linspace(0.1, 0.9, RUNS)
SETTINGS = [Auto(members=("offset",)), Auto(members=("transfer",)), Auto(members=("offset", "power_linear", "joint"))]


def table(runs: int = RUNS, **columns) -> pd.DataFrame:
    """Two domains, one target, 6 runs at 3 volumes."""
    random = np.random.default_rng(1)
    share, step = np.repeat(SHARES[:runs], len(STEPS)), np.tile(STEPS, runs)
    loss = (share + 0.02) ** -0.1 * (2.0 + (step / 9000.0) ** -0.4) * np.exp(0.004 * random.standard_normal(len(step)))
    run = [f"r{share:.2f}" for share in share]
    frame = pd.DataFrame({"run": run, "step": step, "mixture/x": share, "mixture/y": 1 - share, "loss/x": loss})
    return frame.assign(**columns)


def fitted(settings: Auto) -> AutoFit:
    return bimixjax.fit(settings, Observations.from_frame(table()))


@pytest.fixture(scope="module")
def fit() -> AutoFit:
    return fitted(SETTINGS[2])


@pytest.fixture(scope="module")
def draws(fit: AutoFit) -> AutoResampled:
    return bimixjax.sample(fit, key=0, count=COUNT)


@pytest.fixture(scope="module")
def chosen(fit: AutoFit) -> OptimalResamples:
    few = bimixjax.sample(fit, key=1, count=FEW)
    return bimixjax.optimize_resamples(few, budget=Budget(volume=9000.0, unit="steps"))


def stated(fit: AutoFit, r: np.ndarray, volume: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of log losses that the intervals of a fit state, without the noise of runs and rows."""
    mean = np.log(np.asarray(fit.predict(r, volume)))
    lower, upper = (np.log(np.asarray(limit)) for limit in fit.interval(r, volume, level=0.9))
    variance = ((upper - lower) / 2 / reach(0.9)) ** 2
    return mean, variance - fit.sizes[0].spread ** 2 * (WHITE**2 + RUN**2)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings.members))
def test_moments_are_those_that_the_intervals_state(settings: Auto) -> None:
    """At mixtures that were fitted, between them and far from them: the rows' knowledge is in the draws."""
    fit = fitted(settings)
    first = np.array([0.1, 0.3, 0.5, 0.66, 0.98])
    r = np.column_stack([first, 1 - first])
    found = np.log(bimixjax.sample(fit, key=3, count=COUNT).predict(r, 9000.0))
    mean, variance = stated(fit, r, 9000.0)
    np.testing.assert_allclose(found.mean(0), mean, atol=5 * np.sqrt(variance.max() / COUNT))
    np.testing.assert_allclose(found.var(0), variance, rtol=0.1)


def test_a_draw_is_a_function_and_not_noise(draws: AutoResampled) -> None:
    """Near mixtures move together, so that a choice between them is surer than the loss of either."""
    r = np.array([[0.50, 0.50], [0.52, 0.48]])
    found = np.log(draws.predict(r, 9000.0))[..., 0]
    assert np.std(found[:, 0] - found[:, 1]) < 0.2 * np.std(found[:, 0])
    one = draws.resample(7)
    np.testing.assert_allclose(np.asarray(one.predict(r, 9000.0))[:, 0], np.exp(found[7]), rtol=1e-9)


def test_the_limits_of_a_mixture_hold_the_one_chosen(chosen: OptimalResamples) -> None:
    lower, upper = chosen.interval(level=0.9)
    assert (lower <= chosen.best.proportions + 0.02).all()
    assert (chosen.best.proportions - 0.02 <= upper).all()
    assert (chosen.regret >= 0).all()
    assert chosen.converged.mean() > 0.9


def test_a_file_of_the_fit_gives_the_same_draws(fit: AutoFit, tmp_path: Path) -> None:
    fit.save(tmp_path / "fit.json")
    again = load(tmp_path / "fit.json")
    assert isinstance(again, AutoFit)
    first, second = (bimixjax.sample(one, key=9, count=3).predict([0.3, 0.7], 3000.0) for one in (fit, again))
    np.testing.assert_allclose(first, second, rtol=1e-9)


def test_a_draw_is_not_saved_as_a_fit(draws: AutoResampled, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="save the fit itself"):
        draws.resample(0).save(tmp_path / "draw.json")
    assert not (tmp_path / "draw.json").exists()


def test_a_size_that_is_lent_losses_is_drawn_with_them_held() -> None:
    both = pd.concat([table(model_size=1e6), table(runs=3, model_size=1e7).assign(run=lambda t: "large" + t["run"])])
    fit = bimixjax.fit(Auto(members=("offset",)), Observations.from_frame(both))
    assert fit.donors == {1e7: 1e6}
    found = bimixjax.sample(fit, key=0, count=20).predict([[0.2, 0.8], [0.9, 0.1]], 9000.0, 1e7)
    assert found.shape == (20, 2, 1)
    assert (np.std(np.log(found), axis=0) > 1e-4).all()


def test_bad_input_is_refused(fit: AutoFit) -> None:
    with pytest.raises(InputError, match="count is 1; allowed: at least 2"):
        bimixjax.sample(fit, key=0, count=1)
    single = bimixjax.fit("bimix_offset", Observations.from_frame(table()), volume="steps")
    with pytest.raises(InputError, match="only a fit of auto"):
        bimixjax.sample(single, key=0)  # pyright: ignore[reportArgumentType]


def test_the_command_that_fits_auto_draws_from_it(
    fit: AutoFit, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "fit_stacks", lambda cells, _: fit_stacks(cells, SETTINGS[2]))
    observations, line = Observations.from_frame(table()), ["fit", str(tmp_path / "my.csv"), "--draws", str(FEW)]
    observations.write(tmp_path / "my.csv")
    assert run([*line, "--seed", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["spread"]
    wanted = Spread.of(bimixjax.sample(fit, key=1, count=FEW), observations)
    (told,) = found["predictions"]
    assert (found["of"], found["count"]) == ("draws from the posterior of the fit", FEW)
    assert told["relative_standard_deviation"] == pytest.approx(wanted.predictions[0, 0], rel=1e-6)
    assert run(line) == 0
    shown = capsys.readouterr().out
    assert f"Spread over {FEW} draws from the posterior of the fit" in shown
    assert max(map(len, shown.splitlines())) <= 120


def test_the_command_that_optimizes_tells_how_sure_the_mixture_is(
    fit: AutoFit, chosen: OptimalResamples, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit.save(tmp_path / "fit.json")
    line = ["optimize", str(tmp_path / "fit.json"), "--volume", "9000", "--draws", str(FEW), "--seed", "1"]
    assert run([*line, "--json", "--figure", str(tmp_path / "best.png")]) == 0
    document = json.loads(capsys.readouterr().out)
    found, (lower, upper) = document["spread"], chosen.interval(level=0.9)
    assert list(document["mixture"].values()) == pytest.approx(chosen.best.proportions.tolist(), abs=1e-6)
    assert list(found["lower"].values()) == pytest.approx(lower.tolist(), abs=1e-4)
    assert list(found["upper"].values()) == pytest.approx(upper.tolist(), abs=1e-4)
    assert found["expected_regret"] == pytest.approx(chosen.expected_regret, abs=1e-8)
    assert (tmp_path / "best.png").stat().st_size > 1000
    assert run(line) == 0
    shown = capsys.readouterr().out
    assert "90 % of draws" in shown
    assert f"Over {FEW} draws from the posterior of the fit" in shown
