"""Objectives over targets against closed forms, bisection and sampling: worst target, guardrails, risk, averages."""

import numpy as np
import pandas as pd
import pytest
import scipy.optimize

import bimixjax
from bimixjax import Budget, InputError, Limits, Observations, fit, optimize
from bimixjax.auto.averaging import reach
from bimixjax.optimization import Excess, Guarded, NearOptimal, RiskAverse, WeightedMean, WorstTarget

DOMAINS = ("a", "b", "c", "d")
AT = Budget(volume=9000, unit="steps")
B, C, ALPHA, BETA = np.random.default_rng(3).uniform([[20], [1], [0.05], [0.4]], [[60], [3], [0.3], [0.6]], (4, 4))


def scale(volume: float) -> np.ndarray:
    """What each loss is at a share of 1."""
    return B * volume**-BETA + C


def losses(r: np.ndarray, volume: float = 9000) -> np.ndarray:
    return scale(volume) * np.asarray(r) ** -ALPHA


@pytest.fixture(scope="module")
def result():
    """BiMix on losses without noise of four domains."""
    mixtures = np.random.default_rng(0).dirichlet(np.ones(4), 6)
    rows = [
        {"run": f"r{k}", "step": s, **{f"mixture/{d}": r[i] for i, d in enumerate(DOMAINS)},
         **{f"loss/{d}": losses(r, s)[i] for i, d in enumerate(DOMAINS)}}
        for k, r in enumerate(mixtures) for s in (1000, 3000, 9000)
    ]  # fmt: skip
    return fit("bimix", Observations.from_frame(pd.DataFrame(rows)), priors=False)


def shares_at(heights: np.ndarray, volume: float = 9000) -> np.ndarray:
    """The shares at which losses have these heights."""
    return (scale(volume) / heights) ** (1 / ALPHA)


def least_worst(weights: np.ndarray, shifts: np.ndarray) -> float:
    """The t at which all w (L - c) are t and shares sum to 1: the best worst loss, for each loss needs its share."""

    def over(t: float) -> float:
        return shares_at(t / weights + shifts).sum() - 1

    low = max(weights * (scale(9000) - shifts)) + 1e-9
    return float(scipy.optimize.root_scalar(over, bracket=(low, 1e3), xtol=1e-14, rtol=1e-15).root)


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [1, 2, 1.5, 1]])
def test_the_worst_target_is_as_good_as_it_can_be(result, weights):
    best = optimize(result, budget=AT, weights=weights, objective=WorstTarget())
    w = np.array(weights) / max(weights)
    exact = least_worst(w, np.zeros(4))
    assert best.value == pytest.approx(exact, rel=1e-8)
    assert best.proportions == pytest.approx(shares_at(exact / w), abs=1e-6)
    assert best.active == DOMAINS
    assert best.converged
    assert best.gap < 1e-6
    assert best.convex
    assert best.goal == "worst weighted loss"
    assert best.objective == pytest.approx(losses(best.proportions) @ (w / w.sum()))


def test_the_worst_excess_over_a_reference(result):
    reference = {"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1}
    best = optimize(result, budget=AT, objective=Excess(reference))
    # No mixture is better than the reference in every loss of own shares: the least worst excess is 0, there.
    assert best.value == pytest.approx(0, abs=1e-8)
    assert best.proportions == pytest.approx(list(reference.values()), abs=1e-6)
    weighted = optimize(result, budget=AT, objective=Excess(reference), limits=Limits(lower={"d": 0.2}))
    worst = losses(weighted.proportions) - losses(np.array(list(reference.values())))
    assert weighted.value == pytest.approx(worst.max())
    assert weighted.as_dict()["d"] == pytest.approx(0.2)
    assert set(weighted.active) == {"a", "b", "c"}


def test_guardrails_are_kept_and_bind_where_they_must(result):
    free = optimize(result, budget=AT)
    reference = np.array([0.1, 0.2, 0.3, 0.4])
    allowed = {"d": 0.01}
    assert losses(free.proportions)[3] > losses(reference)[3] + 0.01
    best = optimize(result, budget=AT, objective=Guarded(allowed=allowed, reference=reference))
    # The guarded loss needs its share; of the rest, each has the same slope: a c r^-(1 + a) is one price.
    last = float(shares_at(losses(reference) + 0.01)[3])
    weight, power = (ALPHA * scale(9000))[:3], 1 / (1 + ALPHA[:3])
    price = scipy.optimize.brentq(lambda p: ((weight / p) ** power).sum() - (1 - last), 1e-6, 1e6, xtol=1e-14)
    exact = np.append((weight / price) ** power, last)
    assert losses(best.proportions)[3] <= losses(reference)[3] + 0.01 + 1e-9
    assert best.value == pytest.approx(best.objective)
    assert best.objective == pytest.approx(losses(exact).mean(), abs=1e-9)
    assert best.proportions == pytest.approx(exact, abs=1e-6)
    assert best.active == ("d",)
    assert best.converged
    assert best.gap < 1e-6
    loose = optimize(result, budget=AT, objective=Guarded(allowed={"d": 5.0}, reference=reference))
    assert loose.objective == pytest.approx(free.objective, abs=1e-9)
    assert loose.active == ()


def test_guardrails_that_no_mixture_keeps_to_are_refused(result):
    goal = Guarded(allowed=dict.fromkeys(DOMAINS, 0.0), reference={"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25})
    kept = optimize(result, budget=AT, objective=goal)
    assert kept.proportions == pytest.approx([0.25] * 4, abs=1e-6)
    with pytest.raises(InputError, match="no mixture that was found keeps to the guardrails; the nearest breaks"):
        optimize(result, budget=AT, objective=goal, limits=Limits(fixed={"a": 0.4}))


def test_guardrails_and_the_worst_target_are_put_together(result):
    reference = np.array([0.1, 0.2, 0.3, 0.4])
    best = optimize(result, budget=AT, objective=Guarded(WorstTarget(), allowed={"a": 0.0}, reference=reference))
    assert losses(best.proportions)[0] <= losses(reference)[0] + 1e-9
    free = optimize(result, budget=AT, objective=WorstTarget())
    assert best.value is not None
    assert free.value is not None
    assert best.value >= free.value - 1e-9


def test_several_budgets_count_in_their_mean(result):
    budgets = [Budget(volume=s, unit="steps") for s in (1000, 9000)]
    best = optimize(result, budget=budgets)
    found = scipy.optimize.minimize(
        lambda z: np.mean([losses(np.exp(z) / np.exp(z).sum(), s).mean() for s in (1000, 9000)]),
        np.zeros(4),
        options={"gtol": 1e-10},
    )
    assert best.value == pytest.approx(found.fun, abs=1e-9)
    assert best.budget.volume == 1000
    assert best.goal == "weighted mean of 2 budgets"
    one = optimize(result, budget=budgets[:1])
    assert one.value is None
    twice = optimize(result, budget=budgets[:1] * 2)
    assert twice.proportions == pytest.approx(one.proportions, abs=1e-6)


def test_limits_hold_for_every_objective(result):
    near = ({"a": 0.4, "b": 0.2, "c": 0.2, "d": 0.2}, 0.05)
    limits = Limits(lower={"a": 0.3}, groups={"g": (("b", "c"), 0.0, 0.3)}, near=near)
    region = limits.region(DOMAINS)
    for goal in (WorstTarget(), Guarded(allowed={"b": 0.2}), NearOptimal(0.01)):
        best = optimize(result, budget=AT, limits=limits, objective=goal)
        assert region.violation(best.proportions) < 1e-9
    worst = optimize(result, budget=AT, limits=limits, objective=WorstTarget())
    drawn = region.nearest(np.random.default_rng(0).dirichlet(np.ones(4), 4000))
    assert worst.value <= losses(drawn).max(1).min() + 1e-9
    assert worst.gap < 1e-5


def test_the_near_optimal_average_is_the_middle_of_the_set(result):
    free = optimize(result, budget=AT)
    tolerance = 0.002
    best = optimize(result, budget=AT, objective=NearOptimal(tolerance))
    # The set by rejection, from mixtures about the best one.
    draw = np.random.default_rng(0)
    tried = free.proportions + draw.uniform(-0.3, 0.3, (400_000, 4))
    tried[:, 3] = 1 - tried[:, :3].sum(1)
    tried = tried[(tried > 0).all(1)]
    inside = tried[losses(tried).mean(1) <= free.objective * (1 + tolerance)]
    assert len(inside) > 1000
    assert best.proportions == pytest.approx(inside.mean(0), abs=0.15 * inside.std(0).max())
    assert free.objective < best.objective <= free.objective * (1 + tolerance)
    again = optimize(result, budget=AT, objective=NearOptimal(tolerance))
    assert again.proportions.tolist() == best.proportions.tolist()


def test_the_average_leaves_a_limit_where_the_best_stands(result):
    limits = Limits(upper={"a": 0.1})
    assert optimize(result, budget=AT, limits=limits).as_dict()["a"] == pytest.approx(0.1)
    average = optimize(result, budget=AT, limits=limits, objective=NearOptimal(0.002))
    assert 0.03 < average.as_dict()["a"] < 0.099


def small() -> Observations:
    """Six runs of two domains, with noise."""
    share = np.array([0.1, 0.25, 0.4, 0.55, 0.7, 0.9])
    table = {"run": list("abcdef"), "mixture/x": share, "mixture/y": 1 - share}
    noise = 0.02 * np.random.default_rng(0).standard_normal((2, 6))
    table |= {"loss/x": 2 * share**-0.2 + noise[0], "loss/y": 2 * (1 - share) ** -0.3 + noise[1]}
    return Observations.from_frame(pd.DataFrame(table))


def test_risk_of_draws_is_their_mean_and_deviation():
    draws = bimixjax.bootstrap("bimix", small(), key=0, count=20)
    best = optimize(draws.fit, objective=RiskAverse(2.0, draws=draws))
    grid = np.linspace(0.02, 0.98, 3001)
    each = draws.predict(np.column_stack([grid, 1 - grid])).mean(-1)
    risk = each.mean(0) + 2 * each.std(0, ddof=1)
    assert best.value == pytest.approx(risk.min(), abs=1e-7)
    assert best.proportions[0] == pytest.approx(grid[risk.argmin()], abs=1e-3)
    assert best.goal == "weighted mean + 2 standard deviations"


def test_risk_of_auto_is_what_its_limits_state():
    result = fit(bimixjax.Auto(members=("offset",)), small())
    best, mean = optimize(result, objective=RiskAverse(3.0)), optimize(result)
    grid = np.linspace(0.005, 0.995, 400)
    mixtures = np.column_stack([grid, 1 - grid])
    lower, upper = (np.log(np.asarray(end)) for end in result.mean_interval(mixtures, level=0.5))
    risk = np.exp((lower + upper) / 2) * (1 + 3 * (upper - lower) / 2 / reach(0.5))
    assert best.value <= risk.min() + 1e-8
    assert best.value == pytest.approx(risk.min(), abs=1e-4)
    assert best.objective >= mean.objective
    none = optimize(result, objective=RiskAverse(0.0))
    assert none.objective == pytest.approx(mean.objective, abs=1e-8)


def test_a_quantile_of_draws_is_the_least_of_all_mixtures():
    observations = Observations.from_frame(three_domains())
    draws = bimixjax.bootstrap("bimix", observations, key=0, count=15)
    best = optimize(draws.fit, objective=RiskAverse(quantile=0.8, draws=draws))
    ways = np.stack(np.meshgrid(*[np.linspace(0.02, 0.96, 95)] * 2), axis=-1).reshape(-1, 2)
    grid = np.column_stack([ways, 1 - ways.sum(1)])[ways.sum(1) < 0.985]
    # The twelfth of fifteen: .8 of the draws are not above it.
    found, least = (np.sort(draws.predict(each).mean(-1), axis=0)[11] for each in (best.proportions[None], grid))
    assert best.value == pytest.approx(float(found[0]), abs=1e-12)
    assert least.min() - 2e-4 < best.value <= least.min() + 1e-9
    assert best.goal == "80 % quantile of the weighted mean in 15 draws"
    assert best.converged
    # Another k draws may be lower elsewhere: of that, descents speak, and no bound.
    assert not best.convex
    assert 1 <= best.agreed <= best.starts
    assert optimize(draws.fit).value is None
    with pytest.raises(InputError, match="within a hull of runs"):
        optimize(draws.fit, objective=RiskAverse(quantile=0.8, draws=draws), limits=Limits(hull=True))


def three_domains() -> pd.DataFrame:
    """Nine runs of three domains, with noise."""
    draw = np.random.default_rng(1)
    mixtures = draw.dirichlet(np.ones(3), 9) * 0.94 + 0.02
    table = pd.DataFrame({"run": [f"r{k}" for k in range(9)]})
    for i, (name, power) in enumerate({"x": 0.2, "y": 0.3, "z": 0.1}.items()):
        table[f"mixture/{name}"] = mixtures[:, i]
        table[f"loss/{name}"] = 2 * mixtures[:, i] ** -power + 0.04 * draw.standard_normal(9)
    return table


def test_a_quantile_of_auto_is_the_limit_that_it_states():
    result = fit(bimixjax.Auto(members=("offset",)), small())
    best = optimize(result, objective=RiskAverse(quantile=0.95))
    grid = np.linspace(0.005, 0.995, 400)
    upper = np.asarray(result.mean_interval(np.column_stack([grid, 1 - grid]), level=0.9)[1])
    assert best.value <= upper.min() + 1e-8
    assert best.value == pytest.approx(upper.min(), abs=1e-4)
    assert best.value == pytest.approx(float(result.mean_interval(best.proportions, level=0.9)[1]), rel=1e-9)
    assert not best.convex


def test_auto_takes_every_objective():
    result = fit(bimixjax.Auto(members=("offset",)), small())
    grid = np.linspace(0.001, 0.999, 4000)
    each = np.asarray(result.predict(np.column_stack([grid, 1 - grid])))
    worst = optimize(result, objective=WorstTarget())
    assert worst.value <= each.max(1).min() + 1e-9
    assert worst.value == pytest.approx(each.max(1).min(), abs=1e-3)
    guarded = optimize(result, objective=Guarded(allowed={"y": 0.0}, reference=[0.7, 0.3]))
    assert guarded.losses[1] <= np.asarray(result.predict([0.7, 0.3]))[1] + 1e-8
    assert optimize(result, objective=NearOptimal(0.01)).objective <= optimize(result).objective * 1.0101


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Guarded(), "no target is guarded"),
        (lambda: Guarded(allowed={"a": -1.0}), "what is allowed of 'a' is -1.0"),
        (lambda: Guarded(NearOptimal(), allowed={"a": 1.0}), "guardrails are of NearOptimal"),  # type: ignore[arg-type]
        (lambda: RiskAverse(-1.0), "kappa is -1.0"),
        (lambda: RiskAverse(quantile=1.0), "quantile is 1; allowed"),
        (lambda: NearOptimal(0.0), "tolerance is 0.0"),
    ],
)
def test_settings_that_are_none_are_named(make, words):
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        (Guarded(allowed={"z": 0.1}), "unknown target 'z' in guardrails"),
        (Excess({"z": 1.0}), "unknown domain 'z'"),
        (RiskAverse(), "does not say how sure it is"),
        (Excess([1.0, 0, 0, 0]), "not finite at the reference"),
    ],
)
def test_what_a_fit_cannot_answer_is_named(result, goal, words):
    with pytest.raises(InputError, match=words):
        optimize(result, budget=AT, objective=goal)


def test_the_dual_knows_the_plain_mean_only(result):
    with pytest.raises(InputError, match="no other objective than the weighted mean"):
        optimize(result, budget=AT, objective=WorstTarget(), method="dual")
    plain, stated = optimize(result, budget=AT), optimize(result, budget=AT, objective=WeightedMean())
    assert plain.proportions.tolist() == stated.proportions.tolist()


def test_a_composed_answer_is_kept_in_a_file(result, tmp_path):
    best = optimize(result, budget=AT, objective=WorstTarget())
    best.save(tmp_path / "best.json")
    again = bimixjax.OptimalMixture.load(tmp_path / "best.json")
    assert (again.goal, again.value, again.active) == (best.goal, best.value, best.active)
