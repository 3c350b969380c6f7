"""Mixtures that need no law: their closed forms against a search, and which are missing, and why."""

import numpy as np
import pandas as pd
import pytest
import scipy.optimize

from bimixjax import Baselines, Budget, InputError, Inventory, Observations, fit
from bimixjax.optimization.baselines import zero_run, zero_run_values


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [5, 1, 0, 2], [1, 1e-3, 0.2, 0], [1, 1e-5, 0, 0], [0, 0, 3, 0]])
def test_the_zero_run_mixture_is_where_a_solver_finds_it(weights):
    w = np.array(weights, float)
    exact = zero_run(w)
    assert exact.sum() == pytest.approx(1, abs=1e-15)
    found = scipy.optimize.minimize(
        lambda r: zero_run_values(r, w / w.sum()),
        np.full(4, 0.25),
        jac=lambda r: -w / w.sum() / (r + 0.001),
        bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda r: r.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert zero_run_values(exact, w / w.sum()) <= found.fun + 1e-12
    # Shares are free where the minimum is flat; the values agree.
    assert zero_run_values(exact, w / w.sum()) == pytest.approx(found.fun, abs=1e-8)


def test_equal_weights_make_it_uniform_over_the_targets():
    assert zero_run([1.0, 0.0, 1.0, 1.0]) == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=1e-15)
    assert zero_run([3.0] * 7) == pytest.approx([1 / 7] * 7, abs=1e-15)


def test_a_weight_that_is_no_weight_is_named():
    with pytest.raises(InputError, match="weight of domain 2 is -1"):
        zero_run([1.0, -1.0])
    with pytest.raises(InputError, match="no domain has a weight"):
        zero_run([0.0, 0.0])


def table() -> Observations:
    """Four runs at two volumes of two sizes; b is best in the law's eyes, c was measured best at the larger size."""
    shares = np.array([0.1, 0.45, 0.7, 0.9])
    rows = [
        {"run": f"{run}-{size:g}", "model_size": size, "step": step, "mixture/x": r, "mixture/y": 1 - r}
        for size in (1e6, 1e7) for step in (100, 200) for run, r in zip("abcd", shares, strict=True)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    for name in "xy":
        frame[f"loss/{name}"] = 2 * (frame[f"mixture/{name}"]) ** -0.25 + 50 / frame["step"]
    frame["loss/task"] = 3 - frame["mixture/x"]
    frame.loc[(frame["model_size"] == 1e7) & frame["run"].str.startswith("c"), "loss/x"] -= 1
    return Observations.from_frame(frame)


def test_the_best_run_is_that_measured_at_the_size_and_volume_asked_for():
    observations = table()
    result = fit("bimix", observations)
    for size, share in ((1e6, 0.45), (1e7, 0.7)):
        budget = Budget(volume=150, unit="steps", model_size=size)
        found = Baselines.of(result, budget=budget, observations=observations)
        assert found.mixtures["best run"] == pytest.approx([share, 1 - share])
        kept = observations.model_size == size
        rows = kept & (observations.step == 100) & np.isclose(observations.proportions[:, 0], share)
        assert found.measured == (pytest.approx(observations.losses[rows][:, :2].mean()), 100)


def test_without_a_table_it_is_the_best_of_those_fitted_by_the_law():
    observations = table().select(model_size=1e6)
    found = Baselines.of(fit("bimix", observations), budget=Budget(volume=200, unit="steps"))
    assert found.mixtures["best run"] == pytest.approx([0.45, 0.55])
    assert found.measured is None
    assert found.notes[-1] == "best run: of the mixtures fitted, that of the least predicted weighted mean"


def test_what_cannot_be_known_is_missing_with_a_reason():
    observations = table().select(model_size=1e6)
    result, budget = fit("additive", observations), Budget(volume=200, unit="steps")
    found = Baselines.of(result, budget=budget, weights={"task": 1.0}, inventory=Inventory({"x": 1e9}))
    assert found.missing == {
        "natural": "the inventory has no number of tokens of y",
        "zero-run": "no target with weight is a domain",
    }
    assert set(found.mixtures) == {"uniform", "best run"}
    assert Baselines.of(result, budget=budget).missing == {"natural": "no inventory is given"}
    counted = Baselines.of(result, budget=budget, inventory=Inventory({"x": 1e9, "y": 3e9}))
    assert counted.mixtures["natural"].tolist() == [0.25, 0.75]
    assert counted.missing == {}


def test_only_targets_that_are_domains_count_in_the_zero_run_mixture():
    observations = table().select(model_size=1e6)
    result, budget = fit("additive", observations), Budget(volume=200, unit="steps")
    found = Baselines.of(result, budget=budget, weights={"task": 5.0, "x": 2.0, "y": 1.0})
    assert found.mixtures["zero-run"] == pytest.approx(zero_run([2.0, 1.0]))


def test_a_table_of_other_domains_is_refused():
    observations = table().select(model_size=1e6)
    frame = observations.to_frame().rename(columns={"mixture/x": "mixture/z"})
    with pytest.raises(InputError, match="unknown domain 'z'"):
        Baselines.of(fit("bimix", observations), budget=Budget(volume=200, unit="steps"),
                  observations=Observations.from_frame(frame))  # fmt: skip
