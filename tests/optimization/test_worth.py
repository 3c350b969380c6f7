"""What a mixture is worth: gains and chances against draws, room against a scan, epochs against hand counts."""

import numpy as np
import pandas as pd
import pytest

import bimixjax
from bimixjax import Inventory, Limits, Observations, Worth, optimize


@pytest.fixture(scope="module")
def draws():
    """A bootstrap of BiMix on eight noisy runs of three domains, at one volume in tokens."""
    shares = np.random.default_rng(0).dirichlet([2, 2, 2], 8)
    noise = 0.02 * np.random.default_rng(1).standard_normal((8, 3))
    table = {"run": list("abcdefgh"), "tokens": [1e9] * 8}
    table |= {f"mixture/{name}": shares[:, i] for i, name in enumerate("xyz")}
    table |= {f"loss/{name}": (2 + i) * shares[:, i] ** -0.2 + noise[:, i] for i, name in enumerate("xyz")}
    return bimixjax.bootstrap("bimix", Observations.from_frame(pd.DataFrame(table)), key=0, count=40)


STOCK = Inventory({"x": 8e8, "y": 1e8, "z": 1e8})


def mean_loss(fit, r) -> float:
    return float(np.asarray(fit.predict(np.asarray(r), 1e9)).mean())


def test_gains_are_differences_of_predicted_means(draws):
    best = optimize(draws.fit)
    found = best.worth(draws.fit, inventory=STOCK)
    assert found.baselines == ("natural", "uniform", "zero-run", "best run")
    natural = mean_loss(draws.fit, [0.8, 0.1, 0.1]) - best.objective
    assert found.gains[0] == pytest.approx(natural)
    assert found.gains[1] == pytest.approx(mean_loss(draws.fit, np.full(3, 1 / 3)) - best.objective)
    assert (found.gains >= 0).all()
    assert np.isnan(found.lower).all()
    assert found.draws == 0
    assert found.missing == {}
    assert "natural" in best.worth(draws.fit).missing


def test_limits_and_chances_are_those_of_draws(draws):
    best = optimize(draws.fit)
    found = Worth.of(best, draws.fit, inventory=STOCK, draws=draws)
    gains = []
    for i in range(len(draws)):
        one = draws.resample(i)
        gains.append(
            [mean_loss(one, r) - mean_loss(one, best.proportions) for r in ([0.8, 0.1, 0.1], np.full(3, 1 / 3))]
        )
    gains = np.array(gains)
    assert found.lower[:2] == pytest.approx(np.quantile(gains, 0.05, axis=0), abs=1e-10)
    assert found.upper[:2] == pytest.approx(np.quantile(gains, 0.95, axis=0), abs=1e-10)
    assert found.better[:2] == pytest.approx((gains > 0).mean(0))
    assert found.draws == 40


@pytest.mark.parametrize("limits", [None, Limits(upper={"y": 0.35}, lower={"z": 0.3})])
def test_room_is_what_a_scan_finds(draws, limits):
    best = optimize(draws.fit, limits=limits)
    found = best.worth(draws.fit)
    region = best.region
    for i in range(3):
        kept = [best.proportions[i]]
        for share in np.linspace(0, 1, 401)[1:-1]:
            low, high = region.lower.copy(), region.upper.copy()
            if not low[i] <= share <= high[i]:
                continue
            low[i] = high[i] = share
            mixture = region.within_box(low, high).in_proportion(best.proportions)
            if abs(mixture.sum() - 1) < 1e-9 and mean_loss(draws.fit, mixture) <= best.objective * 1.001:
                kept.append(share)
        assert found.least[i] == pytest.approx(min(kept), abs=2.6e-3)
        assert found.most[i] == pytest.approx(max(kept), abs=2.6e-3)


def test_room_keeps_to_groups(draws):
    best = optimize(draws.fit, limits=Limits(groups={"g": (("x", "y"), 0.5, 0.65)}))
    found = best.worth(draws.fit)
    assert (found.least <= best.proportions).all()
    assert (found.proportions <= found.most).all()
    assert found.least[2] >= 0.35 - 1e-8


def test_epochs_need_an_inventory_and_a_length(draws):
    best = optimize(draws.fit)
    assert best.worth(draws.fit).epochs is None
    found = best.worth(draws.fit, inventory=STOCK)
    assert found.epochs == pytest.approx(best.proportions * 1e9 / np.array([8e8, 1e8, 1e8]))
    assert found.epochs is not None
    longer = best.worth(draws.fit, inventory=STOCK, train_tokens=4e9)
    assert longer.epochs == pytest.approx(4 * found.epochs)


def test_what_was_extrapolated_is_said(draws):
    far = optimize(draws.fit, limits=Limits(fixed={"x": 0.9}))
    assert any("x 0.9 above" in words for words in far.worth(draws.fit).extrapolated)
