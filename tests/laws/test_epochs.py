"""Laws in epochs: benefit that saturates and harm beyond a threshold, around any law."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import least_squares

import bimixjax
from bimixjax import Budget, FitResult, InputError, Inventory, Limits, Observations, OptimalMixture
from bimixjax._base.records import read_json, write_json
from bimixjax.laws import BiMix, BiMixOffset, Point, Repeated, Units, WithEpochs, law_named
from bimixjax.observations import Unique

TRUTH = {"B": 300.0, "C": 2.0, "G": 2.5, "alpha": 0.12, "beta": 0.35, "R": 6.0, "tau": 0.35, "delta": 0.2}
H = (1.0, 0.3)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def worth(seen: np.ndarray, unique: np.ndarray, decay: float) -> np.ndarray:
    """Effective tokens, written out."""
    again = np.where(np.isfinite(unique), np.maximum(seen / unique - 1, 0), 0)
    limit = np.where(np.isfinite(unique), unique, 0)
    return np.minimum(seen, unique) + limit * decay * (1 - np.exp(-again / decay))


def formula(c: dict[str, float], r: np.ndarray, s: float, unique: np.ndarray, h: tuple[float, ...] = H) -> float:
    """The loss of the first domain by the law around BiMix, written out."""
    parts = worth(r * s, unique, c["R"])
    inner = (parts[0] / parts.sum()) ** -c["alpha"] * (c["B"] * parts.sum() ** -c["beta"] + c["C"])
    harm = 0.0
    for j, limit in enumerate(unique):
        if np.isfinite(limit):
            x = np.log((1 + r[j] * s / limit) / (c["tau"] * limit ** c["delta"]))
            harm += h[j] * (np.log(1 + np.exp(6 * x)) / 6) ** 2
    return inner + c["G"] * harm


def point(r: np.ndarray, s: float, unique: object = np.inf) -> Point:
    return Point(
        mixture=jnp.asarray(r),
        own=jnp.asarray(r[0]),
        volume=jnp.asarray(s),
        model_size=jnp.ones(()),
        is_own=jnp.arange(len(r)) == 0,
        unique=jnp.asarray(unique),
    )


def arrays(**changes: object) -> dict[str, jax.Array]:
    return {name: jnp.asarray(value) for name, value in (TRUTH | {"h": H} | changes).items()}


@pytest.mark.parametrize("limit", [(1e8, 5e8), (1e8, np.inf), (1e6, 1e7), (1e12, 1e12)])
def test_the_loss_is_the_formula(limit: tuple[float, float]) -> None:
    unique, r = np.array(limit), np.array([0.3, 0.7])
    loss = float(WithEpochs(BiMix()).loss(arrays(), point(r, 4e9, unique)))
    assert loss == pytest.approx(formula(TRUTH, r, 4e9, unique), rel=1e-13)


def test_without_a_limit_it_is_the_inner_law() -> None:
    r = np.array([0.3, 0.7])
    inner = float(BiMix().loss(arrays(), point(r, 4e9)))
    for unique in (np.inf, np.full(2, np.inf)):
        assert float(WithEpochs(BiMix()).loss(arrays(), point(r, 4e9, unique))) == inner


def test_derivatives_are_finite_at_corners() -> None:
    law = WithEpochs(BiMixOffset())
    coefficients = arrays(eps=0.02)

    def loss(r: jax.Array, unique: jax.Array) -> jax.Array:
        return law.loss(coefficients, point(np.zeros(2), 4e9)._replace(mixture=r, own=r[0], unique=unique))

    for r in ([0.0, 1.0], [1.0, 0.0], [0.5, 0.5]):
        for unique in ([1e8, np.inf], [np.inf, np.inf], [1e8, 1e8]):
            by_r, by_unique = jax.grad(loss, argnums=(0, 1))(jnp.array(r), jnp.array(unique))
            assert np.isfinite(by_r).all()
            assert np.isfinite(by_unique).all()
            if np.isfinite(unique[0]) and r[0]:
                step = 1e-6 * unique[0]
                ends = (jnp.array([unique[0] + way, unique[1]]) for way in (step, -step))
                ahead, behind = (float(loss(jnp.array(r), end)) for end in ends)
                assert float(by_unique[0]) == pytest.approx((ahead - behind) / (2 * step), rel=1e-5, abs=1e-16)


def test_coefficients_change_with_the_unit_of_volume() -> None:
    law, r, unique = WithEpochs(BiMix()), np.array([0.4, 0.6]), np.array([1e8, 3e8])
    moved = law.with_units(arrays(), Units(volume=1e-9, model_size=1.0))
    before = float(law.loss(arrays(), point(r, 4e9, unique)))
    assert float(law.loss(moved, point(r, 4.0, unique * 1e-9))) == pytest.approx(before, rel=1e-12)


def drawn(noise: float = 0.0, **changes: float) -> Observations:
    """Losses of the law at 5 mixtures, 4 volumes and 3 stocks of the first domain, one of them unlimited."""
    random, rows = np.random.default_rng(0), []
    for stock in (2e7, 1e8, np.inf):
        for share in (0.05, 0.2, 0.4, 0.6, 0.9):
            for s in (2.5e8, 1e9, 4e9, 1.6e10):
                r, unique = np.array([share, 1 - share]), np.array([stock, np.inf])
                loss = formula(TRUTH | changes, r, s, unique) * np.exp(noise * random.standard_normal())
                row = {"run": f"{stock:g}-{share}-{s:g}", "tokens": s, "unique/x": stock}
                rows.append(row | {"mixture/x": share, "mixture/y": 1 - share, "loss/x": loss})
    return Observations.from_frame(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def exact() -> FitResult:
    return bimixjax.fit("bimix_epochs", drawn(), priors=False)


def test_a_fit_recovers_what_the_losses_were_drawn_from(exact: FitResult) -> None:
    for name, value in TRUTH.items():
        assert exact.coefficients[name][0] == pytest.approx(value, rel=1e-4), name
    assert exact.name == "bimix_epochs"
    assert "h[y] not identified" in exact.sentences[0]


def test_an_answer_in_more_epochs_than_were_fitted_says_so(exact: FitResult, tmp_path: Path) -> None:
    """At most .9 x 1.6e10 / 2e7 = 720 epochs of x were fitted, and y was never repeated."""
    exact.save(tmp_path / "fit.json")
    again = FitResult.load(tmp_path / "fit.json")
    for fit in (exact, again):
        np.testing.assert_allclose(np.asarray(fit.most_epochs), [[720, 0]])
    stock = Inventory({"x": 1e7, "y": 1e12})
    best = bimixjax.optimize(again, budget=Budget(volume=1.6e10), inventory=stock, limits=Limits(fixed={"x": 0.5}))
    assert [str(one) for one in best.outside] == ["800 epochs of x above the 720 fitted"]
    assert best.extrapolated == ("x",)
    best.save(tmp_path / "best.json")
    assert OptimalMixture.load(tmp_path / "best.json").outside == best.outside
    # Files from before say nothing of epochs, and then nothing is said.
    before = read_json(tmp_path / "fit.json")
    del before["epochs"]
    write_json(tmp_path / "fit.json", before)
    old = FitResult.load(tmp_path / "fit.json")
    assert old.most_epochs is None
    assert old.extrapolations(best.proportions, 1.6e10, inventory=stock) == [()]


def test_no_start_of_scipy_finds_a_lower_cost() -> None:
    observations = drawn(noise=0.01)
    assert observations.tokens is not None
    assert observations.unique is not None
    found = bimixjax.fit("bimix_epochs", observations, priors=False)
    rows = list(zip(observations.proportions, observations.tokens, observations.unique, strict=True))
    measured, names = observations.losses[:, 0], tuple(TRUTH)

    def residuals(logs: np.ndarray) -> np.ndarray:
        c = dict(zip(names, np.exp(logs), strict=True))
        return np.array([formula(c, *row) for row in rows]) / measured - 1

    random, start = np.random.default_rng(1), np.log(list(TRUTH.values()))
    costs = [
        2 * least_squares(residuals, start + scale * random.standard_normal(len(start)), max_nfev=100).cost
        for scale in (0.0, 0.1, 0.3)
    ]
    assert found.cost[0] <= min(costs) * (1 + 1e-8)
    assert found.cost[0] == pytest.approx(min(costs), rel=1e-6)


def test_predictions_take_an_inventory_in_every_form(exact: FitResult) -> None:
    mixtures, volume = np.array([[0.3, 0.7], [0.6, 0.4]]), 8e9
    limits = np.array([[5e7, np.inf], [2e8, np.inf]])
    expected = [[formula(TRUTH, r, volume, u) for r in mixtures] for u in limits]

    def losses(r: np.ndarray, inventory: Unique | None) -> np.ndarray:
        return np.asarray(exact.predict(r, volume, inventory=inventory))

    np.testing.assert_allclose(losses(mixtures, Inventory({"x": 5e7}))[:, 0], expected[0], rtol=1e-4)
    np.testing.assert_allclose(losses(mixtures, limits[1])[:, 0], expected[1], rtol=1e-4)
    np.testing.assert_allclose(losses(mixtures, limits)[:, 0], np.diag(np.array(expected)), rtol=1e-4)
    np.testing.assert_allclose(losses(mixtures[0], limits)[:, 0], np.array(expected)[:, 0], rtol=1e-4)
    free = [formula(TRUTH, r, volume, np.full(2, np.inf)) for r in mixtures]
    np.testing.assert_allclose(losses(mixtures, None)[:, 0], free, rtol=1e-4)
    goal = bimixjax.objective(exact, budget=Budget(volume=volume), inventory=Inventory({"x": 5e7}))
    assert float(goal(mixtures[0])) == pytest.approx(float(losses(mixtures[0], limits[0])[0]), rel=1e-12)


def test_predictions_are_differentiable_in_the_unique_tokens(exact: FitResult) -> None:
    def loss(unique: jax.Array) -> jax.Array:
        return exact.predict(np.array([0.3, 0.7]), 8e9, inventory=unique)[0]

    at, step = jnp.array([5e7, jnp.inf]), jnp.array([50.0, 0.0])
    slope = (float(loss(at + step)) - float(loss(at - step))) / 100
    assert float(jax.jit(jax.grad(loss))(at)[0]) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize(
    ("inventory", "words"),
    [
        (Inventory({"z": 1e9}), "unknown domain 'z' in the inventory"),
        (np.array([1e9]), r"shape \(1,\); allowed: \[2\] or \[n, 2\], over the domains x, y"),
        (np.array([1e9, 0.0]), "0 tokens; allowed: above 0"),
        (np.array([1e9, np.nan]), "nan tokens"),
    ],
)
def test_an_inventory_that_does_not_fit_is_an_error(exact: FitResult, inventory: Unique, words: str) -> None:
    with pytest.raises(InputError, match=words):
        exact.predict([0.3, 0.7], 8e9, inventory=inventory)


def test_epochs_need_a_volume_in_tokens(exact: FitResult) -> None:
    frame = drawn().to_frame().rename(columns={"tokens": "step"})
    with pytest.raises(InputError, match="law bimix_epochs reads the columns unique/<domain> of frame.* is in steps"):
        bimixjax.fit("bimix_epochs", Observations.from_frame(frame))
    with pytest.raises(InputError, match="law bimix_epochs reads unique tokens, which are in tokens; .* is in steps"):
        dataclasses.replace(exact, volume_unit="steps").predict([0.3, 0.7], 8e9, inventory=Inventory({"x": 1e9}))


def test_a_law_that_reads_no_epochs_is_the_same_to_the_last_digit() -> None:
    observations = drawn(noise=0.01)
    plain = dataclasses.replace(observations, unique=None)
    one, other = (bimixjax.fit("bimix", table) for table in (observations, plain))
    assert one.values.tobytes() == other.values.tobytes()
    losses = np.asarray(one.predict([0.3, 0.7], 8e9, inventory=Inventory({"x": 1e6})))
    assert losses.tobytes() == np.asarray(one.predict([0.3, 0.7], 8e9)).tobytes()


def test_a_law_of_effective_tokens_reads_those_of_each_run(tmp_path: Path) -> None:
    """Where all runs have one stock, the columns say what the law with tokens of its own says."""
    whole = drawn(noise=0.01)
    same = whole.take(np.flatnonzero(np.asarray(whole.unique)[:, 0] == 1e8))
    by_columns = bimixjax.fit("bimix_repeated", same)
    given = bimixjax.fit(Repeated(BiMix(), unique=(1e8, np.inf)), same)
    np.testing.assert_allclose(by_columns.values, given.values, rtol=1e-9)
    r = np.array([0.3, 0.7])
    asked = by_columns.predict(r, 8e9, inventory=Inventory({"x": 1e8}))
    np.testing.assert_allclose(asked, given.predict(r, 8e9), rtol=1e-9)
    by_columns.save(tmp_path / "fit.json")
    again = FitResult.load(tmp_path / "fit.json")
    assert again.law == Repeated(BiMix())
    assert again.predict(r, 8e9, inventory=Inventory({"x": 1e8})).tolist() == asked.tolist()
    given.save(tmp_path / "given.json")
    with pytest.raises(InputError, match="the law of .* is 'bimix_repeated_given'"):
        FitResult.load(tmp_path / "given.json")


def test_a_bootstrap_and_a_comparison_read_them_too() -> None:
    observations = drawn(noise=0.01, G=0.0)
    found = bimixjax.bootstrap("bimix_repeated", observations, key=0, count=4)
    limited, free = (found.predict([0.9, 0.1], 1.6e10, inventory=stock) for stock in (Inventory({"x": 2e7}), None))
    assert limited.shape == (4, 1)
    assert (limited > free).all()
    table = bimixjax.compare(("bimix", "bimix_repeated"), observations, at="all", level=None)
    error = np.abs(np.log(table.predicted / table.measured)).mean((1, 2))
    assert error[1] < 0.6 * error[0]


def test_names_of_laws_in_epochs_are_those_of_laws_with_an_ending() -> None:
    assert law_named("bimix_offset_epochs") == WithEpochs(BiMixOffset())
    assert law_named("bimix_repeated") == Repeated(BiMix())
    with pytest.raises(InputError, match="law is 'bimx_epochs'; allowed: "):
        law_named("bimx_epochs")
    with pytest.raises(InputError, match="law is 'auto_epochs'"):
        bimixjax.fit("auto_epochs", drawn())
