"""Limits as they are stated: what region follows, which of them conflict, and searches that keep to them."""

import dataclasses
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import LAWS, Budget, InputError, Inventory, Limits, Observations, OptimalMixture, optimize

ROOT = Path(__file__).resolve().parents[2]
DOMAINS = ("cc", "c4", "code", "books")


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The benchmark that draws random laws."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        return importlib.import_module("searches")


@pytest.fixture(scope="module")
def fit() -> bimixjax.FitResult:
    """BiMix of four domains, by tokens."""
    draw = np.random.default_rng(0)
    rows = [
        {"run": f"r{k}", "tokens": s, **{f"mixture/{d}": r[i] for i, d in enumerate(DOMAINS)}}
        for k, r in enumerate(draw.dirichlet(np.ones(4), 5))
        for s in (1e9, 3e9, 9e9)
    ]
    frame = pd.DataFrame(rows)
    for d in DOMAINS:
        scale, alpha = draw.uniform(1, 3), draw.uniform(0.05, 0.3)
        frame[f"loss/{d}"] = frame[f"mixture/{d}"] ** -alpha * (scale + (frame["tokens"] / 1e9) ** -0.4)
    return bimixjax.fit("bimix", Observations.from_frame(frame), priors=False)


AT = Budget(volume=1e10, unit="tokens")


def test_every_kind_of_limit_holds_and_is_kept_in_a_file(fit: bimixjax.FitResult, tmp_path: Path) -> None:
    limits = Limits(
        lower={"books": 0.05},
        fixed={"code": 0.1},
        groups={"web": (("cc", "c4"), 0.0, 0.6)},
        max_epochs={"books": 2.0},
        near=([0.25, 0.25, 0.25, 0.25], 0.2),
    )
    best = optimize(fit, budget=AT, limits=limits, inventory=Inventory({"books": 2e9, "cc": 1e12}))
    found = best.as_dict()
    assert found["code"] == pytest.approx(0.1, abs=1e-15)
    assert found["cc"] + found["c4"] <= 0.6 + 1e-12
    assert 0.05 <= found["books"] <= 2.0 * 2e9 / 1e10 + 1e-12
    assert best.region.violation(best.proportions) < 1e-12
    assert best.upper[3] == pytest.approx(0.4)
    assert best.converged
    assert best.convex
    assert best.gap < 1e-8
    assert best.fixed == ("code",)
    best.save(tmp_path / "best.json")
    again = OptimalMixture.load(tmp_path / "best.json")
    np.testing.assert_equal(vars(again), vars(best))
    assert again.allows(best.proportions)
    assert not again.allows([0.4, 0.4, 0.1, 0.1])
    assert again.allows(again.nearest([0.4, 0.4, 0.1, 0.1]))


def test_groups_are_solved_by_the_dual_and_by_descent_alike(fit: bimixjax.FitResult) -> None:
    limits = Limits(groups={"web": (("cc", "c4"), 0.0, 0.3), "rest": (("code", "books"), 0.1, 0.9)})
    exact, searched = (optimize(fit, budget=AT, limits=limits, method=m) for m in ("dual", "softmax"))
    assert exact.kkt_residual < 1e-12
    assert exact.held == ("web",)
    assert searched.objective == pytest.approx(exact.objective, rel=1e-8)
    assert searched.agreed == searched.starts == 12
    np.testing.assert_allclose(searched.proportions, exact.proportions, atol=1e-7)


def test_a_ball_holds_the_mixture_at_its_radius(fit: bimixjax.FitResult) -> None:
    natural = {"cc": 0.7, "c4": 0.1, "code": 0.1, "books": 0.1}
    for near in ((natural, 0.05), (natural, 0.15, "hellinger")):
        best = optimize(fit, budget=AT, limits=Limits(near=near))
        ball = best.region.ball
        assert ball is not None
        assert ball.of(best.proportions) == pytest.approx(ball.radius, rel=1e-9)
        assert best.held == ("near",)
        assert best.converged
        draw = best.region.nearest(np.random.default_rng(0).dirichlet(np.ones(4), 500))
        losses = np.asarray(fit.predict(draw, 1e10)).mean(1)
        assert best.objective <= losses.min() + 1e-9
    free = optimize(fit, budget=AT, limits=Limits(near=(natural, 50.0)))
    np.testing.assert_allclose(free.proportions, optimize(fit, budget=AT).proportions, atol=1e-6)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(lower={"cc": 0.6, "c4": 0.6, "code": 0.1}), "lower cc=0.6, lower c4=0.6 conflict with each other"),
        (Limits(upper=dict.fromkeys(DOMAINS, 0.2)), "upper cc=0.2, upper c4=0.2, upper code=0.2, upper books=0.2 con"),
        (
            Limits(lower={"cc": 0.5, "books": 0.1}, groups={"web": (("cc", "c4"), 0.0, 0.4)}),
            r"lower cc=0.5, group web \(cc\+c4\) 0 to 0.4 conflict",
        ),
        (Limits(fixed={"code": 0.1}, lower={"code": 0.2}), "lower code=0.2, fixed code=0.1 conflict"),
        (Limits(lower={"cc": 0.5}, upper={"cc": 0.4}), "limits of 'cc' are 0.5 to 0.4"),
        (
            Limits(groups={"a": (("cc",), 0, 1), "b": (("cc", "c4"), 0, 1)}),
            "'cc' is in the groups 'a' and 'b'; allowed: one group for each domain",
        ),
        (Limits(groups={"a": (("cc", "x"), 0, 1)}), "unknown domain 'x' in group 'a'"),
        (Limits(groups={"a": (("cc",), 0.5, 0.4)}), "group 'a' has 0.5 to 0.4"),
        (Limits(near=([0.97, 0.01, 0.01, 0.01], 0.1), upper={"cc": 0.3}), "near allows 0.1 .* upper cc=0.3 leave"),
        (Limits(near=({"cc": 0.5, "c4": 0.5}, 0.1), lower={"code": 0.1}), "lower code=0.1, near: no code there"),
        (Limits(near=([0.25] * 4, -1)), "radius of near is -1"),
        (Limits(near=([0.25] * 4, 1, "tv")), "divergence of near is 'tv'"),
        (Limits(max_epochs=4), "max_epochs needs the unique tokens"),
        (Limits(fixed={"x": 0.1}), "unknown domain 'x' in fixed"),
    ],
)
def test_limits_that_no_mixture_meets_are_named(limits: Limits, words: str) -> None:
    with pytest.raises(InputError, match=words):
        limits.region(DOMAINS)


def test_epochs_need_a_budget_in_tokens_and_name_what_they_cap() -> None:
    limits = Limits(max_epochs=4.0)
    with pytest.raises(InputError, match="a budget with unit 'tokens'"):
        limits.region(DOMAINS, unique=np.full(4, 1e9))
    with pytest.raises(
        InputError, match=r"max_epochs 4 of cc \(1e\+09 of 1e\+12 tokens: at most 0.004\), max_epochs 4 of"
    ):
        limits.region(DOMAINS, unique=np.full(4, 1e9), tokens=1e12)
    found = limits.region(DOMAINS, unique=np.array([1e9, 2e9, np.inf, 1e10]), tokens=1e10)
    np.testing.assert_allclose(found.upper, [0.4, 0.8, 1.0, 1.0])
    real = dataclasses.replace(limits, train_tokens=4e10).region(DOMAINS, unique=np.full(4, 4e9), tokens=1e6)
    np.testing.assert_allclose(real.upper, 0.4)


def test_a_mixture_outside_of_all_averages_of_measured_ones_is_said_to_be(fit: bimixjax.FitResult) -> None:
    best = optimize(fit, budget=AT, weights={"code": 1.0})
    assert best.beyond_hull is not None
    assert best.beyond_hull == pytest.approx(1 - fit.fitted_mixtures[:, 2].max(), abs=1e-9)
    assert "No average of measured mixtures is nearer to it than" in best.summary()
    inside = fit.fitted_mixtures.mean(0)
    held = optimize(fit, budget=AT, limits=Limits(fixed=dict(zip(DOMAINS, inside.tolist(), strict=True))))
    assert held.beyond_hull == pytest.approx(0, abs=1e-9)
    assert "average of measured" not in held.summary()


@pytest.mark.parametrize("name", ["additive", "joint", "exponential", "bimix_transfer", "dcpt"])
def test_searches_within_groups_and_a_ball_end_at_stationary_points(bench: ModuleType, name: str) -> None:
    """No mixture near the answer, or at random, is better, and no limit is broken."""
    draw = np.random.default_rng(3)
    of_law = bench.random_fit(LAWS[name], 4, draw, own=(0, 1, 2, 3))
    limits = Limits(groups={"g": (("d0", "d1"), 0.2, 0.5)}, upper={"d2": 0.4}, near=([0.3, 0.3, 0.2, 0.2], 0.3))
    best = optimize(of_law, budget=Budget(volume=1.0), limits=limits)
    assert best.converged
    assert best.region.violation(best.proportions) < 1e-12
    others = np.concatenate([draw.dirichlet(np.ones(4), 300), draw.dirichlet(1e3 * best.proportions + 1e-3, 300)])
    losses = np.asarray(of_law.predict(best.region.nearest(others), 1.0)).mean(1)
    assert best.objective <= losses.min() + 1e-9


def test_only_laws_that_are_convex_are_called_so(bench: ModuleType) -> None:
    """Along random lines, losses of laws that say so lie below their chords; some with other coefficients do not."""
    draw, said = np.random.default_rng(0), dict[str, list[bool]]()
    ends = draw.dirichlet(np.ones(4), (2, 200))
    for name, law in LAWS.items():
        for _ in range(6):
            of_law = bench.random_fit(law, 4, draw)
            size = 1.0 if law.sized else None
            convex = of_law.predictor(size).convex(4)
            said.setdefault(name, []).append(convex)
            if convex:
                middle, *sides = (np.asarray(of_law.predict(r, 1.0, size)) for r in (ends.mean(0), *ends))
                assert np.all(middle <= np.mean(sides, axis=0) * (1 + 1e-9)), name
    assert all(said["bimix_transfer_linear"])
    assert all(said["exponential"])
    assert not any(said["capacity"])
    assert 0 < sum(said["additive"]) < 6 or 0 < sum(said["joint"]) < 6
