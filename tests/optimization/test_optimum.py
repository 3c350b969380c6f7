"""Searches over mixtures through a fit: objectives, weights, limits, certificates, derivatives, files."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from bimixjax import Budget, InputError, Limits, Observations, OptimalMixture, fit, objective, optimize

DOMAINS = tuple(f"d{i:02}" for i in range(6))


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Losses without noise of six domains, and of a target that is none of them."""
    rng = np.random.default_rng(0)
    mixtures = rng.dirichlet(np.ones(len(DOMAINS)), 5)
    rows = pd.DataFrame(
        [{"run": f"r{k}", "step": s, **{f"mixture/{d}": r[i] for i, d in enumerate(DOMAINS)}}
         for k, r in enumerate(mixtures) for s in (1000, 3000, 9000)]
    )  # fmt: skip
    for d in DOMAINS:
        B, C, alpha, beta = rng.uniform([10, 1, 0.02, 0.3], [60, 3, 0.3, 0.7])
        rows[f"loss/{d}"] = rows[f"mixture/{d}"] ** -alpha * (B * rows["step"] ** -beta + C)
    return rows


@pytest.fixture(scope="module")
def result(frame):
    """BiMix on these losses."""
    return fit("bimix", Observations.from_frame(frame), priors=False)


AT = Budget(volume=20_000, unit="steps")


@pytest.mark.parametrize("limits", [None, Limits(lower={"d00": 0.3}, upper={"d01": 0.05, "d02": 0.08})])
@pytest.mark.parametrize("weights", [None, {"d00": 1, "d03": 3, "d04": 0.5}])
def test_both_methods_agree_and_are_certified(result, limits, weights):
    at = {"budget": AT, "limits": limits, "weights": weights}
    exact, searched = (optimize(result, **at, method=method) for method in ("dual", "softmax"))
    assert searched.objective == pytest.approx(exact.objective, rel=1e-8)
    assert (exact.method, searched.method) == ("dual", "softmax")
    assert exact.kkt_residual < 1e-10
    assert searched.kkt_residual < 1e-3
    assert exact.proportions.sum() == pytest.approx(1, abs=1e-14)
    lower, upper = (limits or Limits()).arrays(DOMAINS)
    for found in (exact, searched):
        assert np.all(found.proportions >= lower - 1e-12)
        assert np.all(found.proportions <= upper + 1e-12)


def test_nothing_near_is_better(result):
    best = optimize(result, budget=AT)
    goal = objective(result, budget=AT)
    rng = np.random.default_rng(1)
    for near in rng.dirichlet(500 * best.proportions, 20):
        assert float(goal(near)) > best.objective


def test_a_domain_without_weight_is_idle_and_named(result):
    best = optimize(result, budget=AT, weights={"d00": 1, "d01": 1}, limits=Limits(lower={"d05": 0.1}))
    assert best.idle == DOMAINS[2:]
    assert best.as_dict()["d05"] == pytest.approx(0.1)
    assert best.as_dict()["d02"] == 0.0
    assert set(best.at_lower) == set(DOMAINS[2:])
    assert best.weights.tolist() == [0.5, 0.5, 0, 0, 0, 0]


def test_weights_by_name_and_in_order_are_the_same(result):
    by_name = optimize(result, budget=AT, weights={"d00": 2.0, "d04": 1.0})
    in_order = optimize(result, budget=AT, weights=[2.0, 0, 0, 0, 1.0, 0])
    np.testing.assert_equal(vars(in_order), vars(by_name))


def test_large_weights_count_as_small_ones_do(result):
    small, large = (optimize(result, budget=AT, weights={"d00": 2 * w, "d04": w}) for w in (1.0, 8e307))
    np.testing.assert_allclose(large.proportions, small.proportions)
    assert large.idle == small.idle


def test_the_own_domain_of_a_target_is_not_idle_where_the_others_are_measured_by_it():
    names, mixtures = ("x", "y", "z"), np.random.default_rng(0).dirichlet(np.ones(3), 12)
    losses = 1 + 0.5 * np.exp(mixtures @ np.array([[0.0, 1.0, 2.0], [1.5, 0.0, 1.0], [0.5, 1.0, 0.0]]).T)
    table = {"run": [f"r{k}" for k in range(12)]}
    table |= {f"mixture/{d}": mixtures[:, i] for i, d in enumerate(names)}
    table |= {f"loss/{d}": losses[:, i] for i, d in enumerate(names)}
    exponential = fit("exponential", Observations.from_frame(pd.DataFrame(table)), priors=False)
    best = optimize(exponential, weights={"y": 1.0})
    assert best.as_dict()["y"] == pytest.approx(1, abs=1e-6)
    assert best.idle == ()


def test_the_losses_are_those_predicted(result):
    best = optimize(result, budget=AT)
    np.testing.assert_allclose(best.losses, result.predict(best.proportions, 20_000))
    assert best.objective == pytest.approx(best.losses.mean())
    assert set(best.extrapolated) == set(DOMAINS)


@pytest.mark.parametrize("x64", [False, True])
def test_derivatives_of_the_objective(result, x64):
    goal = objective(result, budget=AT)
    start = np.full(len(DOMAINS), 1 / len(DOMAINS))
    with jax.enable_x64(True):
        steps = 1e-6 * np.eye(len(DOMAINS))
        differences = [(float(goal(start + e)) - float(goal(start - e))) / 2e-6 for e in steps]
    with jax.enable_x64(x64):
        r = jnp.asarray(start, jnp.float64 if x64 else jnp.float32)
        grad = jax.grad(goal)(r)
        assert grad.dtype == r.dtype
        np.testing.assert_allclose(grad, differences, rtol=1e-6 if x64 else 1e-5)
        np.testing.assert_allclose(jax.jit(jax.grad(goal))(r), grad, rtol=1e-6)
        np.testing.assert_allclose(jax.vmap(jax.grad(goal))(jnp.stack([r, r]))[1], grad, rtol=1e-6)


@pytest.mark.parametrize("x64", [False, True])
def test_derivatives_of_the_optimized_objective(result, x64):
    goal = objective(result, budget=AT)
    lower, upper = np.zeros(len(DOMAINS)), np.full(len(DOMAINS), 0.3)

    def best_value(volume):
        moved = goal.at_volume(volume)
        return moved(moved.optimal_proportions(lower, upper))

    with jax.enable_x64(True):
        difference = (float(best_value(20_010.0)) - float(best_value(19_990.0))) / 20
    with jax.enable_x64(x64):
        volume = jnp.asarray(20_000.0)
        tolerance = 1e-6 if x64 else 1e-4
        assert float(jax.grad(best_value)(volume)) == pytest.approx(difference, rel=tolerance)
        assert float(jax.jit(jax.grad(best_value))(volume)) == pytest.approx(difference, rel=tolerance)
        slopes = jax.vmap(jax.grad(best_value))(jnp.stack([volume, 2 * volume]))
        assert float(slopes[0]) == pytest.approx(difference, rel=tolerance)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"limits": Limits(lower={"d00": 0.6, "d01": 0.6})}, "lower d00=0.6, lower d01=0.6 conflict"),
        ({"limits": Limits(lower={"x": 0.6})}, "unknown domain 'x' in limits"),
        ({"weights": {"x": 1.0}}, "unknown target 'x' in weights"),
        ({"weights": {"d00": -1.0}}, "weight of 'd00' is -1.0"),
        ({"weights": [1.0, 2.0]}, r"weights have shape \(2,\); allowed: \[6\]"),
        ({"weights": {"d00": 0.0}}, "all weights are 0"),
        ({"budget": Budget(volume=1e9, unit="tokens")}, "the budget is in tokens; the fit's volume is in steps"),
        ({"budget": Budget()}, "say which with volume"),
        ({"method": "magic"}, "method is 'magic'"),
    ],
)
def test_bad_requests_are_refused(result, arguments, words):
    with pytest.raises(InputError, match=words):
        optimize(result, **{"budget": AT, **arguments})


def test_a_target_without_a_fit_needs_weight_zero(frame):
    frame = frame.assign(**{"loss/d00": np.nan})
    result = fit("bimix", Observations.from_frame(frame), priors=False)
    with pytest.raises(InputError, match="no usable observation of d00"):
        optimize(result, budget=AT)
    best = optimize(result, budget=AT, weights=dict.fromkeys(DOMAINS[1:], 1.0))
    assert best.idle == ("d00",)


def test_a_round_trip_through_a_file(result, tmp_path):
    best = optimize(result, budget=AT, limits=Limits(upper={"d01": 0.05}))
    best.save(tmp_path / "mixture.json")
    again = OptimalMixture.load(tmp_path / "mixture.json")
    np.testing.assert_equal(vars(again), vars(best))
