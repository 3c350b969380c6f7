"""What a fit minimizes, against scipy: relative and absolute residuals, Huber's criterion, and weights of runs.

scipy's `least_squares(loss="huber", f_scale=d)` minimizes half the sum of d^2 rho((f / d)^2), where rho(z) is z up to 1
and 2 sqrt(z) - 1 beyond. That is f^2 up to |f| = d and d (2 |f| - d) beyond: twice its cost is our cost.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

from bimixjax import FitResult, InputError, Observations, fit
from bimixjax.fitting import Criterion, lanes

STEPS = np.array([1000, 3000, 9000, 27000])
RUNS = 10
CRITERIA = {
    "relative": Criterion(),
    "absolute": Criterion(residual="absolute"),
    "relative, Huber": Criterion(huber=0.01),
    "absolute, Huber": Criterion(residual="absolute", huber=0.01),
}


def table() -> pd.DataFrame:
    """Losses of x with noise and a few outliers, in 10 runs of 4 volumes; the last run repeats the first."""
    random = np.random.default_rng(3)
    share = np.append(random.uniform(0.05, 0.8, RUNS - 1), 0.0)
    share[-1] = share[0]
    frame = pd.DataFrame({"run": np.repeat([f"r{k}" for k in range(RUNS)], 4), "step": np.tile(STEPS, RUNS)})
    frame["mixture/x"] = np.repeat(share, 4)
    frame["mixture/y"] = 1 - frame["mixture/x"]
    noise = np.exp(0.004 * random.standard_normal(len(frame)))
    noise[[5, 14, 27]] = 1.15, 0.9, 1.2
    noise[-4:] = noise[:4]
    return frame.assign(**{"loss/x": frame["mixture/x"] ** -0.15 * (30 * frame["step"] ** -0.5 + 2) * noise})


def fitted(frame: pd.DataFrame, **options) -> FitResult:
    return fit("bimix", Observations.from_frame(frame), targets=["x"], priors=False, **options)


def oracle(frame: pd.DataFrame, criterion: Criterion, weights: Any = 1.0) -> tuple[float, np.ndarray]:
    """The criterion and (B, C, alpha, beta) at the lowest of scipy's ends; Huber's takes whole weights, as copies."""
    r, s, y = (frame[name].to_numpy() for name in ("mixture/x", "step", "loss/x"))
    mean = np.average(y, weights=np.broadcast_to(weights, y.shape))
    scale = y if criterion.residual == "relative" else np.full_like(y, mean)
    root, copies = np.sqrt(np.broadcast_to(weights, y.shape)), np.ones(len(y), int)
    if criterion.huber is not None:
        root, copies = np.ones(len(y)), np.broadcast_to(weights, y.shape).astype(int)

    def residuals(c):
        return np.repeat(root * (r ** -c[2] * (c[0] * (s / STEPS.max()) ** -c[3] + c[1]) - y) / scale, copies)

    ends = [
        least_squares(
            residuals,
            start,
            bounds=(0, np.inf),
            x_scale="jac",
            loss="linear" if criterion.huber is None else "huber",
            f_scale=criterion.huber or 1.0,
            xtol=1e-15,
            ftol=1e-15,
            gtol=1e-13,
            max_nfev=3000,
        )
        for start in ([0.2, 2.0, 0.15, 0.5], [1.0, 1.0, 0.05, 0.3])
    ]
    best = min(ends, key=lambda end: end.cost)
    return 2 * best.cost, best.x * [STEPS.max() ** best.x[3], 1, 1, 1]


def check(result: FitResult, expected: tuple[float, np.ndarray], tolerance=1e-5) -> None:
    cost, values = expected
    assert float(result.cost[0]) == pytest.approx(cost, rel=1e-8)
    np.testing.assert_allclose(result.values[0], values, rtol=tolerance)
    assert result.sentences == ("converged",)


@pytest.mark.parametrize("name", CRITERIA)
def test_the_minimum_is_that_of_scipy(name):
    frame, criterion = table(), CRITERIA[name]
    check(fitted(frame, criterion=criterion), oracle(frame, criterion), tolerance=1e-4)


def test_the_criteria_differ_so_that_these_tests_can_fail():
    frame = table()
    costs = [fitted(frame, criterion=criterion).cost[0] for criterion in CRITERIA.values()]
    assert len(np.unique(np.round(costs, 5))) == len(costs)
    alone = {name: fitted(frame, criterion=c).coefficients["alpha"][0] for name, c in CRITERIA.items()}
    assert abs(alone["relative, Huber"] - 0.15) < abs(alone["relative"] - 0.15)


def test_rows_of_no_grid_are_minimized_as_well(monkeypatch):
    monkeypatch.setattr(lanes, "_GRID_WASTE", 0.0)
    frame, criterion = table(), CRITERIA["absolute, Huber"]
    check(fitted(frame, criterion=criterion), oracle(frame, criterion), tolerance=1e-4)


def test_huber_counts_squares_up_to_the_threshold_and_sizes_beyond():
    residual = jnp.array([-0.5, -0.01, 0.0, 0.004, 3.0])
    np.testing.assert_allclose(
        Criterion(huber=0.01).value(residual), [0.01 * 0.99, 1e-4, 0.0, 1.6e-5, 0.01 * 5.99], rtol=1e-6
    )


@pytest.mark.parametrize("name", CRITERIA)
def test_a_weight_of_two_is_a_second_copy_of_the_run(name):
    # r9 repeats r0: both, or r0 twice.
    both = fitted(table(), criterion=CRITERIA[name])
    twice = fitted(table(), criterion=CRITERIA[name], weights={"r0": 2.0, "r9": 0.0})
    assert float(twice.cost[0]) == pytest.approx(float(both.cost[0]), rel=1e-9)
    np.testing.assert_allclose(twice.values, both.values, rtol=1e-6)
    assert (both.rows.tolist(), twice.rows.tolist()) == ([40], [36])


@pytest.mark.parametrize("name", CRITERIA)
def test_a_weight_of_zero_leaves_a_run_out(name):
    frame = table()
    without = fitted(frame.query("run != 'r2'"), criterion=CRITERIA[name])
    weighted = fitted(frame, criterion=CRITERIA[name], weights={"r2": 0})
    np.testing.assert_allclose(weighted.values, without.values, rtol=1e-7)
    np.testing.assert_allclose(weighted.cost, without.cost, rtol=1e-10)
    for field in ("rows", "error", "r2", "residual_scale", "condition", "covariance"):
        np.testing.assert_allclose(getattr(weighted, field), getattr(without, field), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("name", ["relative", "absolute", "relative, Huber"])
def test_weights_of_runs_are_those_of_scipy(name):
    frame, criterion = table(), CRITERIA[name]
    weights = {f"r{k}": w for k, w in enumerate([1.0, 3.0, 1.0, 2.0, 1.0, 5.0, 1.0, 1.0, 4.0, 1.0])}
    if criterion.huber is None:
        weights = {run: w / 3 for run, w in weights.items()}
    given = {run: w for run, w in weights.items() if w != 1.0}
    each = np.array([weights[run] for run in frame["run"]])
    check(fitted(frame, criterion=criterion, weights=given), oracle(frame, criterion, each), 1e-4)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ({"r77": 1.0}, "unknown run 'r77'"),
        ({"r1": -1.0}, "weight of run 'r1'"),
        ({"r1": float("nan")}, "weight of run 'r1'"),
        ({"r1": float("inf")}, "weight of run 'r1'"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights, words):
    with pytest.raises(InputError, match=words):
        fitted(table(), weights=weights)


def test_runs_that_all_weigh_nothing_are_no_observation():
    result = fitted(table(), weights={f"r{k}": 0.0 for k in range(RUNS)})
    assert result.sentences == ("no usable observation",)
    assert np.isnan(result.values).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"residual": "logarithmic"}, "residual is 'logarithmic'; allowed: relative, absolute"),
        ({"huber": 0.0}, "huber"),
        ({"huber": -0.1}, "huber"),
        ({"huber": float("nan")}, "huber"),
        ({"huber": float("inf")}, "huber"),
    ],
)
def test_criteria_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        Criterion(**settings)
